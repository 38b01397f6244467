"""Where a difference in latency went, by mechanism: rows that add up to it, every microsecond in exactly one of them.

The order is fixed, and each step takes what the step before has left of an op:

1. neighbourhood: what the op pays to the state that its predecessor left in the processor, as profiled blocks show it
   against "reset" blocks, before whose ops that state is reset;
2. ops that one side lacks: conversions where they do nothing but change the number format, work otherwise;
3. of matched ops, the work: time is work times time per unit of work, and the difference of such a product parts into
   its factors without a rest by the logarithmic mean (LMDI-I: B. W. Ang, "The LMDI approach to decomposition analysis:
   a practical guide", Energy Policy 33(7), 2005): L(a, b) ln(work_b / work_a), with L(a, b) = (b - a) / ln(b / a);
4. what is left of a matched op is one mechanism's: settings where the two are run with other threads or another
   delegate, placement where it is run elsewhere, and neighbourhood once more where it is run by the same kernel on the
   same shapes and formats: nothing but its surroundings is another there (caches, alignment, chance). What else does
   the same work in the same place does it at another rate.

What lies between the ops is a row of its own, and so is what the host took away while the variants ran ("outside").
"Unattributed" is the clean p50 against the profiled midmeans: the overhead of the instrumentation and the difference of
the two estimators. It is never spread over the others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qprof.findings.difference_table import DifferenceRow, DifferenceTable, MeasuredVariant, OpTimes
from qprof.findings.resolution import resolution_us, widened
from qprof.record.ops import FUSED, OpMeta
from qprof.runtimes.match_ops import OpMatch
from qprof.stats.intervals import Interval, percentile_interval, resample_weights

Mechanism = Literal[
    "work",
    "placement",
    "conversions",
    "rate",
    "neighbourhood",
    "between the ops",
    "settings",
    "outside",
    "unattributed",
]

#: Ops that do nothing but change the number format.
CONVERSIONS = (
    *("QUANTIZE", "DEQUANTIZE", "CAST", "dequantize", "quantize"),
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"),
)

_RESAMPLES = 2000
_LEVEL = 0.95
#: An op's debt to its neighbour is told from the noise of two kinds of blocks at this level: of a hundred ops that owe
#: nothing, one is told to owe something.
_DEBT_LEVEL = 0.99
#: Work that differs by less is the same: counts are exact, and padding is counted alike on both sides.
_SAME_WORK = 1e-6


@dataclass(frozen=True, slots=True)
class OpSide:
    """An op as one variant runs it: its whole time, and the facts that a mechanism rests on."""

    time_us: float
    type: str
    macs: int | None
    delegate: str | None
    kernel: str | None


@dataclass(frozen=True, slots=True)
class OpPart:
    """What one op has to do with a mechanism: `delta_us` of its time. `a`, `b`: as the baseline and as the variant run
    it, `None` where one has no such op. `work`: how many times the baseline's work the variant's op does. `by`: of a
    debt to its neighbours, what was reset to find it, "" where nothing was."""

    name: str
    type: str
    delta_us: float
    a: OpSide | None
    b: OpSide | None
    work: float | None = None
    by: str = ""

    @property
    def fused_in(self) -> str:
        """Which of the two, "a" or "b", has no kernel for it, since its neighbour's does it as well; "" for none."""
        if self.a is None or self.b is None or (self.a.kernel == FUSED) == (self.b.kernel == FUSED):
            return ""
        return "a" if self.a.kernel == FUSED else "b"


@dataclass(frozen=True, slots=True)
class MechanismRow:
    """One mechanism's part of the difference, in microseconds per inference; `ops`, the largest part first.

    `sentence` says what happened, for people; see `qprof.findings.sentences`.
    """

    mechanism: Mechanism
    delta_us: Interval
    ops: tuple[OpPart, ...] = ()
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Decomposition:
    """The rows add up to `difference_us`; mechanisms that play no part have no row.

    `share_explained`: part of the difference that is not unattributed, as 1 - |unattributed| / |difference|, at least
    0; `None` where the difference is not sure to be one. `resets`: whether the neighbourhood was measured.
    """

    baseline: str
    variant: str
    phase: str
    difference_us: Interval
    rows: tuple[MechanismRow, ...]
    share_explained: float | None
    resets: str

    def row(self, mechanism: Mechanism) -> MechanismRow | None:
        """The row of a mechanism, `None` where it plays no part."""
        return next((row for row in self.rows if row.mechanism == mechanism), None)

    @property
    def closing_error_us(self) -> float:
        """The difference minus the sum of all rows: floating-point error, nothing else."""
        return self.difference_us.value - math.fsum(row.delta_us.value for row in self.rows)


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs in how two variants are run, not in what they are: (name, baseline's, variant's). `one_file`: and
    they are one and the same file, so that ops which one of them lacks were made or left out by the runtime, as it was
    set."""

    changed: tuple[tuple[str, str, str], ...] = ()
    one_file: bool = False

    @property
    def runtimes(self) -> tuple[str, str] | None:
        """The runtimes, where they differ."""
        return next(((a, b) for name, a, b in self.changed if name == "runtime"), None)

    @property
    def others(self) -> list[tuple[str, str, str]]:
        """What differs beside the runtime."""
        return [one for one in self.changed if one[0] != "runtime"]


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Both variants with their ops matched; `reset_*`: the same from blocks with resets, `None` where there are none;
    `resets`: what is reset there, in words."""

    a: MeasuredVariant
    b: MeasuredVariant
    match: OpMatch
    reset_a: MeasuredVariant | None = None
    reset_b: MeasuredVariant | None = None
    resets: str = ""


def decompose(table: DifferenceTable, sides: Sides, phase: str, settings: Settings) -> Decomposition:
    """The rows of a difference table by mechanism; they add up to its `end_to_end`.

    Raises `ValueError` where no round holds profiled inferences of both.
    """
    times = OpTimes.of(sides.a, sides.b)
    debts = _Debts(sides, times)
    weights = resample_weights(len(times.rounds), _RESAMPLES, seed=0)
    parts: dict[Mechanism, list[OpPart]] = {}
    replicates: dict[Mechanism, NDArray[np.float64]] = {}
    unsure_us: dict[Mechanism, float] = {}
    for line in _lines(table, sides):
        for mechanism, value, drawn, by in _split(line, times, debts, weights, settings):
            if value == 0.0 and not drawn.any():
                continue
            parts.setdefault(mechanism, []).append(_part(line, value, by))
            replicates[mechanism] = replicates.get(mechanism, np.zeros(_RESAMPLES)) + drawn
            # One clock is wrong alike in both kinds of blocks that a debt is the difference of.
            unsure_us[mechanism] = unsure_us.get(mechanism, 0.0) + (0.0 if by else resolution_us([line.a, line.b]))

    rows = [
        MechanismRow(
            mechanism,
            widened(
                percentile_interval(
                    math.fsum(part.delta_us for part in found),
                    replicates[mechanism],
                    _LEVEL,
                    len(times.rounds),
                    "expanded",
                ),
                unsure_us[mechanism],
            ),
            tuple(sorted(found, key=lambda part: -abs(part.delta_us))),
        )
        for mechanism, found in parts.items()
    ]
    by_kind = {row.kind: row.delta_us for row in table.rows if row.kind in ("outside ops", "instrumentation")}
    rows.append(MechanismRow("between the ops", by_kind["outside ops"]))
    rows.append(MechanismRow("unattributed", by_kind["instrumentation"]))
    difference = table.end_to_end.difference
    return Decomposition(
        baseline=table.a_name,
        variant=table.b_name,
        phase=phase,
        difference_us=difference,
        rows=_ordered(rows),
        share_explained=_share(difference, by_kind["instrumentation"].value),
        resets=debts.resets,
    )


def with_outside(found: Decomposition, outside_us: Interval) -> Decomposition:
    """With a row for what is known to have been the host's doing, taken off what is unattributed."""
    rest = found.row("unattributed")
    assert rest is not None  # every decomposition has it
    left = Interval(rest.delta_us.value - outside_us.value, None, None, _LEVEL, "what other rows leave")
    rows = [row for row in found.rows if row is not rest]
    rows += [MechanismRow("outside", outside_us), MechanismRow("unattributed", left)]
    return replace(found, rows=_ordered(rows), share_explained=_share(found.difference_us, left.value))


def _ordered(rows: Sequence[MechanismRow]) -> tuple[MechanismRow, ...]:
    """The largest first, what is unattributed last."""
    return tuple(sorted(rows, key=lambda row: (row.mechanism == "unattributed", -abs(row.delta_us.value))))


def _share(difference: Interval, unattributed: float) -> float | None:
    low, high = difference.low, difference.high
    if low is None or high is None or low <= 0.0 <= high:
        return None
    return max(0.0, 1.0 - abs(unattributed / difference.value))


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of the table with the positions of its ops, i in the baseline's list, j in the variant's."""

    row: DifferenceRow
    i: int | None
    j: int | None

    @property
    def name(self) -> str:
        return self.row.label

    @property
    def a(self) -> OpMeta | None:
        return self.row.a

    @property
    def b(self) -> OpMeta | None:
        return self.row.b


def _lines(table: DifferenceTable, sides: Sides) -> Iterator[_Line]:
    first = {op.op: i for i, op in enumerate(sides.a.ops)}
    second = {op.op: j for j, op in enumerate(sides.b.ops)}
    for row in table.rows:
        if row.kind in ("matched", "inserted", "removed"):
            yield _Line(row, first[row.a.op] if row.a else None, second[row.b.op] if row.b else None)


def _part(line: _Line, delta_us: float, by: str) -> OpPart:
    a, b = line.a, line.b
    named = a or b
    assert named is not None  # a row has one op at least
    work = work_factor(a, b) if a is not None and b is not None else None
    return OpPart(line.name, named.type, delta_us, _side(a, line.row.a_us), _side(b, line.row.b_us), work, by)


def _side(op: OpMeta | None, time_us: float | None) -> OpSide | None:
    return None if op is None else OpSide(time_us or 0.0, op.type, op.macs, op.delegate, op.kernel)


class _Debts:
    """What ops owe to their predecessors: profiled blocks against those with resets, op by op."""

    def __init__(self, sides: Sides, profiled: OpTimes) -> None:
        self._profiled = profiled
        self._reset: OpTimes | None = None
        if sides.reset_a is not None and sides.reset_b is not None:
            try:
                found = OpTimes.of(sides.reset_a, sides.reset_b)
            except ValueError:
                found = None
            if found is not None and np.array_equal(found.rounds, profiled.rounds):
                self._reset = found
        self.resets = sides.resets if self._reset is not None else ""

    def of(
        self, weights: NDArray[np.int64], i: int | None, j: int | None
    ) -> tuple[float, NDArray[np.float64], float, NDArray[np.float64]]:
        """Debt of op i of the baseline and its replicates, then those of op j of the variant; zeros where an op owes
        nothing that can be told from noise."""
        return (*self._one(weights, i, None), *self._one(weights, None, j))

    def _one(self, weights: NDArray[np.int64], i: int | None, j: int | None) -> tuple[float, NDArray[np.float64]]:
        nothing = 0.0, np.zeros(len(weights))
        if self._reset is None or (i is None and j is None):
            return nothing
        sign = 1.0 if i is None else -1.0
        value = sign * (self._profiled.means(i, j)[2] - self._reset.means(i, j)[2])
        drawn = sign * (self._profiled.replicates(weights, i, j) - self._reset.replicates(weights, i, j))
        interval = percentile_interval(value, drawn, _DEBT_LEVEL, len(self._reset.rounds), "expanded")
        sure = interval.low is not None and interval.high is not None and not interval.low <= 0.0 <= interval.high
        # A reset makes no op slower but by chance: it comes before the op's clock starts.
        return (value, drawn) if sure and value > 0.0 else nothing


def _split(
    line: _Line, times: OpTimes, debts: _Debts, weights: NDArray[np.int64], settings: Settings
) -> Iterator[tuple[Mechanism, float, NDArray[np.float64], str]]:
    """The parts of one row: mechanism, microseconds, their replicates, and by what reset they were found."""
    a_us, b_us, _ = times.means(line.i, line.j)
    a_drawn = times.a.replicates(weights, line.i) if line.i is not None else np.zeros(len(weights))
    b_drawn = times.b.replicates(weights, line.j) if line.j is not None else np.zeros(len(weights))
    a_debt, a_debts, b_debt, b_debts = debts.of(weights, line.i, line.j)
    yield "neighbourhood", b_debt - a_debt, b_debts - a_debts, debts.resets
    a_own, b_own = (a_us or 0.0) - a_debt, (b_us or 0.0) - b_debt
    a_owns, b_owns = a_drawn - a_debts, b_drawn - b_debts
    if line.a is None or line.b is None:
        op = line.a or line.b
        assert op is not None  # a row has one op at least
        alone: Mechanism = "conversions" if op.type in CONVERSIONS else "work"
        yield "settings" if settings.changed and settings.one_file else alone, b_own - a_own, b_owns - a_owns, ""
        return
    factor = work_factor(line.a, line.b)
    work = 0.0
    works: NDArray[np.float64] = np.zeros(len(weights))
    if factor is not None and abs(math.log(factor)) > _SAME_WORK and a_own > 0.0 and b_own > 0.0:
        work = float(_log_mean(np.array(a_own), np.array(b_own))) * math.log(factor)
        works = _log_mean(a_owns, b_owns) * math.log(factor)
        yield "work", work, works, ""
    yield _of_matched(line, settings), b_own - a_own - work, b_owns - a_owns - works, ""


def _of_matched(line: _Line, settings: Settings) -> Mechanism:
    if settings.changed:
        return "settings"
    assert line.a is not None and line.b is not None  # a matched row has both
    if (line.a.kernel == FUSED) != (line.b.kernel == FUSED):
        return "work"
    if line.a.delegate != line.b.delegate:
        return "placement"
    return "neighbourhood" if _same_kernel(line.a, line.b) else "rate"


def _same_kernel(a: OpMeta, b: OpMeta) -> bool:
    """Whether two ops are run by the same kernel on the same shapes and formats; a kernel that is not known is none."""
    return a.kernel is not None and a.kernel == b.kernel and (*a.inputs, *a.outputs) == (*b.inputs, *b.outputs)


def _log_mean(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithmic mean of two positive numbers, (b - a) / ln(b / a), and a where they are equal; float64 as given.
    A replicate that is not positive counts as next to nothing."""
    low = np.maximum(np.minimum(a, b), 1e-9)
    high = np.maximum(np.maximum(a, b), 1e-9)
    ratio = np.log(high / low)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(ratio > 1e-9, (high - low) / ratio, low))


def work_factor(a: OpMeta, b: OpMeta) -> float | None:
    """How many times the work of `a` op `b` does: multiplications where both have them, numbers written otherwise,
    whatever their format; `None` where it is not known."""
    if a.macs and b.macs:
        return b.macs / a.macs
    first, second = elements(a.outputs), elements(b.outputs)
    return second / first if first and second else None


_SHAPE = re.compile(r"\[([0-9,\s]*)\]")


def elements(tensors: Sequence[str]) -> int | None:
    """How many numbers tensors hold, from texts as "float32[1,112,112,32]"; `None` where one has no known shape."""
    total = 0
    for text in tensors:
        found = _SHAPE.search(text)
        if found is None:
            return None
        extents = [int(extent) for extent in found.group(1).split(",") if extent.strip()]
        total += math.prod(extents)
    return total or None

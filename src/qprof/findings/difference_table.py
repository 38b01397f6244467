"""Where the latency difference between a baseline and a variant went: one table that closes.

    end-to-end difference = matched ops + inserted ops + removed ops + outside ops + instrumentation

The top line is that of the clean blocks: either p50, and the difference that the rounds show, A's p50 times (ratio - 1)
(`qprof.stats.rounds.paired_medians`), which is what every command says of the two. Ops are known from the profiled
blocks alone, as midmeans, since those add up (see `qprof.stats.midmean`). "Outside ops" is the part of a profiled
inference that no op accounts for: the interpreter's and the delegate's own work. "Instrumentation" is what remains: the
clean blocks against the profiled midmean, that is the overhead of the instrumentation and the difference between the
two estimators. The two together are what is not attributed to an op; they are lines of their own and are never spread
over the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qprof.findings.margins import LATENCY_MARGIN
from qprof.findings.resolution import resolution_us, widened
from qprof.record.ops import OpMeta
from qprof.runtimes.match_ops import OpMatch
from qprof.stats.intervals import (
    BlockQuantiles,
    Interval,
    Method,
    PairedDifference,
    PairedRounds,
    percentile_interval,
    resample_weights,
)
from qprof.stats.midmean import Midmean, conditional_midmean
from qprof.stats.rounds import location_replicates, log_ratios_of, paired_medians
from qprof.stats.verdict import Told, word

RowKind = Literal["matched", "inserted", "removed", "outside ops", "instrumentation"]


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredVariant:
    """What one run measured of one variant.

    `clean_us`: float64[m], latencies of the clean blocks, `clean_round`: int[m]. `op_us`: float64[n, k], self-time of
    every op in every profiled inference (0 where an op was folded into another), `profiled_us`: float64[n], the
    end-to-end time of those inferences, `profiled_round`: int[n]. `ops`: the k ops of the columns, in execution
    order, containers (delegate nodes, control flow) left out.
    """

    name: str
    ops: Sequence[OpMeta]
    clean_us: NDArray[np.float64]
    clean_round: NDArray[np.integer]
    op_us: NDArray[np.float64]
    profiled_us: NDArray[np.float64]
    profiled_round: NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """One line of the table, in microseconds per inference.

    `a`, `b`: the op of the baseline and of the variant, `None` where there is none, as are `a_us` and `b_us`.
    `stage` says how a matched pair was found (see `qprof.runtimes.match_ops`). `flags`: "left XNNPACK",
    "entered XNNPACK", "kernel changed", "type changed".
    """

    kind: RowKind
    label: str
    a: OpMeta | None
    b: OpMeta | None
    a_us: float | None
    b_us: float | None
    delta_us: Interval
    flags: tuple[str, ...] = ()
    stage: str | None = None


@dataclass(frozen=True, slots=True)
class DifferenceGroup:
    """Op rows rolled up, in microseconds per inference; `a_ops` and `b_ops` count the ops of each variant."""

    label: str
    a_ops: int
    b_ops: int
    a_us: float
    b_us: float
    delta_us: Interval


@dataclass(frozen=True, slots=True)
class DifferenceTable:
    """Baseline A against variant B: the rows add up to `end_to_end`, to A's p50, to B's p50, and to the difference.

    `verdict`: what the end-to-end difference says, by its interval. That difference is paired by round, so it and B's
    p50 less A's may be apart, by what the two lose to the rounds; the row "instrumentation" holds that too.
    `by_kind` and `by_type` roll up the op rows (a matched pair counts under the baseline's type), the largest absolute
    difference first. `unattributed_us` is the sum of the last two rows. `profiled_rounds` is the number of rounds
    whose profiled blocks hold both variants; `end_to_end.rounds` is that of the clean blocks. `across`: the runtimes of
    the two where they differ, so that `by_type` goes by families of types (`qprof.runtimes.op_families`).
    """

    a_name: str
    b_name: str
    end_to_end: PairedDifference
    rows: tuple[DifferenceRow, ...]
    by_kind: tuple[DifferenceGroup, ...]
    by_type: tuple[DifferenceGroup, ...]
    unattributed_us: Interval
    profiled_rounds: int
    verdict: Told
    across: tuple[str, str] | None = None

    @property
    def closing_error_us(self) -> float:
        """End-to-end difference minus the sum of all rows: floating-point error, nothing else."""
        return self.end_to_end.difference.value - math.fsum(row.delta_us.value for row in self.rows)

    def row(self, kind: Literal["outside ops", "instrumentation"]) -> DifferenceRow:
        """The one row of that kind."""
        return next(row for row in self.rows if row.kind == kind)


def difference(
    a: MeasuredVariant,
    b: MeasuredVariant,
    match: OpMatch,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
    end_level: float | None = None,
    margin: float = math.log1p(LATENCY_MARGIN),
    type_of: Callable[[str], str] = str,
) -> DifferenceTable:
    """The closing table of baseline `a` -> variant `b`; intervals of rows resample the rounds of both jointly.

    `end_level`: of the end-to-end difference, by default `level`; `margin`: ln of the ratio that counts as none;
    `type_of`: what a type counts under in `by_type`.
    Rounds that hold only one of the two are left out, of the clean and of the profiled blocks each for itself. Where
    both kinds cover the same rounds they are resampled together, else independently. Raises `ValueError` where arrays
    do not fit, hold non-finite values, share no round, or where the match does not cover every op once.
    """
    _check_match(match, len(a.ops), len(b.ops))
    clean = PairedRounds.of(a.clean_us, a.clean_round, b.clean_us, b.clean_round)
    times = OpTimes.of(a, b)
    clean_weights = resample_weights(clean.rounds, resamples, seed)
    if np.array_equal(clean.ids, times.rounds):
        op_weights = clean_weights
    else:
        op_weights = resample_weights(len(times.rounds), resamples, seed + 1)
    end_to_end = paired_medians(a.clean_us, a.clean_round, b.clean_us, b.clean_round, end_level or level)

    def interval(value: float, replicates: NDArray[np.float64], blocks: int = len(times.rounds)) -> Interval:
        return percentile_interval(value, replicates, level, blocks, method)

    lines = list(_op_lines(a.ops, b.ops, match))
    total = times.total_replicates(op_weights)
    ops = np.zeros(resamples)
    groups: dict[tuple[str, str], _Group] = {}
    rows = []
    for line in lines:
        replicates = times.replicates(op_weights, line.i, line.j)
        ops += replicates
        a_us, b_us, delta_us = times.means(line.i, line.j)
        unsure_us = resolution_us([line.a, line.b])
        rows.append(line.row(a_us, b_us, widened(interval(delta_us, replicates), unsure_us)))
        for key in (("kind", line.kind), ("type", type_of(line.names.type))):
            groups.setdefault(key, _Group(np.zeros(resamples))).add(a_us, b_us, replicates)

    a_us, b_us = times.a.rest, times.b.rest
    rows.append(_rest_row("outside ops", "outside the ops", a_us, b_us, interval(b_us - a_us, total - ops)))
    a_us, b_us = end_to_end.a.value - times.a.total, end_to_end.b.value - times.b.total
    both = min(clean.rounds, len(times.rounds))
    end_replicates = _end_replicates(clean, clean_weights)
    rest = interval(end_to_end.difference.value - (times.b.total - times.a.total), end_replicates - total, both)
    rows.append(_rest_row("instrumentation", "estimator and instrumentation", a_us, b_us, rest))
    unattributed = math.fsum(row.delta_us.value for row in rows[-2:])
    return DifferenceTable(
        a_name=a.name,
        b_name=b.name,
        end_to_end=end_to_end,
        rows=tuple(rows),
        by_kind=_roll_up(groups, "kind", interval),
        by_type=_roll_up(groups, "type", interval),
        unattributed_us=interval(unattributed, end_replicates - ops, both),
        profiled_rounds=len(times.rounds),
        verdict=word(end_to_end.log_ratio, margin),
    )


def _end_replicates(clean: PairedRounds, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """The end-to-end difference where rounds are drawn again: float64[resamples]."""
    p50_us = BlockQuantiles(clean.a_values, clean.a_index, clean.rounds).quantiles(weights, 0.5)
    return np.asarray(p50_us * np.expm1(location_replicates(log_ratios_of(clean), weights)))


@dataclass(frozen=True, slots=True, eq=False)
class OpTimes:
    """Midmeans of the ops of both variants over the rounds whose profiled blocks hold both.

    Made by `of`, which raises `ValueError` where arrays do not fit or no round holds both.
    """

    a: Midmean
    b: Midmean
    rounds: NDArray[np.int64]

    @classmethod
    def of(cls, a: MeasuredVariant, b: MeasuredVariant) -> OpTimes:
        for side in (a, b):
            if side.op_us.ndim != 2 or side.op_us.shape[1] != len(side.ops):
                raise ValueError(f"{side.name}: op_us has shape {side.op_us.shape} for {len(side.ops)} ops")
        rounds = np.intersect1d(a.profiled_round, b.profiled_round)
        if not len(rounds):
            raise ValueError("no round holds profiled inferences of both variants")
        halves = []
        for side in (a, b):
            keep = np.isin(side.profiled_round, rounds)
            if keep.shape != side.profiled_us.shape or len(keep) != len(side.op_us):
                raise ValueError(f"{side.name}: op_us, profiled_us and profiled_round are not of one length")
            halves.append(conditional_midmean(side.op_us[keep], side.profiled_us[keep], side.profiled_round[keep]))
        return cls(halves[0], halves[1], rounds.astype(np.int64))

    def means(self, i: int | None, j: int | None) -> tuple[float | None, float | None, float]:
        """Time of op i of A, of op j of B, and the difference B - A, where a missing op contributes nothing."""
        a_us = None if i is None else float(self.a.means[i])
        b_us = None if j is None else float(self.b.means[j])
        return a_us, b_us, (b_us or 0.0) - (a_us or 0.0)

    def replicates(self, weights: NDArray[np.int64], i: int | None, j: int | None) -> NDArray[np.float64]:
        """`means`' difference under weights int64[resamples, rounds]: float64[resamples]."""
        difference = np.zeros(len(weights))
        if j is not None:
            difference += self.b.replicates(weights, j)
        if i is not None:
            difference -= self.a.replicates(weights, i)
        return difference

    def total_replicates(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same of whole inferences."""
        return self.b.total_replicates(weights) - self.a.total_replicates(weights)


@dataclass(frozen=True, slots=True)
class _Line:
    """An op row before its times are filled in; i and j are positions in the op lists."""

    kind: RowKind
    i: int | None
    j: int | None
    a: OpMeta | None
    b: OpMeta | None
    names: OpMeta  # the op that names the line: the baseline's where it has one
    stage: str | None

    def row(self, a_us: float | None, b_us: float | None, delta_us: Interval) -> DifferenceRow:
        flags = change_flags(self.a, self.b) if self.a and self.b else ()
        return DifferenceRow(self.kind, self.names.name, self.a, self.b, a_us, b_us, delta_us, flags, self.stage)


@dataclass(slots=True)
class _Group:
    """Running sums over the rows of one kind or type."""

    replicates: NDArray[np.float64]
    a_ops: int = 0
    b_ops: int = 0
    a_us: float = 0.0
    b_us: float = 0.0

    def add(self, a_us: float | None, b_us: float | None, replicates: NDArray[np.float64]) -> None:
        self.replicates += replicates
        if a_us is not None:
            self.a_ops += 1
            self.a_us += a_us
        if b_us is not None:
            self.b_ops += 1
            self.b_us += b_us


def change_flags(a: OpMeta, b: OpMeta) -> tuple[str, ...]:
    """What changed in how a matched op is run; a kernel that is not known is no change."""
    flags = []
    if a.type != b.type:
        flags.append("type changed")
    if a.delegate != b.delegate:
        if a.delegate is not None:
            flags.append(f"left {a.delegate}")
        if b.delegate is not None:
            flags.append(f"entered {b.delegate}")
    elif a.kernel is not None and b.kernel is not None and a.kernel != b.kernel:
        flags.append("kernel changed")
    return tuple(flags)


def _op_lines(a: Sequence[OpMeta], b: Sequence[OpMeta], match: OpMatch) -> Iterator[_Line]:
    stages: Sequence[str | None] = match.stages or [None] * len(match.pairs)
    for (i, j), stage in zip(match.pairs, stages, strict=True):
        yield _Line("matched", i, j, a[i], b[j], a[i], stage)
    for j in match.inserted:
        yield _Line("inserted", None, j, None, b[j], b[j], None)
    for i in match.removed:
        yield _Line("removed", i, None, a[i], None, a[i], None)


def _rest_row(
    kind: Literal["outside ops", "instrumentation"], label: str, a_us: float, b_us: float, delta_us: Interval
) -> DifferenceRow:
    return DifferenceRow(kind, label, None, None, a_us, b_us, delta_us)


def _roll_up(
    groups: dict[tuple[str, str], _Group], by: str, interval: Callable[[float, NDArray[np.float64]], Interval]
) -> tuple[DifferenceGroup, ...]:
    rolled = [
        DifferenceGroup(
            label, group.a_ops, group.b_ops, group.a_us, group.b_us, interval(group.b_us - group.a_us, group.replicates)
        )
        for (dimension, label), group in groups.items()
        if dimension == by
    ]
    return tuple(sorted(rolled, key=lambda group: -abs(group.delta_us.value)))


def _check_match(match: OpMatch, a_ops: int, b_ops: int) -> None:
    of_a = sorted([i for i, _ in match.pairs] + match.removed)
    of_b = sorted([j for _, j in match.pairs] + match.inserted)
    if of_a != list(range(a_ops)) or of_b != list(range(b_ops)):
        raise ValueError(f"the match does not cover each of the {a_ops} and {b_ops} ops exactly once")

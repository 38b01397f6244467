"""What a set of ops takes in a baseline and in a variant, round by round, on the scale of the clean latencies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from qprof.findings.comparison import Comparison
from qprof.findings.decomposition import Mechanism, MechanismRow, OpPart
from qprof.findings.difference_table import DifferenceRow, MeasuredVariant
from qprof.findings.resolution import ClockedEffect, resolution_us
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import Impossible, Section
from qprof.stats.intervals import Interval
from qprof.stats.rounds import RoundEffect

#: A smaller part of a variant's latency explains nothing that a reader would ask about, and the eight rounds of a
#: verification do not resolve less on a machine that is not left alone.
LEAST_SHARE = 0.03
#: ln of the smallest ratio to its baseline that a variant's latency can have: eight bits and a quarter of the bytes.
FASTEST = math.log(1 / 50)
#: An op in the same kernel takes longer or shorter in another graph, by what its neighbours leave in the caches and by
#: alignment. In the quickstart, ops of float16 and int8-weight-only, which run float32's own kernels, are off by 3 to
#: 5 % (root mean square, `qprof diff`), in its language model by 10 %. That much a predicted time cannot be known.
SURROUNDINGS = 0.1
#: One file in two worker processes takes two times: where its pages and stacks come to lie differs (Mytkowicz, Diwan,
#: Hauswirth, Sweeney, "Producing Wrong Data Without Doing Anything Obviously Wrong!", ASPLOS 2009). The ratio of two
#: variants in two runs differed by 0.7 % (root mean square over eleven pairs of `tests/real`, each in its run and in
#: that of its verification), of which their rounds account for 0.3 %.
WORKERS = 0.006
#: Ops that do nothing but change the number format.
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
#: A name, and whether the baseline and the variant have such an op.
Key = tuple[str, bool, bool]
#: Part of a latency that is left whatever is taken away: more than the whole cannot be.
_LEAST_LEFT = 0.02


class OpCosts:
    """Times of ops in microseconds per inference.

    Every round gives one number, the median of its profiled inferences, so that one disturbed inference or round does
    not carry a sum. They are scaled to the clean p50: what instrumentation adds is not the ops'. Intervals also hold
    what the ops' clocks cannot tell (`OpMeta.resolution_us`), so that no cost is taken for sure, and nothing predicted
    from it, that may be an error of the clock alone.
    Raises `StoreError` where ops were not timed.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._a = _Side(comparison.measured(comparison.baseline))
        self._b = _Side(comparison.measured(comparison.variant))
        self._rounds = np.intersect1d(self._a.rounds, self._b.rounds)
        found = comparison.decomposition
        row = found.row("unattributed") if found else None
        #: Standard error of what lies between profiled ops and the clean latency.
        self.unattributed_us = standard_error(row.delta_us) if row else 0.0

    @property
    def a_us(self) -> float:
        """Latency of the baseline."""
        return self._a.clean_us

    @property
    def b_us(self) -> float:
        """Latency of the variant."""
        return self._b.clean_us

    def difference(self, rows: Iterable[DifferenceRow]) -> RoundEffect:
        """The ops of some rows: variant minus baseline."""
        a, b = self._split(rows)
        differences = self._b.by_round(b, self._rounds) - self._a.by_round(a, self._rounds)
        return ClockedEffect(differences, resolution_us([*a, *b]))

    def of_baseline(self, rows: Iterable[DifferenceRow]) -> RoundEffect:
        """What the ops of some rows take in the baseline."""
        ops = self._split(rows)[0]
        return ClockedEffect(self._a.by_round(ops, self._rounds), resolution_us(ops))

    def of_variant(self, rows: Iterable[DifferenceRow]) -> RoundEffect:
        """What the ops of some rows take in the variant."""
        ops = self._split(rows)[1]
        return ClockedEffect(self._b.by_round(ops, self._rounds), resolution_us(ops))

    def without(
        self, cost_us: float, known: Interval | RoundEffect, of_us: float, more_us: float = 0.0
    ) -> tuple[float, float]:
        """ln of the ratio that a latency `of_us` has to itself once a cost is gone, and the standard error of that.

        The error is that of four figures: the cost, by its interval as it is `known`; what lies between the ops as
        they were profiled and the clean latency that the prediction is about, by the interval of what is not
        attributed; `more_us`, what else is not known exactly of the latency that is left; and `WORKERS`.
        """
        interval = known.interval() if isinstance(known, RoundEffect) else known
        return left_over(cost_us, math.hypot(standard_error(interval), self.unattributed_us, more_us), of_us)

    def matters(self, cost: RoundEffect) -> bool:
        """Whether a cost is surely there, and a part of the variant's latency that is worth a test."""
        low = cost.interval().low
        return cost.value >= LEAST_SHARE * self.b_us and (low is None or low > 0.0)

    @staticmethod
    def _split(rows: Iterable[DifferenceRow]) -> tuple[list[OpMeta], list[OpMeta]]:
        chosen = list(rows)
        return [row.a for row in chosen if row.a is not None], [row.b for row in chosen if row.b is not None]


def left_over(cost_us: float, error_us: float, of_us: float) -> tuple[float, float]:
    """ln of the ratio that a latency `of_us` has to itself once a cost is gone that is known with a standard error, and
    the standard error of that in another worker process."""
    left = max(of_us - cost_us, _LEAST_LEFT * of_us)
    return math.log(left / of_us), math.hypot(error_us / left, WORKERS)


class _Side:
    def __init__(self, measured: MeasuredVariant) -> None:
        self._op_us = measured.op_us
        self._round = measured.profiled_round
        self._column = {op.op: column for column, op in enumerate(measured.ops)}
        self.clean_us = float(np.median(measured.clean_us))
        self._scale = self.clean_us / float(np.median(measured.profiled_us))
        self.rounds: NDArray[np.int64] = np.unique(measured.profiled_round)

        self._known: dict[tuple[tuple[int, ...], bytes], NDArray[np.float64]] = {}

    def by_round(self, ops: Sequence[OpMeta], rounds: NDArray[np.int64]) -> NDArray[np.float64]:
        columns = [self._column[op.op] for op in ops]
        place = (tuple(columns), rounds.tobytes())
        if place not in self._known:
            total = self._op_us[:, columns].sum(axis=1) * self._scale
            self._known[place] = np.array([np.median(total[self._round == number]) for number in rounds], np.float64)
        return self._known[place]


def standard_error(interval: Interval) -> float:
    """That of a normal estimate with this interval; 0 where it has no bounds."""
    if interval.low is None or interval.high is None:
        return 0.0
    return (interval.high - interval.low) / (2.0 * NormalDist().inv_cdf((1.0 + interval.level) / 2.0))


def part_of(comparison: Comparison, mechanism: Mechanism, rows: Iterable[DifferenceRow]) -> Interval | None:
    """What some ops have in a mechanism's row of the decomposition; `None` where they have no part in it."""
    found = comparison.decomposition
    row = found.row(mechanism) if found else None
    if row is None:
        return None
    keys = {row_key(one) for one in rows}
    chosen = [part for part in row.ops if part_key(part) in keys]
    return part_interval(row, chosen) if chosen else None


def row_key(row: DifferenceRow) -> Key:
    """By what a row and its parts are known: an op that is gone and the last of those in its place have one name."""
    return row.label, row.a is not None, row.b is not None


def part_key(part: OpPart) -> Key:
    """See `row_key`."""
    return part.name, part.a is not None, part.b is not None


def in_float(comparison: Comparison, rows: Sequence[DifferenceRow]) -> Section | Impossible:
    """The variant with these ops in float: made anew by its method or, of a finished file, with the baseline's own ops
    in their place."""
    assert comparison.table is not None  # rows are of it
    every = [row.a for row in comparison.table.rows if row.a]
    made = comparison.interventions.in_float(comparison.b.section, [row.a for row in rows if row.a], every)
    if not isinstance(made, Impossible) or not comparison.b.section.get("file"):
        return made
    return comparison.interventions.ops_from(comparison.b, comparison.a, named_pairs(rows))


def named_pairs(rows: Sequence[DifferenceRow]) -> list[tuple[str, str]]:
    """Names of ops that correspond: (of the variant, of the baseline)."""
    return [(row.b.name, row.a.name) for row in rows if row.a and row.b]


def with_their_train(comparison: Comparison, rows: Sequence[DifferenceRow], cost: RoundEffect) -> tuple[float, float]:
    """What goes of the whole difference, in microseconds, where some ops are again what they are in the baseline, and
    the standard error of that. `cost`: their own part of it, variant minus baseline.

    Ops in the middle of a model change others, too: what these owe to their neighbours, the partitions of the delegate,
    what is recorded with no op. All that is in the difference of the clean latencies, less what other ops are known to
    have of it. Of this rest goes the share that these ops have in all that is known to differ. Where nothing else
    differs the whole difference goes, and no more need be known of it than how exactly that was measured.
    """
    found = comparison.decomposition
    assert found is not None  # the ops are of its rows
    keys = {row_key(row) for row in rows}
    others_us, all_us, errors = 0.0, 0.0, []
    for row in found.rows:
        if row.mechanism not in ("work", "conversions", "placement", "rate", "settings"):
            continue
        others = [part for part in row.ops if part_key(part) not in keys]
        if others:
            others_us += math.fsum(part.delta_us for part in others)
            all_us += math.fsum(abs(part.delta_us) for part in others)
            errors.append(standard_error(part_interval(row, others)))
    own = cost.value
    share = abs(own) / (abs(own) + all_us) if own else 0.0
    unattributed = found.row("unattributed")
    unattributed_us = standard_error(unattributed.delta_us) if unattributed else 0.0
    rest = found.difference_us.value - own - others_us
    of_share = math.hypot(standard_error(found.difference_us), *errors)
    of_others = math.hypot(standard_error(cost.interval()), unattributed_us, rest)
    return own + share * rest, math.hypot(share * of_share, (1.0 - share) * of_others)


def part_interval(row: MechanismRow, chosen: Sequence[OpPart]) -> Interval:
    """The sum of some of a row's parts, with the row's interval scaled to their share of all."""
    value = math.fsum(part.delta_us for part in chosen)
    whole = math.fsum(abs(part.delta_us) for part in row.ops)
    if row.delta_us.low is None or row.delta_us.high is None or whole == 0.0:
        return Interval(value, None, None, row.delta_us.level, row.delta_us.reason)
    share = math.fsum(abs(part.delta_us) for part in chosen) / whole
    below, above = row.delta_us.value - row.delta_us.low, row.delta_us.high - row.delta_us.value
    return Interval(value, value - share * below, value + share * above, row.delta_us.level)


def quantized(ops: Iterable[OpMeta]) -> set[str]:
    """Ids of the ops that compute on what was quantized; conversions alone are left where nothing else is."""
    return {op.op for op in ops if op.quantization is not None and op.type not in CONVERSIONS}


def types_of(ops: Iterable[OpMeta]) -> list[str]:
    """The types of some ops, each once."""
    return sorted({op.type for op in ops})

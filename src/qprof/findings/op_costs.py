"""What a set of ops takes in a baseline and in a variant, round by round, on the scale of the clean latencies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceRow, MeasuredVariant
from qprof.findings.measured import measured_variant
from qprof.record.ops import OpMeta
from qprof.stats.intervals import Interval
from qprof.stats.rounds import RoundEffect

#: A smaller part of a variant's latency explains nothing that a reader would ask about, and the eight rounds of a
#: verification do not resolve less on a machine that is not left alone.
LEAST_SHARE = 0.03
#: How far an intervention's effect may lie from the time that ops were seen to take: ops are timed one by one, and
#: a neighbour's cache, a partition's border or a changed order of execution comes on top.
TOLERANCE = 0.4
#: ln of the smallest ratio to its baseline that a variant's latency can have: eight bits and a quarter of the bytes.
FASTEST = math.log(1 / 50)
#: Ops that do nothing but change the number format.
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
#: Part of a latency that is left whatever is taken away: more than the whole cannot be.
_LEAST_LEFT = 0.02


class OpCosts:
    """Times of ops in microseconds per inference.

    Every round gives one number, the median of its profiled inferences, so that one disturbed inference or round does
    not carry a sum. They are scaled to the clean p50: what instrumentation adds is not the ops'.
    Raises `StoreError` where ops were not timed.
    """

    def __init__(self, comparison: Comparison) -> None:
        run, phase = comparison.run, comparison.phase
        self._a = _Side(measured_variant(run, comparison.baseline, phase))
        self._b = _Side(measured_variant(run, comparison.variant, phase))
        self._rounds = np.intersect1d(self._a.rounds, self._b.rounds)

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
        return RoundEffect(self._b.by_round(b, self._rounds) - self._a.by_round(a, self._rounds))

    def of_baseline(self, rows: Iterable[DifferenceRow]) -> RoundEffect:
        """What the ops of some rows take in the baseline."""
        return RoundEffect(self._a.by_round(self._split(rows)[0], self._rounds))

    def of_variant(self, rows: Iterable[DifferenceRow]) -> RoundEffect:
        """What the ops of some rows take in the variant."""
        return RoundEffect(self._b.by_round(self._split(rows)[1], self._rounds))

    def matters(self, cost: RoundEffect) -> bool:
        """Whether a cost is surely there, and a part of the variant's latency that is worth a test."""
        low = cost.interval().low
        return cost.value >= LEAST_SHARE * self.b_us and (low is None or low > 0.0)

    @staticmethod
    def _split(rows: Iterable[DifferenceRow]) -> tuple[list[OpMeta], list[OpMeta]]:
        chosen = list(rows)
        return [row.a for row in chosen if row.a is not None], [row.b for row in chosen if row.b is not None]


class _Side:
    def __init__(self, measured: MeasuredVariant) -> None:
        self._op_us = measured.op_us
        self._round = measured.profiled_round
        self._column = {op.op: column for column, op in enumerate(measured.ops)}
        self.clean_us = float(np.median(measured.clean_us))
        self._scale = self.clean_us / float(np.median(measured.profiled_us))
        self.rounds: NDArray[np.int64] = np.unique(measured.profiled_round)

    def by_round(self, ops: Sequence[OpMeta], rounds: NDArray[np.int64]) -> NDArray[np.float64]:
        total = self._op_us[:, [self._column[op.op] for op in ops]].sum(axis=1) * self._scale
        return np.array([np.median(total[self._round == number]) for number in rounds], np.float64)


def predicted_fall(cost: Interval) -> tuple[float, float]:
    """Range of the latency's change where a cost goes away: its value by `TOLERANCE`, or its interval where that is
    wider, but a fall in any case."""
    low, high = (cost.value if bound is None else bound for bound in (cost.low, cost.high))
    most = max((1.0 + TOLERANCE) * cost.value, high)
    least = max(min((1.0 - TOLERANCE) * cost.value, low), 0.1 * cost.value)
    return -most, -least


def as_ratio(fall_us: tuple[float, float], of_us: float) -> tuple[float, float]:
    """The same range as ln of a ratio to a latency: what a machine that is slower by then does not change."""
    most, least = (1.0 + change / of_us for change in fall_us)
    return math.log(max(most, _LEAST_LEFT)), math.log(max(least, 2.0 * _LEAST_LEFT))


def quantized(ops: Iterable[OpMeta]) -> set[str]:
    """Ids of the ops that compute on what was quantized; conversions alone are left where nothing else is."""
    return {op.op for op in ops if op.quantization is not None and op.type not in CONVERSIONS}


def types_of(ops: Iterable[OpMeta]) -> list[str]:
    """The types of some ops, each once."""
    return sorted({op.type for op in ops})

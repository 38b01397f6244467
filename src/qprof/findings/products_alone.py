"""What a language model takes once its quantized linears are run by another kernel, whose products were run alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from qprof.findings.comparison import Comparison
from qprof.findings.op_costs import SURROUNDINGS, OpCosts, standard_error
from qprof.stats.intervals import Interval
from qprof.stats.rounds import RoundEffect

#: Key of the products on weights that were unpacked before; see `SplitFacts.products_us`.
UNPACKED = "dequantized"


@dataclass(frozen=True, slots=True)
class OtherProducts:
    """`now`: what the linears take, unpacking and all; `alone_us`: their products in the other kernel, run alone."""

    now: RoundEffect
    alone_us: float

    @property
    def gone_us(self) -> float:
        """Microseconds that go; below 0 where it takes longer."""
        return self.now.value - self.alone_us

    @property
    def error_us(self) -> float:
        """Standard error of `alone_us`: inside a model the same product takes more or less."""
        return SURROUNDINGS * self.alone_us

    def left(self, costs: OpCosts, of_us: float) -> tuple[float, float]:
        """ln of the ratio that a latency `of_us` has to itself in the other kernel, and the standard error of that."""
        return costs.without(self.gone_us, self.now, of_us, self.error_us)

    def gone(self) -> Interval:
        """`gone_us` with its interval, at the level of the rounds."""
        now = self.now.interval()
        half_us = NormalDist().inv_cdf((1.0 + now.level) / 2.0) * math.hypot(standard_error(now), self.error_us)
        return Interval(self.gone_us, self.gone_us - half_us, self.gone_us + half_us, now.level)


def other_products(
    comparison: Comparison, costs: OpCosts, side: Literal["a", "b"], kernel: str
) -> OtherProducts | None:
    """Of the baseline's ("a") or the variant's ("b") divided linears; `None` where the kernel was not run alone."""
    alone_us = products_us(comparison, side, kernel)
    if alone_us is None or comparison.table is None:
        return None
    rows = comparison.table.rows
    if side == "a":
        return OtherProducts(costs.of_baseline(row for row in rows if row.a and row.a.parent is not None), alone_us)
    return OtherProducts(costs.of_variant(row for row in rows if row.b and row.b.parent is not None), alone_us)


def products_us(comparison: Comparison, side: Literal["a", "b"], kernel: str) -> float | None:
    """What all products of one side's divided linears take in a kernel, run alone; `None` where they were not."""
    entry = comparison.a if side == "a" else comparison.b
    split = entry.timing.split.get(comparison.phase) if entry.timing else None
    return (split.products_us or {}).get(kernel) if split else None

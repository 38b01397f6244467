"""How far op times may be off by their clocks: in every inference alike, so that no number of them makes it smaller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from numpy.typing import ArrayLike

from qprof.record.ops import OpMeta
from qprof.stats.intervals import Interval
from qprof.stats.rounds import RoundEffect


def resolution_us(ops: Iterable[OpMeta | None]) -> float:
    """Of the sum of some ops' times, microseconds: the clock is wrong in the same direction for all of them. What is
    not known counts as nothing."""
    return sum((op.resolution_us or 0.0) for op in ops if op is not None)


def widened(interval: Interval, by: float) -> Interval:
    """An interval that also holds what its clock cannot tell."""
    if interval.low is None or interval.high is None or not by:
        return interval
    return replace(interval, low=interval.low - by, high=interval.high + by)


class ClockedEffect(RoundEffect):
    """The location of per-round times or differences that may be off by `resolution` in all rounds alike."""

    def __init__(self, differences: ArrayLike, resolution: float) -> None:
        super().__init__(differences)
        self.resolution = resolution

    def interval(self, level: float = 0.95) -> Interval:
        return widened(super().interval(level), self.resolution)

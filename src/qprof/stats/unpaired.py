"""The difference of two series of blocks that nothing pairs, such as those of two runs: Welch's t.

Welch, "The generalization of 'Student's' problem when several different population variances are involved",
Biometrika 34(1/2), 1947, with Satterthwaite's degrees of freedom, rounded down.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.stats.intervals import FEWEST_BLOCKS, Interval, student_t_cdf, student_t_quantile


class UnpairedEffect:
    """Mean of B minus mean of A: `value`, `standard_error` (`None` with `reason`), `degrees`.

    Evidence for `qprof.stats.verdict.judge`. It holds the scatter inside either series, not what differs from one run
    to another on the same machine (memory layout, temperature): two runs of one thing differ more often than its level.
    """

    def __init__(self, a: ArrayLike, b: ArrayLike) -> None:
        """`a`, `b`: float64, one number per block. Raises `ValueError` where empty or not finite."""
        first, second = _checked(a), _checked(b)
        self.value = float(second.mean() - first.mean())
        self.standard_error: float | None = None
        self.reason: str | None = None
        self.degrees = 0
        fewest = min(len(first), len(second))
        if fewest < FEWEST_BLOCKS:
            plural = "s" * (fewest != 1)
            self.reason = f"no interval from {fewest} block{plural}: at least {FEWEST_BLOCKS} are needed"
            return
        parts = [float(side.var(ddof=1)) / len(side) for side in (first, second)]
        self.standard_error = math.sqrt(sum(parts))
        below = sum(part**2 / (len(side) - 1) for part, side in zip(parts, (first, second), strict=True))
        self.degrees = max(1, int(sum(parts) ** 2 / below)) if below > 0.0 else fewest - 1

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided interval; no bounds with fewer than 5 blocks on a side."""
        if self.standard_error is None:
            return Interval(self.value, None, None, level, self.reason)
        half = student_t_quantile((1.0 + level) / 2.0, self.degrees) * self.standard_error
        return Interval(self.value, self.value - half, self.value + half, level)

    def p_above(self, bound: float) -> float | None:
        """One-sided p-value against "the effect is `bound` or less"; `None` where there is no interval."""
        return self._p(self.value - bound)

    def p_below(self, bound: float) -> float | None:
        """One-sided p-value against "the effect is `bound` or more"; `None` where there is no interval."""
        return self._p(bound - self.value)

    def _p(self, distance: float) -> float | None:
        if self.standard_error is None:
            return None
        if self.standard_error == 0.0:
            return 0.0 if distance > 0.0 else 1.0
        return max(0.0, 1.0 - student_t_cdf(distance / self.standard_error, self.degrees))


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    checked = np.asarray(values, dtype=np.float64)
    if checked.ndim != 1 or not len(checked) or not np.all(np.isfinite(checked)):
        raise ValueError(f"a series must be a vector of finite numbers, one per block, got shape {checked.shape}")
    return checked

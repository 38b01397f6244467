"""The difference of two series of blocks that nothing pairs, such as those of two runs: Welch's t.

Welch, "The generalization of 'Student's' problem when several different population variances are involved",
Biometrika 34(1/2), 1947, with Satterthwaite's degrees of freedom, rounded down.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.stats.intervals import FEWEST_BLOCKS
from qprof.stats.student import StudentEffect


class UnpairedEffect(StudentEffect):
    """Mean of B minus mean of A.

    Effect for `qprof.stats.verdict.judge`. It holds the scatter inside either series, not what differs from one run
    to another on the same machine (memory layout, temperature): two runs of one thing differ more often than its level.
    """

    def __init__(self, a: ArrayLike, b: ArrayLike) -> None:
        """`a`, `b`: float64, one number per block. Raises `ValueError` where empty or not finite."""
        first, second = _checked(a), _checked(b)
        value = float(second.mean() - first.mean())
        fewest = min(len(first), len(second))
        if fewest < FEWEST_BLOCKS:
            plural = "s" * (fewest != 1)
            reason = f"no interval from {fewest} block{plural}: at least {FEWEST_BLOCKS} are needed"
            super().__init__(value, None, 0, reason)
            return
        parts = [float(side.var(ddof=1)) / len(side) for side in (first, second)]
        below = sum(part**2 / (len(side) - 1) for part, side in zip(parts, (first, second), strict=True))
        degrees = max(1, int(sum(parts) ** 2 / below)) if below > 0.0 else fewest - 1
        super().__init__(value, math.sqrt(sum(parts)), degrees)


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    checked = np.asarray(values, dtype=np.float64)
    if checked.ndim != 1 or not len(checked) or not np.all(np.isfinite(checked)):
        raise ValueError(f"a series must be a vector of finite numbers, one per block, got shape {checked.shape}")
    return checked

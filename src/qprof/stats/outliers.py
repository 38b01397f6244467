"""Outliers by the modified z-score: flagged, never dropped."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Standard deviation of a normal distribution over its median absolute deviation, 1 / Phi^-1(3/4).
_SIGMA_PER_MAD = 1.4826
#: Standard deviation of a normal distribution over its mean absolute deviation.
_SIGMA_PER_MEAN_DEVIATION = math.sqrt(math.pi / 2.0)
#: Ten robust standard deviations: |x - median| / MAD > 14.826, the threshold of hyperfine (`outlier_detection.rs`).
#: Iglewicz & Hoaglin propose 3.5, which flags the ordinary right tail of every latency distribution.
_SIGMAS = 10.0


def modified_z_outliers(values: ArrayLike) -> NDArray[np.bool_]:
    """Which values lie further than 14.826 MAD from the median: float64[n] -> bool[n].

    Iglewicz & Hoaglin, "How to Detect and Handle Outliers", ASQC Basic References in Quality Control 16, 1993. Where
    more than half of the values are equal (a coarse clock) the MAD is 0 and says nothing; the mean absolute deviation
    takes its place at the same number of standard deviations. Raises `ValueError` for a non-finite value.
    """
    checked = np.asarray(values, dtype=np.float64)
    if checked.ndim != 1 or not np.all(np.isfinite(checked)):
        raise ValueError("values must be a vector of finite numbers")
    if not len(checked):
        return np.zeros(0, dtype=np.bool_)
    deviation = np.abs(checked - np.median(checked))
    sigma = _SIGMA_PER_MAD * float(np.median(deviation))
    if sigma == 0.0:
        sigma = _SIGMA_PER_MEAN_DEVIATION * float(np.mean(deviation))
    return deviation > _SIGMAS * sigma

"""What a comparison of pooled medians would say: the method that qprof does not use, to measure ours beside it."""

from __future__ import annotations

import numpy as np

from qprof.stats.intervals import Interval, PairedRounds, percentile_interval, resample_weights


def pooled_log_ratio(
    a: np.ndarray, a_rounds: np.ndarray, b: np.ndarray, b_rounds: np.ndarray, resamples: int = 2000, seed: int = 0
) -> Interval:
    """ln(median of b / median of a), each over all rounds, which are resampled jointly."""
    pairs = PairedRounds.of(a, a_rounds, b, b_rounds)
    of_a, of_b = pairs.replicates(resample_weights(pairs.rounds, resamples, seed), 0.5)
    value = float(np.log(np.median(pairs.b_values) / np.median(pairs.a_values)))
    return percentile_interval(value, np.log(of_b / of_a), 0.95, pairs.rounds, "expanded")

"""The effect over rounds: a robust location of per-round differences, with intervals and p-values at any level.

Each round gives one number, ln(median of B / median of A), so what the round did to both cancels before anything is
averaged. (Pooling all inferences first and taking one median loses that: under a drift of 30 % over 12 rounds, the
pooled medians of `paired_block_difference` found a planted 2 % in 9 of 100 runs, the rounds in 71.)

The estimate is that of Hodges & Lehmann, "Estimates of Location Based on Rank Tests", Ann. Math. Statist. 34(2), 1963:
the median of all pairwise means. Its standard error is the length of a distribution-free signed-rank interval over
twice the t quantile of that interval's level (Lehmann, "Nonparametric Confidence Intervals for a Shift Parameter",
Ann. Math. Statist. 34(4), 1963), and the ratio is referred to Student's t with n - 1 degrees of freedom, as is usual in
rank-based analysis (Hettmansperger & McKean, "Robust Nonparametric Statistical Methods", 2nd ed., 2011, section 1.5).
The signed-rank test itself cannot reject at 5 % with 5 rounds, and with 10 rounds it gives no p-value under 0.002,
which no correction over many ops survives. `tests/benchmarks/verdict_calibration.py` prints what each choice costs.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.stats.intervals import FEWEST_BLOCKS, PairedRounds, student_t_quantile
from qprof.stats.student import StudentEffect

#: Rounds run in pairs A B, B A (`qprof.stats.schedule`). Where the noise of neighbouring blocks correlates by rho, as
#: in an AR(1) process, so do the two differences of a pair, by rho (1 - rho) / 2. That is 1/8 at most, which raises the
#: variance of their mean by as much.
_PAIR_VARIANCE = 9.0 / 8.0
#: With 5 to 20 rounds the signed-rank length comes out up to 3 % too short for Student's t (simulated, normal rounds).
_RANK_VARIANCE = 16.0 / 15.0
#: Two-sided level of the signed-rank interval that the standard error is read from: of the levels tried (5, 10, 20,
#: 33 %) the one that loses next to nothing with normal rounds and keeps its power where one round in four is spoilt.
_SCALE_ALPHA = 0.2
#: Differences that are this much of the largest apart are equal.
_ROUNDING = 1e-12
#: The signed-rank distribution is exact up to here and normal beyond.
_EXACT_ROUNDS = 50
#: More rounds than this are averaged in groups of neighbours first: pairwise means take memory by the square.
_MOST_ROUNDS = 1000


class RoundEffect(StudentEffect):
    """Location of per-round differences: `value`, `standard_error` (`None` with `reason`), `rounds`.

    Effect for `qprof.stats.verdict.judge`. The unit is that of the differences: for `round_log_ratios` the natural
    logarithm of a ratio.
    """

    def __init__(self, differences: ArrayLike) -> None:
        """`differences`: float64[rounds], one number per round. Raises `ValueError` where empty or not finite."""
        values = np.asarray(differences, dtype=np.float64)
        if values.ndim != 1 or not len(values) or not np.all(np.isfinite(values)):
            raise ValueError(f"differences must be a vector of finite numbers, one per round, got shape {values.shape}")
        self.rounds = len(values)
        if len(values) > _MOST_ROUNDS:
            values = np.array([group.mean() for group in np.array_split(values, _MOST_ROUNDS)])
        i, j = np.triu_indices(len(values))
        walsh = np.sort((values[i] + values[j]) / 2.0)
        reason = None
        if self.rounds < FEWEST_BLOCKS:
            plural = "s" * (self.rounds != 1)
            reason = f"no interval from {self.rounds} round{plural}: at least {FEWEST_BLOCKS} are needed"
        error = None if reason else _standard_error(values, walsh)
        super().__init__(float(np.median(walsh)), error, len(values) - 1, reason)


def _standard_error(values: NDArray[np.float64], walsh: NDArray[np.float64]) -> float:
    """From the signed-rank interval of differences float64[n] and their sorted pairwise means."""
    outside, alpha = _signed_rank_bound(len(values))
    length = float(walsh[-1 - outside] - walsh[outside])
    error = length / (2.0 * student_t_quantile(1.0 - alpha / 2.0, len(values) - 1))
    if length <= _ROUNDING * float(np.abs(values).max()):
        # Mostly equal differences, of a coarse clock: the others still count.
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return math.sqrt(_PAIR_VARIANCE * _RANK_VARIANCE) * error


def round_log_ratios(a_values: ArrayLike, a_rounds: ArrayLike, b_values: ArrayLike, b_rounds: ArrayLike) -> RoundEffect:
    """Effect of B against A in ln(B / A): per round the log-ratio of the medians of its inferences.

    Values: float64[n], positive; rounds: int[n]. Rounds that hold one variant only are left out. Raises `ValueError`
    for empty, non-finite, mismatched or non-positive values, and where no round holds both.
    """
    pairs = PairedRounds.of(a_values, a_rounds, b_values, b_rounds)
    a, b = (_medians(*side) for side in ((pairs.a_values, pairs.a_index), (pairs.b_values, pairs.b_index)))
    if min(a.min(), b.min()) <= 0.0:
        raise ValueError("a ratio needs positive values: the median of a round is zero or negative")
    return RoundEffect(np.log(b / a))


def _medians(values: NDArray[np.float64], rounds: NDArray[np.intp]) -> NDArray[np.float64]:
    """Median of the values of each round 0 .. r-1, every one of which is there: float64[r]."""
    ordered = values[np.lexsort((values, rounds))]
    sizes = np.bincount(rounds)
    first = np.cumsum(sizes) - sizes
    return np.asarray((ordered[first + (sizes - 1) // 2] + ordered[first + sizes // 2]) / 2.0)


@lru_cache(maxsize=64)
def _signed_rank_bound(n: int) -> tuple[int, float]:
    """How many of the sorted pairwise means lie outside on each side, and the two-sided level that this leaves out."""
    if n > _EXACT_ROUNDS:
        mean, deviation = n * (n + 1) / 4.0, math.sqrt(n * (n + 1) * (2 * n + 1) / 24.0)
        return round(mean + deviation * NormalDist().inv_cdf(_SCALE_ALPHA / 2.0)), _SCALE_ALPHA
    chances = np.ones(1)
    for rank in range(1, n + 1):
        without = np.concatenate([chances, np.zeros(rank)])
        chances = (without + np.concatenate([np.zeros(rank), chances])) / 2.0
    lower = np.cumsum(chances)
    outside = int(np.searchsorted(lower, _SCALE_ALPHA / 2.0, side="right")) - 1
    return outside, 2.0 * float(lower[outside])

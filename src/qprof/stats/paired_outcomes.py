"""Two variants on the same samples: right or wrong (McNemar), or any score per sample (paired bootstrap).

Only samples on which the two differ say anything about the difference, so an unpaired test on the same data is blind by
comparison: for 5153 samples at 70 % its half-width is 1.77 points, the paired one's 0.61 at 5 % discordant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.stats.intervals import Interval, Method, checked_blocks
from qprof.stats.verdict import Replicates

#: Draws of the paired bootstrap that are held at once.
_CHUNK_ELEMENTS = 2**22


@dataclass(frozen=True)
class PairedOutcomes:
    """How often A alone and B alone were right on the same `samples`; evidence for `qprof.stats.verdict.judge`.

    The effect is accuracy of B minus accuracy of A. Bounds and p-values are those of the score test of Tango,
    "Equivalence test and confidence interval for the difference in proportions for the paired-sample design", Statist.
    Med. 17(8), 1998, recommended by Fagerland, Lydersen & Laake, Statist. Med. 33(16), 2014; they stay meaningful where
    no sample is discordant. Against 0 the test is McNemar's mid-p; an interval that would contradict it ends at 0.
    """

    samples: int
    a_only: int
    b_only: int

    def __post_init__(self) -> None:
        if min(self.a_only, self.b_only) < 0 or self.samples < max(1, self.a_only + self.b_only):
            raise ValueError(f"{self.a_only} and {self.b_only} discordant samples of {self.samples} cannot be")

    @classmethod
    def of(cls, a_right: ArrayLike, b_right: ArrayLike) -> PairedOutcomes:
        """Count from bool[n], sample by sample. Raises `ValueError` where they are empty, not bool or do not fit."""
        a, b = np.asarray(a_right), np.asarray(b_right)
        if a.dtype != np.bool_ or b.dtype != np.bool_ or a.ndim != 1 or a.shape != b.shape or not len(a):
            raise ValueError(
                f"outcomes must be two bool vectors of one length, got {a.dtype}{a.shape}, {b.dtype}{b.shape}"
            )
        return cls(len(a), int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a)))

    @property
    def value(self) -> float:
        """Accuracy of B minus accuracy of A."""
        return (self.b_only - self.a_only) / self.samples

    @cached_property
    def mcnemar_p(self) -> float:
        """Two-sided mid-p value of McNemar's test, from the binomial distribution whatever the counts.

        Fagerland, Lydersen & Laake, "The McNemar test for binary matched-pairs data: mid-p and asymptotic are better
        than exact conditional", BMC Med. Res. Methodol. 13:91, 2013: the exact test is needlessly conservative (true
        level 2.2 % for a nominal 5 % with 10 discordant samples expected, mid-p 4.1 %), the chi-square one exceeds it.
        """
        tail, point = _binomial_tail(min(self.a_only, self.b_only), self.a_only + self.b_only)
        return min(1.0, 2.0 * tail - point)

    @property
    def mcnemar_exact_p(self) -> float:
        """Two-sided p-value of McNemar's exact test (McNemar, Psychometrika 12(2), 1947): never above its level."""
        tail, _ = _binomial_tail(min(self.a_only, self.b_only), self.a_only + self.b_only)
        return min(1.0, 2.0 * tail)

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided interval of the difference."""
        critical = NormalDist().inv_cdf((1.0 + level) / 2.0)
        low, high = self._bound(critical), self._bound(-critical)
        if self.mcnemar_p > 1.0 - level:
            low, high = min(low, 0.0), max(high, 0.0)
        return Interval(self.value, low, high, level)

    def p_above(self, bound: float) -> float:
        """One-sided p-value against "the difference is `bound` or less"."""
        if bound == 0.0:
            return self.mcnemar_p / 2.0 if self.value > 0.0 else 1.0 - self.mcnemar_p / 2.0
        return NormalDist().cdf(-self._score(bound))

    def p_below(self, bound: float) -> float:
        """One-sided p-value against "the difference is `bound` or more"."""
        return PairedOutcomes(self.samples, self.b_only, self.a_only).p_above(-bound)

    def _score(self, bound: float) -> float:
        """Tango's statistic: the difference less `bound`, over its standard error where `bound` is the truth."""
        n, b, c = self.samples, self.b_only, self.a_only
        if abs(bound) >= 1.0:
            return -math.copysign(math.inf, bound)
        linear = (2 * n - b + c) * bound - b - c
        root = math.sqrt(max(0.0, linear * linear + 8 * n * c * bound * (1.0 - bound))) if c else abs(linear)
        # The root of the likelihood's quadratic, in the form that does not cancel.
        share = (root - linear) / (4 * n) if linear <= 0.0 else 2 * c * bound * (1.0 - bound) / (root + linear)
        variance = n * (2.0 * share + bound * (1.0 - bound))
        difference = b - c - n * bound
        if variance <= 0.0:
            return 0.0 if difference == 0.0 else math.copysign(math.inf, difference)
        return difference / math.sqrt(variance)

    def _bound(self, critical: float) -> float:
        """The difference at which the statistic, which falls from +inf to -inf, equals `critical`."""
        low, high = -1.0, 1.0
        while high - low > 1e-12:
            middle = (low + high) / 2.0
            low, high = (middle, high) if self._score(middle) > critical else (low, middle)
        return (low + high) / 2.0


def paired_bootstrap(
    a_scores: ArrayLike, b_scores: ArrayLike, resamples: int = 2000, seed: int = 0, method: Method = "expanded"
) -> Replicates:
    """Mean of B minus mean of A over the same samples, resampling samples: float64[n] each -> evidence.

    For any score per sample (log-likelihood, reciprocal rank, right or wrong). Takes some 50 MB whatever n is. Raises
    `ValueError` where the scores are empty, not finite or do not fit.
    """
    a, b = np.asarray(a_scores, dtype=np.float64), np.asarray(b_scores, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a) or resamples < 1:
        raise ValueError(f"need two vectors of one length and a resample, got {a.shape}, {b.shape} and {resamples}")
    difference, _, _ = checked_blocks(b - a, np.arange(len(a)))
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_ELEMENTS // len(a))
    drawn = [
        difference[rng.integers(0, len(a), size=(min(step, resamples - done), len(a)), dtype=np.int32)].mean(axis=1)
        for done in range(0, resamples, step)
    ]
    return Replicates(float(difference.mean()), np.concatenate(drawn), len(a), method)


def _binomial_tail(count: int, trials: int) -> tuple[float, float]:
    """P(X <= count) and P(X = count) for X of `trials` fair coins, 2 count <= trials."""
    steps: NDArray[np.float64] = np.arange(1, count + 1, dtype=np.float64)
    logs = np.concatenate([np.zeros(1), np.cumsum(np.log((trials - steps + 1.0) / steps))]) - trials * math.log(2.0)
    chances = np.exp(logs)
    return float(chances.sum()), float(chances[-1])

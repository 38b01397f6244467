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


@dataclass(frozen=True, slots=True, eq=False)
class Midmean:
    """Means over the inferences whose total lies within the interquartile range of their block.

    `means`: float64[k], per part; `rest`: total minus all parts; `total`: sum of `means` and `rest`. `selected`:
    bool[n]. `block_ids`: int64[b], ascending; `block_counts`: int64[b], selected inferences; `block_sums`:
    float64[b, k + 1], their sums per part with the rest last, from which every bootstrap resample is made.
    """

    means: NDArray[np.float64]
    rest: float
    total: float
    selected: NDArray[np.bool_]
    block_ids: NDArray[np.int64]
    block_counts: NDArray[np.int64]
    block_sums: NDArray[np.float64]

    def replicates(self, weights: NDArray[np.int64], part: int) -> NDArray[np.float64]:
        """Mean of one part (-1: the rest) under weights int64[resamples, b] of the blocks: float64[resamples]."""
        counts: NDArray[np.float64] = (weights @ self.block_counts).astype(np.float64)
        return np.asarray(weights @ self.block_sums[:, part] / counts, dtype=np.float64)

    def total_replicates(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean of the total under weights int64[resamples, b] of the blocks: float64[resamples]."""
        counts: NDArray[np.float64] = (weights @ self.block_counts).astype(np.float64)
        return np.asarray(weights @ self.block_sums.sum(axis=1) / counts, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class MidmeanIntervals:
    """Bootstrap intervals of a `Midmean`, or of the difference of two: one per part, the rest and the total."""

    parts: tuple[Interval, ...]
    rest: Interval
    total: Interval


def conditional_midmean(parts: ArrayLike, total: ArrayLike, blocks: ArrayLike) -> Midmean:
    """Midmean of each part, conditional on the total: float64[n, k], float64[n], int[n] -> `Midmean`.

    The interquartile range is that of the inference's own block, so a slow block is not thinned out: a block of m
    loses its floor(m / 4) fastest and as many of its slowest, and a block of fewer than 4 keeps all. Raises
    `ValueError` for empty, non-finite or mismatched input.
    """
    totals, ids, index = checked_blocks(total, blocks)
    values = np.asarray(parts, dtype=np.float64)
    if values.ndim != 2 or len(values) != len(totals):
        raise ValueError(f"parts must be [inferences, ops] with {len(totals)} rows, got shape {values.shape}")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} part values are not finite")
    by_block, counts = _middle_halves(totals, index)
    kept = values[by_block]
    rest = totals[by_block] - kept.sum(axis=1)
    starts = np.cumsum(counts) - counts
    sums = np.add.reduceat(np.column_stack([kept, rest]), starts, axis=0)
    selected = np.zeros(len(totals), dtype=np.bool_)
    selected[by_block] = True
    pooled = sums.sum(axis=0) / counts.sum()
    return Midmean(
        means=pooled[:-1],
        rest=float(pooled[-1]),
        total=float(pooled.sum()),
        selected=selected,
        block_ids=ids,
        block_counts=counts,
        block_sums=sums,
    )


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


def _middle_halves(totals: NDArray[np.float64], index: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Positions of the inferences to keep, block after block, and how many each block keeps."""
    order = np.lexsort((totals, index))
    ends = np.cumsum(np.bincount(index))[:-1]
    halves = [members[len(members) // 4 : len(members) - len(members) // 4] for members in np.split(order, ends)]
    return np.concatenate(halves), np.array([len(half) for half in halves], dtype=np.int64)

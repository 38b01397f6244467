"""Sums over the first so many values of a data set in which whole blocks are repeated, for many such data sets at once.

Each resample of blocks sorts the same values, only as often as their blocks' weights say. So the sum over its first x
values is that of whole segments of the sorted values, weighted block by block, and a part of one segment: what costs
[resamples, values] directly costs [resamples, blocks] and [resamples, segment] here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Values of a segment, at least, and bytes of the table of their sums.
_SEGMENT = 16
_TABLE_BYTES = 16 * 2**20
#: Numbers that are gathered at once.
_CHUNK_ELEMENTS = 2**20


class ResampledSums:
    """Rows `values`, float64[n, k], in the order in which they are taken; `blocks`: intp[n], each row's block."""

    def __init__(self, values: NDArray[np.float64], blocks: NDArray[np.intp], block_count: int) -> None:
        n, k = values.shape
        self._values, self._blocks = values, blocks
        self._segment = max(_SEGMENT, math.ceil(n * block_count * k * 8 / _TABLE_BYTES))
        segments = math.ceil(n / self._segment)
        cell = (np.arange(n) // self._segment) * block_count + blocks
        counts = np.bincount(cell, minlength=segments * block_count).reshape(segments, block_count)
        sums = np.zeros((segments * block_count, k))
        order = np.argsort(cell, kind="stable")
        first = np.flatnonzero(np.concatenate([[True], np.diff(cell[order]) > 0]))
        sums[cell[order][first]] = np.add.reduceat(values[order], first, axis=0)
        # Row s: how many rows of each block stand before segment s, and what they add up to.
        self._before = np.cumsum(counts, axis=0) - counts
        by_block = sums.reshape(segments, block_count, k)
        self._sums = np.concatenate([np.zeros((1, block_count, k)), np.cumsum(by_block[:-1], axis=0)])

    def first(self, weights: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of the first `count` int64[resamples] rows where each stands as often as its block's weight in `weights`
        int64[resamples, blocks] says: float64[resamples, k]. A count cuts through the copies of a row."""
        step = max(1, _CHUNK_ELEMENTS // max(self._segment * self._values.shape[1], weights.shape[1]))
        return np.concatenate(
            [self._chunk(weights[i : i + step], count[i : i + step]) for i in range(0, len(count), step)]
        )

    def _chunk(self, weights: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.float64]:
        at: NDArray[np.intp] = np.zeros(len(count), np.intp)
        last: NDArray[np.intp] = np.full(len(count), len(self._before) - 1, np.intp)
        while np.any(at < last):  # bisect for the last segment that starts at or before the count
            middle = (at + last + 1) // 2
            reached = np.einsum("rb,rb->r", weights, self._before[middle]) <= count
            at = np.where(reached, middle, at)
            last = np.where(reached, last, middle - 1)
        left = count - np.einsum("rb,rb->r", weights, self._before[at])
        positions = at[:, None] * self._segment + np.arange(self._segment)
        inside = positions < len(self._values)
        positions = np.minimum(positions, len(self._values) - 1)
        copies = np.where(inside, np.take_along_axis(weights, self._blocks[positions], axis=1), 0)
        taken = np.clip(left[:, None] - (np.cumsum(copies, axis=1) - copies), 0, copies)
        whole = np.matmul(weights[:, None, :].astype(np.float64), self._sums[at])[:, 0, :]
        part = np.matmul(taken[:, None, :].astype(np.float64), self._values[positions])[:, 0, :]
        return np.asarray(whole + part)

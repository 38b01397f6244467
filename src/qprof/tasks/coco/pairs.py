"""How much detections and ground truths have in common, of other shapes than boxes: masks, their boundaries, keypoints.

What is computed here, the compiled matching takes in place of the boxes' IoU: for each detection that counts one figure
per ground truth of its image and category.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core import _masks
from qprof.errors import DataError

#: Pairs whose keypoints are compared at once: bounds the memory.
PAIRS_AT_ONCE = 50_000


@dataclass(frozen=True, eq=False)
class MaskShapes:
    """n masks; `boundary`: what of them lies near their outlines, for Boundary IoU."""

    masks: _masks.Masks
    boundary: _masks.Masks | None = None


@dataclass(frozen=True, eq=False)
class KeypointShapes:
    """n objects of k keypoints; the last three of ground truths alone."""

    points: NDArray[np.float64]  # [n, k, 3]: x, y in pixels, visibility (above 0: labelled)
    area: NDArray[np.float64] | None = None  # [n] square pixels
    boxes: NDArray[np.float64] | None = None  # [n, 4]: x, y, width, height
    sigmas: NDArray[np.float64] | None = None  # [k]


Shapes = MaskShapes | KeypointShapes


@dataclass(frozen=True, eq=False)
class Rows:
    """The pairs to compare, detection by detection: detection[r] with order[begin[r] : begin[r] + count[r]]."""

    detection: NDArray[np.int32]
    begin: NDArray[np.int64]
    count: NDArray[np.int64]
    order: NDArray[np.int32]  # ground truths by image and class, within them in the order of the matching

    def flat(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Detection and ground truth of every pair."""
        ends = np.cumsum(self.count)
        within = np.arange(self.count.sum()) - np.repeat(ends - self.count, self.count)
        return np.repeat(self.detection, self.count), self.order[np.repeat(self.begin, self.count) + within]

    def begins(self, detections: int) -> NDArray[np.int64]:
        """Per detection of the input, where its figures begin; -1 where it has none."""
        found = np.full(detections, -1, dtype=np.int64)
        found[self.detection] = np.cumsum(self.count) - self.count
        return found


def find_rows(
    truth_image: NDArray[np.int32],
    truth_category: NDArray[np.int32],
    image: NDArray[np.int32],
    category: NDArray[np.int32],
    score: NDArray[Any],
    images: int,
    *,
    use_cats: bool,
    most: int,
) -> Rows:
    """The pairs of an image and class, of its `most` best detections; indices of -1 are left out."""
    truths = np.flatnonzero((truth_image >= 0) & (truth_category >= 0))
    found = np.flatnonzero((image >= 0) & (category >= 0))
    truth_cell = truth_image[truths].astype(np.int64)
    cell = image[found].astype(np.int64)
    if use_cats:
        truth_cell += truth_category[truths].astype(np.int64) * images
        cell += category[found].astype(np.int64) * images
    in_turn = np.lexsort((truth_category[truths], truth_cell))
    cells, first, counts = np.unique(truth_cell[in_turn], return_index=True, return_counts=True)
    place = np.searchsorted(cells, cell)
    place[place == len(cells)] = 0
    near = cells[place] == cell if len(cells) else np.zeros(len(found), dtype=bool)
    found, place = found[near], place[near]
    best_first = np.lexsort((category[found], -np.asarray(score)[found].astype(np.float64), place))
    found, place = found[best_first], place[best_first]
    start = np.searchsorted(place, place)
    counted = np.arange(len(place)) - start < most
    found, place = found[counted], place[counted]
    return Rows(found.astype(np.int32), first[place], counts[place].astype(np.int64), truths[in_turn].astype(np.int32))


def compare(
    truths: Shapes, found: Shapes, crowd: NDArray[np.uint8], rows: Rows, *, floor: float, threads: int
) -> NDArray[np.float64]:
    """One figure per pair of `rows`. What certainly stays below `floor` may be given as 0."""
    if isinstance(truths, MaskShapes) and isinstance(found, MaskShapes):
        return _of_masks(truths, found, crowd, rows, floor, threads)
    if isinstance(truths, KeypointShapes) and isinstance(found, KeypointShapes):
        return similarity(truths, found, *rows.flat())
    raise DataError("masks cannot be compared with keypoints: give both sides of one kind")


def of_tables(
    tables: Mapping[tuple[int, int], Any], rows: Rows, image: NDArray[np.int32], category: NDArray[np.int32]
) -> NDArray[np.float64]:
    """The figures of `rows` from tables that the caller has: (image, class), both indices, -> [detections best first,
    ground truths in input order], as pycocotools' `ious` has them. The class is 0 where categories are one: give
    `category` accordingly. `DataError` for a table of another shape."""
    parts = []
    begin = 0
    while begin < len(rows.detection):
        detection = rows.detection[begin]
        end = begin + int(np.searchsorted(rows.begin[begin:] != rows.begin[begin], True))
        where = int(image[detection]), int(category[detection])
        table = np.asarray(tables[where], dtype=np.float64)
        wanted = (end - begin, int(rows.count[begin]))
        if table.shape != wanted:
            raise DataError(f"IoUs of image {where[0]}, category {where[1]}: shape {table.shape}, not {wanted}")
        parts.append(table.ravel())
        begin = end
    return np.concatenate(parts) if parts else np.empty(0)


def _of_masks(
    truths: MaskShapes, found: MaskShapes, crowd: NDArray[np.uint8], rows: Rows, floor: float, threads: int
) -> NDArray[np.float64]:
    which = (rows.detection, rows.begin, rows.count, rows.order, crowd)
    ious = _masks.overlaps(found.masks, truths.masks, *which, floor=floor, threads=threads)
    if truths.boundary is None or found.boundary is None:
        return ious
    # As its authors have it, the smaller of the two, but of a crowd that of the masks.
    near = _masks.overlaps(found.boundary, truths.boundary, *which, floor=floor, threads=threads)
    _, truth = rows.flat()
    plain = crowd[truth] == 0
    ious[plain] = np.minimum(ious[plain], near[plain])
    return ious


def similarity(
    truths: KeypointShapes, found: KeypointShapes, detection: NDArray[np.int32], truth: NDArray[np.int32]
) -> NDArray[np.float64]:
    """float64[pairs]: the object keypoint similarity (https://cocodataset.org/#keypoints-eval), to the last bit that of
    pycocotools, whose order of operations this is."""
    assert truths.sigmas is not None and truths.area is not None and truths.boxes is not None
    spread = (truths.sigmas * 2) ** 2
    labelled = truths.points[..., 2] > 0
    known = labelled.sum(axis=1)
    result = np.empty(len(detection))
    # Sums of as many terms at once: NumPy adds up rows of one length in one order.
    for count in np.unique(known[truth]).tolist():
        of_count = np.flatnonzero(known[truth] == count)
        for begin in range(0, len(of_count), PAIRS_AT_ONCE):
            at = of_count[begin : begin + PAIRS_AT_ONCE]
            t, d = truth[at], found.points[detection[at]]
            if count:
                dx, dy = d[..., 0] - truths.points[t, :, 0], d[..., 1] - truths.points[t, :, 1]
            else:
                dx, dy = _outside(truths.boxes[t], d)
            with np.errstate(over="ignore", invalid="ignore"):
                e = (dx**2 + dy**2) / spread / (truths.area[t] + np.spacing(1))[:, None] / 2
            if count:
                e = e[labelled[t]].reshape(-1, count)
            result[at] = np.exp(-e).sum(axis=1) / e.shape[1]
    return result


def _outside(boxes: NDArray[np.float64], points: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """How far points lie outside of boxes that are made three times as wide and high around their middle."""
    x, y, width, height = (boxes[:, n, None] for n in range(4))
    dx = np.maximum(0, x - width - points[..., 0]) + np.maximum(0, points[..., 0] - (x + width * 2))
    dy = np.maximum(0, y - height - points[..., 1]) + np.maximum(0, points[..., 1] - (y + height * 2))
    return dx, dy

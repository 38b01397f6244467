"""Labelled boxes of a data set as plain arrays, and their overlaps (IoU) as COCO defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError

Floats = NDArray[np.float64]
Indices = NDArray[np.int32]
Mask = NDArray[np.bool_]

#: Pairs of boxes whose overlap is computed at once: bounds the memory, about 100 bytes a pair.
PAIRS_AT_ONCE = 500_000


@dataclass(frozen=True, eq=False)
class Boxes:
    """n boxes of a data set, in any order; the order among equal scores decides ties.

    `image` int32[n] and `category` int32[n] are indices (0 .. images-1, 0 .. categories-1, in the order of the sorted
    ids); `boxes` float64[n,4] holds x, y, width, height in pixels. Fields are converted to those types. Raises
    `DataError` for other shapes, negative indices and numbers that are not finite.
    """

    image: Indices
    category: Indices
    boxes: Floats

    def __post_init__(self) -> None:
        rows = len(np.atleast_1d(self.image))
        _convert(self, "image", np.int32, (rows,))
        _convert(self, "category", np.int32, (rows,))
        _convert(self, "boxes", np.float64, (rows, 4))
        for name in ("image", "category"):
            if rows and getattr(self, name).min() < 0:
                raise DataError(f"{type(self).__name__}.{name} holds a negative index: leave such boxes out")

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class TruthBoxes(Boxes):
    """Ground truth: `crowd` bool[n] (none unless given), `area` float64[n] in pixels (width x height unless given)."""

    crowd: Mask = None  # type: ignore[assignment]  # filled by __post_init__
    area: Floats = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crowd is None:
            object.__setattr__(self, "crowd", np.zeros(len(self), dtype=np.bool_))
        if self.area is None:
            object.__setattr__(self, "area", self.boxes[:, 2] * self.boxes[:, 3])
        _convert(self, "crowd", np.bool_, (len(self),))
        _convert(self, "area", np.float64, (len(self),))


@dataclass(frozen=True, eq=False)
class DetectionBoxes(Boxes):
    """Detections: `score` float64[n], higher is surer; equal scores rank in the order of the input."""

    score: Floats

    def __post_init__(self) -> None:
        super().__post_init__()
        _convert(self, "score", np.float64, (len(self),))

    def best_first(self) -> NDArray[np.intp]:
        """Positions by falling score, ties by image and then by input: the order of pycocotools' accumulation."""
        order: NDArray[np.intp] = np.lexsort((self.image, -self.score))
        return order


def _convert(owner: Boxes, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
    where = f"{type(owner).__name__}.{name}"
    try:
        given = np.asarray(getattr(owner, name))
        array = given.reshape(shape) if given.size == 0 and 0 in shape else given
        if dtype is np.int32 and array.size and array.dtype.kind not in "iu":
            raise DataError(f"{where} holds {array.dtype}, not integers: give the indices of the sorted ids")
        array = np.ascontiguousarray(array, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where} cannot be read as {np.dtype(dtype)} numbers: {error}") from error
    if array.shape != shape:
        raise DataError(f"{where} has the shape {array.shape}, not {shape}: give one row per box")
    if array.dtype == np.float64 and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(f"{where}[{row}] is not a finite number: leave such boxes out")
    object.__setattr__(owner, name, array)


def check_within(boxes: Boxes, images: int, categories: int) -> None:
    """Raise `DataError` where an index is not below the number of images or categories."""
    for name, limit in (("image", images), ("category", categories)):
        index = getattr(boxes, name)
        if len(index) and index.max() >= limit:
            row = int(index.argmax())
            raise DataError(f"{type(boxes).__name__}.{name}[{row}] is {index[row]}, but there are only {limit}")


def check_threshold(name: str, value: float) -> None:
    """Raise `DataError` unless 0 < value <= 1: at IoU 0 boxes that do not touch would match."""
    if not 0.0 < value <= 1.0:
        raise DataError(f"{name} is {value}: give an IoU above 0 and at most 1")


def iou(detections: Floats, truths: Floats, crowd: Mask) -> Floats:
    """IoU of box pairs: float64[n] from two float64[n,4] (x, y, width, height) and bool[n].

    For a crowd the union is the detection's own area, so that a detection inside a crowd has 1. Boxes that only touch,
    and boxes without area, have 0. Bit for bit `bbIou` of the COCO API (maskApi.c in pycocotools) where its union is
    positive.
    """
    width = np.minimum(detections[:, 0] + detections[:, 2], truths[:, 0] + truths[:, 2])
    width -= np.maximum(detections[:, 0], truths[:, 0])
    height = np.minimum(detections[:, 1] + detections[:, 3], truths[:, 1] + truths[:, 3])
    height -= np.maximum(detections[:, 1], truths[:, 1])
    found = np.flatnonzero((width > 0) & (height > 0))
    intersection = width[found] * height[found]
    union = detections[found, 2] * detections[found, 3]
    plain = ~crowd[found]
    # The order of the operations is that of bbIou: area + area - intersection.
    union[plain] += truths[found[plain], 2] * truths[found[plain], 3]
    union[plain] -= intersection[plain]
    result = np.zeros(len(detections))
    # Areas that underflow to 0, and sizes far below the resolution of the place, leave no area to share.
    np.divide(intersection, union, out=intersection, where=union > 0)
    intersection[union <= 0] = 0.0
    result[found] = intersection
    return result


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The P pairs of a detection and a ground truth of one image, of any categories, whose IoU is above 0.

    `detection` int32[P] and `truth` int32[P] are positions in the input, `iou` float64[P]; by detection, then by truth.
    """

    detection: Indices
    truth: Indices
    iou: Floats

    def take(self, mask: Mask) -> Overlaps:
        """The chosen pairs, in the same order."""
        return Overlaps(self.detection[mask], self.truth[mask], self.iou[mask])

    def best(self, count: int) -> tuple[Floats, Indices]:
        """For each of `count` detections its largest IoU (float64, 0 without a pair) and that truth (int32, -1), of
        several truths the first."""
        value, truth = np.zeros(count), np.full(count, -1, dtype=np.int32)
        np.maximum.at(value, self.detection, self.iou)
        largest = np.flatnonzero(self.iou == value[self.detection])[::-1]
        truth[self.detection[largest]] = self.truth[largest]
        return value, truth


def find_overlaps(truths: TruthBoxes, detections: DetectionBoxes) -> Overlaps:
    """All overlapping pairs of a data set; time and memory grow with the pairs within images."""
    by_image = np.argsort(truths.image, kind="stable")
    images = 1 + max(truths.image.max(initial=-1), detections.image.max(initial=-1))
    per_image = np.bincount(truths.image, minlength=images)
    first_truth = (np.cumsum(per_image) - per_image)[detections.image]
    pairs = per_image[detections.image]
    ends = np.cumsum(pairs)
    parts = [Overlaps(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))]
    begin = 0
    while begin < len(detections):
        before = ends[begin] - pairs[begin]
        end = max(begin + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, side="right")))
        detection = np.repeat(np.arange(begin, end, dtype=np.int32), pairs[begin:end])
        place = np.arange(len(detection)) - (ends - pairs - before)[detection] + first_truth[detection]
        truth = by_image[place]
        overlap = iou(detections.boxes[detection], truths.boxes[truth], truths.crowd[truth])
        found = overlap > 0
        parts.append(Overlaps(detection[found], truth[found].astype(np.int32), overlap[found]))
        begin = end
    return Overlaps(
        np.concatenate([part.detection for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.iou for part in parts]),
    )

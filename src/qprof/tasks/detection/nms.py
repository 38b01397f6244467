"""Greedy, class-aware non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprof.tasks.detection.boxes import Floats


def iou_with(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one corner box [4] with boxes [n,4]; 0 where the union has no area."""
    width = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    height = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    intersection = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    union = area + areas - intersection
    iou: Floats = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return iou


def non_maximum_suppression(
    boxes: Floats, scores: Floats, classes: NDArray[np.int64], iou_threshold: float | None, limit: int
) -> NDArray[np.intp]:
    """Positions of at most `limit` boxes that are kept, best score first.

    Going down the scores, a box suppresses every later one of its own class that overlaps it by an IoU *greater*
    than `iou_threshold` (as in torchvision.ops.batched_nms and TFLite_Detection_PostProcess). Equal scores keep
    their order. `None` suppresses nothing: the best `limit` boxes.
    """
    remaining = np.argsort(-scores, kind="stable")
    if iou_threshold is None:
        return remaining[:limit]
    kept: list[int] = []
    while remaining.size and len(kept) < limit:
        best, rest = remaining[0], remaining[1:]
        kept.append(int(best))
        overlaps = iou_with(boxes[best], boxes[rest]) > iou_threshold
        remaining = rest[~(overlaps & (classes[rest] == classes[best]))]
    return np.array(kept, dtype=np.intp)

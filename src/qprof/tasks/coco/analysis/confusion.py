"""Which category is taken for which: the confusion matrix of a detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.tasks.coco.analysis.boxes import (
    DetectionBoxes,
    Floats,
    Overlaps,
    TruthBoxes,
    check_threshold,
    check_within,
    find_overlaps,
)
from qprof.tasks.coco.analysis.matching import Order, match


@dataclass(frozen=True, eq=False)
class Confusion:
    """`counts` int64[K+1, K+1]: row = category of the ground truth, column = category of the detection that matched it.

    The last row is the background: detections that matched nothing. The last column is the background too: ground
    truths that nothing matched. The corner of both is 0. `ignored` counts the detections that stand upon a crowd and
    matched nothing; they and the crowds are in no cell. A row adds up to the ground truths of its category, a column to
    the detections of its category that were not ignored.
    """

    iou_threshold: float
    score_threshold: float
    order: Order
    counts: NDArray[np.int64]
    ignored: int

    @property
    def shares(self) -> Floats:
        """float64[K+1, K+1]: each row divided by its sum; NaN in rows without a count."""
        rows = self.counts.sum(axis=1, keepdims=True)
        return np.where(rows > 0, self.counts / np.maximum(rows, 1), np.nan)

    def most_confused(self, limit: int = 10) -> list[tuple[int, int, int]]:
        """The largest cells off the diagonal as (category, taken for, count), largest first, background left out."""
        wrong = self.counts[:-1, :-1].copy()
        np.fill_diagonal(wrong, 0)
        largest = np.argsort(-wrong, axis=None, kind="stable")[:limit]
        cells = [divmod(int(cell), wrong.shape[1]) for cell in largest]
        return [(row, column, int(wrong[row, column])) for row, column in cells if wrong[row, column]]


def confusion(
    truths: TruthBoxes,
    detections: DetectionBoxes,
    *,
    images: int,
    categories: int,
    iou_threshold: float = 0.45,
    score_threshold: float = 0.25,
    order: Order = "iou",
    overlaps: Overlaps | None = None,
) -> Confusion:
    """Match whatever the category, then count who was taken for whom.

    Detections whose score is at least `score_threshold` and ground truths are matched one to one, greedily and
    regardless of category, where the IoU is at least `iou_threshold`: by default the pair with the largest IoU first,
    the convention of the confusion matrix in Ultralytics YOLOv5 and of its source,
    github.com/kaanakan/object_detection_confusion_matrix, whose thresholds (0.45 and 0.25) are the defaults too. With
    `order="score"` the best-scored detection chooses first, as in COCO's matching with `useCats=0`. Neither prefers a
    detection of the right category over one of a wrong category with a larger IoU.

    `overlaps`: the result of `find_overlaps` for these boxes, where already known. Raises `DataError` for indices that
    are not below `images` or `categories`, and for IoU thresholds outside (0, 1].
    """
    check_threshold("iou_threshold", iou_threshold)
    check_within(truths, images, categories)
    check_within(detections, images, categories)
    considered = detections.score >= score_threshold
    matching = match(
        truths,
        detections,
        find_overlaps(truths, detections) if overlaps is None else overlaps,
        iou_threshold=iou_threshold,
        considered=considered,
        same_category=False,
        order=order,
    )
    matched = matching.truth >= 0
    alone = considered & ~matched & ~matching.ignored
    missed = (matching.detection < 0) & ~truths.crowd
    counts = np.zeros((categories + 1, categories + 1), dtype=np.int64)
    np.add.at(counts, (truths.category[matching.truth[matched]], detections.category[matched]), 1)
    counts[categories, :categories] = np.bincount(detections.category[alone], minlength=categories)
    counts[:categories, categories] = np.bincount(truths.category[missed], minlength=categories)
    return Confusion(iou_threshold, score_threshold, order, counts, int(matching.ignored.sum()))

"""Precision and recall at one IoU threshold and one score threshold: the older protocols, and what they flatter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qprof.tasks.coco.analysis.boxes import (
    DetectionBoxes,
    Floats,
    Mask,
    Overlaps,
    TruthBoxes,
    check_threshold,
    check_within,
    find_overlaps,
)
from qprof.tasks.coco.analysis.matching import match, reached_at

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FixedThresholdScore:
    """Counts per image, int64[images] each, and the figures that follow from them.

    `true_positives` and `false_positives` count detections, `found` and `missed` ground truths (crowds are neither);
    `ignored` are the detections that count nowhere because they stand upon a crowd. One to one, `found` equals
    `true_positives`; many to one it does not. `iou_sum` float64[images] adds up the IoU of the true positives.

    Figures are fractions, `None` where undefined (nothing was detected, or there was nothing to find); those per image
    are float64[images] with NaN where undefined.
    """

    iou_threshold: float
    score_threshold: float
    same_category: bool
    many_to_one: bool
    true_positives: Counts
    false_positives: Counts
    ignored: Counts
    found: Counts
    missed: Counts
    iou_sum: Floats

    @property
    def precision(self) -> float | None:
        """Share of the detections that are true."""
        return _ratio(self.true_positives.sum(), (self.true_positives + self.false_positives).sum())

    @property
    def recall(self) -> float | None:
        """Share of the ground truths that were found."""
        return _ratio(self.found.sum(), (self.found + self.missed).sum())

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; 0 where both are 0, `None` where either is undefined."""
        precision, recall = self.precision, self.recall
        if precision is None or recall is None:
            return None
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    @property
    def mean_iou(self) -> float | None:
        """Mean IoU of the true positives with what they matched; it says nothing of what was not found."""
        return _ratio(self.iou_sum.sum(), self.true_positives.sum())

    @property
    def image_precision(self) -> Floats:
        """Precision of each image."""
        return _ratios(self.true_positives, self.true_positives + self.false_positives)

    @property
    def image_recall(self) -> Floats:
        """Recall of each image."""
        return _ratios(self.found, self.found + self.missed)

    @property
    def image_f1(self) -> Floats:
        """F1 of each image."""
        precision, recall = self.image_precision, self.image_recall
        total = precision + recall
        return np.where(total == 0, 0.0, 2 * precision * recall / np.where(total == 0, 1.0, total))

    @property
    def image_mean_iou(self) -> Floats:
        """Mean IoU of the true positives of each image."""
        return _ratios(self.iou_sum, self.true_positives)


def fixed_threshold_score(
    truths: TruthBoxes,
    detections: DetectionBoxes,
    *,
    images: int,
    categories: int,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
    same_category: bool = True,
    many_to_one: bool = False,
    overlaps: Overlaps | None = None,
) -> FixedThresholdScore:
    """Score the detections whose score is at least `score_threshold` at one IoU threshold.

    What it measures depends on the thresholds more than on the model. A low IoU threshold (0.01) asks only whether a
    box touches an object, so that a box of half the image is as good as an exact one: the protocol is blind to
    localization, the first thing that coarse arithmetic loses. A score threshold of 0 admits every box that the model's
    own cut-off let through: coarse scores that round to 0 and fall out there then raise the precision. Both flatter the
    coarser model; compare `mean_iou`, and AP, which sweeps both thresholds.

    One to one (the default): greedy matching by score as in COCO, at one threshold; crowds excuse detections and need
    not be found. `many_to_one`: the naive protocol, in which every detection that reaches the threshold with any ground
    truth is true, duplicates included, a ground truth is found if any detection reaches it, and crowds are ground
    truths like others; the IoU of a true positive is then its largest.

    `overlaps`: the result of `find_overlaps` for these boxes, where already known. Raises `DataError` for indices that
    are not below `images` or `categories`, and for IoU thresholds outside (0, 1].
    """
    check_threshold("iou_threshold", iou_threshold)
    check_within(truths, images, categories)
    check_within(detections, images, categories)
    considered = detections.score >= score_threshold
    if many_to_one and truths.crowd.any():
        truths, overlaps = replace(truths, crowd=np.zeros(len(truths), dtype=np.bool_)), None
    overlaps = find_overlaps(truths, detections) if overlaps is None else overlaps
    if many_to_one:
        near = overlaps.take((overlaps.iou >= reached_at(iou_threshold)) & considered[overlaps.detection])
        if same_category:
            near = near.take(truths.category[near.truth] == detections.category[near.detection])
        iou, best = near.best(len(detections))
        true: Mask = best >= 0
        ignored: Mask = np.zeros(len(detections), dtype=np.bool_)
        found: Mask = np.isin(np.arange(len(truths)), near.truth)
    else:
        matching = match(
            truths,
            detections,
            overlaps,
            iou_threshold=iou_threshold,
            considered=considered,
            same_category=same_category,
        )
        true, ignored, iou, found = matching.truth >= 0, matching.ignored, matching.iou, matching.detection >= 0

    def per_image(image: NDArray[np.int32]) -> Counts:
        return np.bincount(image, minlength=images).astype(np.int64)

    return FixedThresholdScore(
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        same_category=same_category,
        many_to_one=many_to_one,
        true_positives=per_image(detections.image[true]),
        false_positives=per_image(detections.image[considered & ~true & ~ignored]),
        ignored=per_image(detections.image[ignored]),
        found=per_image(truths.image[found]),
        missed=per_image(truths.image[~found & ~truths.crowd]),
        iou_sum=np.bincount(detections.image[true], weights=iou[true], minlength=images).astype(np.float64),
    )


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _ratios(part: NDArray[np.number], whole: Counts) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)

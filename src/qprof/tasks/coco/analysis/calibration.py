"""Whether scores can be read as probabilities: detection expected calibration error and its reliability table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
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
from qprof.tasks.coco.analysis.matching import match


@dataclass(frozen=True, eq=False)
class Reliability:
    """The reliability table of n detections in B bins of the score.

    `edges` float64[B+1]: bin b holds scores in [edges[b], edges[b+1]), the last bin its upper edge too. `count`
    int64[B]; `confidence` float64[B], the mean score, and `precision` float64[B], the share that is right, NaN in an
    empty bin. All are fractions.
    """

    edges: Floats
    count: NDArray[np.int64]
    confidence: Floats
    precision: Floats

    @property
    def expected_error(self) -> float | None:
        """Detection expected calibration error: |precision - confidence| averaged over detections; `None` for none."""
        return self._average(np.abs(self.precision - self.confidence))

    @property
    def overconfidence(self) -> float | None:
        """confidence - precision averaged over detections: positive where scores promise too much; `None` for none."""
        return self._average(self.confidence - self.precision)

    @property
    def maximum_error(self) -> float | None:
        """Largest |precision - confidence| of a bin that is not empty; `None` for no detections."""
        filled = self.count > 0
        return float(np.abs(self.precision - self.confidence)[filled].max()) if filled.any() else None

    def _average(self, gap: Floats) -> float | None:
        filled = self.count > 0
        return float(np.average(gap[filled], weights=self.count[filled])) if filled.any() else None


@dataclass(frozen=True, eq=False)
class ScoreCalibration:
    """Calibration of `count` detections: two reliability tables and `brier`, the mean of (score - right)^2 (`None` for
    no detections). `ignored` counts those upon a crowd, which are left out."""

    count: int
    ignored: int
    brier: float | None
    equal_width: Reliability
    equal_mass: Reliability


@dataclass(frozen=True, eq=False)
class Calibration:
    """`overall`, and `by_category`, a tuple of K of the same (`None` unless asked for)."""

    iou_threshold: float
    score_threshold: float
    overall: ScoreCalibration
    by_category: tuple[ScoreCalibration, ...] | None


def calibration(
    truths: TruthBoxes,
    detections: DetectionBoxes,
    *,
    images: int,
    categories: int,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
    bins: int = 10,
    by_category: bool = False,
    overlaps: Overlaps | None = None,
) -> Calibration:
    """Compare the scores of detections with how often they are right.

    Right means matched to a ground truth of the same category at `iou_threshold`, one to one and greedily by score as
    in COCO: a duplicate is wrong. The error is the D-ECE of Kueppers et al., "Multivariate Confidence Calibration for
    Object Detection", CVPR Workshops 2020 (arXiv 2004.13546), for the score alone: objects that were never detected
    have no score and do not enter. Many detections of low score hide the error of the few of high score, so that two
    models are compared at the same `score_threshold` (detections whose score is at least that).

    Bins of equal width lie on [0, 1]. Bins of equal mass (adaptive bins: Nguyen and O'Connor, EMNLP 2015; Nixon et al.,
    arXiv 1904.01685) have their edges at scores of the data; equal scores share a bin, so that heavy ties, as of
    quantized scores, give fewer bins. Brier score: Brier, Monthly Weather Review 78 (1950), for two outcomes.

    `overlaps`: the result of `find_overlaps` for these boxes, where already known. Raises `DataError` for scores
    outside [0, 1], indices that are not below `images` or `categories`, `bins` below 1, and IoU thresholds outside
    (0, 1].
    """
    check_threshold("iou_threshold", iou_threshold)
    check_within(truths, images, categories)
    check_within(detections, images, categories)
    if bins < 1:
        raise DataError(f"bins is {bins}: give at least 1")
    considered = detections.score >= score_threshold
    outside = np.flatnonzero(considered & ((detections.score < 0.0) | (detections.score > 1.0)))
    if len(outside):
        row = int(outside[0])
        raise DataError(f"DetectionBoxes.score[{row}] is {detections.score[row]:g}: calibration needs scores in [0, 1]")
    matching = match(
        truths,
        detections,
        find_overlaps(truths, detections) if overlaps is None else overlaps,
        iou_threshold=iou_threshold,
        considered=considered,
        same_category=True,
    )
    right = matching.truth >= 0

    def of(chosen: Mask) -> ScoreCalibration:
        kept = chosen & ~matching.ignored
        return _score_calibration(detections.score[kept], right[kept], int((chosen & matching.ignored).sum()), bins)

    parts = tuple(of(considered & (detections.category == k)) for k in range(categories)) if by_category else None
    return Calibration(iou_threshold, score_threshold, of(considered), parts)


def _score_calibration(score: Floats, right: Mask, ignored: int, bins: int) -> ScoreCalibration:
    return ScoreCalibration(
        count=len(score),
        ignored=ignored,
        brier=float(np.mean((score - right) ** 2)) if len(score) else None,
        equal_width=_reliability(score, right, np.arange(bins + 1) / bins),
        equal_mass=_reliability(score, right, _equal_mass_edges(score, bins)),
    )


def _equal_mass_edges(score: Floats, bins: int) -> Floats:
    """Edges from 0 to 1, the inner ones at the scores that begin each of `bins` parts of equal count."""
    ordered: Floats = np.sort(score)
    starts = (np.arange(1, bins) * len(score)) // bins
    inner = np.unique(ordered[starts]) if len(score) else np.zeros(0)
    # An edge at the smallest score would leave the bin below it empty.
    return np.concatenate([[0.0], inner[inner > ordered[:1]] if len(score) else inner, [1.0]])


def _reliability(score: Floats, right: Mask, edges: Floats) -> Reliability:
    bins = len(edges) - 1
    place = np.searchsorted(edges[1:-1], score, side="right")
    count = np.bincount(place, minlength=bins).astype(np.int64)
    divisor = np.where(count > 0, count.astype(np.float64), np.nan)
    return Reliability(
        edges=edges,
        count=count,
        confidence=np.bincount(place, weights=score, minlength=bins) / divisor,
        precision=np.bincount(place, weights=right, minlength=bins) / divisor,
    )

"""Why a detector falls short: the kinds of its errors, and what each costs, as TIDE defines them.

Bolya, Foley, Hays and Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020
(arXiv 2008.08115). The order of the tests is that of the authors' tool, tidecv. Different from tidecv 1.0.1 on purpose:
a detection that a crowd excuses is not counted among the errors (as in the tool's later sources), and a crowd excuses
at the threshold too, not only above; a detection at an IoU of exactly the upper threshold whose ground truth is taken
is a duplicate, not a localization error; equal scores and equal IoUs are ordered, and recall points computed, as in
COCO; categories without ground truth do not enter the mean; a change of AP below 0 is shown, not raised to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.tasks.coco.analysis.average_precision import mean_average_precision
from qprof.tasks.coco.analysis.boxes import (
    DetectionBoxes,
    Indices,
    Mask,
    Overlaps,
    TruthBoxes,
    check_threshold,
    check_within,
    find_overlaps,
)
from qprof.tasks.coco.analysis.matching import Matching, match, reached_at


class DetectionKind(IntEnum):
    """What became of a detection. The first test that holds decides, in this order after `UNUSED`."""

    UNUSED = 0
    """Below the score threshold, or beyond the number of detections per image."""
    CORRECT = 1
    """Matched to a ground truth of its category."""
    IGNORED = 2
    """Unmatched, upon a crowd of its category."""
    LOCALIZATION = 3
    """Right category, IoU at least the lower threshold and below the upper."""
    CLASS = 4
    """IoU at least the upper threshold with a ground truth of another category."""
    DUPLICATE = 5
    """Right category and place, but a better-scored detection has that ground truth."""
    BACKGROUND = 6
    """IoU at most the lower threshold with every ground truth."""
    BOTH = 7
    """Wrong category and wrong place: what remains."""


class TruthKind(IntEnum):
    """What became of a ground truth."""

    FOUND = 0
    """Matched by a detection of its category."""
    NEARLY = 1
    """Not matched, but a `CLASS` or `LOCALIZATION` error, if fixed, would match it."""
    MISSED = 2
    """Not matched, and no detection comes near."""
    CROWD = 3
    """A crowd: nothing to find."""


#: The errors of detections, in the order of the paper.
ERROR_KINDS = (
    DetectionKind.CLASS,
    DetectionKind.LOCALIZATION,
    DetectionKind.BOTH,
    DetectionKind.DUPLICATE,
    DetectionKind.BACKGROUND,
)
#: The keys of `ErrorAnalysis.counts`.
ERROR_NAMES = (*(kind.name.lower() for kind in ERROR_KINDS), "missed")


@dataclass(frozen=True, eq=False)
class ErrorAnalysis:
    """D detections, G ground truths, in the order of the input.

    `detection_kind` int8[D] of `DetectionKind`; `detection_truth` int32[D]: the ground truth that was matched, or that
    a class, localization or duplicate error is about, else -1; `truth_kind` int8[G] of `TruthKind`.

    `counts`: error name (`ERROR_NAMES`) -> number of errors. `false_positives` counts the five errors of detections,
    `false_negatives` the ground truths that are not found (nearly or missed).

    `average_precision`: mean AP (0 to 1) at the upper threshold, `None` without ground truth. `gains`: error name, and
    "false_positive" and "false_negative" -> AP after that kind alone is fixed, minus `average_precision`; in AP points
    of 0 to 1; `None` where either is undefined (nothing is left to find). Gains do not add up to the AP that lacks.
    """

    upper_iou: float
    lower_iou: float
    score_threshold: float
    max_detections: int | None
    detection_kind: NDArray[np.int8]
    detection_truth: Indices
    truth_kind: NDArray[np.int8]
    counts: dict[str, int]
    false_positives: int
    false_negatives: int
    average_precision: float | None
    gains: dict[str, float | None]


def error_analysis(
    truths: TruthBoxes,
    detections: DetectionBoxes,
    *,
    images: int,
    categories: int,
    upper_iou: float = 0.5,
    lower_iou: float = 0.1,
    score_threshold: float = -np.inf,
    max_detections: int | None = 100,
    overlaps: Overlaps | None = None,
) -> ErrorAnalysis:
    """Sort every detection and every ground truth into one kind, and measure what fixing each kind would gain.

    Used are the detections whose score is at least `score_threshold`, the best `max_detections` of each image over all
    categories (TIDE's limit; COCO's 100 are per category), matched as in COCO at `upper_iou` (t_f of the paper;
    `lower_iou` is t_b). A fix removes the error; a class or localization error about a ground truth that nothing found
    becomes correct instead, of several about the same one only that with the best score. Fixing "missed" takes these
    ground truths out; "false_positive" removes all errors of detections, "false_negative" takes out all ground truths
    that were not found.

    `overlaps`: the result of `find_overlaps` for these boxes, where already known. Raises `DataError` for indices that
    are not below `images` or `categories`, and unless 0 < lower_iou < upper_iou <= 1.
    """
    check_threshold("upper_iou", upper_iou)
    check_threshold("lower_iou", lower_iou)
    if lower_iou >= upper_iou:
        raise DataError(f"lower_iou is {lower_iou}: give less than upper_iou, {upper_iou}")
    check_within(truths, images, categories)
    check_within(detections, images, categories)
    overlaps = find_overlaps(truths, detections) if overlaps is None else overlaps
    used = _best_of_each_image(detections, detections.score >= score_threshold, max_detections)
    matching = match(
        truths, detections, overlaps, iou_threshold=upper_iou, considered=used, same_category=True, order="score"
    )
    kind, about = _detection_kinds(truths, detections, overlaps, matching, used, reached_at(upper_iou), lower_iou)
    truth_kind = _truth_kinds(truths, matching, kind, about)

    counts = {error.name.lower(): int((kind == error).sum()) for error in ERROR_KINDS}
    false_positives = sum(counts.values())
    counts["missed"] = int((truth_kind == TruthKind.MISSED).sum())
    average_precision, gains = _gains(truths, detections, kind, about, truth_kind, categories)
    return ErrorAnalysis(
        upper_iou=upper_iou,
        lower_iou=lower_iou,
        score_threshold=score_threshold,
        max_detections=max_detections,
        detection_kind=kind,
        detection_truth=about,
        truth_kind=truth_kind,
        counts=counts,
        false_positives=false_positives,
        false_negatives=counts["missed"] + int((truth_kind == TruthKind.NEARLY).sum()),
        average_precision=average_precision,
        gains=gains,
    )


def _best_of_each_image(detections: DetectionBoxes, considered: Mask, limit: int | None) -> Mask:
    """Those considered, cut to the `limit` best-scored of each image."""
    if limit is None:
        return considered
    order = np.lexsort((-detections.score, detections.image))
    order = order[considered[order]]
    image = detections.image[order]
    place = np.arange(len(order)) - np.searchsorted(image, image, side="left")
    used = np.zeros(len(detections), dtype=np.bool_)
    used[order[place < limit]] = True
    return used


def _detection_kinds(
    truths: TruthBoxes,
    detections: DetectionBoxes,
    overlaps: Overlaps,
    matching: Matching,
    used: Mask,
    upper: float,
    lower: float,
) -> tuple[NDArray[np.int8], Indices]:
    """Kind of each detection, and the ground truth that it is about."""
    pairs = overlaps.take(~truths.crowd[overlaps.truth] & used[overlaps.detection])
    same = truths.category[pairs.truth] == detections.category[pairs.detection]
    taken = matching.detection[pairs.truth] >= 0
    count = len(detections)
    same_iou, same_truth = pairs.take(same).best(count)
    other_iou, other_truth = pairs.take(~same).best(count)
    taken_iou, taken_truth = pairs.take(same & taken).best(count)

    matched = matching.truth >= 0
    localization = (lower <= same_iou) & (same_iou < upper)
    tests = [
        (DetectionKind.UNUSED, ~used, None),
        (DetectionKind.CORRECT, matched, matching.truth),
        (DetectionKind.IGNORED, matching.ignored, None),
        (DetectionKind.LOCALIZATION, localization, same_truth),
        (DetectionKind.CLASS, other_iou >= upper, other_truth),
        (DetectionKind.DUPLICATE, taken_iou >= upper, taken_truth),
        (DetectionKind.BACKGROUND, np.maximum(same_iou, other_iou) <= lower, None),
    ]
    kind = np.full(count, DetectionKind.BOTH, dtype=np.int8)
    about = np.full(count, -1, dtype=np.int32)
    for name, holds, truth in reversed(tests):  # so that the first test that holds is written last
        kind[holds] = name
        about[holds] = -1 if truth is None else truth[holds]
    return kind, about


def _truth_kinds(truths: TruthBoxes, matching: Matching, kind: NDArray[np.int8], about: Indices) -> NDArray[np.int8]:
    near = np.zeros(len(truths), dtype=np.bool_)
    near[about[(kind == DetectionKind.CLASS) | (kind == DetectionKind.LOCALIZATION)]] = True
    return np.select(
        [truths.crowd, matching.detection >= 0, near],
        [TruthKind.CROWD, TruthKind.FOUND, TruthKind.NEARLY],
        TruthKind.MISSED,
    ).astype(np.int8)


def _gains(
    truths: TruthBoxes,
    detections: DetectionBoxes,
    kind: NDArray[np.int8],
    about: Indices,
    truth_kind: NDArray[np.int8],
    categories: int,
) -> tuple[float | None, dict[str, float | None]]:
    """AP as it is, and the gain of each fix."""
    order = detections.best_first()
    order = order[(kind[order] != DetectionKind.UNUSED) & (kind[order] != DetectionKind.IGNORED)]
    kind, about, category = kind[order], about[order], detections.category[order]
    correct = kind == DetectionKind.CORRECT
    fixable = _fixable(kind, about, truth_kind)
    fixed_category = np.where(fixable, truths.category[about] if len(truths) else -1, category).astype(np.int32)

    def to_find(*left_out: TruthKind) -> NDArray[np.int64]:
        counted = ~np.isin(truth_kind, (TruthKind.CROWD, *left_out))
        return np.bincount(truths.category[counted], minlength=categories).astype(np.int64)

    total = to_find()

    def precision_with(fixed: Mask, wanted: NDArray[np.int64]) -> float | None:
        """AP once the errors in `fixed` are corrected, or removed where they cannot be."""
        kept = ~fixed | fixable
        kept_category = np.where(fixed, fixed_category, category)[kept]
        # A category of which nothing is left, neither to find nor found in error, has no AP.
        measured = (total > 0) & ((wanted > 0) | (np.bincount(kept_category, minlength=categories) > 0))
        return mean_average_precision(kept_category, (correct | (fixed & fixable))[kept], wanted, measured)

    nothing = np.zeros(len(order), dtype=np.bool_)
    base = precision_with(nothing, total)
    after = {error.name.lower(): precision_with(kind == error, total) for error in ERROR_KINDS}
    after["missed"] = precision_with(nothing, to_find(TruthKind.MISSED))
    after["false_positive"] = mean_average_precision(category[correct], correct[correct], total)
    after["false_negative"] = precision_with(nothing, to_find(TruthKind.MISSED, TruthKind.NEARLY))
    return base, {name: None if base is None or value is None else float(value - base) for name, value in after.items()}


def _fixable(kind: NDArray[np.int8], about: Indices, truth_kind: NDArray[np.int8]) -> Mask:
    """Of detections best first: the class and localization errors that a fix turns into correct ones."""
    errors = np.flatnonzero((kind == DetectionKind.CLASS) | (kind == DetectionKind.LOCALIZATION))
    errors = errors[truth_kind[about[errors]] == TruthKind.NEARLY]
    _, first = np.unique(about[errors], return_index=True)
    fixable = np.zeros(len(kind), dtype=np.bool_)
    fixable[errors[first]] = True
    return fixable

"""Greedy one-to-one matching of detections and ground truths at one IoU threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qprof.tasks.coco.analysis.boxes import DetectionBoxes, Floats, Indices, Mask, Overlaps, TruthBoxes

#: `COCOeval.evaluateImg` lowers a threshold of 1 by this much, since a computed IoU may miss it by rounding.
BELOW_ONE = 1e-10

Order = Literal["score", "iou"]


def reached_at(iou_threshold: float) -> float:
    """The IoU from which a threshold counts as reached."""
    return min(iou_threshold, 1.0 - BELOW_ONE)


@dataclass(frozen=True, eq=False)
class Matching:
    """Who matched whom. D detections, G ground truths, all in the order of the input.

    `truth` int32[D]: the matched ground truth, -1 for none; `iou` float64[D]: the IoU with it, 0 for none;
    `detection` int32[G]: the matched detection, -1 for none; `ignored` bool[D]: unmatched, but upon a crowd, thus
    neither right nor wrong.
    """

    truth: Indices
    iou: Floats
    detection: Indices
    ignored: Mask


def match(
    truths: TruthBoxes,
    detections: DetectionBoxes,
    overlaps: Overlaps,
    *,
    iou_threshold: float,
    considered: Mask,
    same_category: bool,
    order: Order = "score",
) -> Matching:
    """Match detections (those in `considered` bool[D]) to ground truths whose IoU is at least `iou_threshold`.

    `order="score"`: the best-scored detection takes the free ground truth with the largest IoU, of equal ones the
    last, and so on: the rule of `COCOeval.evaluateImg`. `order="iou"`: the pair with the largest IoU first, of equal
    ones that with the better score. With `same_category`, pairs of different categories are left out. Crowds are
    matched by nobody; a detection that stays unmatched and has at least the threshold with a crowd of its own
    category (of any, without `same_category`) is ignored.
    """
    near = overlaps.take((overlaps.iou >= reached_at(iou_threshold)) & considered[overlaps.detection])
    if same_category:
        near = near.take(truths.category[near.truth] == detections.category[near.detection])
    upon_crowd = truths.crowd[near.truth]
    pairs = near.take(~upon_crowd)

    rank = np.empty(len(detections), dtype=np.int64)
    rank[detections.best_first()] = np.arange(len(detections))
    by_rank, by_iou = rank[pairs.detection], -pairs.iou
    # The last key weighs most.
    keys = (by_iou, by_rank) if order == "score" else (by_rank, by_iou)
    turn = np.lexsort((-pairs.truth, *keys))
    truth, iou, detection = _take_in_turn(pairs, turn, len(detections), len(truths))

    ignored = np.zeros(len(detections), dtype=np.bool_)
    ignored[near.detection[upon_crowd]] = True
    ignored &= truth < 0
    return Matching(truth, iou, detection, ignored)


def _take_in_turn(
    pairs: Overlaps, turn: NDArray[np.intp], detections: int, truths: int
) -> tuple[Indices, Floats, Indices]:
    """Go through the pairs in that order and keep each whose two sides are both still free."""
    # A plain loop over lists: each step depends on those before, and it costs less than the sort above.
    busy_detection, busy_truth = bytearray(detections), bytearray(truths)
    taken: list[int] = []
    pairs_in_turn = zip(turn.tolist(), pairs.detection[turn].tolist(), pairs.truth[turn].tolist(), strict=True)
    for pair, detection, truth in pairs_in_turn:
        if not (busy_detection[detection] or busy_truth[truth]):
            busy_detection[detection] = busy_truth[truth] = 1
            taken.append(pair)
    kept = np.array(taken, dtype=np.intp)
    truth_of, iou_of = np.full(detections, -1, dtype=np.int32), np.zeros(detections)
    detection_of = np.full(truths, -1, dtype=np.int32)
    truth_of[pairs.detection[kept]] = pairs.truth[kept]
    iou_of[pairs.detection[kept]] = pairs.iou[kept]
    detection_of[pairs.truth[kept]] = pairs.detection[kept]
    return truth_of, iou_of, detection_of

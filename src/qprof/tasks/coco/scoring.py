"""The call of the compiled core, with what it is asked for checked and any number of IoU thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core import _coco
from qprof.errors import DataError
from qprof.tasks.coco.inputs import Detections, GroundTruth, check_values
from qprof.tasks.coco.joined import MOST_THRESHOLDS, JoinedEvaluation
from qprof.tasks.coco.pairs import compare, find_rows
from qprof.tasks.coco.settings import Settings

AnyEvaluation = _coco.Evaluation | JoinedEvaluation


def score(
    truth: GroundTruth,
    truth_image: NDArray[np.int32],
    truth_category: NDArray[np.int32],
    detections: Detections,
    image: NDArray[np.int32],
    category: NDArray[np.int32],
    settings: Settings,
    images: int,
    categories: int,
    threads: int,
    *,
    keep: bool = True,
) -> AnyEvaluation:
    """The compiled evaluation of elements whose images and categories are places, -1 for what is left out."""
    arguments: dict[str, Any] = {
        "gt_image": truth_image,
        "gt_category": truth_category,
        "gt_boxes": truth.boxes,
        "gt_area": truth.area,
        "gt_crowd": truth.crowd,
        "gt_ignore": truth.ignore,
        "gt_id": truth.id,
        "dt_image": image,
        "dt_category": category,
        "dt_boxes": detections.boxes,
        "dt_area": detections.area,
        "dt_score": detections.score,
    }
    ious = settings.iou_thresholds
    if truth.shapes is not None:
        if detections.shapes is None:
            raise DataError(f"{detections.source}: boxes alone, where {settings.iou_type} is evaluated")
        rows = find_rows(
            truth_image,
            truth_category,
            image,
            category,
            detections.score,
            images,
            use_cats=settings.use_cats,
            most=settings.max_dets[-1],
        )
        arguments["given_begin"] = rows.begins(len(image))
        # What lies below every threshold need not be known.
        floor = max(0.0, float(ious.min()))
        arguments["given_ious"] = compare(
            truth.shapes, detections.shapes, truth.crowd, rows, floor=floor, threads=threads
        )
    try:
        parts = [
            _coco.evaluate(
                **arguments,
                images=images,
                categories=categories,
                iou_thresholds=ious[begin : begin + MOST_THRESHOLDS],
                recall_thresholds=settings.recall_thresholds,
                area_ranges=settings.area_ranges,
                max_dets=np.array(settings.max_dets, dtype=np.int32),
                use_cats=settings.use_cats,
                id_zero="match" if settings.id_zero == "correct" else "pycocotools",
                threads=threads,
                keep=keep,
            )
            for begin in range(0, len(ious), MOST_THRESHOLDS)
        ]
    except ValueError as error:
        check_values(truth, detections)
        raise DataError(f"{truth.source}, {detections.source}: {error}: correct the input") from error
    return parts[0] if len(parts) == 1 else JoinedEvaluation(parts)

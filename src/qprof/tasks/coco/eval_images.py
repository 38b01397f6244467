"""`evalImgs` and `ious` of an evaluation by the compiled core: the dicts and tables of pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.probes.machine import available_cores
from qprof.tasks.coco.pairs import compare, find_rows
from qprof.tasks.coco.per_image import MATCHED_ID_ZERO
from qprof.tasks.coco.result import CocoResult


def eval_images(result: CocoResult, p: Any) -> list[dict[str, Any] | None]:
    """One dict per category, area and image of `p`, in this order, None where the image has nothing of the category."""
    categories = p.catIds if p.useCats else [-1]
    truth_marks, detection_marks = _marks(result, result.truth.id), _marks(result, result.detections.id)
    truth_ids, detection_ids = result.truth.id, result.detections.id
    assert detection_ids is not None
    score = result.detections.score
    entries: list[dict[str, Any] | None] = []
    for k, category in enumerate(categories):
        for a, area in enumerate(p.areaRng):
            found = result.evaluation.category_matches(k, a)
            dt_begins, gt_begins = found["dt_begins"].tolist(), found["gt_begins"].tolist()
            dt_matches, gt_matches = truth_marks[found["dt_matches"]], detection_marks[found["gt_matches"]]
            gt_ignored = found["gt_ignored"].astype(np.int64)
            for i, image in enumerate(p.imgIds):
                dt, gt = slice(dt_begins[i], dt_begins[i + 1]), slice(gt_begins[i], gt_begins[i + 1])
                if dt.start == dt.stop and gt.start == gt.stop:
                    entries.append(None)
                    continue
                detections, truths = found["dt"][dt], found["gt"][gt]
                entries.append(
                    {
                        "image_id": image,
                        "category_id": category,
                        "aRng": area,
                        "maxDet": p.maxDets[-1],
                        "dtIds": detection_ids[detections].tolist(),
                        "gtIds": truth_ids[truths].tolist(),
                        "dtMatches": dt_matches[:, dt],
                        "gtMatches": gt_matches[:, gt],
                        "dtScores": score[detections].tolist(),
                        "gtIgnore": gt_ignored[gt],
                        "dtIgnore": found["dt_ignored"][:, dt],
                    }
                )
    return entries


def _marks(result: CocoResult, ids: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """What stands for a match to each, with one more at the end, 0, for matches to nothing, which are -1."""
    assert ids is not None
    marks = ids.astype(np.float64)
    if result.settings.id_zero == "correct":
        marks[marks == 0] = MATCHED_ID_ZERO
    return np.append(marks, 0.0)


def overlap_tables(result: CocoResult, p: Any) -> dict[tuple[Any, Any], Any]:
    """(image id, category id) -> [detections best first, ground truths in input order], or an empty list."""
    tables: dict[tuple[Any, Any], Any] = {}
    shaped = None if result.truth.shapes is None else _shaped_ious(result)
    for k, category in enumerate(p.catIds if p.useCats else [-1]):
        found = result.evaluation.category_matches(k, 0)
        for i, image in enumerate(p.imgIds):
            detections = found["dt"][slice(*found["dt_begins"][i : i + 2])]
            truths = found["gt"][slice(*found["gt_begins"][i : i + 2])]
            # Input order, or for categories that are one, by category first.
            truths = truths[np.lexsort((truths, result.truth_category[truths]))]
            if shaped is not None and len(detections) and len(truths):
                begin, size = shaped[0][detections[0]], len(detections) * len(truths)
                tables[image, category] = shaped[1][begin : begin + size].reshape(len(detections), len(truths))
                continue
            tables[image, category] = (
                _box_iou(result.detections.boxes[detections], result.truth.boxes[truths], result.truth.crowd[truths])
                if len(detections) and len(truths)
                else []
            )
    return tables


def _shaped_ious(result: CocoResult) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Per detection where its figures begin, and all of them: those of an image and class stand together."""
    assert result.truth.shapes is not None and result.detections.shapes is not None
    rows = find_rows(
        result.truth_image,
        result.truth_category,
        result.detection_image,
        result.detection_category,
        result.detections.score,
        len(result.image_ids),
        use_cats=result.settings.use_cats,
        most=result.settings.max_dets[-1],
    )
    shapes = result.truth.shapes, result.detections.shapes
    ious = compare(*shapes, result.truth.crowd, rows, floor=0.0, threads=available_cores())
    return rows.begins(len(result.detection_image)), ious


def _box_iou(detections: NDArray[Any], truths: NDArray[np.float64], crowd: NDArray[np.uint8]) -> NDArray[np.float64]:
    """float64[D, G]: intersection over union of x, y, width, height; over the detection's area alone for a crowd."""
    d, g = detections.astype(np.float64)[:, None], truths[None]
    size = np.minimum(d[..., :2] + d[..., 2:], g[..., :2] + g[..., 2:]) - np.maximum(d[..., :2], g[..., :2])
    meet = np.where((size > 0).all(axis=-1), size[..., 0] * size[..., 1], 0.0)
    area, other = d[..., 2] * d[..., 3], g[..., 2] * g[..., 3]
    union = np.where(crowd[None] != 0, area, area + other - meet)
    return np.asarray(np.divide(meet, union, out=np.zeros_like(meet), where=meet != 0), dtype=np.float64)

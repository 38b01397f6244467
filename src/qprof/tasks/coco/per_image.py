"""Matching in one image, object by object, as pycocotools does it: for callers who change its input or its steps.

The rule, and the names of the members: https://github.com/cocodataset/cocoapi (PythonAPI/pycocotools/cocoeval.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core._masks import Masks
from qprof.errors import DataError
from qprof.tasks.coco import mask

Row = dict[str, Any]
Rows = Mapping[tuple[Any, Any], list[Row]]

#: Stands in `dtMatches` and `gtMatches` for a match to the id 0, which would read as none: true, and 0 as an integer.
MATCHED_ID_ZERO = 0.25


def grouped(rows: list[Row]) -> defaultdict[tuple[Any, Any], list[Row]]:
    """(image id, category id) -> its rows, in order."""
    groups: defaultdict[tuple[Any, Any], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["image_id"], row["category_id"]].append(row)
    return groups


def mark_ignored(truths: list[Row], kind: str) -> None:
    """Set `ignore`: crowds, and of keypoints objects that have none. What a file says of `ignore` is overwritten."""
    for row in truths:
        ignored = row.get("iscrowd", 0)
        if kind == "keypoints":
            ignored = _member(row, "num_keypoints") == 0 or ignored
        row["ignore"] = ignored


def chosen(p: Any, groups: Rows, image: Any, category: Any) -> list[Row]:
    """The rows of an image and category; of all categories that are evaluated where they are not told apart."""
    if p.useCats:
        return groups[image, category]
    return [row for number in p.catIds for row in groups[image, number]]


def by_score(rows: list[Row]) -> list[Row]:
    """Best score first, equal ones in the order of the input."""
    order = np.argsort([-_member(row, "score") for row in rows], kind="mergesort")
    return [rows[n] for n in order]


def overlaps(p: Any, truths: list[Row], found: list[Row]) -> Any:
    """[detections best first, ground truths]: the IoU of boxes or masks, exactly as pycocotools computes it."""
    if not truths and not found:
        return []
    if p.iouType not in ("bbox", "segm", "boundary"):
        raise DataError(f"COCOeval: iouType {p.iouType!r} has no IoU: give 'bbox' or 'segm', or keypoints their OKS")
    found = by_score(found)[: p.maxDets[-1]]
    key = "bbox" if p.iouType == "bbox" else "segmentation"
    crowd = [int(row.get("iscrowd") or 0) for row in truths]
    regions: list[Any] = [[_member(row, key) for row in rows] for rows in (found, truths)]
    if key == "bbox":
        regions = [_boxes(boxes) for boxes in regions]
    ious = mask.iou(regions[0], regions[1], crowd)
    if p.iouType != "boundary" or not len(ious):
        return ious
    near = [Masks(masks).boundary(getattr(p, "dilation_ratio", 0.02)).rles() for masks in regions]
    # As its authors have it, the smaller of the two, but of a crowd that of the masks.
    return np.where(np.array(crowd) != 0, ious, np.minimum(ious, mask.iou(near[0], near[1], crowd)))


def keypoint_similarity(p: Any, truths: list[Row], found: list[Row]) -> Any:
    """[detections best first, ground truths]: the object keypoint similarity
    (https://cocodataset.org/#keypoints-eval)."""
    found = by_score(found)[: p.maxDets[-1]]
    if not truths or not found:
        return []
    similarity = np.zeros((len(found), len(truths)))
    spread = (np.asarray(p.kpt_oks_sigmas) * 2) ** 2
    for j, truth in enumerate(truths):
        points = np.array(_member(truth, "keypoints"))
        x, y, visible = points[0::3], points[1::3], points[2::3]
        known = np.count_nonzero(visible > 0)
        left, top, width, height = _member(truth, "bbox")
        for i, row in enumerate(found):
            at = np.array(_member(row, "keypoints"))
            if known > 0:
                dx, dy = at[0::3] - x, at[1::3] - y
            else:  # the distance to the box, doubled around its middle
                zero = np.zeros(len(spread))
                dx = np.maximum(zero, left - width - at[0::3]) + np.maximum(zero, at[0::3] - (left + width * 2))
                dy = np.maximum(zero, top - height - at[1::3]) + np.maximum(zero, at[1::3] - (top + height * 2))
            e = (dx**2 + dy**2) / spread / (_member(truth, "area") + np.spacing(1)) / 2
            if known > 0:
                e = e[visible > 0]
            similarity[i, j] = np.sum(np.exp(-e)) / e.shape[0]
    return similarity


def match(
    p: Any,
    image: Any,
    category: Any,
    area_range: Sequence[float],
    most: int,
    truths: list[Row],
    found: list[Row],
    ious: Any,
    zero_is_none: bool,
) -> dict[str, Any] | None:
    """One entry of `evalImgs`, None where there is nothing. `ious`: of this image and category, all ground truths in
    order. `zero_is_none`: a match to the id 0 counts as none, as in pycocotools, where it is kept by that id."""
    if not truths and not found:
        return None
    for row in truths:
        area = _area(row)
        row["_ignore"] = 1 if row["ignore"] or area < area_range[0] or area > area_range[1] else 0
    order = np.argsort([row["_ignore"] for row in truths], kind="mergesort")
    truths = [truths[n] for n in order]
    found = by_score(found)[:most]
    table = np.asarray(ious)[:, order].tolist() if len(ious) > 0 else []
    crowd = [int(row.get("iscrowd") or 0) for row in truths]
    ignored = [row["_ignore"] for row in truths]
    thresholds = len(p.iouThrs)
    truth_marks = [_mark(row, n, zero_is_none) for n, row in enumerate(truths)]
    found_marks = [_mark(row, n, zero_is_none) for n, row in enumerate(found)]
    matched_to, matched_by = np.zeros((thresholds, len(found))), np.zeros((thresholds, len(truths)))
    dt_ignore: NDArray[Any] = np.zeros((thresholds, len(found)))
    if len(table):
        for t, threshold in enumerate(p.iouThrs):
            taken = [0.0] * len(truths)
            for d in range(len(found)):
                best = _best(table[d], min([threshold, 1 - 1e-10]), taken, crowd, ignored)
                if best < 0:
                    continue
                dt_ignore[t, d] = ignored[best]
                matched_to[t, d] = truth_marks[best]
                taken[best] = found_marks[d]
            matched_by[t] = taken
    outside = [_area(row) < area_range[0] or _area(row) > area_range[1] for row in found]
    unmatched = np.logical_and(matched_to == 0, np.array(outside, dtype=bool).reshape(1, len(found)))
    return {
        "image_id": image,
        "category_id": category,
        "aRng": area_range,
        "maxDet": most,
        "dtIds": [_number(row, n) for n, row in enumerate(found)],
        "gtIds": [_number(row, n) for n, row in enumerate(truths)],
        "dtMatches": matched_to,
        "gtMatches": matched_by,
        "dtScores": [row["score"] for row in found],
        "gtIgnore": np.array(ignored),
        "dtIgnore": np.logical_or(dt_ignore, unmatched),
    }


def _best(ious: list[float], iou: float, taken: list[float], crowd: list[int], ignored: list[int]) -> int:
    """The ground truth that a detection gets, -1 for none: those that count before those that are ignored (which come
    last), of these the one that overlaps most, of equal ones the last."""
    best = -1
    for g, value in enumerate(ious):
        if taken[g] > 0 and not crowd[g]:
            continue
        if best > -1 and ignored[best] == 0 and ignored[g] == 1:
            break
        if value < iou:
            continue
        iou, best = value, g
    return best


def _mark(row: Row, place: int, zero_is_none: bool) -> float:
    """What stands for a match to this row."""
    number = _number(row, place)
    try:
        mark = float(number)
    except (TypeError, ValueError):  # a name, which no array of numbers holds
        mark = float(place + 1)
    return mark if zero_is_none or mark > 0 else (mark or MATCHED_ID_ZERO)


def _number(row: Row, place: int) -> Any:
    return row.get("id", place + 1)


def _area(row: Row) -> Any:
    area = row.get("area")
    if area is None:
        _, _, width, height = _member(row, "bbox")
        area = width * height
    if isinstance(area, str):
        raise DataError(f"the area of the annotation {row.get('id')} is {area[:60]!r}: give a number")
    return area


def _member(row: Row, key: str) -> Any:
    try:
        return row[key]
    except KeyError:
        raise DataError(f"the annotation {str(row.get('id'))[:60]} has no {key}: add it") from None


def _boxes(boxes: list[Any]) -> NDArray[np.float64]:
    try:
        made = np.array(boxes, dtype=np.float64)
    except (TypeError, ValueError):
        made = np.empty(0)
    if boxes and made.shape != (len(boxes), 4):
        raise DataError(f"boxes such as {str(boxes[0])[:60]}: give x, y, width, height in pixels for each")
    return made.reshape(-1, 4)

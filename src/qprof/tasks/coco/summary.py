"""`COCOeval.stats` and its lines: the figures in pycocotools' places, whatever the parameters are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError

#: (kind, IoU threshold, area, place in `maxDets`) of each figure; place None: see `_first_limit`.
BOXES = (
    ("AP", None, "all", None),
    ("AP", 0.5, "all", 2),
    ("AP", 0.75, "all", 2),
    ("AP", None, "small", 2),
    ("AP", None, "medium", 2),
    ("AP", None, "large", 2),
    ("AR", None, "all", 0),
    ("AR", None, "all", 1),
    ("AR", None, "all", 2),
    ("AR", None, "small", 2),
    ("AR", None, "medium", 2),
    ("AR", None, "large", 2),
)
#: The same for keypoints.
KEYPOINTS = tuple(
    (kind, iou, area, 0)
    for kind in ("AP", "AR")
    for iou, area in ((None, "all"), (0.5, "all"), (0.75, "all"), (None, "medium"), (None, "large"))
)


def figures(p: Any, found: dict[str, Any]) -> tuple[NDArray[np.float64], list[str]]:
    """`stats` (12 figures, 10 of keypoints; -1 where there is none) and a line for each that was asked for.

    pycocotools takes AP at 100 detections, and has -1 where they were not evaluated; here it is then taken as the
    others are, at the third of `maxDets`, or where there are fewer at the last. `DataError` where nothing was
    accumulated.
    """
    if "precision" not in found or "recall" not in found:
        raise DataError("COCOeval: eval has no precision and recall: call accumulate()")
    stats, lines = [], []
    limits = list(p.maxDets)
    if not limits:
        raise DataError("COCOeval: maxDets is empty: give a number of detections at least")
    for n, (kind, iou, area, place) in enumerate(KEYPOINTS if p.iouType == "keypoints" else BOXES):
        last = min(2, len(limits) - 1)
        at = _first_limit(limits, last) if place is None else place
        is_count = n in (6, 7, 8) and p.iouType != "keypoints"  # AR at each number of detections: one per number
        if at >= len(limits) and is_count:
            stats.append(-1.0)
            continue
        at = min(at, last)
        value = _mean(p, found["precision"] if kind == "AP" else found["recall"], iou, area, limits[at], limits)
        title = "Average Precision" if kind == "AP" else "Average Recall"
        shown = f"{p.iouThrs[0]:0.2f}:{p.iouThrs[-1]:0.2f}" if iou is None else f"{iou:0.2f}"
        lines.append(
            f" {title:<18} ({kind}) @[ IoU={shown:<9} | area={area:>6s} | maxDets={limits[at]:>3d} ] = {value:0.3f}"
        )
        stats.append(value)
    return np.array(stats), lines


def _first_limit(limits: list[int], last: int) -> int:
    return limits.index(100) if 100 in limits else last


def _mean(p: Any, table: Any, iou: float | None, area: str, limit: int, limits: list[int]) -> float:
    """The mean of what is defined, -1 where nothing is."""
    areas = [n for n, name in enumerate(p.areaRngLbl) if name == area and n < table.shape[-2]]
    places = [n for n, number in enumerate(limits) if number == limit]
    values = np.asarray(table)
    if iou is not None:
        values = values[np.asarray(p.iouThrs) == iou]
    values = values[..., areas, :][..., places]
    values = values[values > -1]
    return float(np.mean(values)) if values.size else -1.0


def names(p: Any) -> list[str]:
    """What faster-coco-eval calls the figures, in their order."""
    if p.iouType == "keypoints":
        return [f"{kind}_{what}" for kind in ("AP", "AR") for what in ("all", "50", "75", "medium", "large")]
    sizes = ("small", "medium", "large")
    first = ["AP_all", "AP_50", "AP_75", *(f"AP_{size}" for size in sizes)]
    return [*first, "AR_all", "AR_second", "AR_third", *(f"AR_{size}" for size in sizes)]

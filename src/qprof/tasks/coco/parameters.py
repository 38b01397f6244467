"""The settings of an evaluation under the names of pycocotools."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from qprof.errors import DataError
from qprof.tasks.coco.settings import (
    COCO_AREAS,
    COCO_MAX_DETS,
    IdZero,
    Settings,
    coco_iou_thresholds,
    coco_recall_thresholds,
    make_settings,
)

KINDS = ("segm", "bbox", "keypoints", "boundary")

#: What an evaluation depends on.
_MEMBERS = ["imgIds", "catIds", "iouThrs", "recThrs", "maxDets", "areaRng", "useCats", "iouType"]
_MEMBERS += ["kpt_oks_sigmas", "dilation_ratio"]


class Params:
    """Settings under the names of pycocotools."""

    imgIds: list[Any]
    catIds: list[Any]
    iouThrs: Any
    recThrs: Any
    maxDets: list[int]
    areaRng: list[Any]
    areaRngLbl: list[str]
    useCats: int
    kpt_oks_sigmas: Any
    #: How far a boundary reaches inwards, as a share of the image's diagonal: for iouType "boundary" alone.
    dilation_ratio: float = 0.02

    def __init__(self, iouType: str = "segm") -> None:
        if iouType not in KINDS:
            raise DataError(f"COCOeval: iouType {str(iouType)[:60]!r} is unknown: give one of {', '.join(KINDS)}")
        if iouType == "keypoints":
            self.setKpParams()
        else:
            self.setDetParams()
        self.iouType = iouType
        self.useSegm: int | None = None

    def setDetParams(self) -> None:
        """The settings for boxes and masks."""
        self.imgIds, self.catIds = [], []
        self.iouThrs, self.recThrs = coco_iou_thresholds(), coco_recall_thresholds()
        self.maxDets = list(COCO_MAX_DETS)
        self.areaRng = [list(pair) for pair in COCO_AREAS.values()]
        self.areaRngLbl = list(COCO_AREAS)
        self.useCats = 1

    def setKpParams(self) -> None:
        """The settings for keypoints; the spreads are those of https://cocodataset.org/#keypoints-eval."""
        self.setDetParams()
        self.maxDets = [20]
        self.areaRng = [list(COCO_AREAS[name]) for name in ("all", "medium", "large")]
        self.areaRngLbl = ["all", "medium", "large"]
        halves = [0.26, 0.25, 0.35, 0.79, 0.72, 0.62, 1.07, 0.87, 0.89]  # nose, then left and right
        self.kpt_oks_sigmas = np.array([halves[(n + 1) // 2] for n in range(17)]) / 10.0


def settings_of(p: Any, id_zero: IdZero) -> Settings:
    """The settings of `p` for the compiled core; `DataError` for what it does not take."""
    # Labels are for the summary alone: there may be too few, or the same one twice.
    ranges = {str(n): (float(low), float(high)) for n, (low, high) in enumerate(p.areaRng)}
    made = make_settings(p.iouThrs, p.recThrs, p.maxDets, ranges, bool(p.useCats), id_zero)
    if len(made.max_dets) != len(p.maxDets):
        raise DataError(f"COCOeval: maxDets {list(p.maxDets)} has a number twice")
    labels = tuple(str(label) for label in p.areaRngLbl)
    if len(labels) == len(ranges) and len(set(labels)) == len(labels):
        named = dict(zip(labels, ranges.values(), strict=True))
        return make_settings(p.iouThrs, p.recThrs, p.maxDets, named, bool(p.useCats), id_zero)
    return made


def same(one: Any, other: Any) -> bool:
    """Whether an evaluation by either is the same."""
    return all(_equal(getattr(one, name, None), getattr(other, name, None)) for name in _MEMBERS)


def copied(p: Any) -> Any:
    """A copy of the settings that shares nothing with them."""
    made = copy.copy(p)
    for name, value in vars(p).items():
        plain = type(value) is list and all(type(item) in (int, str, float) for item in value)
        setattr(made, name, list(value) if plain else copy.deepcopy(value))
    return made


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)

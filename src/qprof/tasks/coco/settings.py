"""What an evaluation is asked for: thresholds, sizes, numbers of detections; and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.errors import DataError

IdZero = Literal["correct", "pycocotools"]
IouType = Literal["bbox", "segm", "boundary", "keypoints"]
IOU_TYPES: tuple[IouType, ...] = ("bbox", "segm", "boundary", "keypoints")
AreaRanges = Mapping[str, tuple[float, float]] | Sequence[Sequence[float]]

#: Sizes of objects in square pixels (https://cocodataset.org/#detection-eval), both bounds inside.
COCO_AREAS: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e5**2),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
COCO_MAX_DETS = (1, 10, 100)
KEYPOINT_AREAS = {name: COCO_AREAS[name] for name in ("all", "medium", "large")}
KEYPOINT_MAX_DETS = (20,)


def coco_iou_thresholds() -> NDArray[np.float64]:
    """float64[10]: .5, .55 ... .95, to the last bit those of COCO."""
    return np.linspace(0.5, 0.95, 10, dtype=np.float64)


def coco_recall_thresholds() -> NDArray[np.float64]:
    """float64[101]: 0, .01 ... 1, to the last bit those of COCO."""
    return np.linspace(0.0, 1.0, 101, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the summary: a mean over the IoU thresholds (or at one), in one area, at one number of detections.

    The fields but `name` are indices into the settings; `iou` is None for the mean, and -1 for a threshold (.5 or .75)
    that was not evaluated, so that the figure is undefined.
    """

    name: str
    kind: Literal["precision", "recall"]
    iou: int | None
    area: int
    limit: int


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one evaluation, checked."""

    iou_thresholds: NDArray[np.float64]  # [T]
    recall_thresholds: NDArray[np.float64]  # [R]
    max_dets: tuple[int, ...]  # [M] ascending
    area_names: tuple[str, ...]  # [A]
    area_ranges: NDArray[np.float64]  # [A, 2]
    use_cats: bool = True
    id_zero: IdZero = "correct"
    iou_type: IouType = "bbox"

    @property
    def main_area(self) -> int:
        """Index of the area of the overall figures: the one named "all", else the first."""
        return self.area_names.index("all") if "all" in self.area_names else 0

    def iou_index(self, threshold: float) -> int:
        """Index of an IoU threshold, -1 where it was not evaluated."""
        at = np.flatnonzero(self.iou_thresholds == threshold)
        return int(at[0]) if at.size else -1

    def figures(self) -> list[Figure]:
        """The figures in the order of `COCOeval.stats`: 12 with the default settings, 10 of keypoints.

        COCO's code takes 100 detections for some of them whatever `maxDets` says, and so reports -1, or a figure for
        another number than the one asked for. Here all that have no number of their own use the largest of `max_dets`,
        and there is one AR per entry of `max_dets`.
        """
        main, most = self.main_area, len(self.max_dets) - 1
        others = [(i, name) for i, name in enumerate(self.area_names) if i != main]
        if self.iou_type == "keypoints":
            kinds: tuple[tuple[str, Literal["precision", "recall"]], ...] = (("AP", "precision"), ("AR", "recall"))
            return [
                Figure(f"{name}{suffix}", kind, iou, area, most)
                for name, kind in kinds
                for suffix, iou, area in (
                    ("", None, main),
                    ("50", self.iou_index(0.5), main),
                    ("75", self.iou_index(0.75), main),
                    *((other, None, i) for i, other in others),
                )
            ]
        return [
            Figure("AP", "precision", None, main, most),
            Figure("AP50", "precision", self.iou_index(0.5), main, most),
            Figure("AP75", "precision", self.iou_index(0.75), main, most),
            *(Figure(f"AP{name}", "precision", None, i, most) for i, name in others),
            *(Figure(f"AR{count}", "recall", None, main, m) for m, count in enumerate(self.max_dets)),
            *(Figure(f"AR{name}", "recall", None, i, most) for i, name in others),
        ]


def make_settings(
    iou_thresholds: ArrayLike | None = None,
    recall_thresholds: ArrayLike | None = None,
    max_dets: Sequence[int] = COCO_MAX_DETS,
    area_ranges: AreaRanges | None = None,
    use_cats: bool = True,
    id_zero: IdZero = "correct",
    iou_type: IouType = "bbox",
) -> Settings:
    """Check settings, COCO's where None; `DataError` for what cannot be evaluated."""
    ious = _grid("iou_thresholds", coco_iou_thresholds() if iou_thresholds is None else iou_thresholds)
    recalls = _grid("recall_thresholds", coco_recall_thresholds() if recall_thresholds is None else recall_thresholds)
    limits = np.unique(np.atleast_1d(np.asarray(max_dets)))
    if limits.size == 0 or limits.dtype.kind not in "iu" or limits[0] < 1:
        raise DataError(f"max_dets = {list(max_dets)}: give whole numbers from 1, such as 1,10,100")
    if id_zero not in ("correct", "pycocotools"):
        raise DataError(f"id_zero = {id_zero!r}: give 'correct' or 'pycocotools'")
    if iou_type not in IOU_TYPES:
        raise DataError(f"iou_type = {str(iou_type)[:40]!r}: give one of {', '.join(IOU_TYPES)}")
    default_areas = KEYPOINT_AREAS if iou_type == "keypoints" else COCO_AREAS
    named = default_areas if area_ranges is None else area_ranges
    if not isinstance(named, Mapping):
        named = {name: (pair[0], pair[1]) for name, pair in zip(_area_names(named), named, strict=True)}
    bounds = np.array(list(named.values()), dtype=np.float64)
    if bounds.ndim != 2 or bounds.shape[1] != 2 or np.isnan(bounds).any():
        raise DataError("area_ranges: give a lower and an upper bound in square pixels for each, and one at least")
    return Settings(
        ious, recalls, tuple(int(n) for n in limits), tuple(named), bounds, bool(use_cats), id_zero, iou_type
    )


def _area_names(ranges: Sequence[Sequence[float]]) -> list[str]:
    """COCO's names for COCO's ranges, else the bounds."""
    known = {pair: name for name, pair in COCO_AREAS.items()}
    return [known.get((float(low), float(high)), f"{low:g}..{high:g}") for low, high in ranges]


def _grid(name: str, given: ArrayLike) -> NDArray[np.float64]:
    values = np.atleast_1d(np.asarray(given, dtype=np.float64))
    if values.ndim != 1 or values.size == 0 or np.isnan(values).any():
        raise DataError(f"{name}: give one number at least, and no NaN")
    return values

"""What an evaluation found: figures, curves, and every match."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.probes.machine import available_cores
from qprof.tasks.coco.analysis.boxes import DetectionBoxes, Overlaps, TruthBoxes, find_overlaps
from qprof.tasks.coco.inputs import Detections, GroundTruth
from qprof.tasks.coco.pairs import compare, find_rows
from qprof.tasks.coco.scoring import AnyEvaluation, score
from qprof.tasks.coco.settings import Figure, Settings

if TYPE_CHECKING:  # a name of the stub alone
    from qprof.core._coco import CategoryMatches

#: What the one class is called where categories are not told apart.
ALL_CATEGORIES = "all categories"


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """The figures of one category; `None` where it has no ground truth. `truths`: objects to find, crowds left out."""

    category_id: int | None  # None where categories are not told apart
    name: str
    truths: int | None  # None where the matches were not kept
    figures: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class AreaFigures:
    """AP, AP50, AP75 and AR at every number of detections, of the objects of one size (square pixels, both inside)."""

    area: str
    low: float
    high: float
    truths: int | None
    figures: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class ImageMatches:
    """Matches of one image and category in one area: D detections best first, G ground truths, T IoU thresholds.

    `detections` and `truths` are positions in the input; matches are such positions, -1 for none.
    """

    detections: NDArray[np.int32]  # [D]
    scores: NDArray[np.float64]  # [D]
    detection_matches: NDArray[np.int32]  # [T, D]
    detection_ignored: NDArray[np.bool_]  # [T, D] neither right nor wrong
    truths: NDArray[np.int32]  # [G] those ignored in this area last
    truth_ids: NDArray[np.int64]  # [G]
    truth_matches: NDArray[np.int32]  # [T, G]
    truth_ignored: NDArray[np.bool_]  # [G]


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """Per image, in the order of `image_ids`: true positives, false positives, misses; what is ignored is in none."""

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]


@dataclass(eq=False)
class CocoResult:
    """An evaluation of one set of detections.

    Indices: I images and K categories (1 without `use_cats`) by ascending id, T IoU thresholds, R recall thresholds, A
    areas, M numbers of detections. `truth_image`, `detection_category` and their like are indices into the ids, -1 for
    what was left out.
    """

    settings: Settings
    image_ids: NDArray[np.int64]  # [I]
    category_ids: NDArray[np.int64]
    category_names: list[str]
    truth: GroundTruth
    truth_image: NDArray[np.int32]
    truth_category: NDArray[np.int32]
    detections: Detections
    detection_image: NDArray[np.int32]
    detection_category: NDArray[np.int32]
    evaluation: AnyEvaluation
    notes: list[str]
    groups: dict[str, NDArray[np.intp]] = field(default_factory=dict)  # name -> places of categories (LVIS: r, c, f)
    _matches: dict[tuple[int, int], CategoryMatches] = field(default_factory=dict, repr=False)

    @property
    def precision(self) -> NDArray[np.float64]:
        """[T, R, K, A, M], -1 where a category has no ground truth in an area."""
        return self.evaluation.precision

    @property
    def recall(self) -> NDArray[np.float64]:
        """[T, K, A, M], -1 as in `precision`."""
        return self.evaluation.recall

    @property
    def scores(self) -> NDArray[np.float64]:
        """[T, R, K, A, M]: the score at which that recall is reached, 0 where it is not; -1 as in `precision`."""
        return self.evaluation.scores

    @property
    def stats(self) -> NDArray[np.float64]:
        """The figures in the order of `COCOeval.stats`, -1 where undefined: 12 with three `max_dets` and COCO's areas.

        In general 3 + (A - 1) for AP, then M + (A - 1) for AR; see `Settings.figures`.
        """
        return np.array([self.figure(figure) for figure in self.settings.figures()])

    @property
    def summary(self) -> dict[str, float | None]:
        """`stats` by name ("AP", "AP50", "AP75", "APsmall", ..., "AR1", ...); `None` where undefined. By the rules of
        LVIS with APr, APc and APf at the end."""
        figures = {figure.name: defined(self.figure(figure)) for figure in self.settings.figures()}
        overall = self.settings.figures()[0]
        for name, places in self.groups.items():
            values = self.evaluation.precision_at(overall.area, overall.limit)[..., places]
            values = values[values > -1]
            figures[f"AP{name}"] = float(np.mean(values)) if values.size else None
        return figures

    def per_class(self) -> list[ClassFigures]:
        """The summary of every category alone."""
        truths = self.evaluation.truth_counts()[:, self.settings.main_area] if self.evaluation.kept else None
        figures = self.settings.figures()
        return [
            ClassFigures(
                int(self.category_ids[k]) if self.settings.use_cats else None,
                self.category_names[k] if self.settings.use_cats else ALL_CATEGORIES,
                None if truths is None else int(truths[k]),
                {figure.name: defined(self.figure(figure, k)) for figure in figures},
            )
            for k in range(self.recall.shape[1])
        ]

    def per_area(self) -> list[AreaFigures]:
        """The figures of every size."""
        truths = self.evaluation.truth_counts().sum(axis=0) if self.evaluation.kept else None
        settings = self.settings
        overall = [figure for figure in settings.figures() if figure.area == settings.main_area]
        return [
            AreaFigures(
                name,
                float(settings.area_ranges[a, 0]),
                float(settings.area_ranges[a, 1]),
                None if truths is None else int(truths[a]),
                {f.name: defined(self.figure(Figure(f.name, f.kind, f.iou, a, f.limit))) for f in overall},
            )
            for a, name in enumerate(settings.area_names)
        ]

    def image_matches(self, image_id: int, category_id: int | None = None, area: str | None = None) -> ImageMatches:
        """The matches of one image and category (`None` without `use_cats`) in the named area (default: the main one).

        Raises `DataError` for an id or name that was not evaluated, and without `keep`.
        """
        i = _place("image", image_id, self.image_ids)
        if category_id is None and self.settings.use_cats:
            raise DataError("image_matches: give a category_id: the evaluation tells categories apart")
        k = (
            _place("category", category_id, self.category_ids)
            if self.settings.use_cats and category_id is not None
            else 0
        )
        found = self.category_matches(k, self.area_index(area))
        dt, gt = slice(*found["dt_begins"][i : i + 2]), slice(*found["gt_begins"][i : i + 2])
        return ImageMatches(
            detections=found["dt"][dt],
            scores=np.asarray(self.detections.score[found["dt"][dt]], dtype=np.float64),
            detection_matches=found["dt_matches"][:, dt],
            detection_ignored=found["dt_ignored"][:, dt],
            truths=found["gt"][gt],
            truth_ids=self.truth.id[found["gt"][gt]],
            truth_matches=found["gt_matches"][:, gt],
            truth_ignored=found["gt_ignored"][gt],
        )

    def image_counts(self, iou_threshold: float = 0.5, area: str | None = None) -> ImageCounts:
        """True positives, false positives and misses of every image at one IoU threshold that was evaluated."""
        self._require_kept()
        t, a = self.settings.iou_index(iou_threshold), self.area_index(area)
        if t < 0:
            raise DataError(f"IoU {iou_threshold} was not evaluated: choose one of {self.settings.iou_thresholds}")
        matched, ignored = self.evaluation.assignments(t, a)
        images = len(self.image_ids)
        tp = np.bincount(self.detection_image[(matched >= 0) & ~ignored], minlength=images)
        fp = np.bincount(self.detection_image[(matched == -1) & ~ignored], minlength=images)
        low, high = self.settings.area_ranges[a]
        inside = (self.truth.area >= low) & (self.truth.area <= high) & (self.truth.crowd == 0)
        scored = inside & (self.truth_image >= 0) & (self.truth_category >= 0)
        return ImageCounts(tp, fp, np.bincount(self.truth_image[scored], minlength=images) - tp)

    def boxes(self) -> tuple[TruthBoxes, DetectionBoxes]:
        """What was evaluated, for the functions of `qprof.tasks.coco.analysis`: without what was left out."""
        truth = (self.truth_image >= 0) & (self.truth_category >= 0)
        found = (self.detection_image >= 0) & (self.detection_category >= 0)
        return (
            TruthBoxes(
                self.truth_image[truth],
                self.truth_category[truth],
                self.truth.boxes[truth],
                self.truth.crowd[truth] != 0,
                self.truth.area[truth],
            ),
            DetectionBoxes(
                self.detection_image[found],
                self.detection_category[found],
                self.detections.boxes[found],
                self.detections.score[found],
            ),
        )

    def overlaps(self) -> Overlaps:
        """How much those of `boxes()` have in common, by the shapes that were evaluated: for the argument `overlaps` of
        the analyses, which by themselves compare boxes."""
        truths, found = self.boxes()
        if self.truth.shapes is None or self.detections.shapes is None:
            return find_overlaps(truths, found)
        truth = (self.truth_image >= 0) & (self.truth_category >= 0)
        detected = (self.detection_image >= 0) & (self.detection_category >= 0)
        images = len(self.image_ids)
        sides = (self.truth_image, self.truth_category, self.detection_image, self.detection_category)
        rows = find_rows(*sides, self.detections.score, images, use_cats=False, most=len(detected))
        shapes = self.truth.shapes, self.detections.shapes
        ious = compare(*shapes, self.truth.crowd, rows, floor=0.0, threads=available_cores())
        d, t = rows.flat()
        near = np.flatnonzero(ious > 0)
        near = near[np.lexsort((t[near], d[near]))]
        place = [(np.cumsum(mask) - 1).astype(np.int32) for mask in (detected, truth)]
        return Overlaps(place[0][d[near]], place[1][t[near]], ious[near])

    def category_matches(self, category: int, area: int = 0) -> CategoryMatches:
        """The matches of a category and area (indices), image after image; made once."""
        self._require_kept()
        if (category, area) not in self._matches:
            self._matches[category, area] = self.evaluation.category_matches(category, area)
        return self._matches[category, area]

    def area_index(self, area: str | None) -> int:
        """Index of a named area, of the main one for `None`; `DataError` for another name."""
        if area is None:
            return self.settings.main_area
        if area not in self.settings.area_names:
            raise DataError(f"area {area!r} was not evaluated: choose one of {', '.join(self.settings.area_names)}")
        return self.settings.area_names.index(area)

    def figure(self, figure: Figure, category: int | None = None) -> float:
        """One figure over all categories or of one, -1 where undefined."""
        if figure.iou == -1:
            return -1.0
        if figure.kind == "precision":
            values = self.evaluation.precision_at(figure.area, figure.limit)
        else:
            values = self.recall[..., figure.area, figure.limit]
        if figure.iou is not None:
            values = values[figure.iou : figure.iou + 1]
        if category is not None:
            values = values[..., category]
        values = values[values > -1]
        return float(np.mean(values)) if values.size else -1.0

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: all but the compiled evaluation, which is made anew, equal to the last bit."""
        made = {"evaluation": self.evaluation.kept, "_matches": {}}
        return {**self.__dict__, **made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.evaluation = score(
            self.truth,
            self.truth_image,
            self.truth_category,
            self.detections,
            self.detection_image,
            self.detection_category,
            self.settings,
            len(self.image_ids),
            len(self.category_ids),
            threads=1,
            keep=state["evaluation"],
        )

    def _require_kept(self) -> None:
        if not self.evaluation.kept:
            raise DataError("the matches were not kept: evaluate with keep=True")


def defined(value: float) -> float | None:
    """COCO's -1 means that there was nothing to find."""
    return None if value <= -1 else float(value)


def _place(what: str, number: int, ids: NDArray[np.int64]) -> int:
    at = int(np.searchsorted(ids, number))
    if at == len(ids) or ids[at] != number:
        raise DataError(f"{what} {number} was not evaluated: choose one of the {what} ids of the result")
    return at

"""The interface of pycocotools' `COCOeval` on the compiled core, for code that is written for it."""

from __future__ import annotations

import copy
import datetime
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.probes.machine import available_cores
from qprof.tasks.coco.evaluate import run
from qprof.tasks.coco.inputs import Detections, GroundTruth, read_detections, read_ground_truth
from qprof.tasks.coco.result import CocoResult
from qprof.tasks.coco.settings import (
    COCO_AREAS,
    COCO_MAX_DETS,
    IdZero,
    Settings,
    coco_iou_thresholds,
    coco_recall_thresholds,
    make_settings,
)


class Params:
    """Settings under the names of pycocotools, for boxes."""

    def __init__(self, iouType: str = "bbox") -> None:
        if iouType != "bbox":
            raise DataError(f"COCOeval: iouType {iouType!r} is not evaluated here: give iouType='bbox'")
        self.iouType = iouType
        self.imgIds: list[int] = []
        self.catIds: list[int] = []
        self.iouThrs: Any = coco_iou_thresholds()
        self.recThrs: Any = coco_recall_thresholds()
        self.maxDets: list[int] = list(COCO_MAX_DETS)
        self.areaRng: list[Any] = [list(pair) for pair in COCO_AREAS.values()]
        self.areaRngLbl: list[str] = list(COCO_AREAS)
        self.useCats = 1
        self.useSegm = None


class COCOeval:
    """Box evaluation by the calls of pycocotools: `evaluate()`, `accumulate()`, `summarize()`, then `stats`, `eval`.

    `cocoGt` and `cocoDt` are pycocotools `COCO` objects, or anything that `qprof.coco.evaluate` takes. `evalImgs` and
    `ious`, which most code never looks at, are made when they are first read. The text printed is the same.

    Where it differs: a summary with `maxDets` other than 100 (see `Settings.figures`; pycocotools prints -1);
    `accumulate` with parameters of its own evaluates by them; categories that are one (`useCats = 0`) are taken in
    ascending id; a match to annotation id 0 counts (`id_zero="pycocotools"` is the switch); and as in pycocotools
    `iouType` has to be given, "bbox", since the default there is masks. Input errors are `DataError`.
    """

    def __init__(
        self,
        cocoGt: Any = None,
        cocoDt: Any = None,
        iouType: str = "segm",
        *,
        id_zero: IdZero = "correct",
        threads: int | None = None,
    ) -> None:
        self.cocoGt = cocoGt
        self.cocoDt = cocoDt
        self.params = Params(iouType)
        self.eval: dict[str, Any] = {}
        self.stats: Any = []
        self.result: CocoResult | None = None
        self._id_zero: IdZero = id_zero
        self._threads = available_cores() if threads is None else threads
        self._evaluated: Params | None = None
        self._images: list[dict[str, Any] | None] | None = None
        self._overlaps: dict[tuple[int, int], Any] | None = None
        self._truth: GroundTruth | None = None
        self._detections: Detections | None = None
        self._accumulated: CocoResult | None = None
        if cocoGt is not None:
            self._truth = read_ground_truth(cocoGt, self._threads)
            self.params.imgIds = self._truth.image_ids.tolist()
            self.params.catIds = self._truth.category_ids.tolist()

    def evaluate(self) -> None:
        """Match every image; fills `evalImgs` and `ious`."""
        begin = time.time()
        print("Running per image evaluation...")
        p = self.params
        print(f"Evaluate annotation type *{p.iouType}*")
        p.imgIds = [int(number) for number in np.unique(p.imgIds)]
        if p.useCats:
            p.catIds = [int(number) for number in np.unique(p.catIds)]
        p.maxDets = sorted(p.maxDets)
        if self.cocoGt is None or self.cocoDt is None:
            raise DataError("COCOeval: no ground truth or no detections: give cocoGt and cocoDt")
        self._truth = read_ground_truth(self.cocoGt, self._threads)
        self._detections = read_detections(self.cocoDt, self._threads)
        self.result = self._run(p)
        self._evaluated = copy.deepcopy(p)
        self._images = self._overlaps = None
        self.eval = {}
        print(f"DONE (t={time.time() - begin:0.2f}s).")

    def accumulate(self, p: Params | None = None) -> None:
        """Fill `eval` with precision, recall and scores, by `p` (default: `params`)."""
        begin = time.time()
        print("Accumulating evaluation results...")
        if self.result is None or self._evaluated is None:
            print("Please run evaluate() first")
            raise DataError("COCOeval: nothing to accumulate: call evaluate() first")
        p = self.params if p is None else p
        found = self.result if _same(p, self._evaluated) else self._run(p)
        self.eval = {
            "params": p,
            "counts": list(found.precision.shape),
            "date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            "precision": found.precision,
            "recall": found.recall,
            "scores": found.scores,
        }
        self._accumulated = found
        print(f"DONE (t={time.time() - begin:0.2f}s).")

    def summarize(self) -> None:
        """Print the figures and fill `stats`."""
        found = self._require_accumulated()
        for line in _summary_lines(found):
            print(line)
        self.stats = found.stats

    def __str__(self) -> str:
        return "\n".join(_summary_lines(self._require_accumulated())) if self.eval else repr(self)

    @property
    def evalImgs(self) -> list[dict[str, Any] | None]:
        """One dict per category, area and image, in this order; `None` where the image has neither objects nor
        detections of the category. Empty before `evaluate`."""
        if self._images is None:
            if self.result is None or self._evaluated is None:
                return []
            self._images = _eval_images(self.result, self._evaluated)
        return self._images

    @property
    def ious(self) -> dict[tuple[int, int], Any]:
        """(image id, category id) -> float64[detections best first, ground truths in input order], or an empty list."""
        if self._overlaps is None:
            if self.result is None:
                return {}
            self._overlaps = _overlaps(self.result)
        return self._overlaps

    def _run(self, p: Params) -> CocoResult:
        assert self._truth is not None and self._detections is not None
        return run(
            self._truth,
            self._detections,
            _settings(p, self._id_zero),
            np.unique(np.asarray(p.imgIds, dtype=np.int64)),
            np.unique(np.asarray(p.catIds, dtype=np.int64)),
            self._threads,
        )

    def _require_accumulated(self) -> CocoResult:
        if not self.eval or self._accumulated is None:
            raise DataError("COCOeval: nothing to summarize: call accumulate() first")
        return self._accumulated


def _summary_lines(found: CocoResult) -> list[str]:
    """The figures in the words of pycocotools."""
    settings = found.settings
    ious = settings.iou_thresholds
    lines = []
    for figure in settings.figures():
        title, kind = ("Recall", "AR") if figure.kind == "recall" else ("Precision", "AP")
        single = {"AP50": 0.5, "AP75": 0.75}.get(figure.name)
        iou = f"{ious[0]:0.2f}:{ious[-1]:0.2f}" if single is None else f"{single:0.2f}"
        area, limit = settings.area_names[figure.area], settings.max_dets[figure.limit]
        lines.append(
            f" {'Average ' + title:<18} ({kind}) @[ IoU={iou:<9} | area={area:>6s} | maxDets={limit:>3d} ] = "
            f"{found.figure(figure):0.3f}"
        )
    return lines


def _settings(p: Params, id_zero: IdZero) -> Settings:
    labels: Sequence[str] = p.areaRngLbl
    if len(labels) != len(p.areaRng) or len(set(labels)) != len(labels):
        raise DataError(
            f"COCOeval: {len(p.areaRng)} areaRng with the labels {list(labels)}: give each a label of its own"
        )
    ranges = {label: (float(low), float(high)) for label, (low, high) in zip(labels, p.areaRng, strict=True)}
    return make_settings(p.iouThrs, p.recThrs, p.maxDets, ranges, bool(p.useCats), id_zero)


def _same(one: Params, other: Params) -> bool:
    keys = ("imgIds", "catIds", "iouThrs", "recThrs", "maxDets", "areaRng", "areaRngLbl", "useCats")
    return all(np.array_equal(getattr(one, key), getattr(other, key)) for key in keys)


def _detection_ids(detections: Detections) -> NDArray[np.int64]:
    return np.arange(1, len(detections.score) + 1) if detections.id is None else detections.id


def _eval_images(result: CocoResult, p: Params) -> list[dict[str, Any] | None]:
    categories = result.category_ids.tolist() if result.settings.use_cats else [-1]
    # One more at the end, for matches to nothing, which are -1.
    truth_ids = np.append(result.truth.id, 0)
    detection_ids = np.append(_detection_ids(result.detections), 0)
    score = result.detections.score
    entries: list[dict[str, Any] | None] = []
    for k, category in enumerate(categories):
        for a, area in enumerate(p.areaRng):
            found = result.evaluation.category_matches(k, a)
            dt_begins, gt_begins = found["dt_begins"].tolist(), found["gt_begins"].tolist()
            for i, image in enumerate(result.image_ids.tolist()):
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
                        "dtMatches": truth_ids[found["dt_matches"][:, dt]].astype(np.float64),
                        "gtMatches": detection_ids[found["gt_matches"][:, gt]].astype(np.float64),
                        "dtScores": score[detections].tolist(),
                        "gtIgnore": found["gt_ignored"][gt].astype(np.int64),
                        "dtIgnore": found["dt_ignored"][:, dt],
                    }
                )
    return entries


def _overlaps(result: CocoResult) -> dict[tuple[int, int], Any]:
    overlaps: dict[tuple[int, int], Any] = {}
    categories = result.category_ids.tolist() if result.settings.use_cats else [-1]
    main = result.settings.main_area
    for k, category in enumerate(categories):
        found = result.evaluation.category_matches(k, main)
        for i, image in enumerate(result.image_ids.tolist()):
            detections = found["dt"][slice(*found["dt_begins"][i : i + 2])]
            truths = found["gt"][slice(*found["gt_begins"][i : i + 2])]
            # Input order, or for categories that are one, by category first.
            truths = truths[np.lexsort((truths, result.truth_category[truths]))]
            overlaps[image, category] = (
                _box_iou(result.detections.boxes[detections], result.truth.boxes[truths], result.truth.crowd[truths])
                if len(detections) and len(truths)
                else []
            )
    return overlaps


def _box_iou(detections: NDArray[Any], truths: NDArray[np.float64], crowd: NDArray[np.uint8]) -> NDArray[np.float64]:
    """float64[D, G]: intersection over union of x, y, width, height; over the detection's area alone for a crowd."""
    d, g = detections.astype(np.float64)[:, None], truths[None]
    size = np.minimum(d[..., :2] + d[..., 2:], g[..., :2] + g[..., 2:]) - np.maximum(d[..., :2], g[..., :2])
    meet = np.where((size > 0).all(axis=-1), size[..., 0] * size[..., 1], 0.0)
    area, other = d[..., 2] * d[..., 3], g[..., 2] * g[..., 3]
    union = np.where(crowd[None] != 0, area, area + other - meet)
    return np.asarray(np.divide(meet, union, out=np.zeros_like(meet), where=meet != 0), dtype=np.float64)

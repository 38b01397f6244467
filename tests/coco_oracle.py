"""Detection cases as COCO dictionaries, and what pycocotools says about them."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from qprof.core import _coco


def default_settings() -> dict[str, Any]:
    """The grids of COCO, exactly as pycocotools makes them."""
    defaults = Params(iouType="bbox")
    return {
        "iou_thresholds": defaults.iouThrs,
        "recall_thresholds": defaults.recThrs,
        "area_ranges": np.array(defaults.areaRng, dtype=np.float64),
        "max_dets": np.array(defaults.maxDets, dtype=np.int32),
        "use_cats": True,
    }


@dataclass
class Case:
    """Ground truth and results as in COCO files, with the settings of `_coco.evaluate` that differ from COCO's."""

    truths: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    images: list[int] = field(default_factory=lambda: [1, 2])
    categories: list[int] = field(default_factory=lambda: [1, 2])
    settings: dict[str, Any] = field(default_factory=dict)

    def truth(self, image: int, category: int, box: Sequence[float], *, crowd: int = 0, **more: Any) -> Case:
        entry = {"id": len(self.truths) + 1, "image_id": image, "category_id": category, "bbox": list(box)}
        self.truths.append({**entry, "area": box[2] * box[3], "iscrowd": crowd, **more})
        return self

    def result(self, image: int, category: int, box: Sequence[float], score: float) -> Case:
        self.results.append({"image_id": image, "category_id": category, "bbox": list(box), "score": score})
        return self


def by_pycocotools(case: Case) -> COCOeval:
    """pycocotools' evaluation, accumulated."""
    settings = default_settings() | case.settings
    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = {
            "info": {},
            "images": [{"id": i} for i in case.images],
            "categories": [{"id": i, "name": str(i)} for i in case.categories],
            "annotations": copy.deepcopy(case.truths),
        }
        truths.createIndex()
        if case.results:
            results = truths.loadRes(copy.deepcopy(case.results))
        else:  # loadRes cannot take an empty list
            results = COCO()
            results.dataset = {**truths.dataset, "annotations": []}
            results.createIndex()
        evaluation = COCOeval(truths, results, "bbox")
        evaluation.params.iouThrs = np.asarray(settings["iou_thresholds"])
        evaluation.params.recThrs = np.asarray(settings["recall_thresholds"])
        evaluation.params.areaRng = np.asarray(settings["area_ranges"]).tolist()
        evaluation.params.maxDets = np.asarray(settings["max_dets"]).tolist()
        evaluation.params.useCats = int(settings["use_cats"])
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def core_arguments(case: Case) -> dict[str, Any]:
    """The arguments of `_coco.evaluate` for that case."""

    def column(rows: list[dict[str, Any]], key: str, dtype: Any) -> NDArray[Any]:
        return np.array([row[key] for row in rows], dtype=dtype)

    def indices(rows: list[dict[str, Any]], key: str, ids: list[int]) -> NDArray[np.int32]:
        return _coco.index_of(column(rows, key, np.int64), sorted(ids))[0]

    def boxes(rows: list[dict[str, Any]]) -> NDArray[np.float64]:
        return column(rows, "bbox", np.float64).reshape(-1, 4)

    return {
        "gt_image": indices(case.truths, "image_id", case.images),
        "gt_category": indices(case.truths, "category_id", case.categories),
        "gt_boxes": boxes(case.truths),
        "gt_area": column(case.truths, "area", np.float64),
        "gt_crowd": column(case.truths, "iscrowd", np.uint8),
        "gt_ignore": None,
        "gt_id": column(case.truths, "id", np.int64),
        "dt_image": indices(case.results, "image_id", case.images),
        "dt_category": indices(case.results, "category_id", case.categories),
        "dt_boxes": boxes(case.results),
        "dt_area": None,
        "dt_score": column(case.results, "score", np.float64),
        "images": len(case.images),
        "categories": len(case.categories),
        **default_settings(),
        **case.settings,
    }


def by_core(case: Case, **more: Any) -> _coco.Evaluation:
    return _coco.evaluate(**core_arguments(case) | more)


def assert_equal_tables(evaluation: _coco.Evaluation, oracle: COCOeval) -> None:
    """Bit for bit, signs of zero included."""
    for name in ("precision", "recall", "scores"):
        ours, theirs = getattr(evaluation, name), oracle.eval[name]
        assert ours.shape == theirs.shape
        assert np.array_equal(ours.view(np.int64), np.ascontiguousarray(theirs).view(np.int64)), name


def assert_equal_matches(evaluation: _coco.Evaluation, case: Case, oracle: COCOeval) -> int:
    """Every per-image entry of `evalImgs`; how many there were."""
    settings = default_settings() | case.settings
    images = sorted(case.images)
    truth_ids = np.array([0, *(truth["id"] for truth in case.truths)], dtype=np.int64)
    classes = len(case.categories) if settings["use_cats"] else 1
    entries = iter(oracle.evalImgs)
    compared = 0
    for category in range(classes):
        for area in range(len(settings["area_ranges"])):
            found = evaluation.category_matches(category, area)
            for image in range(len(images)):
                theirs = next(entries)
                dt = slice(*found["dt_begins"][image : image + 2])
                gt = slice(*found["gt_begins"][image : image + 2])
                if theirs is None:
                    assert dt.start == dt.stop and gt.start == gt.stop
                    continue
                assert theirs["image_id"] == images[image]
                positions = found["dt"][dt]
                assert theirs["dtIds"] == (positions + 1).tolist()
                assert theirs["dtScores"] == [case.results[p]["score"] for p in positions]
                assert theirs["gtIds"] == truth_ids[found["gt"][gt] + 1].tolist()
                assert np.array_equal(theirs["gtIgnore"], found["gt_ignored"][gt])
                # Theirs are ids in float64, 0 where there is none.
                assert np.array_equal(theirs["dtMatches"], truth_ids[found["dt_matches"][:, dt] + 1].astype(float))
                assert np.array_equal(theirs["gtMatches"], (found["gt_matches"][:, gt] + 1).astype(float))
                assert np.array_equal(theirs["dtIgnore"], found["dt_ignored"][:, dt])
                compared += 1
    return compared

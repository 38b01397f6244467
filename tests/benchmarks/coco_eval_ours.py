"""qprof's side of `coco_eval.py`: from an N x 7 table or two files to the 12 figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coco_data
import numpy as np

from qprof import coco
from qprof.core import _coco

TRUTHS = ("gt_image", "gt_category", "gt_boxes", "gt_area", "gt_crowd", "gt_id")
AREAS = ((0.0, 1e5**2), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e5**2))
MAX_DETS = (1, 10, 100)
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)


def save(folder: Path, **scale: int) -> None:
    """The data set in the forms that the contestants read."""
    data = coco_data.arrays(**scale)
    coco_data.write_json(folder, data)
    np.save(folder / "detections.npy", data.detections_table())
    np.savez(folder / "truths.npz", **{k: v for k, v in vars(data).items() if k.startswith("gt_") or k.endswith("ids")})


def load(folder: str) -> dict[str, Any]:
    return {**np.load(f"{folder}/truths.npz"), "table": np.load(f"{folder}/detections.npy")}


def from_arrays(arrays: dict[str, Any], threads: int) -> list[float]:
    table = arrays["table"]
    image, _ = _coco.index_of(table[:, 0], arrays["image_ids"], threads=threads)
    category, _ = _coco.index_of(table[:, 6], arrays["category_ids"], threads=threads)
    evaluation = _coco.evaluate(
        **{name: arrays[name] for name in TRUTHS},
        gt_ignore=None,
        dt_image=image,
        dt_category=category,
        dt_boxes=table[:, 1:5],
        dt_area=None,
        dt_score=table[:, 5],
        images=len(arrays["image_ids"]),
        categories=len(arrays["category_ids"]),
        iou_thresholds=IOU_THRESHOLDS,
        recall_thresholds=RECALL_THRESHOLDS,
        area_ranges=AREAS,
        max_dets=MAX_DETS,
        threads=threads,
    )
    return figures(evaluation)


def figures(evaluation: _coco.Evaluation) -> list[float]:
    """The 12 of `COCOeval.summarize`."""

    def mean(values: Any) -> float:
        defined = values[values > -1]
        return float(defined.mean()) if defined.size else -1.0

    recall, last = evaluation.recall, len(MAX_DETS) - 1
    precision = [evaluation.precision_at(area, last) for area in range(len(AREAS))]
    return [
        mean(precision[0]),
        mean(precision[0][0]),
        mean(precision[0][5]),
        *(mean(precision[area]) for area in (1, 2, 3)),
        *(mean(recall[..., 0, limit]) for limit in range(len(MAX_DETS))),
        *(mean(recall[..., area, last]) for area in (1, 2, 3)),
    ]


def from_json(folder: str, threads: int) -> list[float]:
    result = coco.evaluate(f"{folder}/instances.json", f"{folder}/detections.json", threads=threads)
    return [float(value) for value in result.stats]

"""Data sets with masks and keypoints, as COCO's files have them."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as reference
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Rows = list[dict[str, Any]]
CATEGORIES = (2, 5, 7)


def lengths_of(mask: NDArray[np.uint8]) -> list[int]:
    """Run lengths, counted here."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(np.r_[0, flat]) != 0)
    return np.diff(np.r_[0, changes, flat.size]).tolist()


def rle(mask: NDArray[np.uint8], form: str) -> dict[str, Any]:
    made = reference.encode(np.asfortranarray(mask))
    if form == "text":
        made["counts"] = made["counts"].decode()
    return {"size": list(mask.shape), "counts": lengths_of(mask)} if form == "list" else made


def blob(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A rectangle, perhaps with holes."""
    mask = np.zeros((height, width), np.uint8)
    x, y = int(rng.integers(0, width - 5)), int(rng.integers(0, height - 5))
    mask[y : y + int(rng.integers(3, 60)), x : x + int(rng.integers(3, 60))] = 1
    return mask & (rng.random((height, width)) < (0.9 if rng.random() < 0.5 else 1.1))


def shaped_content(seed: int, images: int = 5) -> tuple[dict[str, Any], Rows]:
    """Annotations and results that overlap, miss, repeat and tie; polygons and run lengths in every form."""
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(20, 120)), int(rng.integers(20, 120))
    annotations: Rows = []
    results: Rows = []
    for image in [i for i in range(1, images + 1) for _ in range(int(rng.integers(1, 9)))]:
        mask = blob(rng, height, width)
        crowd, category = int(rng.random() < 0.15), int(rng.choice(CATEGORIES))
        x, y, w, h = reference.toBbox(rle(mask, "bytes")).tolist()
        polygons = [[x, y, x + w, y + 1, x + w - 2, y + h, x, y + h - 1], [x, y, x + 3.3, y, x + 3, y + 4]]
        in_runs = crowd or rng.random() < 0.3
        points = np.c_[rng.uniform(0, width, (17, 2)).round(1), rng.integers(0, 3, 17) * (rng.random() > 0.1)]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": category,
                "bbox": [x, y, w, h],
                "area": float(mask.sum()),
                "iscrowd": crowd,
                "segmentation": rle(mask, str(rng.choice(["text", "list"]))) if in_runs else polygons,
                "keypoints": points.ravel().tolist(),
                "num_keypoints": int((points[:, 2] > 0).sum()),
            }
        )
        for _ in range(int(rng.integers(0, 5))):
            moved = np.roll(mask, rng.integers(-3, 4, 2), (0, 1)) if rng.random() < 0.8 else blob(rng, height, width)
            near = points + np.c_[rng.normal(0, 2, (17, 2)), np.zeros(17)]
            results.append(
                {
                    "image_id": image,
                    "category_id": category if rng.random() < 0.9 else 2,
                    "score": float(rng.integers(1, 12)) / 12,
                    "segmentation": rle(moved, str(rng.choice(["text", "bytes"]))),
                    "keypoints": near.ravel().tolist(),
                }
            )
    pictures = [{"id": number, "height": height, "width": width} for number in range(1, images + 1)]
    kinds = [{"id": number, "name": str(number)} for number in CATEGORIES]
    return {"info": {}, "images": pictures, "categories": kinds, "annotations": annotations}, results


def results_with(results: Rows, *members: str) -> Rows:
    """Copies of the results with these of the members that say where: "bbox" is that of the mask."""
    made = []
    for row in results:
        copied = {key: row[key] for key in ("image_id", "category_id", "score")}
        for member in members:
            copied[member] = reference.toBbox(row["segmentation"]).tolist() if member == "bbox" else row[member]
        made.append(copied)
    return made


def by_reference(truth: dict[str, Any], results: Rows, kind: str, **settings: Any) -> COCOeval:
    """pycocotools' evaluation, accumulated and summarized; `settings`: members of its `params`."""
    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO()
        objects.dataset = copy.deepcopy(truth)
        objects.createIndex()
        evaluation = COCOeval(objects, objects.loadRes(copy.deepcopy(results)), kind)
        for name, value in settings.items():
            setattr(evaluation.params, name, value)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def equal_bits(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> bool:
    return ours.shape == theirs.shape and np.array_equal(
        np.ascontiguousarray(ours).view(np.int64), np.ascontiguousarray(theirs).view(np.int64)
    )

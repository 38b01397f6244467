"""A synthetic detection data set of the size and shape of COCO val2017, for benchmarks and large tests.

As in val2017: 5,000 images, 80 categories whose ids have gaps, about 36,000 annotations of which 1 % are crowds, a
third of them of one category, 41 % small, 36 % medium and 23 % large. The detector finds most objects once well and
some of them again worse, mistakes some categories, and fills up with low-scored boxes to 500,000; its scores have four
decimals, so that scores tie within images and between them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGE_WIDTH, IMAGE_HEIGHT = 640.0, 480.0
#: Detections of one object: the first is good, the later ones are duplicates that NMS left.
DETECTIONS_PER_OBJECT = (0, 1, 2, 3, 4)
DETECTIONS_PER_OBJECT_SHARE = (0.15, 0.45, 0.22, 0.12, 0.06)


@dataclass(frozen=True)
class DetectionData:
    """Ground truth and detections as flat arrays; `*_image` and `*_category` are indices into the sorted ids."""

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    gt_image: NDArray[np.int32]
    gt_category: NDArray[np.int32]
    gt_boxes: NDArray[np.float64]
    gt_area: NDArray[np.float64]
    gt_crowd: NDArray[np.uint8]
    gt_id: NDArray[np.int64]
    dt_image: NDArray[np.int32]
    dt_category: NDArray[np.int32]
    dt_boxes: NDArray[np.float64]
    dt_score: NDArray[np.float64]

    def detections_table(self) -> NDArray[np.float64]:
        """N x 7 rows of image id, x, y, width, height, score, category id, as `COCO.loadRes` takes them."""
        return np.column_stack(
            [self.image_ids[self.dt_image], self.dt_boxes, self.dt_score, self.category_ids[self.dt_category]]
        ).astype(np.float64)


def arrays(
    seed: int = 0, *, images: int = 5_000, categories: int = 80, annotations: int = 36_000, detections: int = 500_000
) -> DetectionData:
    """The data set of that seed. Detections stand image by image (images in no order), best score first."""
    rng = np.random.default_rng(seed)
    image_ids = np.sort(rng.choice(np.arange(139, 139 + 116 * images), images, replace=False)).astype(np.int64)
    gaps = rng.choice(np.arange(1, categories + categories // 8 + 1), categories, replace=False)
    category_ids = np.sort(gaps).astype(np.int64)

    frequency = 1.0 / np.arange(1, categories + 1) ** 0.8
    if categories > 1:
        frequency[0] = frequency[1:].sum() * 0.43
    frequency = rng.permutation(frequency / frequency.sum())
    crowdedness = rng.gamma(1.8, 1.0, images)
    gt_image = rng.choice(images, annotations, p=crowdedness / crowdedness.sum())
    # Objects of one image share few categories: each image draws from a short list of its own.
    palette = rng.choice(categories, (images, 4), p=frequency)
    gt_category = palette[gt_image, rng.choice(4, annotations, p=(0.4, 0.28, 0.2, 0.12))]
    gt_boxes = _boxes(rng, annotations)
    gt_crowd = rng.random(annotations) < 0.01
    gt_boxes[gt_crowd] = _boxes(rng, int(gt_crowd.sum()), smallest=120.0)
    fill = rng.uniform(0.45, 0.95, annotations)
    gt_area = np.round(gt_boxes[:, 2] * gt_boxes[:, 3] * fill, 4)

    dt_image, dt_category, dt_boxes, dt_score = _detect(
        rng, images, detections, gt_image, gt_category, gt_boxes, palette, frequency
    )
    place = rng.permutation(images)
    order = np.lexsort((-dt_score, place[dt_image]))
    return DetectionData(
        image_ids=image_ids,
        category_ids=category_ids,
        gt_image=gt_image.astype(np.int32),
        gt_category=gt_category.astype(np.int32),
        gt_boxes=gt_boxes,
        gt_area=gt_area,
        gt_crowd=gt_crowd.astype(np.uint8),
        gt_id=np.sort(rng.choice(2_200_000, annotations, replace=False)).astype(np.int64) + 1,
        dt_image=dt_image[order].astype(np.int32),
        dt_category=dt_category[order].astype(np.int32),
        dt_boxes=np.ascontiguousarray(dt_boxes[order]),
        dt_score=dt_score[order],
    )


def _boxes(rng: np.random.Generator, count: int, smallest: float = 4.0) -> NDArray[np.float64]:
    """`count` boxes (x, y, width, height) in pixels with two decimals, inside the image."""
    side = np.clip(rng.lognormal(3.9, 1.15, count), smallest, 420.0)
    aspect = rng.lognormal(0.0, 0.4, count)
    width = np.minimum(side * aspect, IMAGE_WIDTH - 1)
    height = np.minimum(side / aspect, IMAGE_HEIGHT - 1)
    x = rng.random(count) * (IMAGE_WIDTH - width)
    y = rng.random(count) * (IMAGE_HEIGHT - height)
    return np.round(np.column_stack([x, y, width, height]), 2)


def _detect(
    rng: np.random.Generator,
    images: int,
    detections: int,
    gt_image: NDArray[np.int64],
    gt_category: NDArray[np.int64],
    gt_boxes: NDArray[np.float64],
    palette: NDArray[np.int64],
    frequency: NDArray[np.floating[Any]],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Image, category, boxes and scores of what a detector of AP about 0.4 reports."""
    repeats = rng.choice(DETECTIONS_PER_OBJECT, len(gt_image), p=DETECTIONS_PER_OBJECT_SHARE)
    source = np.repeat(np.arange(len(gt_image)), repeats)[:detections]
    copy = (np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats))[:detections]
    spread = np.where(copy == 0, rng.gamma(1.5, 0.03, len(source)), rng.gamma(3.0, 0.06, len(source)))
    boxes = gt_boxes[source]
    size = np.maximum(boxes[:, 2:], 1.0)
    shift = rng.normal(0.0, 1.0, (len(source), 4)) * spread[:, None] * np.hstack([size, size])
    boxes = np.column_stack([boxes[:, :2] + shift[:, :2], np.maximum(boxes[:, 2:] + shift[:, 2:], 0.5)])
    category = gt_category[source].copy()
    mistaken = rng.random(len(source)) < 0.12
    category[mistaken] = rng.choice(len(frequency), int(mistaken.sum()), p=frequency)
    quality = 2.0 - 14.0 * spread - 1.2 * copy - 1.5 * mistaken + rng.normal(0.0, 1.0, len(source))
    score = 1.0 / (1.0 + np.exp(-quality))

    rest = detections - len(source)
    image = rng.integers(0, images, rest)
    seen_there = rng.random(rest) < 0.5
    guess = np.where(
        seen_there, palette[image, rng.integers(0, 4, rest)], rng.choice(len(frequency), rest, p=frequency)
    )
    return (
        np.concatenate([gt_image[source], image]),
        np.concatenate([category, guess]),
        np.round(np.vstack([boxes, _boxes(rng, rest)]), 2),
        np.maximum(np.round(np.concatenate([score, rng.beta(0.6, 9.0, rest)]), 4), 0.0001),
    )


def write_json(folder: Path, data: DetectionData | None = None) -> tuple[Path, Path]:
    """Write `instances.json` (with a polygon for every object, as COCO has) and `detections.json`; their paths."""
    data = arrays() if data is None else data
    rng = np.random.default_rng(1)
    ground_truth, detections = folder / "instances.json", folder / "detections.json"
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in data.image_ids.tolist()]
    categories = [{"id": i, "name": f"category {i}", "supercategory": "thing"} for i in data.category_ids.tolist()]
    rows = zip(
        data.gt_id.tolist(),
        data.image_ids[data.gt_image].tolist(),
        data.category_ids[data.gt_category].tolist(),
        data.gt_boxes.tolist(),
        data.gt_area.tolist(),
        data.gt_crowd.tolist(),
        strict=True,
    )
    annotations = [
        {
            "segmentation": _outline(rng, box, crowd),
            "area": area,
            "iscrowd": crowd,
            "image_id": image,
            "bbox": box,
            "category_id": category,
            "id": number,
        }
        for number, image, category, box, area, crowd in rows
    ]
    ground_truth.write_text(
        json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})
    )
    found = zip(
        data.image_ids[data.dt_image].tolist(),
        data.category_ids[data.dt_category].tolist(),
        data.dt_boxes.tolist(),
        data.dt_score.tolist(),
        strict=True,
    )
    detections.write_text(
        json.dumps([{"image_id": i, "category_id": c, "bbox": box, "score": score} for i, c, box, score in found])
    )
    return ground_truth, detections


def _outline(rng: np.random.Generator, box: list[float], crowd: int) -> Any:
    """A polygon in the box, or for a crowd run lengths over the image."""
    if crowd:
        runs = rng.integers(1, 2_000, 150).tolist()
        return {"counts": [*runs, int(IMAGE_WIDTH * IMAGE_HEIGHT) - sum(runs)], "size": [480, 640]}
    points = rng.random((int(rng.integers(4, 45)), 2)) * box[2:] + box[:2]
    return [np.round(points, 2).ravel().tolist()]

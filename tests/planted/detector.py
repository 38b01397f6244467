"""A detector whose errors are made to order: ground truth, boxes, and worlds in which variants record them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from planted.world import PlantedOp, PlantedVariant, World
from qprof.record.manifest import RecordedProfile
from qprof.store.run import Run
from qprof.store.writer import save_predictions
from qprof.tasks.coco.evaluate import evaluate

IMAGES, CLASSES, OBJECTS = 60, 8, 6
SIDE = 320

Detections = list[dict[str, Any]]
Relabel = Callable[[NDArray[np.int64], np.random.Generator], NDArray[np.int64]]


def truth(seed: int = 0) -> dict[str, Any]:
    """An "instances" file: in every image a few objects, of classes 1 .. CLASSES, on a grid so that none overlap."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    for image in range(1, IMAGES + 1):
        for cell in rng.choice(9, OBJECTS, replace=False).tolist():
            width, height = rng.uniform(30.0, 90.0, 2).tolist()
            x, y = (cell % 3) * 105.0 + 5.0, (cell // 3) * 105.0 + 5.0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(rng.integers(1, CLASSES + 1)),
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    images = [{"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE} for n in range(1, IMAGES + 1)]
    categories = [{"id": n, "name": f"class-{n}"} for n in range(1, CLASSES + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


@dataclass(frozen=True)
class Detector:
    """What it makes of every object: `found` of them, moved by `jitter` of its size, called what `relabel` says;
    and beside them `false` boxes per image with low scores. Two with the same `seed` see the images alike."""

    found: float = 0.9
    jitter: float = 0.06
    false: int = 10
    relabel: Relabel = field(default=lambda labels, _: labels)
    seed: int = 0

    def boxes(self, content: Mapping[str, Any]) -> Detections:
        """The COCO results of this detector."""
        rng, own = np.random.default_rng(self.seed), np.random.default_rng(self.seed + 1)
        objects = content["annotations"]
        boxes = np.array([one["bbox"] for one in objects])
        kept = rng.random(len(objects)) < self.found
        moved = boxes + self.jitter * rng.standard_normal((len(objects), 4)) * np.tile(boxes[:, 2:], 2)
        scores = np.clip(rng.normal(0.7, 0.15, len(objects)), 0.2, 1.0)
        labels = self.relabel(np.array([one["category_id"] for one in objects]), own)
        images = [one["image_id"] for one in objects]
        rows = zip(images, labels.tolist(), moved.tolist(), scores.tolist(), kept.tolist(), strict=True)
        found = [_detection(*row) for *row, is_kept in rows if is_kept]
        return found + [one for image in range(1, IMAGES + 1) for one in self._false_boxes(image)]

    def _false_boxes(self, image: int) -> Detections:
        """Somewhere, of some class: those of fewer per image are the best-scored of those of more."""
        rng = np.random.default_rng((self.seed, image))
        scores = np.sort(rng.uniform(0.0, 0.3, 20))[::-1].tolist()
        places = np.column_stack([rng.uniform(0.0, 250.0, (20, 2)), rng.uniform(20.0, 60.0, (20, 2))]).tolist()
        labels = rng.integers(1, CLASSES + 1, 20).tolist()
        rows = list(zip(labels, places, scores, strict=True))[: self.false]
        return [_detection(image, label, place, score) for label, place, score in rows]


def _detection(image: int, label: int, box: list[float], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": label, "bbox": box, "score": score}


def exchanged(one: int, other: int) -> Relabel:
    """Every object of the one class is called the other, and the other way round."""

    def relabel(labels: NDArray[np.int64], _: np.random.Generator) -> NDArray[np.int64]:
        return np.where(labels == one, other, np.where(labels == other, one, labels))

    return relabel


def called(one: int, other: int, share: float = 1.0) -> Relabel:
    """A share of the objects of the one class are called the other; those of the other keep their name."""

    def relabel(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        return np.where((labels == one) & (rng.random(len(labels)) < share), other, labels)

    return relabel


@dataclass(frozen=True)
class DetectorWorld(World):
    """A world whose variants, `detectors` by name, leave predictions of `content` in their runs."""

    content: Mapping[str, Any] = field(default_factory=truth)
    detectors: Mapping[str, Detector] = field(default_factory=dict)

    @classmethod
    def of(cls, detectors: Mapping[str, Detector], content: Mapping[str, Any] | None = None) -> DetectorWorld:
        """The first is the baseline; all take the same time."""
        known = truth() if content is None else content
        variants = [
            PlantedVariant(name, [PlantedOp("conv", "CONV_2D", 400.0)], summary_scores=_summary(known, detector))
            for name, detector in detectors.items()
        ]
        return cls(variants, rounds=5, content=known, detectors=detectors)

    def _written(self, folder: Path, made: Sequence[Any], profile: RecordedProfile, seed: int) -> Run:
        data = folder.parent / "data"
        annotations = data / "annotations.json"
        if not annotations.exists():
            data.mkdir(parents=True)
            annotations.write_text(json.dumps(self.content))
            for image in self.content["images"]:
                (data / image["file_name"]).touch()
        task = {"kind": "detection", "annotations": str(annotations), "images": str(data)}
        plain = World(**{name: getattr(self, name) for name in World.__dataclass_fields__})
        detecting = msgspec.structs.replace(profile, task=task)
        world = replace(plain, manifest={**self.manifest, "score_columns": ["AP", "AP50"]})
        run = world._written(folder, made, detecting, seed)
        for name in (one.name for one in made if isinstance(one, PlantedVariant)):
            save_predictions(folder, name, self.detectors[name].boxes(self.content))
        return run


def _summary(content: Mapping[str, Any], detector: Detector) -> dict[str, float | None]:
    return evaluate(content, detector.boxes(content)).summary

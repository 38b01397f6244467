"""COCO average precision and recall, with the counts of every image."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qprof.tasks.base import Scores
from qprof.tasks.detection.dataset import CocoAnnotations, Detection

#: The twelve COCO figures in the order of `COCOeval.stats` (https://cocodataset.org/#detection-eval).
METRICS = (
    "AP",
    "AP50",
    "AP75",
    "APsmall",
    "APmedium",
    "APlarge",
    "AR1",
    "AR10",
    "AR100",
    "ARsmall",
    "ARmedium",
    "ARlarge",
)
COLUMNS = ("AP", "AP50")

Counts = NDArray[np.float64]


class DetectionScorer(Protocol):
    """Scores detections against ground truth by the COCO rules."""

    def score(self, annotations: CocoAnnotations, detections: Sequence[Detection], image_ids: Sequence[int]) -> Scores:
        """The score over the images `image_ids` alone (others are neither truth nor error).

        `summary`: `METRICS`, "AP/<category>" per category, "n_images", "n_detections" (of the annotations' categories);
        `None` where there is no ground truth to find. `per_sample`, in the order of `image_ids`, which is also
        `samples`: "tp50", "fp50", "fn50", the counts at IoU 0.5, any area, at most 100 detections per image and
        category, whatever their score; crowds and what matches them count nowhere.
        """


def default_scorer() -> DetectionScorer:
    """The compiled core; pycocotools, which is slower and says the same, where the core was not built."""
    return CoreScorer() if importlib.util.find_spec("qprof.core._coco") is not None else PycocotoolsScorer()


class CoreScorer:
    """The compiled core, whose figures and matches equal those of pycocotools."""

    def score(self, annotations: CocoAnnotations, detections: Sequence[Detection], image_ids: Sequence[int]) -> Scores:
        from qprof.tasks.coco.evaluate import evaluate

        wanted = set(image_ids)
        scored = [d for d in detections if d["image_id"] in wanted and d["category_id"] in annotations.categories]
        ids = sorted(wanted)
        result = evaluate(columns_of(annotations), scored, image_ids=ids)
        summary = dict(zip(METRICS, result.summary.values(), strict=True))
        names = list(annotations.categories.values())
        for found in result.per_class():
            key = _category_key(names, found.name, found.category_id)
            summary[key] = found.figures["AP"]
        summary |= {"n_images": float(len(ids)), "n_detections": float(len(scored))}
        counts = result.image_counts(0.5)
        order = np.searchsorted(ids, image_ids)
        per_sample = {
            "tp50": counts.tp[order].astype(np.float64),
            "fp50": counts.fp[order].astype(np.float64),
            "fn50": counts.fn[order].astype(np.float64),
        }
        return Scores(
            summary, per_sample, list(image_ids), COLUMNS, _notes(annotations, wanted, len(scored), detections)
        )


class PycocotoolsScorer:
    """The reference implementation, pycocotools `COCOeval`, to compare with."""

    def score(self, annotations: CocoAnnotations, detections: Sequence[Detection], image_ids: Sequence[int]) -> Scores:
        from pycocotools.cocoeval import COCOeval

        wanted = set(image_ids)
        scored = [d for d in detections if d["image_id"] in wanted and d["category_id"] in annotations.categories]
        ids = sorted(wanted)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(_truth(annotations, wanted), _found(annotations, scored, ids), iouType="bbox")
            evaluation.params.imgIds = ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        summary: dict[str, float | None] = {m: _defined(v) for m, v in zip(METRICS, evaluation.stats, strict=True)}
        summary |= _category_ap(evaluation, annotations.categories)
        summary |= {"n_images": float(len(ids)), "n_detections": float(len(scored))}
        counts = _counts(evaluation)
        position = {n: p for p, n in enumerate(ids)}
        order = [position[n] for n in image_ids]
        per_sample = {name: column[order] for name, column in zip(("tp50", "fp50", "fn50"), counts, strict=True)}
        return Scores(
            summary, per_sample, list(image_ids), COLUMNS, _notes(annotations, wanted, len(scored), detections)
        )


def columns_of(annotations: CocoAnnotations) -> dict[str, Any]:
    """The annotations as columns for `qprof.coco`."""
    boxes = annotations.boxes
    return {
        "images": {"id": np.array(list(annotations.images), dtype=np.int64)},
        "categories": {
            "id": np.array(list(annotations.categories), dtype=np.int64),
            "name": list(annotations.categories.values()),
        },
        "annotations": {
            "id": np.array([box.id for box in boxes], dtype=np.int64),
            "image_id": np.array([box.image_id for box in boxes], dtype=np.int64),
            "category_id": np.array([box.category_id for box in boxes], dtype=np.int64),
            "bbox": np.array([box.bbox for box in boxes], dtype=np.float64).reshape(-1, 4),
            "area": np.array([box.area for box in boxes], dtype=np.float64),
            "iscrowd": np.array([box.is_crowd for box in boxes], dtype=np.uint8),
        },
    }


def _category_key(names: Sequence[str], name: str, number: int | None) -> str:
    """Categories of one name are told apart by their ids."""
    return f"AP/{name}" if names.count(name) == 1 else f"AP/{name} ({number})"


def _truth(annotations: CocoAnnotations, wanted: set[int]) -> Any:
    """Ground truth as a pycocotools `COCO`.

    COCOeval marks an unmatched detection by match id 0, and so takes one that matched an annotation of id 0 for a false
    positive; ids are shifted where 0 occurs.
    """
    shift = 1 - min((b.id for b in annotations.boxes), default=1) if _has_id_zero(annotations) else 0
    truth = [
        {
            "id": box.id + shift,
            "image_id": box.image_id,
            "category_id": box.category_id,
            "bbox": list(box.bbox),
            "area": box.area,
            "iscrowd": int(box.is_crowd),
        }
        for box in annotations.boxes
        if box.image_id in wanted
    ]
    return _coco(annotations, sorted(wanted), truth)


def _found(annotations: CocoAnnotations, scored: Sequence[Detection], ids: Sequence[int]) -> Any:
    """Detections as `COCO.loadRes` would make them, which fails on an empty list."""
    found = [
        {**detection, "id": n, "area": detection["bbox"][2] * detection["bbox"][3], "iscrowd": 0}
        for n, detection in enumerate(scored, start=1)
    ]
    return _coco(annotations, ids, found)


def _coco(annotations: CocoAnnotations, ids: Sequence[int], entries: Sequence[dict[str, Any]]) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": n} for n in ids],
        "categories": [{"id": n, "name": name} for n, name in annotations.categories.items()],
        "annotations": list(entries),
    }
    coco.createIndex()
    return coco


def _category_ap(evaluation: Any, categories: dict[int, str]) -> dict[str, float | None]:
    precision = evaluation.eval["precision"]  # [IoU, recall, category, area, max detections], -1 where undefined
    result: dict[str, float | None] = {}
    names = list(categories.values())
    for position, number in enumerate(evaluation.params.catIds):
        key = _category_key(names, categories[number], number)
        result[key] = _defined(np.mean(precision[:, :, position, 0, 2]))
    return result


def _counts(evaluation: Any) -> tuple[Counts, Counts, Counts]:
    """True positives, false positives, misses of every image (ascending id) at IoU 0.5, area "all"."""
    params = evaluation.params
    images, areas = len(params.imgIds), len(params.areaRng)
    tp, fp, fn = (np.zeros(images, dtype=np.float64) for _ in range(3))
    for category in range(len(params.catIds)):
        for image in range(images):
            entry = evaluation.evalImgs[category * areas * images + image]
            if entry is None:
                continue
            matched, ignored = entry["dtMatches"][0] != 0, entry["dtIgnore"][0] != 0
            tp[image] += np.count_nonzero(matched & ~ignored)
            fp[image] += np.count_nonzero(~matched & ~ignored)
            fn[image] += np.count_nonzero((entry["gtMatches"][0] == 0) & (entry["gtIgnore"] == 0))
    return tp, fp, fn


def _notes(annotations: CocoAnnotations, wanted: set[int], scored: int, detections: Sequence[Detection]) -> list[str]:
    notes = []
    if _has_id_zero(annotations):
        notes.append(
            f"{annotations.path.name} has an annotation of id 0, which pycocotools counts as never matched: here "
            "it can be found, so figures of plain pycocotools are lower; number annotations from 1"
        )
    if not any(box.image_id in wanted and not box.is_crowd for box in annotations.boxes):
        notes.append("none of the scored images has ground truth, so AP and AR are undefined: score more images")
    elsewhere = sum(d["image_id"] in wanted for d in detections) - scored
    if elsewhere and not scored:
        notes.append("no detection is of a category of the annotations: check categories.rule")
    elif elsewhere:
        notes.append(
            f"{elsewhere} of {scored + elsewhere} detections are of categories that {annotations.path.name} does not "
            "label and were not "
            "scored: use annotations of all the model's classes to score them"
        )
    return notes


def _has_id_zero(annotations: CocoAnnotations) -> bool:
    return any(box.id == 0 for box in annotations.boxes)


def _defined(value: float) -> float | None:
    """COCOeval's -1 means that there was nothing to find."""
    return None if value <= -1 else float(value)

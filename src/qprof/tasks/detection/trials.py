"""How well a detector does on a few images, and the naming of classes that suits what it found.

AP is a mean over classes, and of 50 images many classes have one object or none: one box more moves it by points. The
score here counts every object once: F1, 2 TP / (found + objects), at the score threshold that is best for it, so that
neither the scale of the scores nor the default threshold matters. TP is the mean over COCO's ten IoU thresholds, which
makes it as strict on boxes as AP is. Matches are those of the COCO evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.tasks.base import Fitted, SampleParts, TrialScore
from qprof.tasks.coco.evaluate import evaluate
from qprof.tasks.coco.result import CocoResult
from qprof.tasks.detection.alternatives import ids_setting
from qprof.tasks.detection.dataset import CocoAnnotations, Detection
from qprof.tasks.detection.scoring import columns_of

SCORE = TrialScore("F1 (IoU 0.50 to 0.95)", "share")

#: A class is called what most of the objects are that its boxes lie on, where it lies on so many.
_FEWEST_OBJECTS = 3
_MOST = 0.5


def f1_parts(
    annotations: CocoAnnotations, predictions: Mapping[int, Sequence[Detection]], image_ids: Mapping[int, int]
) -> SampleParts:
    """2 TP and found + objects of every sample, at the best threshold. `image_ids`: sample -> image."""
    samples = sorted(predictions)
    ids = [image_ids[sample] for sample in samples]
    found = [one for sample in samples for one in predictions[sample] if one["category_id"] in annotations.categories]
    result = evaluate(columns_of(annotations), found, image_ids=ids)
    image, score, right, counted, objects = _matches(result)
    order = np.argsort(-score, kind="stable")
    gained, spent = np.cumsum(right[order]), np.cumsum(counted[order])
    f1 = np.divide(2.0 * gained, spent + objects.sum(), out=np.zeros(len(order)), where=spent + objects.sum() > 0.0)
    last = np.append(score[order][1:] != score[order][:-1], True)  # a threshold keeps all boxes of one score, or none
    best = int(np.argmax(np.where(last, f1, -1.0))) + 1 if len(order) else 0
    kept = order[:best]
    place = np.searchsorted(result.image_ids, ids)
    count = len(result.image_ids)
    part = np.multiply(2.0, np.bincount(image[kept], weights=right[kept], minlength=count), dtype=np.float64)
    whole: NDArray[np.float64] = objects + np.bincount(image[kept], weights=counted[kept], minlength=count)
    return SampleParts(samples, part[place], whole[place])


def _matches(result: CocoResult) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of every detection its image, its score, how right it is and how much it counts (means over the IoU thresholds);
    and the objects of every image."""
    parts: list[tuple[NDArray[Any], ...]] = []
    objects = np.zeros(len(result.image_ids))
    for category in range(len(result.category_ids)):
        matches = result.category_matches(category, result.settings.main_area)
        positions, counted = matches["dt"], ~matches["dt_ignored"]
        right = counted & (matches["dt_matches"] >= 0)
        image = result.detection_image[positions]
        parts.append((image, result.detections.score[positions], right.mean(axis=0), counted.mean(axis=0)))
        truths = matches["gt"][~matches["gt_ignored"]]
        objects += np.bincount(result.truth_image[truths], minlength=len(objects))
    image, score, right, counted = (np.concatenate(column) for column in zip(*parts, strict=True))
    return image, score, right, counted, objects


class ClassNames:
    """Which category each class of a detector is, by the objects that its boxes lie on.

    Called with predictions whose categories are class indices. Every half of the samples is named by what the other
    half says: names that were fitted to the boxes that they are judged by would always gain.
    """

    def __init__(self, annotations: CocoAnnotations, image_ids: Mapping[int, int], ids: Sequence[int]) -> None:
        """`ids`: the category of every class as it is configured."""
        self._annotations, self._image_ids, self._ids = annotations, image_ids, list(ids)

    def __call__(self, predictions: Mapping[int, Sequence[Detection]]) -> Fitted | None:
        """The predictions renamed; `None` where they call for no other names."""
        counts = self._counts(predictions)
        names = self._named(sum(counts.values(), np.zeros_like(next(iter(counts.values())))))
        if names == self._ids:
            return None
        samples = sorted(predictions)
        renamed: dict[int, Any] = {}
        for half in (0, 1):
            others = [counts[sample] for sample in samples[1 - half :: 2]]
            theirs = self._named(np.sum(others, axis=0)) if others else self._ids
            for sample in samples[half::2]:
                renamed[sample] = [
                    {**one, "category_id": theirs[one["category_id"]]}
                    for one in predictions[sample]
                    if one["category_id"] < len(theirs)
                ]
        return Fitted(ids_setting(names), renamed)

    def _counts(self, predictions: Mapping[int, Sequence[Detection]]) -> dict[int, NDArray[np.int64]]:
        """Sample -> objects by class (row) and category (column, in ascending order), at an IoU of 0.5."""
        samples = sorted(predictions)
        images = {self._image_ids[sample]: sample for sample in samples}
        found = [one for sample in samples for one in predictions[sample] if one["category_id"] < len(self._ids)]
        categories = sorted(self._annotations.categories)
        unnamed = [{**one, "category_id": categories[0]} for one in found]  # classes are no categories yet
        result = evaluate(columns_of(self._annotations), unnamed, image_ids=list(images), use_cats=False)
        matches = result.category_matches(0, result.settings.main_area)
        truth = matches["dt_matches"][result.settings.iou_index(0.5)]
        taken = (truth >= 0) & ~matches["dt_ignored"][result.settings.iou_index(0.5)]
        counts: dict[int, NDArray[np.int64]] = {
            sample: np.zeros((len(self._ids), len(categories)), np.int64) for sample in samples
        }
        for detection, one in zip(matches["dt"][taken].tolist(), truth[taken].tolist(), strict=True):
            sample = images[int(result.image_ids[result.detection_image[detection]])]
            column = np.searchsorted(categories, result.truth.category_id[one])
            counts[sample][found[detection]["category_id"], column] += 1
        return counts

    def _named(self, counts: NDArray[np.int64]) -> list[int]:
        """A category for every class, none twice: the decided classes first, by their objects; the rest keep theirs
        where it is free."""
        categories = sorted(self._annotations.categories)
        names: dict[int, int] = {}
        for row in np.argsort(-counts.max(axis=1), kind="stable").tolist():
            best = int(counts[row].argmax())
            decided = counts[row, best] >= _FEWEST_OBJECTS and counts[row, best] > _MOST * counts[row].sum()
            if decided and categories[best] not in names.values():
                names[row] = categories[best]
        free = [number for number in self._ids if number not in names.values()]
        for row, number in enumerate(self._ids):
            if row not in names and number in free:
                names[row] = number
                free.remove(number)
        for row in range(len(self._ids)):
            if row not in names:
                names[row] = free.pop(0)
        return [names[row] for row in range(len(self._ids))]

"""Object detection on images with COCO annotations, as a `qprof.tasks.base.Task`."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.model import Model
from qprof.tasks.base import Alternative, SampleParts, Scores, Task
from qprof.tasks.detection import trials
from qprof.tasks.detection.alternatives import Settings, changes, class_ids
from qprof.tasks.detection.boxes import Detections
from qprof.tasks.detection.calibration_files import Twins, spread
from qprof.tasks.detection.categories import CategoryConfig, CategoryMap
from qprof.tasks.detection.choose import build_head, suppression_iou, unit_settings
from qprof.tasks.detection.dataset import (
    CocoImage,
    Detection,
    existing_images,
    image_file,
    left_out_notes,
    load_annotations,
)
from qprof.tasks.detection.heads import Binding, Head, HeadConfig
from qprof.tasks.detection.nms import non_maximum_suppression
from qprof.tasks.detection.scoring import DetectionScorer, default_scorer
from qprof.tasks.detection.unit_doubt import UnitDoubt
from qprof.tasks.images.geometry import Geometry
from qprof.tasks.images.preprocess import PreprocessConfig, Preprocessor
from qprof.tasks.images.reading import Size, read_rgb, read_size, refuse_outside

#: Endings of files taken from a calibration folder that has no annotations.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm")

#: An image whose aspect differs from the annotated one by less than this share is a resized copy.
ASPECT_TOLERANCE = 0.02


#: Probabilities may exceed 1 by a step of an 8-bit output.
SCORE_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class BadSample:
    """An image that `DetectionTask.check` could not decode."""

    image_id: int
    file_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Bound:
    """What `bind` made for one variant."""

    preprocessor: Preprocessor
    kind: str
    head: Head
    nms_iou: float | None
    doubt: UnitDoubt
    notes: list[str]


@dataclass(slots=True)
class _Shared:
    """What was found in the outputs last decoded."""

    outputs: Sequence[NDArray[Any]] | None
    found: Detections


class DetectionTask(Task):
    """Detection on the annotated images that lie in a folder.

    The samples are the images in ascending COCO id: those missing from the folder are left out, then the first `limit`
    are taken, then the ids in `skip` are left out. `skip` is for images that `check` found broken: call it once before
    the workers start and give all of them the same `skip`, so that every variant sees the same samples. Nothing is
    decoded before that; an image that turns out broken later raises `DataError`. Errors: `DataError` as described by
    `load_annotations` and `existing_images`, and where no sample is left.
    """

    name = "detection"

    def __init__(
        self,
        annotations: Path,
        images: Path,
        *,
        limit: int | None = None,
        calibration_annotations: Path | None = None,
        calibration_images: Path | None = None,
        preprocess: PreprocessConfig | None = None,
        head: HeadConfig | None = None,
        categories: CategoryConfig | None = None,
        skip: Collection[int] = (),
        scorer: DetectionScorer | None = None,
    ) -> None:
        if limit is not None and limit < 1:
            raise DataError(f"limit = {limit} leaves no image of {annotations}: give at least 1, or no limit")
        self._annotations = load_annotations(annotations)
        self._folder = images
        present, missing = existing_images(self._annotations, images)
        chosen = present[:limit]
        self._samples = [image for image in chosen if image.id not in set(skip)]
        if not self._samples:
            raise DataError(f"{images}: all {len(chosen)} images of {annotations} are skipped as broken: replace them")
        self._reserve = present[len(chosen) :]
        self._calibration_annotations = calibration_annotations
        self._calibration_images = calibration_images
        self._preprocess = preprocess or PreprocessConfig()
        self._head_config = head or HeadConfig()
        self._categories = CategoryMap(categories or CategoryConfig(), self._annotations.categories)
        self._scorer: DetectionScorer = scorer or default_scorer()
        self._bound: _Bound | None = None
        self._shared: _Shared | None = None
        self._sizes: dict[int, tuple[Size, Size]] = {}  # image id -> size of the pixels, size of the annotations' frame
        self._size_remarks: dict[str, list[str]] = {}
        self._dropped: Counter[str] = Counter()
        self._overshot = 0  # scores above 1
        self._calibration_notes: list[str] = []
        self._data_notes = (
            self._annotations.notes + self._categories.notes() + left_out_notes(missing, chosen, self._samples, images)
        )

    def sample_count(self) -> int:
        return len(self._samples)

    def image_ids(self) -> list[int]:
        """COCO image id of every sample."""
        return [image.id for image in self._samples]

    def check(self) -> list[BadSample]:
        """Decode every sample once; the broken ones with reasons, for `skip`. Also finds what `notes` says on sizes."""
        bad = []
        for image in self._samples:
            try:
                self._note_size(image, read_rgb(self._path(image), image.size).size)
            except DataError as error:
                bad.append(BadSample(image.id, image.file_name, str(error)))
        return bad

    def bind(self, model: Model) -> None:
        inputs = model.loaded.inputs
        if len(inputs) != 1:
            names = ", ".join(f"{i.name} {list(i.shape)}" for i in inputs)
            raise DataError(
                f"detection feeds one image, the model has {len(inputs)} inputs ({names}): use a model with one"
            )
        preprocessor = Preprocessor(self._preprocess, inputs[0])
        size = (preprocessor.height, preprocessor.width)
        loaded = model.loaded
        counts = self._categories.class_counts()
        binding = Binding(
            self._head_config, loaded.outputs, loaded.op_types, *size, preprocessor.channels_first, counts
        )
        kind, head, notes = build_head(binding)
        self._categories.check_class_count(head.class_count)
        iou = suppression_iou(self._head_config, kind)
        doubt = UnitDoubt(preprocessor.width, preprocessor.height, unit_settings(kind))
        self._bound = _Bound(preprocessor, kind, head, iou, doubt, preprocessor.notes() + notes)
        self._dropped.clear()
        self._overshot = 0

    def inputs(self, sample: int) -> list[NDArray[Any]]:
        image = self._samples[sample]
        pixels = read_rgb(self._path(image), image.size)
        self._note_size(image, pixels.size)
        return [self._require_bound().preprocessor.stored(pixels)]

    def inputs_alike(self) -> Hashable:
        return self._require_bound().preprocessor.alike()

    def decode(self, sample: int, outputs: Sequence[NDArray[Any]]) -> list[Detection]:
        """Detections of the sample, best score first, boxes in pixels of the image, in the COCO results format."""
        return self._as_coco(self._samples[sample].id, self._found(sample, outputs))

    def _found(self, sample: int, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Best score first, boxes in pixels of the image; once for all tasks that differ in the names of classes."""
        if self._shared is not None and self._shared.outputs is outputs:
            return self._shared.found
        bound, config = self._require_bound(), self._head_config
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is dropped, counted and remarked on
            found = self._finite(bound.head.decode(outputs))
        found = found.take(found.scores > config.score_threshold)
        self._overshot += int(np.count_nonzero(found.scores > 1 + SCORE_TOLERANCE))
        bound.doubt.look(found.boxes)
        geometry = bound.preprocessor.geometry(*self._size(self._samples[sample]))
        found = self._on_image(found, geometry)
        kept = non_maximum_suppression(found.boxes, found.scores, found.classes, bound.nms_iou, config.max_detections)
        found = found.take(kept)
        if config.clip:  # not before: what a box overlaps is judged by all of it
            found = Detections(geometry.cut(found.boxes), found.scores, found.classes)
        if self._shared is not None:
            self._shared.outputs, self._shared.found = outputs, found
        return found

    def calibration(self, count: int) -> Iterator[list[NDArray[np.float32]]]:
        """See `Task.calibration`; spread evenly over the calibration images, or over the annotated images beyond
        `limit`.

        Files whose bytes equal a sample's are left out, broken ones replaced by others. Fewer than `count` are yielded
        (with a note) if there are no more; `DataError` if there is none.
        """
        preprocessor = self._require_bound().preprocessor
        self._calibration_notes.clear()
        if count < 1:
            return
        samples = Twins(self._path(image) for image in self._samples)
        made = 0
        for path in spread(self._calibration_files(), count):
            if made == count:
                break
            if samples.has(path):
                continue
            try:
                pixels = read_rgb(path, None)
            except DataError as error:
                self._calibration_notes.append(f"calibration skipped {error}")
                continue
            made += 1
            yield [preprocessor.real(pixels)]
        if made == 0:
            raise DataError(
                "no image is left for calibration that is not a sample: set calibration_images to a folder of other "
                "images, or lower limit"
            )
        if made < count:
            self._calibration_notes.append(
                f"calibration has {made} images, {count} were asked for: add images to its folder"
            )

    def score(self, predictions: Mapping[int, Any]) -> Scores | None:
        samples = sorted(predictions)
        ids = [self._samples[sample].id for sample in samples]
        detections: list[Detection] = []
        for sample, image_id in zip(samples, ids, strict=True):
            if any(found["image_id"] != image_id for found in predictions[sample]):
                raise DataError(
                    f"predictions of sample {sample} are of another image than {image_id}: {self._annotations.path} "
                    "or the limit changed since "
                    "they were made; restore it, or run again"
                )
            detections.extend(predictions[sample])
        return replace(self._scorer.score(self._annotations, detections, ids), samples=samples)

    # -- the settings, tried ------------------------------------------------------------------------------------------

    trial_score = trials.SCORE

    def alternatives(self) -> Sequence[Alternative]:
        bound = self._require_bound()
        self._shared = _Shared(None, Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)))
        now = Settings(
            input=bound.preprocessor.spec,
            preprocess=self._preprocess,
            raw=bound.preprocessor.raw,
            head=self._head_config,
            kind=bound.kind,
            nms_iou=bound.nms_iou,
            categories=self._categories,
            class_count=bound.head.class_count,
        )
        found = [
            Alternative(
                setting=one.setting,
                says=one.says,
                task=self._with(one.preprocess, one.head, one.categories),
                same_inputs=one.preprocess is None,
            )
            for one in changes(now)
        ]
        # Class indices instead of categories, for whoever finds out what the classes are called.
        indices = self._with(categories=CategoryConfig(rule="ids", offset=0))
        fit = trials.ClassNames(self._annotations, dict(enumerate(self.image_ids())), class_ids(now))
        says = "the classes have the names of the objects that they are found on"
        return [*found, Alternative(setting="", says=says, task=indices, same_inputs=True, fit=fit)]

    def trial_parts(self, predictions: Mapping[int, Any]) -> SampleParts:
        return trials.f1_parts(self._annotations, predictions, dict(enumerate(self.image_ids())))

    def _with(
        self,
        preprocess: PreprocessConfig | None = None,
        head: HeadConfig | None = None,
        categories: CategoryConfig | None = None,
    ) -> DetectionTask:
        """This task with other settings, not bound: the annotations are read once."""
        other = copy.copy(self)
        other._preprocess = preprocess or self._preprocess
        other._head_config = head or self._head_config
        if categories is not None:
            other._categories = CategoryMap(categories, self._annotations.categories)
        other._shared = self._shared if preprocess is None and head is None else None
        other._bound, other._dropped, other._overshot = None, Counter(), 0
        other._sizes, other._size_remarks, other._calibration_notes = dict(self._sizes), {}, []
        return other

    def notes(self) -> list[str]:
        remarks = [f"{len(who)} images {what} (e.g. {', '.join(who[:3])})" for what, who in self._size_remarks.items()]
        dropped = [f"{count} detections dropped: {why}" for why, count in self._dropped.items()]
        if self._overshot:
            remarks.append(
                f"{self._overshot} scores above 1: the output is quantized too coarsely for probabilities (look at its "
                "scale), or holds logits (then set head.score_activation)"
            )
        of = self._bound
        bound = [*of.notes, *of.head.seen(), *of.doubt.notes()] if of else []
        return self._data_notes + remarks + bound + dropped + self._calibration_notes

    def _require_bound(self) -> _Bound:
        if self._bound is None:
            raise DataError(
                "the detection task is bound to no variant: call bind before inputs, decode and calibration"
            )
        return self._bound

    def _path(self, image: CocoImage) -> Path:
        return image_file(self._folder, image, self._annotations.path)

    def _size(self, image: CocoImage) -> tuple[Size, Size]:
        if image.id not in self._sizes:
            self._note_size(image, read_size(self._path(image), image.size))
        return self._sizes[image.id]

    def _note_size(self, image: CocoImage, stored: Size) -> None:
        """Settle in which frame the boxes are: the annotated one for a resized copy, that of the file otherwise."""
        if image.id in self._sizes:
            return
        annotated = image.size or stored
        aspect = (stored[0] * annotated[1]) / (stored[1] * annotated[0])
        resized = abs(aspect - 1) < ASPECT_TOLERANCE
        self._sizes[image.id] = (stored, annotated if resized else stored)
        if stored == annotated:
            return
        label = f"{image.file_name}: {stored[0]}x{stored[1]}, annotated {annotated[0]}x{annotated[1]}"
        what = (
            "are resized copies of the annotated ones, boxes are scaled to match: use the original images"
            if resized
            else "differ in shape from the annotated ones, so boxes may not fit them: check that these are the "
            "annotated images"
        )
        self._size_remarks.setdefault(what, []).append(label)

    def _finite(self, found: Detections) -> Detections:
        finite = np.isfinite(found.scores) & np.isfinite(found.boxes).all(axis=1)
        if not finite.all():
            why = "score or box is not finite; look for overflow in the variant's layers"
            self._dropped[why] += int(np.count_nonzero(~finite))
        return found.take(finite)

    def _on_image(self, found: Detections, geometry: Geometry) -> Detections:
        """Boxes in pixels of the image, not cut; without those that would have no area."""
        boxes = geometry.to_image(found.boxes, clip=False)
        shown = geometry.cut(boxes) if self._head_config.clip else boxes
        mapped = Detections(boxes, found.scores, found.classes)
        return mapped.take((shown[:, 2] > shown[:, 0]) & (shown[:, 3] > shown[:, 1]))

    def _as_coco(self, image_id: int, found: Detections) -> list[Detection]:
        result: list[Detection] = []
        for box, score, index in zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True):
            category_id = self._categories.category_id(index)
            if category_id is None:
                self._dropped[
                    f"categories.rule {self._categories.config.rule!r} has no category for their class; set another "
                    "rule"
                ] += 1
                continue
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            result.append({"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score})
        return result

    def _calibration_files(self) -> list[Path]:
        folder, annotations = self._calibration_images, self._calibration_annotations
        if annotations is not None:
            listed = load_annotations(annotations)
            present, _ = existing_images(listed, folder or self._folder)
            return [image_file(folder or self._folder, image, listed.path) for image in present]
        if folder is None:
            return [self._path(image) for image in self._reserve]
        if not folder.is_dir():
            raise DataError(f"{folder}: is not a folder of calibration images: correct the path")
        found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
        return [refuse_outside(path, folder) for path in sorted(found)]

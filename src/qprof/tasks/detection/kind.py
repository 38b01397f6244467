"""Object detection, as a kind of task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from qprof.errors import ProfileError
from qprof.record.manifest import PreparedTask
from qprof.record.sections import FilePath, Positive, TaskSection
from qprof.store.cache import cache_root
from qprof.tasks import digests
from qprof.tasks.base import PartOfSet, Prepared, ScoreParts, TaskKind, WholeSet
from qprof.tasks.detection import heads
from qprof.tasks.detection.categories import CategoryConfig
from qprof.tasks.detection.heads import HeadConfig
from qprof.tasks.detection.scoring import METRICS
from qprof.tasks.detection.task import DetectionTask
from qprof.tasks.images.preprocess import PreprocessConfig

if TYPE_CHECKING:
    from qprof.store.run import Run
    from qprof.tasks.shown import ScoreCurve, ShownSample

#: Scenes of the data set that qprof renders, unless the profile sets `limit`.
DEFAULT_SCENES = 300


class DetectionSection(TaskSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """COCO `annotations` and an `images` folder, or `dataset = "shapes"`, scenes rendered by qprof. `calibration_*`:
    training data for static quantization, never the scored samples."""

    kind: Literal["detection"] = "detection"
    dataset: Literal["", "shapes"] = ""
    annotations: FilePath = ""
    images: FilePath = ""
    limit: Positive | None = None
    calibration_annotations: FilePath = ""
    calibration_images: FilePath = ""
    calibration_samples: Annotated[int, Meta(ge=0)] = 100
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    categories: CategoryConfig = field(default_factory=CategoryConfig)


class DetectionKind(TaskKind[DetectionSection]):
    """Detection on images with COCO annotations."""

    name = "detection"
    section = DetectionSection
    item = "image"
    whole_set_metrics = frozenset(METRICS)
    settings_tried = True
    hub_task = "object-detection"

    def check(self, section: DetectionSection) -> None:
        if not section.dataset and not (section.annotations and section.images):
            raise ProfileError('a detection task needs annotations and images, or dataset = "shapes"')
        if section.head.kind != "auto":
            refused = heads.get(section.head.kind).refused(section.head)
            if refused is not None:
                raise ProfileError(f"task.{refused}")

    def prepare(self, section: DetectionSection) -> Prepared:
        ready = _rendered(section) if section.dataset == "shapes" else section
        task = self.build(ready, ())
        bad = task.check()
        skip = [sample.image_id for sample in bad]
        task = self.build(ready, skip)
        notes = [*(f"left out: {sample.reason}" for sample in bad), *task.notes()]
        plain = msgspec.to_builtins(ready)
        return Prepared(PreparedTask(section=plain, skip=skip), task.sample_count(), _digest(plain, skip), notes)

    def build(self, section: DetectionSection, skip: Sequence[int]) -> DetectionTask:
        return DetectionTask(
            Path(section.annotations),
            Path(section.images),
            limit=section.limit,
            calibration_annotations=_path(section.calibration_annotations),
            calibration_images=_path(section.calibration_images),
            preprocess=section.preprocess,
            head=section.head,
            categories=section.categories,
            skip=list(skip),
        )

    def whole_set(self, run: Run, variant: str) -> WholeSet:
        from qprof.tasks.detection.recorded import recorded_detections

        return recorded_detections(run).of(variant)

    def part_of_set(self, run: Run, variant: str, keep: Callable[[int], bool]) -> PartOfSet:
        from qprof.tasks.detection.recorded import recorded_detections

        return recorded_detections(run).of_part(variant, keep)

    def shown(self, run: Run, variants: Sequence[str], count: int) -> Iterable[ShownSample]:
        from qprof.tasks.detection.shown import shown

        return shown(run, variants, count)

    def curves(self, run: Run, variants: Sequence[str]) -> Iterable[ScoreCurve]:
        from qprof.tasks.detection.shown import curves

        return curves(run, variants)

    def coco_results(self, run: Run, variant: str) -> list[dict[str, Any]]:
        from qprof.tasks.detection.recorded import recorded_results

        return recorded_results(run.folder, variant)

    def parts(self, run: Run, a: str, b: str) -> ScoreParts:
        from qprof.tasks.detection.changes import score_parts

        return score_parts(run, a, b)


def _digest(section: dict[str, Any], skip: Sequence[int]) -> str:
    parts = [section[key] for key in ("kind", "preprocess", "calibration_samples", "limit")]
    parts += [digests.of_file(section[key]) for key in ("annotations", "calibration_annotations")]
    parts += [digests.listing(section[key]) for key in ("images", "calibration_images")]
    return digests.of_parts([*parts, list(skip)])


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _rendered(section: DetectionSection) -> DetectionSection:
    from qprof.tasks.detection import scenes

    root = cache_root() / "scenes" / digests.of_source(scenes)
    count = section.limit or DEFAULT_SCENES
    filled: dict[str, Any] = {"limit": count}
    for split, wanted, prefix in (("val", count, ""), ("calibration", section.calibration_samples, "calibration_")):
        folder = root / f"{split}-{wanted}"
        annotations = folder / "annotations.json"
        if not annotations.exists():
            annotations = scenes.write_split(folder, split, wanted)
        filled |= {f"{prefix}annotations": str(annotations), f"{prefix}images": str(folder / "images")}
    return msgspec.structs.replace(section, **filled)


KIND = DetectionKind()

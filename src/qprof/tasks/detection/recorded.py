"""A detector's recorded predictions against the ground truth of its run, evaluated again without the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.manifest import PreparedTask
from qprof.stats import verdict
from qprof.stats.intervals import FEWEST_BLOCKS, resample_weights
from qprof.store.files import read_json
from qprof.store.run import Run
from qprof.store.writer import PREDICTIONS
from qprof.tasks import registry
from qprof.tasks.coco.analysis import DetectionBoxes, Overlaps, TruthBoxes, find_overlaps
from qprof.tasks.coco.evaluate import evaluate
from qprof.tasks.coco.inputs import Detections, GroundTruth, read_detections, read_ground_truth
from qprof.tasks.coco.intervals import MOST_UNDEFINED, Replicates, check_pair
from qprof.tasks.coco.result import CocoResult
from qprof.tasks.detection import DetectionTask

_RESAMPLES = 1000
_SEED = 0
#: AP that was recorded and AP of the same predictions today: a mean of the same numbers, so rounding is all there is.
_SAME_FIGURE = 1e-9


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One set of detections on the ground truth of a run."""

    result: CocoResult

    @cached_property
    def boxes(self) -> tuple[TruthBoxes, DetectionBoxes]:
        """What was evaluated."""
        return self.result.boxes()

    @cached_property
    def overlaps(self) -> Overlaps:
        """The overlapping pairs of `boxes`: most of the time of whatever looks at them."""
        return find_overlaps(*self.boxes)

    @cached_property
    def drawn(self) -> Replicates:
        """Figures of the resampled images, overall and by category; the same images for every set of detections."""
        return Replicates.of(self.result, _RESAMPLES, _SEED, 0.95, None, per_class=True)

    def figure(self, name: str, category: int | None = None) -> float | None:
        """A figure of the summary, of one category (index) or over all; `None` where it is undefined."""
        if category is None:
            return self.result.summary[name]
        return self.result.per_class()[category].figures[name]

    def to(self, other: Evaluated, metric: str, category: int | None = None) -> verdict.Effect | None:
        """That figure of `other` minus that of this, images resampled; `None` where either is undefined."""
        check_pair(self.result, other.result)
        first, second = self.figure(metric, category), other.figure(metric, category)
        if first is None or second is None:
            return None
        drawn = other.drawn.column(metric, category) - self.drawn.column(metric, category)
        return image_evidence(second - first, drawn, len(self.result.image_ids))


def image_weights(images: int) -> NDArray[np.int64]:
    """The resamples that `Evaluated.drawn` is made of: int64[resamples, images]."""
    return resample_weights(images, _RESAMPLES, _SEED)


def image_evidence(value: float, drawn: NDArray[np.float64], images: int) -> verdict.Effect:
    """A bootstrap over images as evidence; `drawn` float64[resamples], NaN where undefined.

    Shifted to the value and refused where too many are undefined, as `qprof.tasks.coco.intervals` explains.
    """
    there = drawn[~np.isnan(drawn)]
    if images < FEWEST_BLOCKS:
        return verdict.Unbounded(value, f"no interval from {images} images: at least {FEWEST_BLOCKS} are needed")
    if len(there) < (1 - MOST_UNDEFINED) * len(drawn):
        return verdict.Unbounded(
            value, f"undefined in {len(drawn) - len(there)} of {len(drawn)} resamples of the images"
        )
    return verdict.Replicates(value, there - (there.mean() - value), images, "expanded")


class RecordedDetections:
    """The variants of a run, each evaluated when it is first asked for.

    Everything here raises `DataError` where the run is not of a detector, its ground truth or images are gone or have
    changed, or a variant's predictions cannot be read.
    """

    def __init__(self, folder: Path, task: PreparedTask | None, recorded: Mapping[str, float | None]) -> None:
        """`recorded`: variant -> AP as the run recorded it."""
        self._folder, self._prepared, self._recorded = folder, task, recorded
        self._evaluated: dict[str, Evaluated] = {}

    @cached_property
    def _truth(self) -> tuple[GroundTruth, list[int]]:
        if self._prepared is None:
            raise DataError(f"{self._folder}: its task is not recorded, not detection")
        task = registry.build(self._prepared)
        if not isinstance(task, DetectionTask):
            raise DataError(f"{self._folder}: its task is {self._prepared.kind}, not detection")
        return read_ground_truth(self.annotations), task.image_ids()

    @property
    def annotations(self) -> Path:
        """The file of the ground truth."""
        return Path(self._prepared.section["annotations"] if self._prepared else "")

    def of(self, variant: str) -> Evaluated:
        """What a variant predicted."""
        if variant not in self._evaluated:
            path = self._folder / PREDICTIONS / f"{variant}.json"
            if not path.exists():
                raise DataError(f"{path}: there are no predictions of {variant}; run again with protocol.scored on")
            found = self.evaluated(read_detections(path))
            known, today = self._recorded.get(variant), found.figure("AP")
            if known is not None and (today is None or abs(today - known) > _SAME_FIGURE):
                raise DataError(
                    f"{self.annotations}: its predictions by {variant} have AP {today} today and had "
                    f"{known} when they were recorded: the annotations have changed; restore them, or run again"
                )
            self._evaluated[variant] = found
        return self._evaluated[variant]

    def of_part(self, variant: str, keep: Callable[[int], bool]) -> Evaluated:
        """What a variant predicted on the images whose number among the samples `keep` takes."""
        self.of(variant)  # refuses what does not fit the run
        truth, image_ids = self._truth
        kept = [image_id for number, image_id in enumerate(image_ids) if keep(number)]
        if not kept:
            raise DataError(f"{self._folder}: no image is left of {len(image_ids)}; raise task.limit")
        detections = read_detections(self._folder / PREDICTIONS / f"{variant}.json")
        return Evaluated(evaluate(truth, detections, image_ids=kept))

    def evaluated(self, detections: Detections) -> Evaluated:
        """Other detections of the same images, by COCO's rules."""
        truth, image_ids = self._truth
        return Evaluated(evaluate(truth, detections, image_ids=image_ids))


def recorded_results(folder: Path, variant: str) -> list[dict[str, Any]]:
    """What a variant of a run found, as COCO results. Raises `DataError` where that was not recorded or
    is damaged."""
    path = folder / PREDICTIONS / f"{variant}.json"
    if not path.exists():
        raise DataError(f"{path}: there are no predictions of {variant}; run again with protocol.scored on")
    read_detections(path)  # which says what is wrong with them
    found: list[dict[str, Any]] = read_json(path)
    return found


#: Several causes, the verdicts and the report ask for the same evaluations; they live as long as the run object does.
_OPENED: WeakKeyDictionary[Run, RecordedDetections] = WeakKeyDictionary()


def recorded_detections(run: Run) -> RecordedDetections:
    """The evaluations of a run, the same object for the same `Run`."""
    if run not in _OPENED:
        recorded = {entry.name: run.score(entry.name, "AP") for entry in run.variants}
        _OPENED[run] = RecordedDetections(run.folder, run.manifest.task, recorded)
    return _OPENED[run]

"""A task in one file: which of some directions a vector points in. It shows what a task must have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.manifest import PreparedTask
from qprof.record.model import Model
from qprof.record.sections import Positive, TaskSection
from qprof.tasks.base import Prepared, Scores, Task, TaskKind


class DirectionsSection(TaskSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`samples` vectors, which point in one of `directions` up to some noise."""

    kind: Literal["directions"] = "directions"
    samples: Positive = 100
    directions: Annotated[int, Meta(ge=2)] = 8
    calibration_samples: Annotated[int, Meta(ge=0)] = 10


class DirectionsTask(Task):
    """Vectors of the width that the bound model takes."""

    name = "directions"

    def __init__(self, samples: int, directions: int) -> None:
        rng = np.random.default_rng(5)
        self._truth = rng.integers(0, directions, samples)
        self._noise = rng.normal(0.0, 0.35, (samples, directions)).astype(np.float32)
        self._directions = directions

    def sample_count(self) -> int:
        return len(self._truth)

    def bind(self, model: Model) -> None:
        if model.loaded.inputs[0].shape != (1, self._directions):
            raise DataError(f"{self._directions} directions for an input of {list(model.loaded.inputs[0].shape)}")

    def inputs(self, sample: int) -> list[NDArray[Any]]:
        return [(np.eye(self._directions, dtype=np.float32)[self._truth[sample]] + self._noise[sample])[None]]

    def decode(self, sample: int, outputs: Sequence[NDArray[Any]]) -> int:
        return int(np.argmax(outputs[0]))

    def calibration(self, count: int) -> Iterator[list[NDArray[Any]]]:
        yield from ([np.zeros((1, self._directions), np.float32)] for _ in range(count))

    def score(self, predictions: Mapping[int, Any]) -> Scores:
        samples = sorted(predictions)
        right = np.array([float(predictions[n] == self._truth[n]) for n in samples])
        return Scores({"accuracy": float(right.mean())}, {"correct": right}, samples, columns=["accuracy"])


class DirectionsKind(TaskKind[DirectionsSection]):
    """Directions of vectors."""

    name = "directions"
    section = DirectionsSection
    item = "vector"

    def prepare(self, section: DirectionsSection) -> Prepared:
        return Prepared(PreparedTask(section=msgspec.to_builtins(section)), section.samples, "directions", [])

    def build(self, section: DirectionsSection, skip: Sequence[int]) -> DirectionsTask:
        return DirectionsTask(section.samples, section.directions)


KIND = DirectionsKind()

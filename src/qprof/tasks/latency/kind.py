"""Latency alone, as a kind of task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from qprof.record.manifest import PreparedTask
from qprof.record.sections import FilePath, Positive, TaskSection
from qprof.tasks import digests
from qprof.tasks.base import Prepared, TaskKind
from qprof.tasks.latency.task import LatencyTask


class LatencySection(TaskSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Random inputs, `samples` of them, or `inputs` (.npy / .npz files)."""

    kind: Literal["latency"] = "latency"
    inputs: list[FilePath] = field(default_factory=list)
    samples: Positive = 8
    calibration_samples: Annotated[int, Meta(ge=0)] = 100


class LatencyKind(TaskKind[LatencySection]):
    """Samples for timing alone."""

    name = "latency"
    section = LatencySection

    def prepare(self, section: LatencySection) -> Prepared:
        task = self.build(section, ())
        calibrating = [section.kind, section.calibration_samples, section.samples]
        digest = digests.of_parts([*calibrating, [digests.of_file(name) for name in section.inputs]])
        ready = PreparedTask(section=msgspec.to_builtins(section))
        return Prepared(ready, task.sample_count(), digest, task.notes())

    def build(self, section: LatencySection, skip: Sequence[int]) -> LatencyTask:
        return LatencyTask([Path(name) for name in section.inputs] or None, samples=section.samples)

    def with_samples(self, section: LatencySection, count: int) -> LatencySection:
        return msgspec.structs.replace(section, samples=max(section.samples, count))


KIND = LatencyKind()

"""Making ready inside the worker that makes everything: a task's data once, then one variant after the other, so that
one's failure is its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.measure.models import model_path
from qprof.measure.requests import MadeAnswer, MakeVariant, PreparedAnswer, PrepareTask
from qprof.measure.worker.loading import content_sha256
from qprof.record.stored import StoredFiles
from qprof.record.tensors import TensorSpec
from qprof.runtimes import registry
from qprof.runtimes.base import Calibration, Runtime, VariantMaker
from qprof.tasks import registry as tasks

_makers: dict[str, VariantMaker] = {}


def prepare_task(request: PrepareTask) -> PreparedAnswer:
    """Make a task's data ready, once, before any other worker starts. Raises `DataError`."""
    kind = tasks.get(str(request.section["kind"]))
    section = msgspec.convert(request.section, kind.section)  # as the parent validated it
    section, said = kind.settled(section, [_inputs_of(file) for file in request.files])
    ready = kind.prepare(section)
    notes = [*said, *ready.notes]
    return PreparedAnswer(
        task=ready.task, samples=ready.samples, calibration_digest=ready.calibration_digest, notes=notes
    )


def _inputs_of(file: str) -> list[TensorSpec]:
    """The inputs of a ready-made file; none where it cannot be read, which its variant then says."""
    runtime = registry.accepting(Path(file)) if file else None
    if runtime is None:
        return []
    try:
        return runtime.inputs_of(Path(file))
    except ModelError:
        return []


def make_variant(request: MakeVariant) -> MadeAnswer:
    """Make the variant that the request describes, or take it from the cache.

    Raises `QprofError` where it cannot be made.
    """
    path = str(model_path(request.model["path"]))
    keys = dict(request.section)
    if keys.get("file"):
        keys["file"] = str(model_path(keys["file"]))
    runtime = registry.for_model(Path(keys.get("file") or path))
    # The model's own keys are those of the runtime that takes it, which a ready-made file's may not be.
    own = {key: value for key, value in request.model.items() if key in runtime.model_section.__struct_fields__}
    model = msgspec.convert({**own, "path": path}, runtime.model_section)
    maker = _makers.setdefault(runtime.name, runtime.maker(model, request.device))

    def samples() -> Iterator[Sequence[NDArray[Any]]]:
        task = tasks.build(request.task)
        task.bind(maker.float_model())
        return task.calibration(int(request.task.section["calibration_samples"]))

    section = msgspec.convert(keys, runtime.variant_section(keys))
    made = maker.make(section, Calibration(samples, request.calibration_digest))
    return MadeAnswer(
        runtime=runtime.name,
        path=str(made.path),
        sha256=made.sha256,
        bytes=made.bytes,
        method=made.method,
        tool=made.tool,
        tool_version=made.tool_version,
        make_seconds=made.make_seconds,
        calibrated=runtime.calibrates(section),
        run=dict(made.run),
        facts=dict(made.facts),
        notes=list(made.notes),
        stored=_stored(runtime, made.path),
        content_sha256=content_sha256(runtime, made.path),
    )


def _stored(runtime: Runtime, path: Path) -> StoredFiles | None:
    """A variant whose parts cannot be told is none the worse for it: loading it says what is wrong."""
    try:
        return runtime.stored(path)
    except (ModelError, OSError) as error:
        return StoredFiles(reason=f"{path.name}: its parts cannot be told: {error}")

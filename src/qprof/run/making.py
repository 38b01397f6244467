"""Making a variant inside the worker that makes them all: one after the other, so that one's failure is its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from qprof.run.profile import model_path
from qprof.run.workload import bind_task, build_task
from qprof.runtimes import registry
from qprof.runtimes.base import Calibration, VariantMaker

_makers: dict[str, VariantMaker] = {}


def make_variant(request: Mapping[str, Any]) -> dict[str, Any]:
    """Make the variant that the request describes, or take it from the cache.

    `request`: "model" (the profile's section), "variant" (its section), "task" (prepared), "calibration_digest".
    Raises `QprofError` where it cannot be made.
    """
    variant = request["variant"]
    model = {**request["model"], "path": str(model_path(request["model"]["path"]))}
    if variant["file"]:
        variant = {**variant, "file": str(model_path(variant["file"]))}
    runtime = registry.for_model(Path(variant["file"] or model["path"]))
    maker = _makers.setdefault(runtime.name, runtime.maker(model))

    def samples() -> Iterator[Sequence[NDArray[Any]]]:
        task = build_task(request["task"])
        bind_task(task, maker.float_model())
        return task.calibration(int(request["task"]["calibration_samples"]))

    made = maker.make(variant, Calibration(samples, request["calibration_digest"]))
    return {
        "runtime": made.runtime or runtime.name,
        "path": str(made.path),
        "sha256": made.sha256,
        "bytes": made.bytes,
        "notes": list(made.notes),
        "making": dict(made.facts),
    }

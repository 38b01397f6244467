"""How far each layer of a variant is from its baseline's, measured inside a worker that holds both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.run.workload import bind_task, build_task
from qprof.runtimes import registry
from qprof.runtimes.base import Model, RunOptions
from qprof.stats.quantization_error import ErrorFigures, QuantizationError

#: Samples that are compared unless the request says otherwise.
DEFAULT_SAMPLES = 8


def measure_layer_errors(request: Mapping[str, Any]) -> dict[str, Any]:
    """Compare every op of a variant with the baseline's over some samples of a task.

    `request`: "variant" (its name), "runtime", "path" and "options" of it (as in the request "load"), "baseline" (the
    same three of the baseline), "task" (prepared); "pairs": [op of the baseline, op of the variant], as aligned by
    whoever asks, for runtimes whose ops are not told by their names (LiteRT); "samples": how many, spread over the
    task's samples, `DEFAULT_SAMPLES` where it is left out. Returns "rows" (`store.tables.LAYER_ERROR_COLUMNS`),
    "samples" (their numbers), "seconds" and "notes". Raises `QprofError` where the two cannot be compared.
    """
    started_ns = perf_counter_ns()
    baseline, variant = (_load(side) for side in (request["baseline"], request))
    wanted = int(request.get("samples", DEFAULT_SAMPLES))
    # Of samples that are made, as many are made as are wanted.
    task = build_task({**request["task"], "samples": max(int(request["task"]["samples"]), wanted)})
    bind_task(task, baseline)
    samples = _spread(task.sample_count(), wanted)
    collected: dict[tuple[str, str], QuantizationError] = {}

    def record(kind: str, op: str, reference: NDArray[Any], value: NDArray[Any], saturated: int | None) -> None:
        collected.setdefault((kind, op), QuantizationError()).add(reference, value, saturated)

    comparison = _comparison(request, baseline, variant)
    comparison.weights(record)
    for sample in samples:
        comparison.sample(task.inputs(sample), record)
    rows = [
        {"variant": request["variant"], **op, **_figures(op["op"], collected), "samples": len(samples)}
        for op in comparison.ops
    ]
    return {
        "rows": [row for row in rows if row["count"] is not None],
        "samples": samples,
        "seconds": (perf_counter_ns() - started_ns) / 1e9,
        "notes": list(comparison.notes),
    }


def _load(side: Mapping[str, Any]) -> Model:
    return registry.get(side["runtime"]).load(Path(side["path"]), RunOptions(**side["options"]))


def _spread(count: int, wanted: int) -> list[int]:
    """Numbers of `wanted` samples of `count`, evenly spaced; all where there are fewer."""
    if wanted < 1:
        raise DataError(f"layers are compared over {wanted} samples; give at least 1")
    return sorted({int(number) for number in np.linspace(0, count - 1, min(wanted, count)).round()})


def _comparison(request: Mapping[str, Any], baseline: Model, variant: Model) -> Any:
    if request["runtime"] == "litert":
        from qprof.runtimes.litert.tensor_errors import TensorErrors

        options = [RunOptions(**side["options"]) for side in (request["baseline"], request)]
        return TensorErrors(baseline, variant, request["pairs"], *options)  # type: ignore[arg-type]
    from qprof.runtimes.gptq.layer_errors import LayerErrors

    return LayerErrors(baseline, variant)  # type: ignore[arg-type]


def _figures(op: str, collected: Mapping[tuple[str, str], QuantizationError]) -> dict[str, Any]:
    kinds = ("cumulative", "own", "weights", "bias")
    whole, own, weights, bias = (_of(collected.get((kind, op))) for kind in kinds)
    in_use = ("sqnr_db", "identical", "cosine", "max_error", "max_error_of_range")
    figures = {name: getattr(whole, name, None) for name in (*in_use, "saturated_share", "nonfinite", "count")}
    for name in ("sqnr_db", "identical", "cosine", "max_error_of_range", "saturated_share"):
        figures[f"own_{name}"] = getattr(own, name, None)
    for name in ("sqnr_db", "identical"):
        figures[f"weight_{name}"] = getattr(weights, name, None)
        figures[f"bias_{name}"] = getattr(bias, name, None)
    return figures


def _of(error: QuantizationError | None) -> ErrorFigures | None:
    return None if error is None else error.figures()

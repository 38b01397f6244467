"""How far each layer of a variant is from its baseline's, measured inside a worker that holds both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.measure.channel import json_safe
from qprof.measure.requests import ComparedAnswer, CompareLayers
from qprof.measure.worker.loading import load
from qprof.measure.worker.shared_inputs import SharedInputs
from qprof.record.rows import LayerErrorRow
from qprof.runtimes import registry
from qprof.stats.quantization_error import ErrorFigures, QuantizationError
from qprof.tasks import registry as tasks


def measure_layer_errors(request: CompareLayers) -> ComparedAnswer:
    """Compare every op of a variant with the baseline's over some samples of a task.

    Raises `QprofError` where the two cannot be compared.
    """
    started_ns = perf_counter_ns()
    baseline, variant = load(request.baseline), load(request.variant)
    task = tasks.build(request.task, at_least=request.samples)
    task.bind(baseline.model)
    inputs_of = task.inputs
    if task.random_inputs:  # those on which the outputs are compared, too
        shared = SharedInputs(request.task, request.samples, baseline.model, variant.model)

        def inputs_of(sample: int) -> list[NDArray[Any]]:
            return shared.both(sample)[0]

    samples = spread(task.sample_count(), request.samples)
    collected: dict[tuple[str, str], QuantizationError] = {}

    def record(kind: str, op: str, reference: NDArray[Any], value: NDArray[Any], saturated: int | None) -> None:
        collected.setdefault((kind, op), QuantizationError()).add(reference, value, saturated)

    comparison = registry.get(request.variant.runtime).compare_layers(baseline, variant, request.pairs)
    comparison.weights(record)
    for sample in samples:
        comparison.sample(inputs_of(sample), record)
    rows = [
        LayerErrorRow(variant=request.name, **op, **_figures(str(op["op"]), collected), samples=len(samples))  # type: ignore[arg-type]
        for op in comparison.ops
    ]
    return ComparedAnswer(
        rows=[json_safe(asdict(row)) for row in rows if row.count is not None],
        samples=samples,
        seconds=(perf_counter_ns() - started_ns) / 1e9,
        notes=list(comparison.notes),
    )


def spread(count: int, wanted: int) -> list[int]:
    """Numbers of `wanted` samples of `count`, evenly spaced; all where there are fewer."""
    if wanted < 1:
        raise DataError(f"{wanted} samples are to be looked at; give at least 1")
    return sorted({int(number) for number in np.linspace(0, count - 1, min(wanted, count)).round()})


def _figures(op: str, collected: Mapping[tuple[str, str], QuantizationError]) -> dict[str, Any]:
    kinds = ("cumulative", "own", "weights", "bias")
    whole, own, weights, bias = (_of(collected.get((kind, op))) for kind in kinds)
    in_use = ("sqnr_db", "identical", "cosine", "max_error", "max_error_of_range")
    figures = {name: getattr(whole, name, None) for name in (*in_use, "saturated_share", "nonfinite")}
    figures["count"] = getattr(whole or own, "count", None)  # a layer may be comparable on the same inputs alone
    for name in ("sqnr_db", "identical", "cosine", "max_error_of_range", "saturated_share"):
        figures[f"own_{name}"] = getattr(own, name, None)
    for name in ("sqnr_db", "identical"):
        figures[f"weight_{name}"] = getattr(weights, name, None)
        figures[f"bias_{name}"] = getattr(bias, name, None)
    figures["weight_offset_share"] = getattr(weights, "offset_share", None)
    return figures


def _of(error: QuantizationError | None) -> ErrorFigures | None:
    return None if error is None else error.figures()

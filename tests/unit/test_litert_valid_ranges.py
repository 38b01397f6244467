"""What a graph shows of the integers that its inputs may hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

models = pytest.importorskip("input_models", reason="models are built with ai_edge_litert's schema")

from qprof.runtimes.litert.interpreter import LiteRTModel  # noqa: E402
from qprof.tasks.latency import LatencyTask  # noqa: E402

CASES = [
    (models.token_types_net, {"input_ids": (0, 399), "token_type_ids": (0, 1)}),
    (models.one_based_net, {"ids": (1, 16)}),
    (models.wrapped_net, {"ids": (0, 9)}),
    (models.divided_net, {"length": (1, None)}),
    (models.resized_net, {"size": (1, None), "image": None}),
    (models.open_sequence_net, {"a": None}),
]


@pytest.mark.parametrize(("make", "expected"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_range_follows_from_what_the_graph_does(make: object, expected: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(make())  # type: ignore[operator]
    inputs = LiteRTModel(path).loaded.inputs
    assert {spec.argument or spec.name: spec.valid_range for spec in inputs} == expected


@pytest.mark.parametrize(("make", "expected"), CASES[:5], ids=lambda value: getattr(value, "__name__", ""))
def test_random_inputs_run(make: object, expected: dict[str, object], tmp_path: Path) -> None:
    """Against the interpreter itself: what it is given lies within, reaches both ends, and is taken."""
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "m.tflite"
    path.write_bytes(make())  # type: ignore[operator]
    model = LiteRTModel(path)
    task = LatencyTask(samples=200)
    task.bind(model)
    plain = Interpreter(str(path))
    plain.allocate_tensors()
    seen: dict[int, set[int]] = {}
    for sample in range(200):
        arrays = task.inputs(sample)
        for position, (detail, array) in enumerate(zip(plain.get_input_details(), arrays, strict=True)):
            plain.set_tensor(detail["index"], array)
            if array.dtype.kind == "i":
                seen.setdefault(position, set()).update(np.unique(array).tolist())
        plain.invoke()  # raises for a row beyond a table
    for position, spec in enumerate(model.loaded.inputs):
        if spec.valid_range is not None:
            low, high = spec.valid_range
            assert min(seen[position]) == low
            assert max(seen[position]) == (high if high is not None else 8)

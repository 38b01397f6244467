"""Which ops of a model hand tensors to one another, quantized or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qprof.errors import ModelError
from qprof.runtimes.litert import quantize
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.neighbours import neighbours

pytest.importorskip("ai_edge_quantizer")
builder = pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")


def residual() -> bytes:
    """image -> stem -> branch -> sum with the stem's output -> head."""
    graph = builder.Graph()
    image = graph.input("image", (1, 8, 8, 4))

    def conv(name: str, source: int) -> int:
        kernel = np.random.default_rng(len(name)).normal(0, 0.3, (4, 3, 3, 4)).astype(np.float32)
        return int(graph.conv_2d(name, source, graph.constant(f"{name}/k", kernel)))

    stem = conv("stem", image)
    graph.outputs = [conv("head", graph.add("sum", stem, conv("branch", stem)))]
    return bytes(builder.build_model([graph]))


def by_name(path: Path) -> dict[str, set[str]]:
    names = {str(op.index): op.name for op in read_model(path).subgraphs[0].ops}
    return {names[op]: {names[other] for other in beside} for op, beside in neighbours(path).items()}


def test_writers_and_readers_of_every_op(tmp_path: Path) -> None:
    path = tmp_path / "float.tflite"
    path.write_bytes(residual())
    found = by_name(path)
    assert found == {
        "stem": {"branch", "sum"},
        "branch": {"stem", "sum"},
        "sum": {"stem", "branch", "head"},
        "head": {"sum"},
    }
    samples = [[np.random.default_rng(n).normal(0, 1, (1, 8, 8, 4)).astype(np.float32)] for n in range(4)]
    mixed = tmp_path / "mixed.tflite"
    quantize.make("int8", path, mixed, calibration=samples, io="float", skip_layers=["branch"])
    inserted = {name: beside for name, beside in by_name(mixed).items() if name not in found}
    assert {name: by_name(mixed)[name] for name in found} == found
    assert inserted.pop("image_quantized") == {"stem"}
    assert inserted and all(beside < set(found) for beside in inserted.values())


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        neighbours(tmp_path / "gone.tflite")

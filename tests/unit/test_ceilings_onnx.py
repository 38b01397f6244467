"""ONNX Runtime's ceilings: the models they are measured with, and that all of them come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from qprof.errors import ModelError
from qprof.runtimes import ceilings as shared
from qprof.runtimes import registry
from qprof.runtimes.ceilings import Level
from qprof.runtimes.onnx import ceilings, model_file
from qprof.runtimes.onnx.facts import run_facts
from qprof.runtimes.onnx.profiled import ProfiledOnnxModel
from qprof.runtimes.onnx.sections import OnnxOptions

MIB = 1 << 20


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "PASS_S", 0.001)
    monkeypatch.setattr(shared, "PATIENCE_S", 0.0)
    monkeypatch.setattr(ceilings, "_SIDES", (32, 64, 48))
    monkeypatch.setattr(ceilings, "_DEPTHWISE", (16, 6, 3))
    monkeypatch.setattr(ceilings, "_LARGEST_WEIGHTS", MIB)
    monkeypatch.setattr(
        ceilings, "levels", lambda sizes: [Level("L2", MIB // 4, MIB // 2), Level("memory", MIB, None, "small")]
    )


def test_ceilings_of_this_processor() -> None:
    found = registry.get("onnx").ceilings
    assert found is not None
    measured = found.measure(OnnxOptions(threads=1, quantization={"x": (1.0, 0)}, batch=3, input_shapes={"a": [1]}))
    assert {(c.kind, c.name, c.dtype): c.unit for c in measured} == {
        ("compute", "matmul", "float32"): "GMAC/s",
        ("compute", "matmul", "int8"): "GMAC/s",
        ("compute", "depthwise", "float32"): "GMAC/s",
        ("compute", "depthwise", "int8"): "GMAC/s",
        ("memory", "L2", "float32"): "GB/s",
        ("memory", "memory", "float32"): "GB/s",
        ("memory", "weights", "float32"): "GB/s",
        ("memory", "weights", "int8"): "GB/s",
        ("dispatch", "kernel", "float32"): "us",
    }
    for one in measured:
        assert (one.value is not None and one.value > 0) or one.reason is not None
        assert "1 thread, provider cpu" in one.how and not one.overlaps
    capacities = {one.name: (one.up_to_bytes, one.note) for one in measured if one.kind == "memory"}
    assert capacities["L2"] == (MIB // 2, None) and capacities["memory"] == (None, "small")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_product_is_the_one_it_says(tmp_path: Path, dtype: str) -> None:
    builder = ceilings._Builder(tmp_path, OnnxOptions())
    op, given, weights = ceilings._FORMATS[dtype]
    matrix = builder._values((8, 5), weights)
    model = builder._product(op, (3, 8), given, matrix)
    rows = builder._values((3, 8), given)
    model.set_inputs([rows])
    model.invoke()
    wide = np.float64 if dtype == "float32" else np.int64
    assert model.outputs()[0] == pytest.approx(rows.astype(wide) @ matrix.astype(wide), rel=1e-5)
    assert np.unique(matrix).size > 5


@pytest.mark.parametrize(("dtype", "kernels"), [("float32", "Conv (NCHWc"), ("int8", "QLinearConv (NHWC")])
def test_each_channel_has_a_filter_of_its_own(tmp_path: Path, dtype: str, kernels: str) -> None:
    """By the kernels that variants run, and as many products as the ceiling counts."""
    path = tmp_path / "model.onnx"
    ceilings._Builder(tmp_path, OnnxOptions())._depthwise(dtype)
    profiled = ProfiledOnnxModel(path, OnnxOptions(**run_facts(model_file.read(path))))
    profiled.set_inputs([np.ones(spec.shape, spec.dtype) for spec in profiled.loaded.inputs])
    convolutions = [op for op in profiled.discover() if op.type == "Conv"]
    assert len(convolutions) == 8
    assert {op.kernel for op in convolutions} == {f"{kernels}, depthwise)"}
    assert sum(op.macs or 0 for op in convolutions) == 8 * 16 * 6 * 6 * 9


def test_a_chain_has_a_node_for_each_link(tmp_path: Path) -> None:
    model = ceilings._Builder(tmp_path, OnnxOptions())._adds(4, 7)
    x, z = np.arange(4, dtype=np.float32), np.full(4, 0.5, np.float32)
    model.set_inputs([x, z])
    model.invoke()
    assert model.outputs()[0].tolist() == [3.5, 4.5, 5.5, 6.5]


def test_the_number_of_macs_and_bytes_is_that_of_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, float]] = []

    def throughput(ceiling: ceilings.Ceiling, work: float, call: object) -> shared.Bench:
        seen.append((ceiling.name, ceiling.dtype, work))
        return shared.Bench(ceiling, lambda: 1.0)

    monkeypatch.setattr(ceilings, "throughput", throughput)
    builder = ceilings._Builder(tmp_path, OnnxOptions())
    levels = [Level("memory", MIB, None)]
    assert len([*builder.compute(), *builder.bandwidth(levels), *builder.weights(levels)]) == len(seen)
    assert seen == [
        ("matmul", "float32", 32 * 64 * 48),
        ("matmul", "int8", 32 * 64 * 48),
        ("depthwise", "float32", 8 * 16 * 6 * 6 * 9),
        ("depthwise", "int8", 8 * 16 * 6 * 6 * 9),
        ("memory", "float32", MIB // 12 * 12),
        ("weights", "float32", MIB),
        ("weights", "int8", MIB),
    ]


def test_a_provider_that_is_not_there_has_none() -> None:
    with pytest.raises(ModelError, match="no OpenVINOExecutionProvider"):
        ceilings.measure_all(OnnxOptions(provider="openvino"))

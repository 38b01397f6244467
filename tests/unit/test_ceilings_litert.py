"""LiteRT's ceilings: the models they are measured with, and that all of them come out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qprof.runtimes import ceilings as shared
from qprof.runtimes.ceilings import Level
from qprof.runtimes.litert import ceilings
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.model_facts import describe_quantization
from qprof.runtimes.litert.sections import LiteRTOptions
from qprof.runtimes.litert.tiny_models import Format, add_chain, random_values, weighted_op

MIB = 1 << 20
HYBRID = "int8 weights, float32 activations"


@pytest.mark.parametrize(
    "format, quantization",
    [
        ("float32", None),
        ("int8", "int8 weights per-channel, int8 activations"),
        ("dynamic", "int8 weights per-channel, float32 activations"),
    ],
)
@pytest.mark.parametrize("name", ceilings._COMPUTE)
def test_models_are_what_they_say(tmp_path: Path, name: str, format: Format, quantization: str | None) -> None:
    op, input_shape, weights_shape = ceilings._COMPUTE[name]
    path = tmp_path / "model.tflite"
    path.write_bytes(weighted_op(op, input_shape, weights_shape, format))
    main = read_model(path).subgraphs[0]
    (found,) = main.ops
    assert found.type == op
    assert found.macs == int(np.prod(input_shape[:-1])) * int(np.prod(weights_shape))
    assert describe_quantization(found, main) == quantization
    for delegate in ("xnnpack", "none"):
        model = LiteRTModel(path, delegate=delegate)
        spec = model.loaded.inputs[0]
        model.set_inputs([random_values(int(np.prod(spec.shape)), spec.dtype).reshape(spec.shape)])
        model.invoke()
        assert np.any(model.outputs()[0] != 0)


@pytest.mark.parametrize(
    "name, format, kernel",
    [
        ("CONV_2D 1x1", "int8", "QS8"),
        ("CONV_2D 1x1", "dynamic", "QD"),
        ("CONV_2D", "int8", "QC8"),
        ("FULLY_CONNECTED", "int8", "QS8"),
        ("FULLY_CONNECTED", "dynamic", "QD"),
        ("DEPTHWISE_CONV_2D", "int8", "QC8"),
        # XNNPACK has no such kernel: the ceiling is that of what LiteRT runs instead.
        ("DEPTHWISE_CONV_2D", "dynamic", "builtin hybrid"),
    ],
)
def test_integer_models_run_in_integer_kernels(tmp_path: Path, name: str, format: Format, kernel: str) -> None:
    profiled = pytest.importorskip("qprof.runtimes.litert.profiled", exc_type=ImportError)
    op, input_shape, weights_shape = ceilings._COMPUTE[name]
    path = tmp_path / "model.tflite"
    path.write_bytes(weighted_op(op, input_shape, weights_shape, format))
    model = profiled.ProfiledModel(path, threads=1, delegate="xnnpack", input_shapes={})
    assert any(kernel in (found.kernel or "") for found in model.discover())


def test_float_product_is_right(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(weighted_op("FULLY_CONNECTED", (1, 8), (3, 8), "float32"))
    model = LiteRTModel(path)
    model.set_inputs([np.ones((1, 8), np.float32)])
    model.invoke()
    weights = np.random.default_rng(0).integers(-100, 100, 24, np.int8).reshape(3, 8).astype(np.float32) / 100
    np.testing.assert_allclose(model.outputs()[0][0], weights.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_every_link_of_a_chain_adds(tmp_path: Path, delegate: str) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(add_chain(4, 9))
    assert len(read_model(path).subgraphs[0].ops) == 9
    model = LiteRTModel(path, delegate=delegate)
    model.set_inputs([np.full(4, 2, np.float32), np.full(4, 0.5, np.float32)])
    model.invoke()
    assert model.outputs()[0].tolist() == [6.5] * 4


def test_inputs_are_no_zeros(tmp_path: Path) -> None:
    model = ceilings._Builder(tmp_path, LiteRTOptions())._load(add_chain(4096))
    for detail in model.interpreter.get_input_details():
        values = model.interpreter.get_tensor(detail["index"])
        assert np.count_nonzero(values) > 4000 and len(np.unique(values)) > 100


def test_products_are_counted_as_the_file_has_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    builder = ceilings._Builder(tmp_path, LiteRTOptions())
    counted: list[float] = []
    monkeypatch.setattr(ceilings, "throughput", lambda ceiling, macs, call: counted.append(macs))
    for _ in builder.compute():
        (found,) = read_model(tmp_path / "model.tflite").subgraphs[0].ops
        assert counted[-1] == found.macs
    assert len(counted) == 12
    for _ in builder.weights([]):
        (found,) = read_model(tmp_path / "model.tflite").subgraphs[0].ops
        assert counted[-1] == pytest.approx(found.weight_bytes, rel=0.01)  # all but the bias and the scales
    assert len(counted) == 14


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_all_ceilings_come_out(monkeypatch: pytest.MonkeyPatch, delegate: str) -> None:
    monkeypatch.setattr(shared, "PASS_S", 0.001)
    monkeypatch.setattr(shared, "PATIENCE_S", 0.0)
    monkeypatch.setattr(
        ceilings, "levels", lambda sizes: [Level("L2", MIB // 4, MIB // 2), Level("memory", 3 * MIB, None, "small")]
    )
    found = ceilings.measure_all(LiteRTOptions(delegate=delegate))
    assert [(c.name, c.dtype) for c in found if c.kind == "compute"] == [
        (name, dtype)
        for name in ("CONV_2D 1x1", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        for dtype in ("float32", "int8", HYBRID)
    ]
    assert [(c.name, c.dtype, c.up_to_bytes, c.note) for c in found if c.kind == "memory"] == [
        ("L2", "float32", MIB // 2, None),
        ("memory", "float32", None, "small"),
        ("weights", "float32", None, None),
        ("weights", HYBRID, None, None),
    ]
    dispatch = [c for c in found if c.kind == "dispatch"]
    assert [c.name for c in dispatch] == (["builtin", "XNNPACK"] if delegate == "xnnpack" else ["builtin"])
    for c in found:
        assert c.repetitions >= 5 and f"{1} thread" in c.how
        assert (c.value is not None and c.value > 0) or c.reason is not None
    # A tiny op takes a fraction of a microsecond; a product far less than a nanosecond.
    assert all(c.value is None or c.value < 20 for c in dispatch)
    assert all(c.value is not None and c.value > 0.05 for c in found if c.kind == "compute")

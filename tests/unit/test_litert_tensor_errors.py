"""Errors per op of LiteRT variants: a planted fault comes out on its op, and nowhere else."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.measure.requests import CompareLayers, LoadedVariant
from qprof.measure.worker.layer_errors import measure_layer_errors
from qprof.record.manifest import PreparedTask
from qprof.record.quantization import dequantize
from qprof.record.quantization import quantize as store
from qprof.record.rows import INPUT, LAYER_ERROR_COLUMNS
from qprof.runtimes.litert import calibrate, float_model, quantize
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.sections import LiteRTOptions
from qprof.runtimes.litert.tensor_errors import TensorErrors
from qprof.stats.quantization_error import ErrorFigures, QuantizationError
from qprof.tasks.latency.kind import LatencySection

pytest.importorskip("ai_edge_quantizer")
builder = pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")

IMAGE = (1, 12, 12, 3)
CHANNELS = 16
CONVS = ["first", "second", "third"]
OPTIONS = LiteRTOptions()

Errors = dict[tuple[str, str], ErrorFigures]


def chain(inputs: int = 1) -> bytes:
    """image -> three 3x3 convolutions without activation -> MEAN -> FULLY_CONNECTED with 64 inputs, by a RESHAPE."""
    random = np.random.default_rng(0)
    graph = builder.Graph()
    images = [graph.input(f"image{i}", IMAGE) for i in range(inputs)]
    node = images[0] if inputs == 1 else graph.add("sum", *images)
    depth = IMAGE[3]
    for name in CONVS:
        kernel = random.normal(0, 1 / np.sqrt(9 * depth), (CHANNELS, 3, 3, depth)).astype(np.float32)
        bias = random.normal(0, 0.2, CHANNELS).astype(np.float32)
        node = graph.conv_2d(name, node, graph.constant(f"{name}/k", kernel), graph.constant(f"{name}/b", bias))
        depth = CHANNELS
    pooled = graph.mean_pool("pooled", node)
    weights = random.normal(0, 0.3, (64, CHANNELS)).astype(np.float32)
    wide = graph.fully_connected("wide", pooled, graph.constant("wide/w", weights))
    last = random.normal(0, 0.1, (10, 64)).astype(np.float32)
    graph.outputs = [graph.fully_connected("logits", wide, graph.constant("logits/w", last))]
    return bytes(builder.build_model([graph]))


def images(count: int, seed: int) -> list[list[NDArray[Any]]]:
    random = np.random.default_rng(seed)
    return [[random.normal(0, 1, IMAGE).astype(np.float32)] for _ in range(count)]


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tensor_errors") / "float.tflite"
    path.write_bytes(chain())
    return path


@pytest.fixture(scope="module")
def ranges(baseline: Path) -> calibrate.ActivationRanges:
    return calibrate.calibrate(float_model.read(baseline), images(16, seed=1))


def int8(baseline: Path, ranges: calibrate.ActivationRanges, tensor: str = "", factor: float = 1.0) -> Path:
    """A static int8 variant, the calibrated range of one tensor stretched by `factor`."""
    planted = copy.deepcopy(ranges)
    if tensor:
        found = planted.by_tensor[tensor]
        planted.by_tensor[tensor] = {side: found[side] * factor for side in ("min", "max")}
    path = baseline.with_name(f"int8-{tensor}-{factor}.tflite")
    quantize.make("int8", baseline, path, calibration=planted)
    return path


def by_name(baseline: LiteRTModel, variant: LiteRTModel) -> list[tuple[str, str]]:
    known = {op.name: op.index for op in baseline.facts.subgraphs[0].ops}
    return [(str(known[op.name]), str(op.index)) for op in variant.facts.subgraphs[0].ops if op.name in known]


def compare(
    baseline: Path, variant: Path, samples: Sequence[Sequence[NDArray[Any]]] | None = None
) -> tuple[Errors, TensorErrors]:
    """(what is compared, the op's name) -> figures."""
    models = [LiteRTModel(path) for path in (baseline, variant)]
    errors = TensorErrors(models[0], models[1], by_name(*models), OPTIONS, OPTIONS)
    collected: dict[tuple[str, str], QuantizationError] = {}
    names = {op["op"]: str(op["name"]) for op in errors.ops}

    def record(kind: str, op: str, reference: NDArray[Any], value: NDArray[Any], saturated: int | None) -> None:
        collected.setdefault((kind, names[op]), QuantizationError()).add(reference, value, saturated)

    errors.weights(record)
    for sample in images(4, seed=2) if samples is None else samples:
        errors.sample(sample, record)
    found = {key: value.figures() for key, value in collected.items()}
    return {key: figures for key, figures in found.items() if figures is not None}, errors


def sqnr(errors: Errors, kind: str, name: str) -> float:
    value = errors[kind, name].sqnr_db
    assert value is not None
    return value


def worst(errors: Errors, kind: str) -> str:
    found = {name: figures.sqnr_db for (k, name), figures in errors.items() if k == kind}
    return min((value, name) for name, value in found.items() if value is not None)[1]


def test_a_model_is_identical_to_itself(baseline: Path) -> None:
    errors, found = compare(baseline, baseline)
    assert {name for _, name in errors} == {*CONVS, "pooled", "wide", "logits"}
    assert {kind for kind, _ in errors} == {"cumulative", "own", "weights", "bias"}
    assert all(figures.identical and figures.sqnr_db is None for figures in errors.values())
    assert found.notes == []


def test_every_op_of_an_int8_variant_is_compared_and_none_stands_out(
    baseline: Path, ranges: calibrate.ActivationRanges
) -> None:
    errors, found = compare(baseline, int8(baseline, ranges))
    own = {name: figures.sqnr_db for (kind, name), figures in errors.items() if kind == "own"}
    assert {*CONVS, "pooled", "wide", "logits"} <= own.keys()
    assert all(value is None or 30 < value < 60 for value in own.values())
    assert all(f.saturated_share is not None and f.saturated_share < 0.01 for f in map(errors.get, convs("own")) if f)
    assert found.notes == []
    assert all(op["baseline_op"] is not None for op in found.ops if op["type"] not in (INPUT, "QUANTIZE", "DEQUANTIZE"))


def convs(kind: str) -> list[tuple[str, str]]:
    return [(kind, name) for name in CONVS]


@pytest.mark.parametrize("tensor", CONVS)
def test_a_range_that_is_too_small_is_found_on_its_op(
    baseline: Path, ranges: calibrate.ActivationRanges, tensor: str
) -> None:
    sound, _ = compare(baseline, int8(baseline, ranges))
    errors, _ = compare(baseline, int8(baseline, ranges, tensor, 1 / 8))
    assert worst(errors, "own") == tensor
    assert sqnr(errors, "own", tensor) < 10
    for kind in ("own", "cumulative"):
        assert errors[kind, tensor].saturated_share == pytest.approx(0.6, abs=0.2)
    # The others' own errors are as they were, though what they are given in use is not.
    for name in CONVS:
        if name != tensor:
            assert sqnr(errors, "own", name) > sqnr(sound, "own", name) - 3
            share = errors["own", name].saturated_share
            assert share is not None and share < 0.02
    assert sqnr(errors, "cumulative", "logits") < sqnr(sound, "cumulative", "logits") - 10


def test_a_range_that_is_too_large_is_found_without_saturation(
    baseline: Path, ranges: calibrate.ActivationRanges
) -> None:
    sound, _ = compare(baseline, int8(baseline, ranges))
    errors, _ = compare(baseline, int8(baseline, ranges, "second", 8.0))
    assert worst(errors, "own") == "second"
    # Steps eight times as large: 18 dB, where the rounding of the output was all of the error.
    assert 10 < sqnr(sound, "own", "second") - sqnr(errors, "own", "second") < 20
    assert errors["own", "second"].saturated_share == 0


def test_the_own_error_is_that_of_the_op_on_the_stored_numbers(
    baseline: Path, ranges: calibrate.ActivationRanges
) -> None:
    """Recomputed with NumPy for the last layer: both models' weights on the baseline's input as int8 stores it."""
    variant = int8(baseline, ranges)
    sample = images(1, seed=3)
    errors, found = compare(baseline, variant, sample)
    linked = found._linked
    given = next(op for op in linked[1].facts.subgraphs[0].ops if op.name == "logits").inputs
    spec = linked[1].read(given[0]).spec
    assert spec.scale is not None
    real = linked[0].read(next(op for op in linked[0].facts.subgraphs[0].ops if op.name == "wide").outputs[0]).array
    rounded = (store(real, spec).astype(np.float64) - (spec.zero_point or 0)) * spec.scale
    weights = np.random.default_rng(0)
    for shape in ((CHANNELS, 3, 3, 3), (CHANNELS,), *((CHANNELS, 3, 3, CHANNELS), (CHANNELS,)) * 2, (64, CHANNELS)):
        weights.normal(size=shape)
    last = weights.normal(0, 0.1, (10, 64)).astype(np.float32).astype(np.float64)
    steps = np.abs(last).max(1, keepdims=True) / 127
    reference, exact = rounded @ last.T, rounded @ (np.rint(last / steps) * steps).T
    out = next(s for s in linked[1].loaded.outputs if "logits" in s.name)
    assert out.scale is not None
    value = (np.clip(np.rint(exact / out.scale) + (out.zero_point or 0), -128, 127) - (out.zero_point or 0)) * out.scale
    expected = 10 * np.log10((reference**2).sum() / ((reference - value) ** 2).sum())
    assert sqnr(errors, "own", "logits") == pytest.approx(expected, abs=0.5)


def test_float16_weights_cost_what_eleven_bits_cost(baseline: Path, tmp_path: Path) -> None:
    variant = tmp_path / "float16.tflite"
    quantize.make("float16", baseline, variant)
    errors, found = compare(baseline, variant)
    for name in (*CONVS, "wide", "logits"):
        assert 70 < sqnr(errors, "weights", name) < 78
        assert 60 < sqnr(errors, "own", name) < 80
        assert 55 < sqnr(errors, "cumulative", name) < 80
        assert errors["own", name].saturated_share is None
    assert errors["own", "pooled"].identical and not errors["cumulative", "pooled"].identical
    assert {op["type"] for op in found.ops} == {"CONV_2D", "MEAN", "FULLY_CONNECTED"}
    assert found.notes == []


@pytest.mark.parametrize(
    ("method", "granularity", "bits", "block"),
    [
        ("int8-dynamic", None, 8, None),
        ("int4-weight-only", None, 4, None),
        ("int8-weight-only", "tensorwise", 8, 0),
        ("int4-dynamic", "blockwise-32", 4, 32),
    ],
)
def test_weights_are_read_as_they_are_stored(
    baseline: Path, tmp_path: Path, method: str, granularity: str | None, bits: int, block: int | None
) -> None:
    """The error of the last layer's weights is that of rounding them so: one scale per row, tensor or block."""
    variant = tmp_path / "variant.tflite"
    quantize.make(method, baseline, variant, granularity=granularity)
    errors, _ = compare(baseline, variant)
    weights = last_weights(baseline)
    grouped = weights.reshape(10, -1, block) if block else weights.reshape(10 if block is None else 1, 1, -1)
    steps = np.abs(grouped).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
    noise = (np.clip(np.rint(grouped / steps), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * steps - grouped) ** 2
    expected = 10 * np.log10((weights**2).sum() / noise.sum())
    assert sqnr(errors, "weights", "logits") == pytest.approx(expected, abs=0.5)


def last_weights(path: Path) -> NDArray[np.float64]:
    interpreter = LiteRTModel(path).interpreter
    detail = next(d for d in interpreter.get_tensor_details() if d["name"] == "logits/w")
    return np.asarray(interpreter.get_tensor(detail["index"]), np.float64)


def test_a_bias_that_overflowed_is_told_from_its_weights(tmp_path: Path) -> None:
    """A channel whose weights are next to nothing has a scale so small that its bias does not fit."""
    graph = builder.Graph()
    image = graph.input("image", IMAGE)
    kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    kernel[2] *= 1e-15
    bias = graph.constant("conv/b", np.array([0.1, -0.2, 3.0, 0.3], np.float32))
    graph.outputs = [graph.conv_2d("conv", image, graph.constant("conv/k", kernel), bias)]
    path, variant = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    path.write_bytes(builder.build_model([graph]))
    quantize.make("int8", path, variant, calibration=images(8, seed=1))
    errors, _ = compare(path, variant)
    assert sqnr(errors, "weights", "conv") > 40
    assert sqnr(errors, "bias", "conv") < 10
    assert sqnr(errors, "own", "conv") < 25


def test_conversions_at_the_ends_are_compared_with_what_they_convert(
    baseline: Path, ranges: calibrate.ActivationRanges, tmp_path: Path
) -> None:
    variant = tmp_path / "float-io.tflite"
    quantize.make("int8", baseline, variant, calibration=ranges, io="float")
    errors, found = compare(baseline, variant)
    inserted = {op["type"]: str(op["name"]) for op in found.ops if op["baseline_op"] is None}
    assert set(inserted) == {"QUANTIZE", "DEQUANTIZE"}
    first = next(op for op in found._linked[1].facts.subgraphs[0].ops if op.type == "QUANTIZE")
    sample = images(4, seed=2)
    spec = found._linked[1].read(first.outputs[0]).spec
    real = np.array(sample, np.float64)
    error = real - dequantize(store(real, spec), spec)
    expected = 10 * np.log10((real**2).sum() / (error**2).sum())
    assert sqnr(errors, "own", inserted["QUANTIZE"]) == pytest.approx(expected, abs=0.05)
    assert sqnr(errors, "own", inserted["QUANTIZE"]) == sqnr(errors, "cumulative", inserted["QUANTIZE"])
    assert errors["own", inserted["DEQUANTIZE"]].identical
    assert sqnr(errors, "cumulative", inserted["DEQUANTIZE"]) == sqnr(errors, "cumulative", "logits")
    assert 30 < sqnr(errors, "own", "first") < 60


def test_the_zeros_of_a_relu_are_no_saturation(tmp_path: Path) -> None:
    graph = builder.Graph()
    image = graph.input("image", IMAGE)
    kernel = graph.constant("k", np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32))
    graph.outputs = [graph.conv_2d("conv", image, kernel, activation=builder.schema.ActivationFunctionType.RELU)]
    path, variant = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    path.write_bytes(builder.build_model([graph]))
    quantize.make("int8", path, variant, calibration=images(16, seed=1))
    errors, found = compare(path, variant)
    stored = found._linked[1].outputs()[0]
    assert np.mean(stored == -128) > 0.4
    for kind in ("own", "cumulative"):
        share = errors[kind, "conv"].saturated_share
        assert share is not None and share < 0.005


def test_models_with_other_inputs_are_refused(baseline: Path, tmp_path: Path) -> None:
    other = tmp_path / "two.tflite"
    other.write_bytes(chain(inputs=2))
    models = LiteRTModel(baseline), LiteRTModel(other)
    with pytest.raises(ModelError, match=r"takes float32\[1, 12, 12, 3\], float32.* and its baseline float32"):
        TensorErrors(*models, [], OPTIONS, OPTIONS)


def test_ops_that_are_not_the_same_layer_are_named(baseline: Path) -> None:
    model, twin = LiteRTModel(baseline), LiteRTModel(baseline)
    errors = TensorErrors(model, twin, [("0", "0"), ("5", "4")], OPTIONS, OPTIONS)
    sample = images(1, seed=2)[0]
    seen: set[str] = set()
    errors.sample(sample, lambda kind, op, *_: seen.add(op))
    assert seen == {"0"}
    assert errors.notes == ["1 ops have outputs of another size than the baseline's: wide"]


def test_a_request_gives_one_row_per_op_that_json_can_hold(
    baseline: Path, ranges: calibrate.ActivationRanges, tmp_path: Path
) -> None:
    variant = int8(baseline, ranges)
    files = [tmp_path / f"{n}.npz" for n in range(3)]
    for file, (image,) in zip(files, images(3, seed=2), strict=True):
        np.savez(file, image0=image)
    options = msgspec.to_builtins(OPTIONS)
    answer = measure_layer_errors(
        CompareLayers(
            name="int8",
            baseline=LoadedVariant(runtime="litert", path=str(baseline), options=options),
            variant=LoadedVariant(runtime="litert", path=str(variant), options=options),
            task=PreparedTask(section=msgspec.to_builtins(LatencySection(inputs=[str(file) for file in files]))),
            pairs=by_name(LiteRTModel(baseline), LiteRTModel(variant)),
            samples=3,
        )
    )
    assert all(set(row) == set(LAYER_ERROR_COLUMNS) for row in answer.rows)
    assert {row["variant"] for row in answer.rows} == {"int8"}
    assert answer.samples == [0, 1, 2]
    json.dumps(msgspec.to_builtins(answer), allow_nan=False)
    rows = {row["name"]: row for row in answer.rows}
    assert rows["third"]["own_sqnr_db"] > 30 and rows["third"]["weight_sqnr_db"] > 35
    assert rows["third"]["count"] == 3 * 12 * 12 * CHANNELS and rows["third"]["samples"] == 3


def test_a_quantized_input_is_compared_with_what_it_is_given(
    baseline: Path, ranges: calibrate.ActivationRanges
) -> None:
    """Calibrated to half of its range, the input cuts off what lies beyond; a float one is not in the list."""
    sample = images(4, seed=2)
    errors, found = compare(baseline, int8(baseline, ranges, "image0", 0.5), sample)
    assert next((op["op"], op["type"], op["name"]) for op in found.ops) == ("input:0", INPUT, "image0")
    spec = found._linked[1].loaded.inputs[0]
    real = np.array(sample, np.float64)
    error = real - dequantize(store(real, spec), spec)
    expected = 10 * np.log10((real**2).sum() / (error**2).sum())
    assert sqnr(errors, "own", "image0") == sqnr(errors, "cumulative", "image0") == pytest.approx(expected, abs=0.01)
    low, high = dequantize(np.array([-128, 127], np.int8), spec)
    beyond = float(np.mean((real < low - spec.scale / 2) | (real > high + spec.scale / 2)))
    share = errors["own", "image0"].saturated_share
    assert share == pytest.approx(beyond, abs=1e-9) and beyond > 0.02
    assert compare(baseline, baseline)[1].ops[0]["type"] != INPUT

"""Ops cut out of the middle of a model: what is put in their place, where it fits, and where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

import tflite_builder
from litert_edits import add_op, behind, entry, made_entry, names, ops_of, run, written
from qprof.errors import ModelError
from qprof.runtimes.interventions import Impossible
from qprof.runtimes.litert.bypass import bypassed, float_conversions
from qprof.runtimes.litert.edit import ModelFile
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.runtime import RUNTIME
from tflite_builder import Graph, Quantization, build_model

FLOAT32, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def quantization(scale: float, zero_point: int) -> Any:
    return Quantization([scale], [zero_point]).pack()


def int8_and_back(file: ModelFile, tensor: int) -> int:
    """float32 -> int8 -> float32"""
    stored = add_op(file, "QUANTIZE", [tensor], tensor, type=INT8, quantization=quantization(0.05, 3))
    return add_op(file, "DEQUANTIZE", [stored], tensor, version=2)


def float_and_back(file: ModelFile, tensor: int) -> int:
    """int8 -> float32 -> int8 of the same scale"""
    real = add_op(file, "DEQUANTIZE", [tensor], tensor, version=2, type=FLOAT32, quantization=None)
    return add_op(file, "QUANTIZE", [real], tensor)


def remainder(file: ModelFile, tensor: int) -> int:
    """float32 modulo 0.5: another op of the same shape and type, whose first input is the tensor"""
    buffer = schema.BufferT()
    buffer.data = np.array([0.5], np.float32).view(np.uint8)
    file.objects.buffers.append(buffer)
    constant = schema.TensorT()
    constant.name, constant.shape, constant.type = b"divisor", [1], FLOAT32
    constant.buffer = len(file.objects.buffers) - 1
    file.main.tensors.append(constant)
    return add_op(file, "FLOOR_MOD", [tensor, len(file.main.tensors) - 1], tensor)


def with_ops(
    path: Path, destination: Path, add: Callable[[ModelFile, int], int], types: set[str]
) -> tuple[Path, list[str]]:
    """The model with ops put behind each op of these types, and their names."""

    def edit(file: ModelFile) -> None:
        for op in file.graph.ops:
            if op.type in types:
                behind(file, op.outputs[0], lambda tensor: add(file, tensor))

    made = written(path, destination, edit)
    known = set(names(path))
    return made, [name for name in names(made) if name not in known]


def image_for(model: LiteRTModel, seed: int = 0) -> NDArray[Any]:
    spec = model.loaded.inputs[0]
    random = np.random.default_rng(seed)
    if spec.dtype == "float32":
        return random.uniform(0, 1, spec.shape).astype(np.float32)
    limits = np.iinfo(spec.dtype)
    return random.integers(limits.min, limits.max + 1, spec.shape).astype(spec.dtype)


@pytest.mark.parametrize(
    ("model", "add", "changes"),
    [
        ("vww_96_float", int8_and_back, True),
        ("vww_96_float", remainder, True),
        ("vww_96_int8", float_and_back, False),
        ("pretrainedResnet", int8_and_back, True),
        ("pretrainedResnet_quant", float_and_back, False),
        ("tf2_mobilenet_v2_1.0_224_ptq", float_and_back, False),
    ],
)
def test_inserted_ops_are_cut_out_of_a_real_model(
    qprof_data: Path, tmp_path: Path, model: str, add: Callable[[ModelFile, int], int], changes: bool
) -> None:
    """The outputs are those of the file before it was spoiled, bit by bit, and so are the ops."""
    original = qprof_data / f"models/{model}.tflite"
    types = {"CONV_2D", "ADD", "SOFTMAX"} if changes else {"CONV_2D", "ADD"}
    spoiled, inserted = with_ops(original, tmp_path / "spoiled.tflite", add, types)
    assert len(inserted) >= 10
    healed = bypassed(spoiled, inserted)
    assert [op.type for op in ops_of(healed)] == [op.type for op in ops_of(original)]
    assert names(healed)[:-1] == names(original)[:-1]  # the last keeps the name of the output that it now writes
    whole = LiteRTModel(original)
    image = image_for(whole)
    reference = run(whole, [image])
    assert np.array_equal(run(LiteRTModel(spoiled), [image])[0], reference[0]) == (not changes)
    for one, other in zip(run(LiteRTModel(healed), [image]), reference, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """stem -> depthwise -> residual (with stem) -> pooled -> logits -> probabilities"""
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite_builder.tiny_conv_net())
    return path


def test_all_readers_read_what_is_put_in_its_place(net: Path, tmp_path: Path) -> None:
    """stem goes to depthwise and, past it, to residual."""
    spoiled = written(net, tmp_path / "spoiled.tflite", lambda file: _behind_all(file, ["stem"]))
    (inserted,) = [name for name in names(spoiled) if name.startswith("FLOOR_MOD")]
    image = np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype(np.float32)
    reference = run(LiteRTModel(net), [image])[0]
    np.testing.assert_array_equal(run(LiteRTModel(bypassed(spoiled, [inserted])), [image])[0], reference)


def _behind_all(file: ModelFile, chosen: list[str]) -> None:
    for op in file.graph.ops:
        if op.name in chosen:
            behind(file, op.outputs[0], lambda tensor: remainder(file, tensor))


def test_an_output_of_the_model_keeps_its_name(net: Path, tmp_path: Path) -> None:
    spoiled = written(net, tmp_path / "spoiled.tflite", lambda file: _behind_all(file, ["probabilities"]))
    given = LiteRTModel(spoiled).loaded.outputs[0].name
    assert given.startswith("FLOOR_MOD")
    healed = LiteRTModel(bypassed(spoiled, [given]))
    assert [spec.name for spec in healed.loaded.outputs] == [given]
    image = image_for(healed)
    np.testing.assert_array_equal(run(healed, [image])[0], run(LiteRTModel(net), [image])[0])


def test_an_op_that_computes_is_cut_away(net: Path) -> None:
    """depthwise has the shape of its input: residual is then twice the stem."""
    assert names(bypassed(net, ["depthwise"])) == ["stem", "residual", "pooled", "logits", "probabilities"]
    image = image_for(LiteRTModel(net))
    both = LiteRTModel(bypassed(net, ["depthwise", "residual"]))
    assert names(both.path) == ["stem", "pooled", "logits", "probabilities"]
    assert not np.array_equal(run(both, [image])[0], run(LiteRTModel(net), [image])[0])


def test_side_ops_that_only_feed_what_is_cut_need_no_replacement(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.input("value", (1, 4))
    side = graph.mean_pool("side", graph.input("image", (1, 2, 2, 4)))
    mixed = graph.add("mixed", value, side)
    graph.outputs = [graph.multiply("product", mixed, mixed)]
    path = tmp_path / "side.tflite"
    path.write_bytes(build_model([graph]))
    made = LiteRTModel(bypassed(path, ["side", "mixed"]))
    assert made.loaded.op_types == ["MUL"]
    value_of = np.array([[1, 2, 3, 4]], np.float32)
    np.testing.assert_array_equal(run(made, [value_of, np.ones((1, 2, 2, 4), np.float32)])[0], value_of**2)


def test_the_input_that_fits_is_taken(tmp_path: Path) -> None:
    """gate [1, 1] * value [1, 4]: the second input has the shape of the output."""
    graph = Graph()
    gate, value = graph.input("gate", (1, 1)), graph.input("value", (1, 4))
    gated = graph.tensor("gated", (1, 4))
    graph.op("MUL", [gate, value], [gated], schema.MulOptionsT())
    graph.outputs = [graph.add("double", gated, gated)]
    path = tmp_path / "gated.tflite"
    path.write_bytes(build_model([graph]))
    inputs = [np.array([[5]], np.float32), np.array([[1, 2, 3, 4]], np.float32)]
    np.testing.assert_array_equal(run(LiteRTModel(path), inputs)[0], [[10, 20, 30, 40]])
    np.testing.assert_array_equal(run(LiteRTModel(bypassed(path, ["gated"])), inputs)[0], [[2, 4, 6, 8]])


def test_nothing_takes_the_place_of_what_constants_alone_give(tmp_path: Path) -> None:
    graph = Graph()
    one = graph.constant("one", np.ones((1, 4), np.float32))
    two = graph.add("two", one, one)
    four = graph.add("four", two, one)
    graph.outputs = [graph.add("sum", graph.input("value", (1, 4)), four)]
    path = tmp_path / "constants.tflite"
    path.write_bytes(build_model([graph]))
    with pytest.raises(ModelError, match="could take the place of 'four'"):
        bypassed(path, ["two", "four"])


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        (["nothing"], "no op named 'nothing'"),
        ([], "no op named ''"),
        (["stem"], r"would be given float32\[1,16,16,3\]"),
        (["pooled"], r"reads float32\[1,4\]"),
        (["stem", "depthwise", "residual", "pooled", "logits", "probabilities"], "what it takes"),
        (["logits", "probabilities"], r"would be float32\[1,4\]"),
    ],
)
def test_what_does_not_fit_is_told(net: Path, cut: list[str], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        bypassed(net, cut)
    found = RUNTIME.interventions.bypassed(entry(net), cut)
    assert isinstance(found, Impossible) and found.reason.startswith("the ops cannot be cut out: ")


def test_half_of_a_pair_does_not_fit(net: Path, tmp_path: Path) -> None:
    spoiled, inserted = with_ops(net, tmp_path / "spoiled.tflite", int8_and_back, {"CONV_2D"})
    for name in inserted:
        with pytest.raises(ModelError, match="fit"):
            bypassed(spoiled, [name])


def requantized(scale: float, reader: str) -> bytes:
    """int8 value (scale 0.1) -> QUANTIZE to another scale ("again") -> FULLY_CONNECTED with a bias, or RESHAPE"""
    graph = Graph()
    value = graph.input("value", (1, 4), "int8", quantization=Quantization([0.1], [5]))
    again = graph.tensor("again", (1, 4), "int8", quantization=Quantization([scale], [-7]))
    graph.op("QUANTIZE", [value], [again], version=2)
    if reader == "RESHAPE":
        shape = graph.constant("shape", np.array([4], np.int32))
        graph.outputs = [graph.tensor("flat", (4,), "int8", quantization=Quantization([scale], [-7]))]
        graph.op("RESHAPE", [again, shape], graph.outputs, schema.ReshapeOptionsT(newShape=[4]))
    else:
        weights = graph.constant("weights", np.eye(4, dtype=np.int8) * 50, quantization=Quantization([0.02]))
        bias = graph.constant(
            "bias", np.array([100, -200, 300, 0], np.int32), quantization=Quantization([scale * 0.02])
        )
        graph.outputs = [
            graph.fully_connected("logits", again, weights, bias, quantization=Quantization([0.25], [0]), version=4)
        ]
    return build_model([graph])


def test_another_scale_is_taken_with_the_bias_scaled_anew(tmp_path: Path) -> None:
    path = tmp_path / "requantized.tflite"
    path.write_bytes(requantized(0.4, "FULLY_CONNECTED"))
    made, whole = LiteRTModel(bypassed(path, ["again"])), LiteRTModel(path)
    assert made.loaded.op_types == ["FULLY_CONNECTED"]
    for stored in ([5, 45, 85, -35], [9, 49, -75, 125]):  # 0, 4, 8, -4 and 0.4, ...: multiples of both scales
        value = np.array([stored], np.int8)
        np.testing.assert_array_equal(run(made, [value])[0], run(whole, [value])[0])


def test_another_scale_is_refused_where_the_reader_goes_by_its_own(tmp_path: Path) -> None:
    path = tmp_path / "requantized.tflite"
    path.write_bytes(requantized(0.4, "RESHAPE"))
    with pytest.raises(ModelError, match="RESHAPE"):
        bypassed(path, ["again"])


def float_ends(tmp_path: Path, twice: bool = False) -> Path:
    """float32 -> QUANTIZE -> ADD, int8 -> DEQUANTIZE -> float32; `twice`: the input is given out as well"""
    graph = Graph()
    value = graph.input("value", (1, 4))
    stored = graph.tensor("stored", (1, 4), "int8", quantization=Quantization([0.5], [0]))
    graph.op("QUANTIZE", [value], [stored])
    total = graph.add("total", stored, stored, Quantization([1.0], [0]), version=2)
    result = graph.tensor("result", (1, 4))
    graph.op("DEQUANTIZE", [total], [result], version=2)
    graph.outputs = [result, graph.multiply("squares", value, value)] if twice else [result]
    path = tmp_path / "ends.tflite"
    path.write_bytes(build_model([graph]))
    return path


def test_conversions_at_the_border_are_cut_off(tmp_path: Path) -> None:
    path = float_ends(tmp_path)
    assert float_conversions(path) == ["stored", "result"]
    section = RUNTIME.interventions.integer_io(entry(path, threads=2).section)
    assert not isinstance(section, Impossible)
    assert section["name"] == "variant+int8-io" and section["threads"] == 2
    made = LiteRTModel(Path(section["file"]))
    assert made.loaded.op_types == ["ADD"]
    assert [(s.name, s.dtype, s.scale) for s in made.loaded.inputs] == [("value", "int8", 0.5)]
    assert [(s.name, s.dtype, s.scale) for s in made.loaded.outputs] == [("result", "int8", 1.0)]
    np.testing.assert_array_equal(run(made, [np.array([[2, 4, 6, -8]], np.int8)])[0], [[2, 4, 6, -8]])
    again = RUNTIME.interventions.integer_io(section)
    assert isinstance(again, Impossible) and "neither its inputs nor its outputs" in again.reason


def test_an_input_that_others_read_stays(tmp_path: Path) -> None:
    found = RUNTIME.interventions.integer_io(entry(float_ends(tmp_path, twice=True)).section)
    assert isinstance(found, Impossible) and "would be given float32[1,4]" in found.reason


def test_conversions_of_a_real_model_at_the_border(qprof_data: Path) -> None:
    """uint8 -> int8 at the input, and back at the output."""
    path = qprof_data / "models/tf2_mobilenet_v2_1.0_224_ptq.tflite"
    ends = [op.name for op in ops_of(path) if op.type == "QUANTIZE"]
    whole, made = LiteRTModel(path), LiteRTModel(bypassed(path, ends))
    assert len(ends) == 2 and "QUANTIZE" not in made.loaded.op_types
    image = image_for(whole)
    shifted = (image.astype(np.int16) - 128).astype(np.int8)
    assert made.loaded.outputs[0].name == whole.loaded.outputs[0].name
    np.testing.assert_array_equal(run(made, [shifted])[0].astype(int) + 128, run(whole, [image])[0])


def test_the_section_of_a_made_variant(net: Path) -> None:
    section = RUNTIME.interventions.bypassed(made_entry(net, "float32"), {"depthwise"})
    assert not isinstance(section, Impossible)
    assert set(section) == {"name", "file"} and section["name"].startswith("float32+bypassed-")
    assert names(Path(section["file"])) == ["stem", "residual", "pooled", "logits", "probabilities"]
    other = RUNTIME.interventions.bypassed(made_entry(net, "float32"), {"residual", "depthwise"})
    assert not isinstance(other, Impossible) and other["name"] != section["name"]


def test_an_op_with_two_activations_is_not_cut_out_without_what_computes_the_other(net: Path) -> None:
    refused = RUNTIME.interventions.bypassed(made_entry(net, "float32"), {"residual"})
    assert isinstance(refused, Impossible)
    assert "nothing would read 'depthwise' any more; name it as well if it is to go" in refused.reason


def test_it_is_made_once(net: Path) -> None:
    first = bypassed(net, ["depthwise"])
    made_ns = first.stat().st_mtime_ns
    assert bypassed(net, ["depthwise"]) == first and first.stat().st_mtime_ns == made_ns


def test_damaged_files_give_one_line(net: Path, tmp_path: Path) -> None:
    """Bytes changed at random: an edit is made, or refused as `ModelError`; nothing else comes out."""
    content = bytearray(net.read_bytes())
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.tflite"
    refused = 0
    for _ in range(150):
        spoiled = bytearray(content)
        for place in random.integers(8, len(content), 12):
            spoiled[place] = int(random.integers(0, 256))
        path.write_bytes(spoiled[: int(random.integers(8, len(content)))] if random.random() < 0.2 else spoiled)
        try:
            bypassed(path, ["depthwise"])
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50
    path.write_bytes(b"\0\0\0\0TFL3")
    with pytest.raises(ModelError, match=r"damaged\.tflite"):
        read_model(path)

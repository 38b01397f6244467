"""Constants of a baseline in a variant: copied where both store them alike, quantized anew elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

import tflite_builder
from litert_edits import entry, made_entry, names, ops_of, real, run, sqnr_db, with_weight_scale, written
from qprof.errors import ModelError
from qprof.record.quantization import quantize
from qprof.runtimes.interventions import Impossible
from qprof.runtimes.litert.constants import constant, weights_of
from qprof.runtimes.litert.constants_from import constants_from, packed_codes, quantized
from qprof.runtimes.litert.edit import open_file
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.make import MakeRequest, make_variant
from qprof.runtimes.litert.runtime import RUNTIME
from tflite_builder import Graph, Quantization, build_model

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def tensors(path: Path, op: int) -> list[tuple[bytes, list[float]]]:
    """Data and scales of the constants that an op reads."""
    file = open_file(path)
    found = [file.main.tensors[i] for i in file.main.operators[op].inputs[1:]]
    return [
        (
            bytes(file.objects.buffers[tensor.buffer].data),
            [] if tensor.quantization is None else np.array(tensor.quantization.scale).tolist(),
        )
        for tensor in found
    ]


@pytest.mark.parametrize("op", [0, 1, 8, 29])
def test_a_spoiled_layer_of_a_real_model_is_restored(qprof_data: Path, tmp_path: Path, op: int) -> None:
    """CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED; the weights' scale three times as large. From the sound file the
    outputs are restored exactly, and so are the bytes; from the float model, whose weights are quantized anew, too."""
    sound, base = qprof_data / "models/vww_96_int8.tflite", qprof_data / "models/vww_96_float.tflite"
    spoiled = with_weight_scale(sound, tmp_path / "spoiled.tflite", op, 3)
    name, other = names(sound)[op], names(base)[op]
    restored, anew = constants_from(spoiled, sound, [(name, name)]), constants_from(spoiled, base, [(name, other)])
    models = [LiteRTModel(path) for path in (sound, spoiled, restored, anew)]
    random = np.random.default_rng(op)
    images = [random.uniform(0, 1, (1, 96, 96, 3)).astype(np.float32) for _ in range(8)]
    whole, worse, same, near = (
        np.array([run(model, [quantize(image, model.loaded.inputs[0])])[0] for image in images]) for model in models
    )
    assert not np.array_equal(whole, worse)
    np.testing.assert_array_equal(same, whole)
    assert tensors(restored, op) == tensors(sound, op)
    assert np.abs(near.astype(int) - whole).max() <= 1


def test_all_layers_of_a_real_model_quantized_anew(qprof_data: Path) -> None:
    """As the converter did: the int8 model with all its constants from the float model is as near to it as before."""
    path, base = qprof_data / "models/vww_96_int8.tflite", qprof_data / "models/vww_96_float.tflite"
    pairs = [(a.name, b.name) for a, b in zip(ops_of(path), ops_of(base), strict=True) if a.type in WEIGHTED]
    float_model, before, after = LiteRTModel(base), LiteRTModel(path), LiteRTModel(constants_from(path, base, pairs))
    random = np.random.default_rng(0)
    images = [random.uniform(0, 1, (1, 96, 96, 3)).astype(np.float32) for _ in range(5)]
    reference = np.array([real(float_model, [image]) for image in images])
    errors = [
        sqnr_db(reference, np.array([real(m, [quantize(i, m.loaded.inputs[0])]) for i in images]))
        for m in (before, after)
    ]
    assert errors[1] > errors[0] - 1 and errors[1] > 25


@pytest.fixture
def float_net(tmp_path: Path) -> Path:
    path = tmp_path / "float.tflite"
    path.write_bytes(tflite_builder.tiny_conv_net())
    return path


def with_weights(path: Path, destination: Path, factor: float) -> Path:
    """A float net whose weights and biases are `factor` times as large."""

    def edit(file: Any) -> None:
        for tensor in file.main.tensors:
            if tensor.name.endswith((b"kernel", b"weights", b"bias")):
                data = np.frombuffer(file.objects.buffers[tensor.buffer].data, np.float32)
                file.objects.buffers[tensor.buffer].data = (data * np.float32(factor)).view(np.uint8)

    return written(path, destination, edit)


@pytest.mark.parametrize("method", ["float16", "int8-dynamic", "int8-weight-only", "int4-weight-only"])
def test_into_other_forms(float_net: Path, tmp_path: Path, method: str) -> None:
    """The variant of another model, with this model's constants, computes what this model's variant does."""
    other = make_variant(MakeRequest(with_weights(float_net, tmp_path / "other.tflite", 1.7), method)).path
    sound = make_variant(MakeRequest(float_net, method)).path
    made = constants_from(other, float_net, [(name, name) for name in ("stem", "depthwise", "logits")])
    image = np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype(np.float32)
    reference = real(LiteRTModel(sound), [image])
    assert sqnr_db(reference, real(LiteRTModel(other), [image])) < 20
    assert sqnr_db(reference, real(LiteRTModel(made), [image])) > 40


def test_a_quantized_baseline_for_a_float_variant(float_net: Path, tmp_path: Path) -> None:
    base = make_variant(MakeRequest(float_net, "int8-dynamic")).path
    other = with_weights(float_net, tmp_path / "other.tflite", 1.7)
    made = constants_from(other, base, [("stem", "stem")])
    source, changed = open_file(base), open_file(made)
    expected = constant(source.objects, source.graph, weights_of(source.graph.ops[0], source.graph) or 0)
    found = constant(changed.objects, changed.graph, weights_of(changed.graph.ops[0], changed.graph) or 0)
    assert expected is not None and found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def shared_net(weights: NDArray[np.float32]) -> bytes:
    """Two FULLY_CONNECTED with one tensor of weights."""
    graph = Graph()
    value = graph.input("value", (1, 4))
    kernel = graph.constant("weights", weights)
    graph.outputs = [graph.fully_connected("first", value, kernel), graph.fully_connected("second", value, kernel)]
    return build_model([graph])


def test_what_is_replaced_is_not_kept(qprof_data: Path) -> None:
    path = qprof_data / "models/vww_96_int8.tflite"
    pairs = [(op.name, op.name) for op in ops_of(path) if op.type in WEIGHTED]
    assert constants_from(path, path, pairs).stat().st_size < path.stat().st_size


def test_a_constant_that_another_op_reads_stays_its_own(tmp_path: Path) -> None:
    path, base = tmp_path / "shared.tflite", tmp_path / "base.tflite"
    path.write_bytes(shared_net(np.eye(4, dtype=np.float32)))
    base.write_bytes(shared_net(5 * np.eye(4, dtype=np.float32)))
    model = LiteRTModel(constants_from(path, base, [("second", "first")]))
    outputs = dict(
        zip(
            [spec.name for spec in model.loaded.outputs],
            run(model, [np.array([[1, 2, 3, 4]], np.float32)]),
            strict=True,
        )
    )
    np.testing.assert_array_equal(outputs["first"], [[1, 2, 3, 4]])
    np.testing.assert_array_equal(outputs["second"], [[5, 10, 15, 20]])


def dense(weights: NDArray[np.float32], bias: NDArray[np.float32] | None, name: str = "logits") -> bytes:
    graph = Graph()
    value = graph.input("value", (1, weights.shape[1]))
    more = () if bias is None else (graph.constant("bias", bias),)
    graph.outputs = [graph.fully_connected(name, value, graph.constant("weights", weights), *more)]
    return build_model([graph])


def dense_int8(channels: int = 2, per_channel: bool = True, scaled_bias: bool = True) -> bytes:
    """Input scale 0.5, output scale 1; weights [channels, 4] of ones and a bias of zeros."""
    graph = Graph()
    value = graph.input("value", (1, 4), "int8", quantization=Quantization([0.5], [0]))
    scales = [1.0] * (channels if per_channel else 1)
    weights = graph.constant("weights", np.ones((channels, 4), np.int8), quantization=Quantization(scales))
    bias = graph.constant(
        "bias",
        np.zeros(channels, np.int32),
        quantization=Quantization([0.5 * scale for scale in scales]) if scaled_bias else None,
    )
    graph.outputs = [
        graph.fully_connected("logits", value, weights, bias, quantization=Quantization([1.0], [0]), version=4)
    ]
    return build_model([graph])


WEIGHTS = np.array([[1, -2, 3, 4], [0.5, 0, 0.25, -1]], np.float32)
BIAS = np.array([10, -20], np.float32)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("scaled_bias", [True, False])
def test_scales_of_weights_and_bias(tmp_path: Path, per_channel: bool, scaled_bias: bool) -> None:
    path, base = tmp_path / "int8.tflite", tmp_path / "float.tflite"
    path.write_bytes(dense_int8(per_channel=per_channel, scaled_bias=scaled_bias))
    base.write_bytes(dense(WEIGHTS, BIAS))
    made = constants_from(path, base, [("logits", "logits")])
    (codes, scales), (bias, steps) = tensors(made, 0)
    expected = np.array([4, 1] if per_channel else [4]) / 127
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
    spread = np.reshape(expected, (-1, 1))
    np.testing.assert_array_equal(np.frombuffer(codes, np.int8).reshape(2, 4), np.rint(WEIGHTS / spread))
    np.testing.assert_array_equal(np.frombuffer(bias, np.int32), np.rint(BIAS / (0.5 * spread.reshape(-1))))
    np.testing.assert_allclose(steps, 0.5 * expected if scaled_bias else [], rtol=1e-6)
    value = np.array([[2, 4, 6, 8]], np.int8)
    np.testing.assert_array_equal(
        run(LiteRTModel(made), [value])[0], np.rint(0.5 * value.astype(float) @ WEIGHTS.T + BIAS)
    )


def test_a_bias_in_steps_of_another_input_is_scaled_anew(tmp_path: Path) -> None:
    """Both int8, the baseline with an input scale of 0.25: its bias of 8 steps of 0.25 is 4 steps of 0.5."""

    def net(input_scale: float, bias_steps: int) -> bytes:
        graph = Graph()
        value = graph.input("value", (1, 4), "int8", quantization=Quantization([input_scale], [0]))
        weights = graph.constant("weights", np.ones((2, 4), np.int8), quantization=Quantization([1.0, 1.0]))
        bias = np.array([bias_steps, -bias_steps], np.int32)
        constant = graph.constant("bias", bias, quantization=Quantization([input_scale] * 2))
        graph.outputs = [
            graph.fully_connected("logits", value, weights, constant, quantization=Quantization([1.0], [0]), version=4)
        ]
        return build_model([graph])

    path, base = tmp_path / "a.tflite", tmp_path / "b.tflite"
    path.write_bytes(net(0.5, 100))
    base.write_bytes(net(0.25, 8))
    made = constants_from(path, base, [("logits", "logits")])
    np.testing.assert_array_equal(run(LiteRTModel(made), [np.zeros((1, 4), np.int8)])[0], [[2, -2]])


def test_damaged_files_give_one_line(tmp_path: Path) -> None:
    """Bytes of either file changed at random: the edit is made, or refused as `ModelError`."""
    sound, path = tmp_path / "sound.tflite", tmp_path / "damaged.tflite"
    content = dense_int8()
    sound.write_bytes(content)
    random = np.random.default_rng(0)
    refused = 0
    for number in range(200):
        spoiled = bytearray(content)
        for place in random.integers(8, len(content), 4):
            spoiled[place] = int(random.integers(0, 256))
        path.write_bytes(spoiled)
        try:
            constants_from(*((path, sound) if number % 2 else (sound, path)), [("logits", "logits")])
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50


def test_a_baseline_without_a_bias(tmp_path: Path) -> None:
    path, base = tmp_path / "a.tflite", tmp_path / "b.tflite"
    path.write_bytes(dense(WEIGHTS, BIAS))
    base.write_bytes(dense(2 * WEIGHTS, None))
    model = LiteRTModel(constants_from(path, base, [("logits", "logits")]))
    value = np.array([[1, 2, 3, 4]], np.float32)
    np.testing.assert_allclose(run(model, [value])[0], 2 * value @ WEIGHTS.T)
    with pytest.raises(ModelError, match="bias of 'logits'"):
        constants_from(base, path, [("logits", "logits")])


def test_a_channel_of_next_to_nothing_leaves_room_for_its_bias(tmp_path: Path) -> None:
    """Its bias would be 10 / (0.5 * 1e-12 / 127) steps, beyond int32."""
    path, base = tmp_path / "int8.tflite", tmp_path / "float.tflite"
    path.write_bytes(dense_int8())
    weights = WEIGHTS.copy()
    weights[0] = 1e-12
    base.write_bytes(dense(weights, BIAS))
    made = constants_from(path, base, [("logits", "logits")])
    np.testing.assert_array_equal(run(LiteRTModel(made), [np.zeros((1, 4), np.int8)])[0], [[10, -20]])


def test_operands_of_ops_without_weights(tmp_path: Path) -> None:
    def net(addend: float) -> bytes:
        graph = Graph()
        value = graph.input("value", (1, 4))
        graph.outputs = [graph.add("sum", value, graph.constant("addend", np.full((1, 4), addend, np.float32)))]
        return build_model([graph])

    path, base = tmp_path / "a.tflite", tmp_path / "b.tflite"
    path.write_bytes(net(1))
    base.write_bytes(net(3))
    model = LiteRTModel(constants_from(path, base, [("sum", "sum")]))
    np.testing.assert_array_equal(run(model, [np.zeros((1, 4), np.float32)])[0], [[3, 3, 3, 3]])


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([("nothing", "stem")], "no op named 'nothing'"),
        ([("stem", "nothing")], "no op named 'nothing'"),
        ([("stem", "depthwise")], r"float32\[1,3,3,4\] of the baseline does not fit float32\[4,3,3,3\]"),
        ([("residual", "residual")], "no constants to replace"),
    ],
)
def test_what_does_not_fit_is_told(float_net: Path, pairs: list[tuple[str, str]], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        constants_from(float_net, float_net, pairs)
    found = RUNTIME.interventions.constants_from(entry(float_net), entry(float_net), pairs)
    assert isinstance(found, Impossible) and found.reason.startswith("its constants cannot be replaced: ")


def test_weights_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    path, base = tmp_path / "int8.tflite", tmp_path / "float.tflite"
    path.write_bytes(dense_int8())
    base.write_bytes(dense(WEIGHTS * np.float32("nan"), BIAS))
    with pytest.raises(ModelError, match="not all numbers"):
        constants_from(path, base, [("logits", "logits")])


def test_integer_weights_of_other_forms() -> None:
    weights = np.array([[-1.0, 0.57, 0.25], [0.0, 2.0, 3.0]])
    int4 = quantized(weights, "int4", 0)
    assert int4.scales is not None
    np.testing.assert_allclose(int4.scales, np.array([1, 3]) / 7, rtol=1e-6)
    assert int4.codes.tolist() == [0x49, 0x02, 0x75]  # (-7, 4), (2, 0), (5, 7), the first in the low half
    int16 = quantized(weights, "int16", None)
    assert int16.codes.dtype == np.int16 and int16.codes.max() == 32767
    uint8 = quantized(weights, "uint8", None)
    assert uint8.scales is not None and uint8.zero_points is not None
    steps = (uint8.codes.astype(float) - uint8.zero_points) * uint8.scales
    np.testing.assert_allclose(steps, weights, atol=4 / 255 / 2 + 1e-6)
    zeros = quantized(np.zeros((2, 3)), "int8", 0)
    assert not zeros.codes.any() and zeros.scales is not None and (zeros.scales > 0).all()
    assert packed_codes(np.array([1, -2, 0, -1, 1], np.int8), 2).tolist() == [0b11001001, 0b01]


def test_the_sections(float_net: Path, tmp_path: Path) -> None:
    other = with_weights(float_net, tmp_path / "other.tflite", 1.7)
    for before in (entry(other, threads=2), made_entry(other, "int8-dynamic")):
        section = RUNTIME.interventions.constants_from(before, made_entry(float_net, "float32"), [("stem", "stem")])
        assert not isinstance(section, Impossible)
        assert section["name"].startswith(f"{before.name}+constants-")
        assert section.get("threads") == before.section.get("threads") and "method" not in section
        assert LiteRTModel(Path(section["file"])).loaded.outputs[0].name == "probabilities"


def test_a_blockwise_tensor_is_refused(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.input("value", (1, 64))
    scales = graph.constant("scales", np.ones((2, 2), np.float16))
    weights = graph.constant(
        "weights", np.ones((2, 64), np.int8), "int4", quantization=Quantization(block_size=32, scales_tensor=scales)
    )
    output = graph.tensor("logits", (1, 2))
    graph.op("FULLY_CONNECTED", [value, weights, -1], [output], schema.FullyConnectedOptionsT(), 13)
    graph.outputs = [output]
    path, base = tmp_path / "blocks.tflite", tmp_path / "float.tflite"
    path.write_bytes(build_model([graph]))
    base.write_bytes(dense(np.ones((2, 64), np.float32), None))
    with pytest.raises(ModelError, match="blockwise"):
        constants_from(path, base, [("logits", "logits")])

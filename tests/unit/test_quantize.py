"""Variants of a float .tflite: each runs, stays close to the float model, and is the same bytes each time."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qprof.errors import DataError, ModelError
from qprof.runtimes import tool_output
from qprof.runtimes.litert import calibrate, float_model, quantize

pytest.importorskip("ai_edge_quantizer")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")
builder = pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")

IMAGE = (1, 16, 16, 3)


def images(count: int, shape: tuple[int, ...] = IMAGE, high: float = 1.0) -> list[list[NDArray[np.float32]]]:
    random = np.random.default_rng(7)
    return [[random.uniform(0, high, shape).astype(np.float32)] for _ in range(count)]


def run(path: Path, *inputs: NDArray[Any]) -> NDArray[np.float64]:
    """The first output as real numbers; float inputs are quantized as the model declares."""
    model = interpreter.Interpreter(str(path), num_threads=2)
    model.allocate_tensors()
    for detail, values in zip(model.get_input_details(), inputs, strict=True):
        if detail["dtype"] != values.dtype:
            scale, zero_point = detail["quantization"]
            limits = np.iinfo(detail["dtype"])
            values = np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])
        model.set_tensor(detail["index"], values)
    model.invoke()
    detail = model.get_output_details()[0]
    stored = model.get_tensor(detail["index"]).astype(np.float64)
    scale, zero_point = detail["quantization"]
    return stored if scale == 0 else (stored - zero_point) * scale


def io_types(path: Path) -> tuple[str, str]:
    model = interpreter.Interpreter(str(path))
    return model.get_input_details()[0]["dtype"].__name__, model.get_output_details()[0]["dtype"].__name__


def float_tensors(path: Path) -> set[str]:
    """Names of the float32 tensors of a model."""
    model = interpreter.Interpreter(str(path))
    return {tensor["name"] for tensor in model.get_tensor_details() if tensor["dtype"] == np.float32}


def block_size(path: Path, name: str) -> int:
    utilities = pytest.importorskip("ai_edge_litert.tools.flatbuffer_utils")
    graph = utilities.read_model_from_bytearray(path.read_bytes()).subgraphs[0]
    tensor = next(tensor for tensor in graph.tensors if tensor.name == name.encode())
    return int(tensor.quantization.details.blockSize)


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(builder.tiny_conv_net(channels=64))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "variant.tflite"


@pytest.mark.parametrize("method", quantize.METHODS)
def test_every_method_runs_and_stays_close(net: Path, out: Path, method: str) -> None:
    made = quantize.make(method, net, out, calibration=images(20))
    sample = images(1)[0][0]
    # int4 has 15 levels and no calibration; the others have at least 255.
    assert cosine(run(made.path, sample), run(net, sample)) > (0.97 if "int4" in method else 0.999)
    assert made.path == out and made.bytes == out.stat().st_size and made.method == method
    assert (made.tool_version == "") == (method == "float32")


def test_fewer_bits_make_a_smaller_file(net: Path, out: Path) -> None:
    order = ["float32", "float16", "int8-dynamic", "int4-dynamic"]
    sizes = [quantize.make(method, net, out).bytes for method in order]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4


def test_float32_is_the_file_itself(net: Path, out: Path) -> None:
    quantize.make("float32", net, out)
    assert out.read_bytes() == net.read_bytes()


@pytest.mark.parametrize(
    ("method", "io", "expected"),
    [
        ("int8", None, "int8"),
        ("int8", "int8", "int8"),
        ("int8", "float", "float32"),
        ("int16x8", None, "int16"),
        ("int16x8", "int16", "int16"),
        ("int16x8", "float", "float32"),
        ("int8:CONV_2D", None, "float32"),
        ("int8-dynamic", "float", "float32"),
    ],
)
def test_io(net: Path, out: Path, method: str, io: str | None, expected: str) -> None:
    made = quantize.make(method, net, out, calibration=images(4), io=io)
    assert io_types(out) == (expected, expected)
    assert made.settings["io"] == ("float" if expected == "float32" else expected)


@pytest.mark.parametrize(("method", "io"), [("int16x8", "int8"), ("int8", "int16"), ("float16", "int8")])
def test_impossible_io_is_refused(net: Path, out: Path, method: str, io: str) -> None:
    with pytest.raises(ModelError, match=f"{method}.*'{io}' is not possible"):
        quantize.make(method, net, out, calibration=images(1), io=io)
    assert not out.exists()


def test_a_model_without_signature_is_calibrated(tmp_path: Path, out: Path) -> None:
    graph = builder.Graph()
    source = graph.input("x", (1, 8))
    graph.outputs = [graph.fully_connected("y", source, graph.constant("w", np.eye(8, dtype=np.float32)))]
    path = tmp_path / "bare.tflite"
    path.write_bytes(builder.build_model([graph]))
    ramp = np.linspace(-1, 1, 8, dtype=np.float32)[None]
    quantize.make("int8", path, out, calibration=[[ramp]], io="float")
    np.testing.assert_allclose(run(out, ramp), ramp, atol=2 / 255)


def test_op_codes_of_old_files_are_read(tmp_path: Path, out: Path) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    utilities = pytest.importorskip("ai_edge_litert.tools.flatbuffer_utils")
    model = utilities.read_model_from_bytearray(builder.tiny_conv_net())
    for code in model.operatorCodes:
        code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, schema.BuiltinOperator.ADD
    path = tmp_path / "old.tflite"
    path.write_bytes(bytes(utilities.convert_object_to_bytearray(model)))
    assert float_model.read(path).op_types()["CONV_2D"] == 1
    quantize.make("int8", path, out, calibration=images(4))
    assert io_types(out) == ("int8", "int8")


def test_several_inputs_take_the_samples_in_their_order(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "two.tflite"
    path.write_bytes(builder.multi_io_net())
    small, large = np.full((1, 8), 0.5, np.float32), np.full((1, 8), 50, np.float32)
    quantize.make("int8", path, out, calibration=[[small, large], [-small, -large]], ranges="min-max")
    details = interpreter.Interpreter(str(out)).get_input_details()
    scales = {detail["name"]: detail["quantization"][0] for detail in details}
    assert scales["left"] == pytest.approx(1 / 255, rel=1e-2)
    assert scales["right"] == pytest.approx(100 / 255, rel=1e-2)


def test_open_batch_is_kept(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "open.tflite"
    path.write_bytes(builder.dynamic_batch_net())
    quantize.make("int8", path, out, calibration=images(3))
    detail = interpreter.Interpreter(str(out)).get_input_details()[0]
    assert list(detail["shape_signature"]) == [-1, 16, 16, 3]


def test_loop_bodies_stay_float_and_are_noted(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "while.tflite"
    path.write_bytes(_net_before_a_loop())
    value = np.linspace(0, 1, 4, dtype=np.float32)[None]
    counter = np.zeros(1, np.int32)
    made = quantize.make("int8", path, out, calibration=[[counter, value]], io="float")
    model = interpreter.Interpreter(str(out))
    model.allocate_tensors()
    for detail, array in zip(model.get_input_details(), (counter, value), strict=True):
        model.set_tensor(detail["index"], array)
    model.invoke()
    result = model.get_tensor(model.get_output_details()[1]["index"])
    np.testing.assert_allclose(result, value * 2 + 5 * 1.5, atol=0.05)
    assert any("loop bodies" in note for note in made.notes)


def _net_before_a_loop() -> bytes:
    """value -> FULLY_CONNECTED by 2 * identity -> a loop that adds 1.5 five times."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    main = builder.Graph("main")
    counter = main.input("counter", (1,), "int32")
    value = main.input("value", (1, 4))
    double = main.fully_connected("double", value, main.constant("w", 2 * np.eye(4, dtype=np.float32)))
    main.outputs = [main.tensor("counter_end", (1,), "int32"), main.tensor("result", (1, 4))]
    main.op("WHILE", [counter, double], main.outputs, schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=2))
    condition = builder.Graph("cond")
    count = condition.input("cond/counter", (1,), "int32")
    condition.input("cond/value", (1, 4))
    condition.outputs = [condition.tensor("cond/more", (1,), "bool")]
    limit = condition.constant("cond/limit", np.array([5], np.int32))
    condition.op("LESS", [count, limit], condition.outputs, schema.LessOptionsT())
    body = builder.Graph("body")
    count, state = body.input("body/counter", (1,), "int32"), body.input("body/value", (1, 4))
    one, step = body.constant("one", np.array([1], np.int32)), body.constant("step", np.full((1, 4), 1.5, np.float32))
    body.outputs = [body.add("body/next", count, one), body.add("body/sum", state, step)]
    return bytes(builder.build_model([main, condition, body]))


def test_a_second_signature_stays_float(tmp_path: Path, out: Path) -> None:
    graphs, signatures = [], []
    for number, name in enumerate(("first", "second")):
        graph = builder.Graph(name)
        x = graph.input(f"{name}/x", (1, 4))
        y = graph.fully_connected(f"{name}/y", x, graph.constant(f"{name}/w", np.eye(4, dtype=np.float32)))
        graph.outputs = [y]
        graphs.append(graph)
        signatures.append(builder.Signature(name, {"x": x}, {"y": y}, number))
    path = tmp_path / "two.tflite"
    # The signature of the first subgraph need not be listed first.
    path.write_bytes(builder.build_model(graphs, signatures=signatures[::-1]))
    ramp = np.linspace(0, 1, 4, dtype=np.float32)[None]
    quantize.make("int8", path, out, calibration=[[ramp]], io="float")
    model = interpreter.Interpreter(str(out))
    for name in ("first", "second"):
        result = model.get_signature_runner(name)(x=ramp)["y"]
        np.testing.assert_allclose(result, ramp, atol=1 / 128 if name == "first" else 1e-6)


def test_selected_op_types_alone_are_quantized(net: Path, out: Path) -> None:
    made = quantize.make("int8-dynamic:FULLY_CONNECTED", net, out)
    floats = float_tensors(out)
    assert "logits/weights" not in floats and {"stem/kernel", "depthwise/kernel"} <= floats
    assert made.settings["ops"] == ["FULLY_CONNECTED"] and made.notes == []
    named = quantize.make("int8-dynamic", net, out, ops=["FULLY_CONNECTED"])
    assert named.sha256 == made.sha256


def test_skipped_op_types_and_layers_stay_float(net: Path, out: Path) -> None:
    quantize.make("int8-dynamic", net, out, skip_ops=["DEPTHWISE_CONV_2D"])
    assert "depthwise/kernel" in float_tensors(out) and "stem/kernel" not in float_tensors(out)
    quantize.make("int8-dynamic", net, out, skip_layers=["st?m"])
    assert "stem/kernel" in float_tensors(out) and "depthwise/kernel" not in float_tensors(out)
    made = quantize.make("int8", net, out, calibration=images(3), skip_layers=["logits"])
    assert "logits" in float_tensors(out) and "pooled" not in float_tensors(out)
    assert made.notes == []


def test_a_layer_that_is_called_like_a_pattern_is_that_layer_alone(tmp_path: Path, out: Path) -> None:
    graph = builder.Graph()
    node = graph.input("x", (1, 64))
    for name in ("a[1]", "a1"):
        node = graph.fully_connected(name, node, graph.constant(f"{name}/w", np.eye(64, dtype=np.float32)))
    graph.outputs = [node]
    path = tmp_path / "named.tflite"
    path.write_bytes(builder.build_model([graph]))
    quantize.make("int8-dynamic", path, out, skip_layers=["a[1]"])
    assert "a[1]/w" in float_tensors(out) and "a1/w" not in float_tensors(out)


def test_ops_the_tool_leaves_in_float_are_noted(net: Path, out: Path) -> None:
    notes = quantize.make("int4-dynamic", net, out).notes
    assert len(notes) == 1 and "DEPTHWISE_CONV_2D x1" in notes[0]
    assert quantize.make("int8-dynamic", net, out).notes == []
    assert quantize.make("int4-dynamic", net, out, skip_ops=["DEPTHWISE_CONV_2D"]).notes == []


def test_granularity(net: Path, out: Path) -> None:
    def scales(name: str) -> int:
        model = interpreter.Interpreter(str(out))
        tensor = next(tensor for tensor in model.get_tensor_details() if tensor["name"] == name)
        return len(tensor["quantization_parameters"]["scales"])

    quantize.make("int8-dynamic", net, out)
    assert scales("stem/kernel") == 64
    quantize.make("int8-dynamic", net, out, granularity="tensorwise")
    assert scales("stem/kernel") == 1
    made = quantize.make("int4-dynamic", net, out, granularity="blockwise-32")
    assert scales("stem/kernel") == 64  # convolutions stay channelwise
    assert block_size(out, "logits/weights") == 32
    assert any("1 of 3 ops" in note for note in made.notes)
    sample = images(1)[0][0]
    assert cosine(run(out, sample), run(net, sample)) > 0.97


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("int9", {}, "unknown method 'int9'; did you mean 'int8'"),
        ("int8-dynamic:", {}, "names no op type"),
        ("int8-dynamic:CONV2D", {}, "did you mean 'CONV_2D'"),
        ("int8-dynamic:CONV_2D", {"ops": ["CONV_2D"]}, "use one of the two"),
        ("int8-dynamic", {"skip_ops": ["LSTM"]}, "has no op of type 'LSTM'"),
        ("int8-dynamic", {"skip_layers": ["nosuch*"]}, "no layer matches 'nosuch"),
        ("int8-dynamic", {"skip_layers": ["depthwsie"]}, "no layer matches 'depthwsie'; did you mean 'depthwise'"),
        ("int8-dynamic:SOFTMAX", {}, "cannot quantize SOFTMAX"),
        ("int8-dynamic", {"granularity": "rowwise"}, "unknown granularity 'rowwise'"),
        ("int8-dynamic", {"granularity": "blockwise-32"}, "blockwise exists for int4-dynamic alone"),
        ("float16", {"granularity": "tensorwise"}, "granularity does not apply"),
        ("float32", {"skip_ops": ["CONV_2D"]}, "nothing is quantized"),
        ("int4-dynamic", {"skip_ops": ["CONV_2D", "FULLY_CONNECTED"]}, "quantized nothing"),
        ("int8", {"ranges": "mean"}, "unknown calibration ranges 'mean'"),
    ],
)
def test_options_that_do_not_fit(net: Path, out: Path, method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        quantize.make(method, net, out, calibration=images(1), **options)
    assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (None, "needs calibration samples"),
        ([], "got no sample"),
        ([[np.zeros(IMAGE, np.float32)] * 2], "has 2 arrays, the model has 1 inputs"),
        ([[np.full(IMAGE, np.nan, np.float32)]], "sample 0 holds NaN"),
    ],
)
def test_calibration_that_does_not_fit(net: Path, out: Path, samples: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        quantize.make("int8", net, out, calibration=samples)


def test_calibration_of_the_wrong_shape_is_one_line(net: Path, out: Path) -> None:
    with pytest.raises(ModelError, match="calibration failed at sample 1") as caught:
        quantize.make("int8", net, out, calibration=[*images(1), [np.zeros((1, 5), np.float32)]])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00\x00\x00\x00TFL3", b"\xff\xff\xff\x7fTFL3" + b"\xff" * 64])
def test_files_that_are_no_model(tmp_path: Path, out: Path, content: bytes) -> None:
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.tflite") as caught:
        quantize.make("float16", path, out)
    assert "\n" not in str(caught.value)


def test_missing_and_truncated_files(net: Path, tmp_path: Path, out: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        quantize.make("float16", tmp_path / "absent.tflite", out)
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(net.read_bytes()[:900])
    with pytest.raises(ModelError, match=r"cut\.tflite"):
        quantize.make("float16", cut, out)


@pytest.mark.parametrize("method", ["float32", "int8-dynamic"])
def test_a_quantized_source_is_refused(tmp_path: Path, net: Path, out: Path, method: str) -> None:
    quantized = tmp_path / "q.tflite"
    quantized.write_bytes(builder.tiny_int8_net())
    half = quantize.make("float16", net, tmp_path / "half.tflite").path
    for source in (quantized, half):
        with pytest.raises(ModelError, match=r"already quantized.*method 'file'"):
            quantize.make(method, source, out)


def test_an_unknown_custom_op_is_refused(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "custom.tflite"
    path.write_bytes(builder.custom_op_net())
    with pytest.raises(ModelError, match="LiteRT cannot load it"):
        quantize.make("int8-dynamic", path, out)


def test_ranges_by_known_answer(net: Path) -> None:
    model = float_model.read(net)
    zeros, ones = [np.zeros(IMAGE, np.float32)], [np.ones(IMAGE, np.float32)]
    extremes = calibrate.calibrate(model, [zeros, ones], ranges="min-max").by_tensor["image"]
    assert (float(extremes["min"].min()), float(extremes["max"].max())) == (0.0, 1.0)
    averaged = calibrate.calibrate(model, [zeros, ones]).by_tensor["image"]
    assert float(averaged["max"].max()) == pytest.approx(0.05)  # 0.95 * 0 + 0.05 * 1


def test_both_ways_of_calibrating_agree(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_quantizer import calibrator

    model = float_model.read(net)
    fast = calibrate.calibrate(model, images(5))
    made = calibrator.Calibrator.__new__
    modes: list[Any] = []

    def recording(cls: Any, *arguments: Any, **options: Any) -> Any:
        if cls is calibrator.Calibrator:
            modes.append(options["mode"])
        return made(cls, *arguments, **options)

    monkeypatch.setattr(calibrator.Calibrator, "__new__", recording)
    # A tensor that neither way knows sends the calibration to the second one.
    unknown = dataclasses.replace(model, activations=model.activations | {"nowhere"})
    slow = calibrate.calibrate(unknown, images(5))
    assert modes[-1] is calibrator.CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS
    for name in model.activations:
        for end in ("min", "max"):
            expected = float(np.ravel(slow.by_tensor[name][end])[0])
            assert float(np.ravel(fast.by_tensor[name][end])[0]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_same_inputs_same_bytes_in_another_process(net: Path, out: Path) -> None:
    code = (
        "import sys, pathlib, numpy as np\n"
        "from qprof.runtimes.litert import quantize\n"
        "random = np.random.default_rng(7)\n"
        "samples = [[random.uniform(0, 1, (1, 16, 16, 3)).astype(np.float32)] for _ in range(5)]\n"
        "for method in quantize.METHODS:\n"
        "    made = quantize.make(method, pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), calibration=samples)\n"
        "    print(method, made.sha256)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", code, str(net), str(out)], env=environment, capture_output=True, text=True, check=True
    )
    here = [f"{m} {quantize.make(m, net, out, calibration=images(5)).sha256}" for m in quantize.METHODS]
    assert finished.stdout.splitlines() == here  # and nothing else was printed


def test_what_a_tool_prints_goes_to_the_log(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"), tool_output.tool_output_to_log():
        print("to stdout")
        print("50%\r100%", file=sys.stderr)
        warnings.warn("careful", stacklevel=1)
    assert capsys.readouterr() == ("", "")
    assert caplog.messages == ["to stdout", "50%", "100%", "careful"]


def test_a_failed_write_leaves_nothing(net: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        quantize.make("float16", net, blocked / "variant.tflite")
    target = tmp_path / "folder"
    (target / "taken.tflite").mkdir(parents=True)
    with pytest.raises(ModelError, match="cannot be written"):
        quantize.make("float16", net, target / "taken.tflite")
    assert [path.name for path in target.iterdir()] == ["taken.tflite"]


@pytest.mark.parametrize(("name", "high"), [("vww_96_float", 1.0), ("pretrainedResnet", 255.0), ("yolox_nano", 255.0)])
def test_real_models(qprof_data: Path, tmp_path: Path, name: str, high: float) -> None:
    source = qprof_data / "models" / f"{name}.tflite"
    detail = interpreter.Interpreter(str(source)).get_input_details()[0]
    samples = images(9, tuple(detail["shape"]), high)
    (sample,) = samples.pop()
    ranges = calibrate.calibrate(float_model.read(source), samples)
    expected = run(source, sample)
    sizes = {}
    for method in quantize.METHODS:
        made = quantize.make(method, source, tmp_path / f"{method}.tflite", calibration=ranges)
        sizes[method] = made.bytes
        # Four bits are too few for the ten-class ResNet; whether a variant is any good is for the task to say.
        least = {"int8": 0.97, "int8-dynamic": 0.97, "int4-dynamic": 0.9, "int4-weight-only": 0.9}.get(method, 0.995)
        if not (name == "pretrainedResnet" and "int4" in method):
            assert cosine(run(made.path, sample), expected) > least, method
    assert sizes["float32"] > sizes["float16"] > sizes["int8"] > sizes["int4-dynamic"]
    assert sizes["int8-weight-only"] > sizes["int4-weight-only"]


def test_a_reason_without_end_is_cut() -> None:
    from qprof.runtimes.tool_output import first_line

    assert first_line(ValueError("short\nsecond")) == "short"
    assert first_line(ValueError("x" * 5000)) == "x" * 200 + " ..."
    assert first_line(ValueError("")) == "ValueError"

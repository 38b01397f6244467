"""The ONNX runtime: outputs of the plain ONNX Runtime, ops that add up and are called alike, files that do no harm."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
msgspec = pytest.importorskip("msgspec")

import onnx_models  # noqa: E402
from qprof.errors import DataError, ModelError, ProfileError  # noqa: E402
from qprof.record.ops import FUSED, OpMeta  # noqa: E402
from qprof.runtimes import registry  # noqa: E402
from qprof.runtimes.base import Calibration, Side  # noqa: E402
from qprof.runtimes.interventions import Impossible  # noqa: E402
from qprof.runtimes.match_ops import match_ops  # noqa: E402
from qprof.runtimes.onnx import model_file, profiled, trace  # noqa: E402
from qprof.runtimes.onnx.facts import inputs_of, run_facts  # noqa: E402
from qprof.runtimes.onnx.names import bare  # noqa: E402
from qprof.runtimes.onnx.op_types import count_macs  # noqa: E402
from qprof.runtimes.onnx.profiled import ProfiledOnnxModel  # noqa: E402
from qprof.runtimes.onnx.sections import OnnxModelSection, OnnxOptions  # noqa: E402
from qprof.runtimes.onnx.session import OnnxModel  # noqa: E402
from qprof.runtimes.onnx.stored import stored_files  # noqa: E402

RUNTIME = registry.get("onnx")
SHAPE = (1, 3, onnx_models.SIZE, onnx_models.SIZE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return saved(onnx_models.residual_net(), tmp_path / "net.onnx")


def saved(model: Any, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def plain(path: Path, *arrays: Any) -> list[Any]:
    """What ONNX Runtime itself gives, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {one.name: array for one, array in zip(session.get_inputs(), arrays, strict=True)})


def options(path: Path, **more: Any) -> OnnxOptions:
    return OnnxOptions(**run_facts(model_file.read(path)), **more)


def outputs(path: Path, *arrays: Any, **more: Any) -> list[Any]:
    model = OnnxModel(path, options(path, **more))
    model.set_inputs(arrays)
    model.invoke()
    return model.outputs()


def made(path: Path, count: int = 6, **keys: Any) -> Any:
    """A variant of a model, calibrated on `count` samples."""
    samples = [[onnx_models.sample(SHAPE, seed)] for seed in range(count)]
    section = msgspec.convert(keys, RUNTIME.variant_section(keys))
    maker = RUNTIME.maker(OnnxModelSection(path=str(path)), "cpu")
    return maker.make(section, Calibration(lambda: iter(samples), f"{count}"))


def ops_of_variant(variant: Any) -> list[OpMeta]:
    """Its ops as it is to be run."""
    return ops_of(variant.path, disabled=list(variant.run.get("disabled", ())))


def ops_of(path: Path, shape: tuple[int, ...] = SHAPE, **more: Any) -> list[OpMeta]:
    model = ProfiledOnnxModel(path, options(path, **more))
    model.set_inputs([onnx_models.sample(shape)])
    return model.discover()


# -- outputs ----------------------------------------------------------------------------------------------------------


def test_outputs_are_those_of_plain_onnx_runtime(net: Path):
    x = onnx_models.sample(SHAPE)
    assert np.array_equal(outputs(net, x)[0], plain(net, x)[0])


def test_an_open_batch_is_one_unless_asked_for(tmp_path: Path):
    path = saved(onnx_models.residual_net(batch="N"), tmp_path / "open.onnx")
    model = OnnxModel(path, options(path))
    assert model.loaded.inputs[0].shape == SHAPE and model.loaded.inputs[0].shape_signature == (-1, *SHAPE[1:])
    assert model.loaded.outputs[0].shape == (1, 10)
    x = onnx_models.sample((4, *SHAPE[1:]))
    four = options(path, input_shapes={"x": [4, *SHAPE[1:]]})
    model = OnnxModel(path, four)
    model.set_inputs([x])
    model.invoke()
    assert model.outputs()[0].shape == model.loaded.outputs[0].shape == (4, 10)
    assert np.array_equal(model.outputs()[0], plain(path, x)[0])
    with pytest.raises(ModelError, match="cannot have input 'x' as"):
        OnnxModel(path, options(path, input_shapes={"x": [4, 4, 4, 4]}))
    with pytest.raises(ModelError, match="has no input 'z'; its inputs are 0 = x"):
        OnnxModel(path, options(path, input_shapes={"z": [1]}))


def test_what_quantized_inputs_and_outputs_stand_for_is_known(tmp_path: Path):
    path = saved(onnx_models.quantized_io_net(), tmp_path / "io.onnx")
    loaded = OnnxModel(path, options(path)).loaded
    assert (loaded.inputs[0].dtype, loaded.inputs[0].scale, loaded.inputs[0].zero_point) == ("uint8", 0.5, 128)
    assert (loaded.outputs[0].dtype, loaded.outputs[0].scale, loaded.outputs[0].zero_point) == ("int8", 0.25, -3)
    assert inputs_of(path) == loaded.inputs


def test_a_wrong_array_is_refused(net: Path):
    model = OnnxModel(net, options(net))
    with pytest.raises(ModelError, match=r"float64\[1, 3, 16, 16\] for input 'x' of float32"):
        model.set_inputs([onnx_models.sample(SHAPE).astype(np.float64)])
    with pytest.raises(ModelError, match="2 arrays for 1 inputs"):
        model.set_inputs([onnx_models.sample(SHAPE)] * 2)


# -- variants ---------------------------------------------------------------------------------------------------------


def test_int8_is_what_onnxruntime_quantizes(net: Path, tmp_path: Path):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter([{"x": onnx_models.sample(SHAPE, seed)} for seed in range(6)])

        def get_next(self) -> Any:
            return next(self.left, None)

    quant_pre_process(str(net), str(tmp_path / "pre.onnx"), skip_symbolic_shape=True)
    quantize_static(
        str(tmp_path / "pre.onnx"),
        str(tmp_path / "theirs.onnx"),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )
    ours = made(net, name="int8")
    x = onnx_models.sample(SHAPE, 99)
    assert ours.path.read_bytes() == (tmp_path / "theirs.onnx").read_bytes()
    assert np.array_equal(outputs(ours.path, x)[0], plain(tmp_path / "theirs.onnx", x)[0])
    assert ours.tool == "onnxruntime" and ours.tool_version == ort.__version__


@pytest.mark.parametrize(("method", "least_db"), [("float16", 50.0), ("int8", 20.0), ("int8-dynamic", 20.0)])
def test_variants_are_near_the_float_model(net: Path, method: str, least_db: float):
    x = onnx_models.sample(SHAPE, 99)
    truth, value = plain(net, x)[0], outputs(made(net, name=method).path, x)[0]
    noise = float(np.square(truth - value).sum())
    assert noise > 0 and 10 * np.log10(np.square(truth).sum() / noise) > least_db
    assert made(net, name=method).bytes < net.stat().st_size


def test_a_variant_is_made_once_and_the_same_again(net: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    first = made(net, name="int8")
    assert made(net, name="int8").path == first.path
    assert made(net, name="int8", count=3).path != first.path, "other samples are another variant"
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "another"))
    again = made(net, name="int8")
    assert again.path != first.path and again.sha256 == first.sha256


def test_layers_and_types_are_left_in_float(net: Path):
    quantized = {op.name: op.quantization for op in ops_of(made(net, name="int8").path)}
    assert quantized["body"] == "int8 weights per-channel, uint8 activations"
    variant = made(net, name="a", method="int8", skip_layers=["body"])
    skipped = {op.name: op for op in ops_of_variant(variant)}
    # By itself ONNX Runtime quantizes the weights that were left in float.
    assert {op.name: op.quantization for op in ops_of(variant.path)}["body"] and "disabled_optimizers" in variant.notes[
        0
    ]
    assert skipped["body"].quantization is None and skipped["stem"].quantization == quantized["stem"]
    types = {op.name: op for op in ops_of_variant(made(net, name="b", method="int8", skip_ops=["Conv"]))}
    assert types["stem"].quantization is types["body"].quantization is None and types["head"].quantization
    with pytest.raises(ModelError, match="the model has no layer 'tail'"):
        made(net, name="c", method="int8", skip_layers=["tail"])
    with pytest.raises(ModelError, match="the model has no op 'LSTM'; it has Add, Conv"):
        made(net, name="d", method="int8", skip_ops=["LSTM"])


def test_what_cannot_be_made_says_so(net: Path):
    with pytest.raises(ModelError, match="is quantized already"):
        made(made(net, name="int8").path, name="float32")
    with pytest.raises(DataError, match="gives no calibration samples"):
        made(net, name="int8", count=0)
    with pytest.raises(ProfileError, match="there is no method 'int7' for an ONNX model"):
        RUNTIME.variant_section({"name": "int7"})


# -- ops --------------------------------------------------------------------------------------------------------------


def test_ops_add_up_to_the_inference_that_they_lie_in(net: Path):
    model = ProfiledOnnxModel(net, options(net))
    model.set_inputs([onnx_models.sample((1, 3, 16, 16))])
    ops = model.discover()
    for _ in range(5):
        model.invoke()  # without a number: left out
    spans = []
    for number in range(20):
        model.begin(number)
        start = perf_counter_ns()
        model.run_once()
        spans.append((start, perf_counter_ns()))
        model.end()
    events = model.drain()
    ran = [op for op in ops if op.kernel != FUSED]
    assert len(events.op) == 20 * len(ran) and {ops[i].op for i in events.op} == {op.op for op in ran}
    starts, ends = np.array(spans).T
    floor_ns = 1000  # both its beginning and its length are whole microseconds
    assert (events.start_ns >= starts[events.inference] - floor_ns).all()
    assert (events.start_ns + events.duration_ns <= ends[events.inference] + floor_ns).all()
    whole = np.bincount(events.inference, weights=events.duration_ns)
    assert (whole <= (ends - starts) + 1000 * len(ran)).all() and whole.min() > 0
    assert all(op.resolution_us == 0.5 for op in ran)
    assert model.lost_events() == 0 and model.drain().op.size == 0


def test_a_long_block_takes_several_sessions(net: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(profiled, "_MOST_EVENTS", 60)
    model = ProfiledOnnxModel(net, options(net))
    model.set_inputs([onnx_models.sample(SHAPE)])
    ran = [op for op in model.discover() if op.kernel != FUSED]
    sessions = set()
    for number in range(30):
        model.begin(number)
        model.run_once()
        sessions.add(id(model.session))
    events = model.drain()
    assert len(sessions) > 1
    assert np.array_equal(np.bincount(events.inference), np.full(30, len(ran)))
    assert np.array_equal(model.outputs()[0], plain(net, onnx_models.sample(SHAPE))[0])


def test_float_and_int8_ops_are_called_by_their_weights(net: Path):
    float_ops, int8_ops = ops_of(net), ops_of(made(net, name="int8").path)
    assert {"stem", "body", "head"} <= {op.name for op in float_ops} & {op.name for op in int8_ops}
    match = match_ops(float_ops, int8_ops)
    pairs = {(float_ops[i].name, int8_ops[j].name) for i, j in match.pairs}
    assert {("stem", "stem"), ("body", "body"), ("head", "head"), ("add", "add")} <= pairs
    by_name = {op.name: op for op in int8_ops}
    assert by_name["stem"].kernel is not None and by_name["stem"].kernel.startswith("QLinearConv")
    assert by_name["stem"].type == "Conv" and by_name["body"].macs == 16 * 16 * 16 * 16 * 9
    assert {op.name: op.macs for op in float_ops}["body"] == 16 * 16 * 16 * 16 * 9


def test_nodes_that_were_fused_are_told(net: Path):
    by_name = {op.name: op for op in ops_of(net)}
    assert by_name["relu1"].kernel == FUSED and by_name["relu1"].resolution_us is None
    as_it_is = {op.name: op for op in ops_of(net, optimization="none")}
    assert as_it_is["relu1"].kernel == "Relu" and not [op for op in as_it_is.values() if op.kernel == FUSED]


def test_ops_of_a_loop_are_inside_it(tmp_path: Path):
    path = saved(onnx_models.loop_net(times=3), tmp_path / "loop.onnx")
    ops = ops_of(path, (4, 8))
    loop = next(op for op in ops if op.type == "Loop")
    step = next(op for op in ops if op.type == "MatMul")
    assert step.parent == loop.op and step.runs == 3.0 and step.subgraph == 1 and step.macs == 4 * 8 * 8
    assert step.resolution_us == 1.5


@pytest.mark.parametrize("names", ["", 'quo"te {}', "control\x01 {}"])
def test_nodes_without_a_name_of_their_own_are_timed(tmp_path: Path, names: str):
    proto = onnx_models.residual_net()
    for number, node in enumerate(proto.graph.node):
        node.name = names.format(number)
    path = saved(proto, tmp_path / "unnamed.onnx")
    ops = ops_of(path)
    assert {"stem", "body", "head"} <= {op.name for op in ops}
    x = onnx_models.sample(SHAPE)
    assert np.array_equal(outputs(path, x)[0], plain(path, x)[0])


def test_ops_that_leave_their_provider_are_told(net: Path):
    """An accelerator's events, as ONNX Runtime writes them: what falls back to the CPU has no delegate."""
    from qprof.runtimes.onnx.names import SourceGraph
    from qprof.runtimes.onnx.ops import describe_ops, optimized_nodes

    proto = model_file.read(net)
    shape: Any = {"float": [1, 16, 16, 16]}
    events = [
        trace.Event(
            name=f"{node.name}_kernel_time",
            cat="Node",
            ts=10 * place,
            dur=5,
            args=trace.Arguments(
                op_name=node.op_type,
                provider="CPUExecutionProvider" if node.op_type == "Add" else "CUDAExecutionProvider",
                input_type_shape=[shape],
                output_type_shape=[shape],
            ),
        )
        for place, node in enumerate(proto.graph.node)
    ]
    found = describe_ops(events, optimized_nodes(proto), SourceGraph(proto))
    assert {op.name: op.delegate for op in found.ops}["add"] is None
    assert {op.delegate for op in found.ops if op.name != "add"} == {"CUDA"}


def test_what_a_provider_has_compiled_is_one_partition(net: Path):
    """As ONNX Runtime's profile has it of OpenVINO: a name that is none of the file's, and the rest on the CPU."""
    from qprof.runtimes.onnx.names import SourceGraph
    from qprof.runtimes.onnx.ops import describe_ops

    def event(name: str, kind: str, provider: str, ts: int) -> trace.Event:
        told = trace.Arguments(op_name=kind, provider=f"{provider}ExecutionProvider")
        return trace.Event(name=f"{name}_kernel_time", cat="Node", ts=ts, dur=5, args=told)

    events = [
        event("OpenVINOExecutionProvider_OpenVINO-EP-subgraph_1_0", "OpenVINO-EP-subgraph_1", "OpenVINO", 0),
        event("add", "Add", "CPU", 10),
        event("OpenVINOExecutionProvider_OpenVINO-EP-subgraph_2_1", "OpenVINO-EP-subgraph_2", "OpenVINO", 20),
    ]
    found = describe_ops(events, {}, SourceGraph(model_file.read(net)))
    assert [(op.type, op.delegate, op.partition) for op in found.ops] == [
        ("Partition", "OpenVINO", 0),
        ("Add", None, None),
        ("Partition", "OpenVINO", 1),
    ]


def test_names_lose_what_rewriting_appends():
    assert bare("node_Conv_142_token_4") == "node_Conv_142"
    assert bare("relu_1_nchwc") == "relu_1"
    assert bare("blocks.0.weight_quantized") == "blocks.0.weight"
    assert bare("relu_QuantizeLinear_Output") == "relu"


def test_multiplications_by_hand():
    conv: Any = [(1, 3, 8, 8), (16, 3, 3, 3)]
    # The kernel's blocks hold 16 channels; the model has 4.
    assert count_macs("Conv", conv, [(1, 16, 8, 8)], (4, 3, 3, 3), {}, False) == 8 * 8 * 4 * 27
    assert count_macs("QLinearConv", [(1, 8, 8, 3)], [(1, 4, 4, 2)], (2, 3, 3, 3), {}, True) == 4 * 4 * 2 * 27
    assert count_macs("Gemm", [(5, 7)], [(5, 2)], (2, 7), {}, False) == 5 * 2 * 7
    assert count_macs("Gemm", [(7, 5)], [(5, 2)], (2, 7), {"transA": 1}, False) == 5 * 2 * 7
    assert count_macs("MatMulInteger", [(3, 5, 7)], [(3, 5, 2)], None, {}, False) == 3 * 5 * 2 * 7
    assert count_macs("Relu", [(3,)], [(3,)], None, {}, False) == 0
    assert count_macs("LSTM", [(3,)], [(3,)], None, {}, False) is None


# -- layers -----------------------------------------------------------------------------------------------------------


def compared(a: Path, b: Path) -> tuple[dict[str, str], dict[tuple[str, str], float]]:
    """Name -> type of the layers that were compared, and (kind, name) -> dB over two samples."""
    sides = [Side(OnnxModel(path, options(path)), options(path)) for path in (a, b)]
    first, second = ops_of(a), ops_of(b)
    pairs = [(first[i].op, second[j].op) for i, j in match_ops(first, second).pairs]
    layers = RUNTIME.compare_layers(sides[0], sides[1], pairs)
    names = {str(op["op"]): str(op["name"]) for op in layers.ops}
    sums: dict[tuple[str, str], list[float]] = {}

    def record(kind: str, op: str, reference: Any, value: Any, saturated: int | None) -> None:
        found = sums.setdefault((kind, names[op]), [0.0, 0.0])
        found[0] += float(np.square(reference).sum())
        found[1] += float(np.square(reference - value).sum())

    layers.weights(record)
    for seed in (1, 2):
        layers.sample([onnx_models.sample(SHAPE, seed)], record)
    decibels = {key: 10 * np.log10(signal / max(noise, 1e-30)) for key, (signal, noise) in sums.items()}
    return {str(op["name"]): str(op["type"]) for op in layers.ops}, decibels


@pytest.mark.parametrize("method", ["int8", "int8-dynamic", "float16"])
def test_layers_are_compared_by_the_tensors_that_both_have(net: Path, method: str):
    types, decibels = compared(net, made(net, name=method).path)
    assert types["stem"] == types["body"] == "Conv" and types["head"] in ("Gemm", "MatMul")
    assert {("weights", "stem"), ("weights", "body")} <= set(decibels)
    for name in ("stem", "body", "head"):
        assert 25 < decibels["own", name] < 100
        # A Gemm's weights are transposed for the MatMul that it becomes.
        assert 25 < decibels.get(("weights", name), 50.0) < 100
        # What comes before a layer adds to its error.
        assert decibels["cumulative", name] < decibels["own", name] + 1.0


def test_a_spoiled_layer_is_the_one_that_is_found(net: Path, tmp_path: Path):
    proto = onnx.load(str(net))
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == "stem.weight")
    spoiled = onnx.numpy_helper.to_array(tensor) * np.float32(1.2)
    tensor.CopyFrom(onnx.numpy_helper.from_array(spoiled, "stem.weight"))
    _, decibels = compared(net, saved(proto, tmp_path / "spoiled.onnx"))
    assert decibels["own", "stem"] < 20 and decibels["weights", "stem"] < 20 and decibels["cumulative", "body"] < 30
    assert decibels["own", "body"] > 100 and decibels["own", "head"] > 100, "given the baseline's inputs they are right"


def test_what_is_left_in_float_is_asked_for_by_name(net: Path):
    stem, body, head = (op for op in ops_of(net) if op.name in ("stem", "body", "head"))
    section = {"name": "int8"}
    one = RUNTIME.interventions.in_float(section, [stem], [stem, body, head])
    assert isinstance(one, dict) and one["skip_layers"] == ["stem"] and one["method"] == "int8"
    types = RUNTIME.interventions.in_float(section, [stem, body], [stem, body, head])
    assert isinstance(types, dict) and types["skip_ops"] == ["Conv"] and types["skip_layers"] == []
    assert {op.name: op.quantization for op in ops_of_variant(made(net, **types))}["body"] is None
    for ready in ({"name": "q", "file": "q.onnx"}, {"name": "float16"}):
        assert isinstance(RUNTIME.interventions.in_float(ready, [stem], [stem, body]), Impossible)


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_every_byte_is_in_one_part(net: Path):
    for path in (net, made(net, name="int8").path, made(net, name="float16").path):
        stored = stored_files(path)
        assert stored.bytes == path.stat().st_size == sum(part.bytes for part in stored.parts)
    int8 = stored_files(made(net, name="int8").path)
    body = next(part for part in int8.parts if part.name.startswith("body.weight_q"))
    assert (body.dtype, body.bytes, body.kind, body.op, body.at) == ("int8", 16 * 16 * 9, "tensor", "Conv", "body#1")
    assert any(part.kind == "scales" and part.dtype == "float32" for part in int8.parts)


# -- files that nobody vouches for ------------------------------------------------------------------------------------


def external(net: Path, location: str, folder: Path, size: int = 16 * 3 * 9 * 4, length: int | None = None) -> Path:
    """A copy of a model whose first weights lie in another file."""
    proto = onnx.load(str(net))
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == "stem.weight")
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "length": str(len(data) if length is None else length)}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    target = folder / location
    if not target.exists() and not location.startswith(("/", "..")):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data[:size])
    return saved(proto, folder / "external.onnx")


def test_tensors_beside_the_model_are_read_and_counted(net: Path, tmp_path: Path):
    path = external(net, "data/weights.bin", tmp_path)
    x = onnx_models.sample(SHAPE)
    assert np.array_equal(outputs(path, x)[0], plain(net, x)[0])
    assert {"stem", "body"} <= {op.name for op in ops_of(path)}
    ready = made(net, name="q", file=str(path))
    assert ready.bytes == path.stat().st_size + 16 * 3 * 9 * 4
    before = ready.sha256
    (tmp_path / "data" / "weights.bin").write_bytes(bytes(16 * 3 * 9 * 4))
    assert made(net, name="q", file=str(path)).sha256 != before, "other weights are another model"


def test_tensors_outside_the_models_folder_are_refused(net: Path, tmp_path: Path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    for location in ("../secret.bin", str(tmp_path / "secret.bin")):
        with pytest.raises(ModelError, match="is no file of its own in the model's folder"):
            model_file.read(external(net, location, inner))
    (inner / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="is no file of its own in the model's folder"):
        model_file.read(external(net, "link.bin", inner))


def test_tensors_that_are_missing_or_too_short_are_refused(net: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="which has 100 bytes; copy the whole file"):
        model_file.read(external(net, "short.bin", tmp_path, size=100))
    path = external(net, "gone.bin", tmp_path)
    (tmp_path / "gone.bin").unlink()
    with pytest.raises(ModelError, match=r"is in 'gone\.bin', which cannot be read"):
        model_file.read(path)


def test_what_is_no_model_is_one_line(net: Path, tmp_path: Path):
    content = net.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"hello, world",
        "cut": content[: len(content) // 2],
        "graph": onnx.ModelProto(ir_version=9).SerializeToString(),
    }
    for name, data in damaged.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelError, match="is no ONNX model") as caught:
            model_file.read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="cannot be read"):
        model_file.read(tmp_path / "absent.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelError, match="is no file"):
        model_file.read(tmp_path / "folder.onnx")


def test_foreign_ops_and_compiled_code_are_not_run(tmp_path: Path):
    for domain, kind in (("evil.domain", "Anything"), ("com.microsoft", "EPContext")):
        node = onnx.helper.make_node(kind, ["x"], ["y"], name="n", domain=domain)
        graph = onnx.helper.make_graph(
            [node], "g", [onnx_models.floats("x", [1, 4])], [onnx_models.floats("y", [1, 4])]
        )
        imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(domain, 1)]
        path = saved(onnx.helper.make_model(graph, opset_imports=imports, ir_version=9), tmp_path / f"{kind}.onnx")
        with pytest.raises(ModelError) as caught:
            OnnxModel(path, options(path))
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_provider_that_is_not_there_is_told(net: Path):
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has the provider")
    with pytest.raises(ModelError, match="has no CUDAExecutionProvider; install onnxruntime-gpu"):
        OnnxModel(net, options(net, provider="cuda"))


def test_a_profile_that_json_cannot_hold_is_one_line(tmp_path: Path):
    (tmp_path / "profile.json").write_text('[{"name": "a"b"}]')
    with pytest.raises(ModelError, match="profile cannot be read"):
        trace.read_inferences(tmp_path / "profile.json")


def test_a_model_is_loaded_again_on_the_cpu_alone(net: Path):
    first = OnnxModel(net, options(net))
    again = RUNTIME.load_again(first, net, first.options)
    arrays = [onnx_models.sample(SHAPE, 3)]
    found = []
    for model in (first, again):
        model.set_inputs(arrays)
        model.invoke()
        found.append(model.outputs())
    assert again is not first and all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    assert RUNTIME.load_again(first, net, options(net, provider="cuda")) is None


def test_data_beside_a_model_are_files_of_it(net: Path, tmp_path: Path):
    path = external(net, "data/weights.bin", tmp_path)
    assert RUNTIME.files_beside(path) == [(tmp_path / "data/weights.bin").resolve()]
    assert RUNTIME.files_beside(net) == []

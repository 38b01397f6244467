"""The LiteRT runtime: the clean model, its instrumented twin, and what a bad file or input is told."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("qprof.core._op_profiler")
builder = pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")

from qprof.core._op_profiler import KIND_KERNEL  # noqa: E402
from qprof.errors import ModelError  # noqa: E402
from qprof.record.ops import FUSED, SOURCES, OpMeta  # noqa: E402
from qprof.record.tensors import TensorSpec  # noqa: E402
from qprof.runtimes import base, registry  # noqa: E402
from qprof.runtimes.litert import ops as ops_module  # noqa: E402
from qprof.runtimes.litert.align import Alignment, align_kernels  # noqa: E402
from qprof.runtimes.litert.interpreter import LiteRTModel  # noqa: E402
from qprof.runtimes.litert.profiled import ProfiledModel  # noqa: E402
from qprof.runtimes.litert.sections import LiteRTFile, LiteRTModelSection, LiteRTOptions  # noqa: E402

NODE = SOURCES.index("node")
CLOCKED = SOURCES.index("clocked")
NETS: dict[str, bytes] = {
    "conv": builder.tiny_conv_net(),
    "int8": builder.tiny_int8_net(),
    "multi": builder.multi_io_net(),
    "while": builder.while_net(),
    "growing": builder.growing_while_net(),
    "if": builder.if_net(),
    "dynamic": builder.dynamic_batch_net(),
}


@pytest.fixture
def net(tmp_path: Path) -> Callable[[str], Path]:
    def write(name: str) -> Path:
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(NETS[name])
        return path

    return write


def filled(model: LiteRTModel, seed: int = 5) -> list[NDArray[Any]]:
    """Inputs of that model: noise where it takes reals, zero where it takes counters and flags."""
    random = np.random.default_rng(seed)
    arrays = []
    for spec in model.loaded.inputs:
        noise = random.uniform(-1, 1, spec.shape)
        if spec.dtype.startswith("float"):
            arrays.append(noise.astype(spec.dtype))
        elif spec.scale is not None:
            limits = np.iinfo(spec.dtype)
            stored = np.rint(noise / spec.scale) + (spec.zero_point or 0)
            arrays.append(np.clip(stored, limits.min, limits.max).astype(spec.dtype))
        else:
            arrays.append(np.zeros(spec.shape, spec.dtype))
    return arrays


def discovered(path: Path, **options: Any) -> ProfiledModel:
    model = ProfiledModel(path, **options)
    model.set_inputs(filled(model))
    model.discover()
    return model


def by_name(ops: Sequence[OpMeta]) -> dict[str, OpMeta]:
    assert len({op.name for op in ops}) == len(ops)
    return {op.name: op for op in ops}


def assert_sound(model: ProfiledModel) -> None:
    """Every op of the file stands exactly once in the op list, and every record of an inference has an op."""
    expected = sorted(
        (subgraph.index, op.index, op.type, op.name) for subgraph in model.facts.subgraphs for op in subgraph.ops
    )
    listed = [op for op in model.ops if op.type != "DELEGATE"]
    assert sorted((op.subgraph, int(op.op.split("/")[-1]), op.type, op.name) for op in listed) == expected
    assert [op.index for op in model.ops] == list(range(len(model.ops)))
    ids = {op.op: op for op in model.ops}
    assert len(ids) == len(model.ops)
    for op in model.ops:
        container = ids[op.parent] if op.parent is not None else None
        if op.type == "DELEGATE":
            assert op.delegate is not None and op.partition is not None and op.kernel is None
            assert container is None or container.type in ("WHILE", "IF")
        elif op.delegate is not None:
            assert container is not None and container.type == "DELEGATE"
            assert (container.delegate, container.partition) == (op.delegate, op.partition)
        else:
            assert op.partition is None and str(op.kernel).startswith("builtin")
            assert container is None or container.type in ("WHILE", "IF")
    partitions = [op.partition for op in model.ops if op.type == "DELEGATE"]
    assert partitions == list(range(len(partitions)))

    model.record(0)
    records = model.profiler.drain()
    layout = model._layout
    assert layout is not None
    for record in records:
        place = (int(record["subgraph"]), int(record["node"]))
        assert place in layout.nodes
        if record["kind"] == KIND_KERNEL:
            assert (*place, int(record["kernel"])) in layout.kernels


def top_level_share(model: ProfiledModel, times: int) -> list[float]:
    """Sum of the top-level ops over the inference around them, for some inferences."""
    top = [op.index for op in model.ops if op.parent is None]
    shares = []
    for inference in range(times):
        model.begin(inference)
        start_ns = time.perf_counter_ns()
        model.run_once()
        end_ns = time.perf_counter_ns()
        model.end()
        events = model.drain()
        own_ns = end_ns - start_ns - int(model.timing_ns[inference])  # ops are told without what timing them takes
        shares.append(float(events.duration_ns[np.isin(events.op, top)].sum()) / own_ns)
    return shares


# -- the same model, with and without its instruments -----------------------------------------------------------


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
@pytest.mark.parametrize("name", NETS)
def test_the_instrumented_model_computes_the_same_bits(net: Callable[[str], Path], name: str, delegate: str) -> None:
    clean = LiteRTModel(net(name), delegate=delegate)
    profiled = ProfiledModel(net(name), delegate=delegate)
    assert profiled.loaded == clean.loaded
    for seed in range(3):
        inputs = filled(clean, seed)
        for model in (clean, profiled):
            model.set_inputs(inputs)
        clean.invoke()
        expected = [output.tobytes() for output in clean.outputs()]
        profiled.invoke()
        assert [output.tobytes() for output in profiled.outputs()] == expected
        profiled.record(seed)
        assert [output.tobytes() for output in profiled.outputs()] == expected


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
@pytest.mark.parametrize("name", NETS)
def test_every_op_is_listed_and_every_record_has_its_op(net: Callable[[str], Path], name: str, delegate: str) -> None:
    model = discovered(net(name), delegate=delegate)
    assert_sound(model)
    if delegate == "none":
        assert {op.delegate for op in model.ops} == {None} and {op.kernel for op in model.ops} == {"builtin"}
    assert model.untimed_nodes == 0
    facts = {"timed_nodes": model.hooked_nodes, "untimed_nodes": 0, "ops": len(model.ops), "lost_events": 0}
    assert model.timing_facts() == {"facts": facts}


def test_top_level_ops_fill_the_inference(tmp_path: Path) -> None:
    path = tmp_path / "heavy.tflite"
    path.write_bytes(builder.heavy_conv_net())
    for delegate in ("xnnpack", "none"):
        shares = top_level_share(discovered(path, delegate=delegate), 10)
        assert all(share <= 1 for share in shares)
        assert max(shares) >= 0.9


def test_nothing_is_recorded_between_inferences(net: Callable[[str], Path]) -> None:
    model = discovered(net("conv"))
    model.invoke()
    model.run_once()
    assert len(model.drain().op) == 0
    model.record(5)
    model.invoke()
    events = model.drain()
    assert set(events.inference) == {5} and len(events.op) == len(model.ops)
    assert len(model.drain().op) == 0


def test_an_inference_that_fails_stops_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "gather.tflite"
    path.write_bytes(builder.gather_net())
    model = discovered(path, delegate="none")
    values = np.ones(4, np.float32)
    model.set_inputs([values, np.array([4], np.int32)])
    with pytest.raises(ModelError, match=r"cannot run .*gather index out of bounds"):
        model.record(0)
    model.drain()
    model.set_inputs([values, np.array([3], np.int32)])
    model.invoke()
    assert len(model.drain().op) == 0 and model.outputs()[0] == 2


def test_ops_are_discovered_before_they_are_timed(net: Callable[[str], Path]) -> None:
    model = ProfiledModel(net("conv"))
    model.reserve(10)
    assert model.ops == []
    with pytest.raises(ModelError, match="before they were discovered"):
        model.drain()


def test_threads(net: Callable[[str], Path]) -> None:
    one, two = discovered(net("conv")), discovered(net("conv"), threads=2)
    assert_sound(two)
    assert [op.kernel for op in one.ops] == [op.kernel for op in two.ops]
    np.testing.assert_allclose(two.outputs()[0], one.outputs()[0], rtol=1e-6)
    with pytest.raises(ModelError, match="num_threads should >= 1"):
        ProfiledModel(net("conv"), threads=0)


def test_an_unknown_delegate_is_not_taken_for_none(net: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="there is no delegate 'gpu'; choose one of xnnpack, none"):
        LiteRTModel(net("conv"), delegate="gpu")


# -- several models in one process ------------------------------------------------------------------------------


def test_models_side_by_side_keep_their_records_apart(net: Callable[[str], Path]) -> None:
    models = {name: discovered(net(name)) for name in NETS}
    alone = {}
    for name, model in models.items():
        model.record(0)
        alone[name] = model.drain().op.tolist()
    for inference in range(3):
        for model in models.values():
            model.record(inference)
    while models:
        name, model = models.popitem()
        events = model.drain()
        assert events.inference.tolist() == sorted(events.inference.tolist())
        for inference in range(3):
            assert sorted(events.op[events.inference == inference].tolist()) == sorted(alone[name])
        del model
        gc.collect()


def test_models_in_threads_of_their_own(net: Callable[[str], Path]) -> None:
    paths = {name: net(name) for name in NETS}
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            model = discovered(paths[name])
            model.record(0)
            once = sorted(model.drain().op.tolist())
            for inference in range(20):
                model.record(inference)
            events = model.drain()
            for inference in range(20):
                assert sorted(events.op[events.inference == inference].tolist()) == once
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in NETS for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_a_kept_run_once_outlives_its_model_without_a_crash(net: Callable[[str], Path]) -> None:
    model = discovered(net("conv"))
    run_once = model.run_once
    del model
    gc.collect()
    with pytest.raises((RuntimeError, ValueError), match="lost a node"):
        run_once()


# -- resizing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_resize(net: Callable[[str], Path], delegate: str) -> None:
    model = discovered(net("dynamic"), delegate=delegate)
    before = by_name(model.ops)
    hooked = model.hooked_nodes
    per_inference = model._records_per_inference
    model.record(0)  # never drained: of nodes that are gone after the resize
    model.resize({"image": (3, 16, 16, 3)})
    assert model.ops == [] and model.hooked_nodes == hooked and model.untimed_nodes == 0
    with pytest.raises(ModelError, match="before they were discovered"):
        model.drain()
    assert [spec.shape for spec in model.loaded.inputs + model.loaded.outputs] == [(3, 16, 16, 3), (3, 10)]
    assert model.loaded.inputs[0].shape_signature == (-1, 16, 16, 3)
    inputs = filled(model)
    model.set_inputs(inputs)
    after = by_name(model.discover())
    assert model._records_per_inference == per_inference
    assert_sound(model)
    for name in ("stem", "depthwise", "logits"):
        assert after[name].macs == 3 * (before[name].macs or 0) > 0
        assert after[name].kernel == before[name].kernel
    assert after["stem"].outputs == ("float32[3,8,8,4]",)
    clean = LiteRTModel(net("dynamic"), delegate=delegate, input_shapes={"0": (3, 16, 16, 3)})
    clean.set_inputs(inputs)
    clean.invoke()
    np.testing.assert_array_equal(model.outputs()[0], clean.outputs()[0])
    model.record(8)
    assert set(model.drain().inference) == {8}


def test_a_resize_that_fails_leaves_a_model_that_can_be_resized_again(net: Callable[[str], Path]) -> None:
    model = discovered(net("dynamic"))
    with pytest.raises(ModelError, match="cannot resize"):
        model.resize({"image": (1, 16, 16, 4)})
    with pytest.raises(ModelError):
        model.discover()
    model.resize({"image": (2, 16, 16, 3)})
    model.set_inputs(filled(model))
    model.discover()
    assert_sound(model)


def test_resize_of_a_clean_model(net: Callable[[str], Path]) -> None:
    model = LiteRTModel(net("dynamic"))
    model.invoke()
    for batch in (4, 1, 2):
        model.resize({"image": (batch, 16, 16, 3)})
        model.set_inputs(filled(model))
        model.invoke()
        assert model.outputs()[0].shape == (batch, 10)
        np.testing.assert_allclose(model.outputs()[0].sum(axis=1), 1, rtol=1e-5)


# -- subgraphs within ops, several inputs and outputs -----------------------------------------------------------


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_while_counts_its_passes_and_holds_their_time(net: Callable[[str], Path], delegate: str) -> None:
    model = discovered(net("while"), delegate=delegate)
    value = np.array([[1, 2, 3, 4]], np.float32)
    model.set_inputs([np.zeros(1, np.int32), value])
    model.record(0)
    np.testing.assert_array_equal(model.outputs()[1], value + 5 * 1.5)
    ops = by_name(model.ops)
    loop = ops["counter_end"]
    assert (loop.type, loop.parent) == ("WHILE", None)
    ids = {op.op: op for op in model.ops}
    events = model.drain()
    calls = {name: int((events.op == op.index).sum()) for name, op in ops.items()}
    for name, passes in {"counter_end": 1, "cond/more": 6, "body/next": 5, "body/sum": 5}.items():
        assert calls[name] == passes
        ancestor = ops[name]
        while ancestor.parent is not None:
            ancestor = ids[ancestor.parent]
        assert ancestor is loop
    assert (ops["body/sum"].delegate == "XNNPACK") == (delegate == "xnnpack")
    assert ops["body/next"].parent == ops["cond/more"].parent == loop.op
    children = [op.index for op in model.ops if op.parent == loop.op]
    spent_ns = events.duration_ns[np.isin(events.op, children)].sum()
    (whole_ns,) = events.duration_ns[events.op == loop.index]
    assert 0 < spent_ns <= whole_ns


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_a_loop_whose_body_is_allocated_anew_in_every_pass(net: Callable[[str], Path], delegate: str) -> None:
    model = discovered(net("growing"), delegate=delegate)
    for inference in range(3):
        model.set_inputs([np.zeros(1, np.int32), np.ones((1, 1), np.float32)])
        model.record(inference)
        assert sorted(model.outputs()[1][0].tolist()) == sorted(2.0 ** bin(i).count("1") for i in range(32))
    events = model.drain()
    calls = {op.name: int((events.op == op.index).sum()) for op in model.ops if op.type != "DELEGATE"}
    assert calls == {"counter_end": 3, "cond/more": 18, "body/next": 15, "body/double": 15, "body/both": 15}


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_if_runs_one_branch(net: Callable[[str], Path], delegate: str) -> None:
    model = discovered(net("if"), delegate=delegate)
    value = np.full((1, 4), 3, np.float32)
    for flag, ran, skipped, result in (
        (True, "then/double", "else/square", 6),
        (False, "else/square", "then/double", 9),
    ):
        model.set_inputs([np.array([flag]), value])
        ops = by_name(model.discover())
        assert model.outputs()[0].tolist() == [[result] * 4]
        model.record(0)
        seen = {model.ops[op].name for op in model.drain().op}
        assert {"result", ran} <= seen and skipped not in seen
        assert ops["result"].type == "IF"
        assert ops[ran].kernel == {
            ("xnnpack", "then/double"): "Add (ND)",
            ("xnnpack", "else/square"): "Square (NC)",
        }.get((delegate, ran), "builtin")


def test_a_branch_that_discovery_did_not_take_is_timed_op_by_op(net: Callable[[str], Path]) -> None:
    """Its kernels are not known then, and are found when it runs."""
    model = ProfiledModel(net("if"))
    value = np.full((1, 4), 3, np.float32)
    model.set_inputs([np.array([True]), value])
    model.discover()
    model.set_inputs([np.array([False]), value])
    model.record(0)
    events = model.drain()
    assert [model.ops[op].type for op in events.op] == ["IF", "DELEGATE", "MUL"]
    assert events.source.tolist() == [NODE, NODE, CLOCKED]


def test_several_inputs_and_outputs(net: Callable[[str], Path]) -> None:
    model = discovered(net("multi"))
    left, right = np.arange(8, dtype=np.float32)[None], np.full((1, 8), 2, np.float32)
    model.set_inputs([left, right])
    model.record(0)
    by_output = dict(zip([spec.name for spec in model.loaded.outputs], model.outputs(), strict=True))
    np.testing.assert_array_equal(by_output["product"], left * 2)
    np.testing.assert_array_equal(by_output["logits"], np.full((1, 3), left.sum() + 16, np.float32))
    ops = by_name(model.ops)
    assert ops["logits"].kernel == "Static Reshape (NC) + Fully Connected (NC, F32) GEMM"
    assert sorted(ops["total"].inputs) == ["float32[1,8]", "float32[1,8]"]


def test_tensor_specs(net: Callable[[str], Path]) -> None:
    loaded = LiteRTModel(net("int8")).loaded
    assert loaded.inputs == [
        TensorSpec("image", (1, 16, 16, 3), "int8", scale=1 / 128, zero_point=0, shape_signature=(1, 16, 16, 3))
    ]
    assert loaded.outputs == [
        TensorSpec("probabilities", (1, 10), "int8", scale=1 / 256, zero_point=-128, shape_signature=(1, 10))
    ]
    assert loaded.op_types == ["CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    plain = LiteRTModel(net("conv")).loaded.inputs[0]
    assert (plain.scale, plain.zero_point) == (None, None)


# -- quantized variants -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, OpMeta]]:
    """The ops of a variant of the tiny net with 64 channels, by name; the partitions under their own names."""
    quantize = pytest.importorskip("qprof.runtimes.litert.quantize")
    pytest.importorskip("ai_edge_quantizer")
    folder = tmp_path_factory.mktemp("variants")
    source = folder / "float.tflite"
    source.write_bytes(builder.tiny_conv_net(channels=64))
    random = np.random.default_rng(1)
    samples = [[random.uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)] for _ in range(4)]

    def describe(method: str) -> dict[str, OpMeta]:
        made = quantize.make(method, source, folder / f"{method}.tflite", calibration=samples)
        model = discovered(made.path)
        assert_sound(model)
        return by_name(model.ops)

    return describe


def test_float16_folds_its_conversions(variants: Callable[[str], dict[str, OpMeta]]) -> None:
    ops = variants("float16")
    conversions = [op for op in ops.values() if op.type == "DEQUANTIZE"]
    assert len(conversions) == 3 and {op.kernel for op in conversions} == {FUSED}
    assert {op.delegate for op in ops.values()} == {"XNNPACK"} and {op.partition for op in ops.values()} == {0}
    assert ops["stem"].kernel == "Convolution (NHWC, F32) IGEMM"
    assert ops["depthwise"].kernel == "Convolution (NHWC, F32) DWConv"


def test_dynamic_int8_leaves_its_depthwise_convolution_to_the_interpreter(
    variants: Callable[[str], dict[str, OpMeta]],
) -> None:
    ops = variants("int8-dynamic")
    assert [op.type for op in ops.values()] == [
        *("DELEGATE", "CONV_2D", "DEPTHWISE_CONV_2D", "DELEGATE", "ADD", "MEAN", "FULLY_CONNECTED", "SOFTMAX")
    ]
    depthwise = ops["depthwise"]
    assert (depthwise.kernel, depthwise.delegate, depthwise.partition) == ("builtin hybrid", None, None)
    assert [ops[name].partition for name in ("stem", "residual", "logits", "probabilities")] == [0, 1, 1, 1]
    assert str(ops["stem"].kernel).startswith("Convert (NC, F32, QD") and "QC8W" in str(ops["stem"].kernel)


def test_int8_leaves_its_softmax_to_the_interpreter(variants: Callable[[str], dict[str, OpMeta]]) -> None:
    ops = variants("int8")
    assert (ops["probabilities"].kernel, ops["probabilities"].delegate) == ("builtin", None)
    assert ops["stem"].kernel == "Convolution (NHWC, QC8) IGEMM"
    assert {op.partition for name, op in ops.items() if name != "probabilities"} == {0}


def test_int16x8_has_no_partition(variants: Callable[[str], dict[str, OpMeta]]) -> None:
    ops = variants("int16x8")
    assert {(op.kernel, op.delegate, op.parent) for op in ops.values()} == {("builtin", None, None)}


# -- the registry and the runtime -------------------------------------------------------------------------------


def test_the_registry_finds_the_runtime(net: Callable[[str], Path], tmp_path: Path) -> None:
    assert "litert" in registry.names()
    runtime = registry.for_model(net("conv"))
    assert runtime is registry.get("litert") and runtime.name == "litert"
    runtime.preload({})
    options = LiteRTOptions(delegate="none", input_shapes={"image": [2, 16, 16, 3]})
    assert runtime.load(net("dynamic"), options).loaded.inputs[0].shape == (2, 16, 16, 3)
    options = LiteRTOptions(delegate="none")
    profiled = runtime.instrument(runtime.load(net("conv"), options), net("conv"), options)
    assert {op.kernel for op in profiled.discover()} == {"builtin"}
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    assert registry.for_model(tmp_path / "saved") is runtime
    with pytest.raises(ModelError, match="no such model file"):
        registry.for_model(tmp_path / "absent.tflite")
    with pytest.raises(ModelError, match="no runtime takes this"):
        registry.for_model(tmp_path)
    with pytest.raises(ModelError, match=r"no runtime is called 'tvm'; there are .*litert"):
        registry.get("tvm")


def test_the_maker_runs_a_file_as_it_is(net: Callable[[str], Path]) -> None:
    maker = registry.get("litert").maker(LiteRTModelSection(path=str(net("conv"))), "cpu")
    assert maker.float_model().loaded.op_types[0] == "CONV_2D"
    none_needed = base.Calibration(samples=lambda: iter(()), digest="")
    made = maker.make(LiteRTFile(name="theirs", file=str(net("int8"))), none_needed)
    assert made.path == net("int8") and made.method == "file" and made.bytes == len(NETS["int8"])


# -- bad files and bad inputs -----------------------------------------------------------------------------------


def bad_files() -> Iterator[tuple[str, bytes, str]]:
    whole = NETS["conv"]
    yield "empty", b"", "is empty"
    yield "head", whole[:6], "is not a TFLite model"
    yield "truncated", whole[: len(whole) // 2], "truncated or not a TFLite model"
    yield "short", whole[:-40], "truncated or not a TFLite model|cannot load"
    yield "random", np.random.default_rng(0).bytes(4000), "is not a TFLite model"
    yield "text", b"this is not a model, it is a line of text\n" * 40, "is not a TFLite model"
    yield "disguised", b"\x1c\0\0\0TFL3" + np.random.default_rng(1).bytes(4000), "truncated or not a TFLite model"
    before, name, behind = whole.rpartition(b"probabilities")  # of the tensor; the signature has it too
    yield "names", before + name[:-1] + b"\xe6" + behind, "cannot read the names of .*utf-8"
    yield "custom", builder.custom_op_net("NoSuchOp"), "cannot load .*NoSuchOp"


@pytest.mark.parametrize("kind", [LiteRTModel, ProfiledModel])
@pytest.mark.parametrize(("name", "content", "message"), [pytest.param(*bad, id=bad[0]) for bad in bad_files()])
def test_a_bad_file_is_one_line(
    tmp_path: Path, kind: type[LiteRTModel], name: str, content: bytes, message: str
) -> None:
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        kind(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [LiteRTModel, ProfiledModel])
def test_a_path_that_is_no_file(tmp_path: Path, kind: type[LiteRTModel]) -> None:
    with pytest.raises(ModelError, match=r"no such file; check the path"):
        kind(tmp_path / "absent.tflite")
    with pytest.raises(ModelError, match=r"is a directory; name the .tflite file in it"):
        kind(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"picture": (1, 16, 16, 3)}, r"input_shapes: .* has no input 'picture'; its inputs are 0 = image"),
        ({"1": (1, 16, 16, 3)}, "has no input '1'"),
        (
            {"image": (1, 16, 16, 4)},
            r"cannot (load|resize) .*given image = \[1, 16, 16, 4\], .* says image = \[-1, 16, 16, 3\]",
        ),
        ({"image": (16, 16, 3)}, r"cannot have input 'image' as \[16, 16, 3\]; give all its 4 dimensions"),
        ({"image": (2, 2**30, 2**30, 3)}, "cannot (load|resize)"),
        ({"image": (0, 16, 16, 3)}, r"cannot have input 'image' as \[0, 16, 16, 3\]; give whole numbers from 1 on"),
        ({"image": (-1, 16, 16, 3)}, r"cannot have input 'image' as \[-1, 16, 16, 3\]"),
        ({"image": (2**40, 16, 16, 3)}, "cannot have input 'image' as"),
    ],
)
def test_input_shapes_that_cannot_be(
    net: Callable[[str], Path], shapes: Mapping[str, Sequence[int]], message: str
) -> None:
    model = ProfiledModel(net("dynamic"))
    for attempt in (
        lambda: LiteRTModel(net("dynamic"), input_shapes=shapes),
        lambda: ProfiledModel(net("dynamic"), input_shapes=shapes),
        lambda: model.resize(shapes),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], "0 arrays for 1 inputs; give one array each"),
        ([np.zeros((1, 16, 16, 3), np.float32)] * 2, "2 arrays for 1 inputs"),
        ([np.zeros((1, 16, 16, 3))], "cannot set an input of .*FLOAT64 but expected type FLOAT32"),
        ([np.zeros((1, 16, 16, 3), np.uint8)], "cannot set an input of .*UINT8 but expected type FLOAT32"),
        ([np.zeros((2, 16, 16, 3), np.float32)], "cannot set an input of .*Got 2 but expected 1"),
        ([np.zeros((16, 16, 3), np.float32)], "cannot set an input of .*Dimension mismatch"),
    ],
)
def test_inputs_that_do_not_fit(net: Callable[[str], Path], arrays: list[NDArray[Any]], message: str) -> None:
    model = LiteRTModel(net("conv"))
    with pytest.raises(ModelError, match=message) as caught:
        model.set_inputs(arrays)
    assert "\n" not in str(caught.value)


# -- real models ------------------------------------------------------------------------------------------------

REAL = (
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v2_1.0_224_quant",
    "pretrainedResnet",
    "pretrainedResnet_quant",
    "ssd_mobilenet_v1_1_metadata_1",
    "tf2_mobilenet_v2_1.0_224_ptq",
    "vww_96_float",
    "vww_96_int8",
    "yolox_nano",
)


@pytest.mark.parametrize("name", REAL)
def test_a_real_model_is_timed_whole(qprof_data: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    doubtful: list[tuple[str, str]] = []

    def align(kernels: Sequence[str], node_types: Sequence[str]) -> Alignment:
        alignment = align_kernels(kernels, node_types)
        doubtful.extend((kernels[i], node_types[alignment.positions[i]]) for i in alignment.doubtful)
        return alignment

    monkeypatch.setattr(ops_module, "align_kernels", align)
    path = qprof_data / "models" / f"{name}.tflite"
    model = discovered(path)
    assert_sound(model)
    assert doubtful == []
    clean = LiteRTModel(path)
    clean.set_inputs(filled(clean))
    clean.invoke()
    model.invoke()
    assert [a.tobytes() for a in clean.outputs()] == [b.tobytes() for b in model.outputs()]
    shares = top_level_share(model, 30)
    assert max(shares) <= 1 and max(shares) >= 0.95


def test_a_real_model_that_litert_rejects(qprof_data: Path) -> None:
    path = qprof_data / "models" / "person_detect.tflite"
    for kind in (LiteRTModel, ProfiledModel):
        with pytest.raises(ModelError, match=r"LiteRT cannot load .*quantized_dimension must be in range") as caught:
            kind(path)
        assert "\n" not in str(caught.value)

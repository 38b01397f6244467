"""The compiled op profiler by itself: what it records, and that no order of coming and going ends the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

core = pytest.importorskip("qprof.core._op_profiler")
lifetimes = pytest.importorskip("op_profiler_lifetimes", reason="the builder of tiny models needs ai_edge_litert")
litert = pytest.importorskip("ai_edge_litert.interpreter")

from qprof.runtimes.litert.flatbuffer import read_model  # noqa: E402

TESTS = Path(__file__).resolve().parent.parent
EMBEDDED = TESTS.parent / "src" / "qprof" / "embedded" / "shapes_detector.tflite"
#: BuiltinOperator.ADD
ADD_CODE = 0


def attach(path: Path, delegate: str = "xnnpack", **options: Any) -> tuple[Any, Any]:
    """A profiler and its interpreter, allocated and with inputs of zero; not hooked."""
    profiler = core.OpProfiler([(len(s.tensors), len(s.ops)) for s in read_model(path).subgraphs])
    resolvers = litert.OpResolverType
    resolver = resolvers.AUTO if delegate == "xnnpack" else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = litert.Interpreter(
        str(path),
        experimental_delegates=[litert.load_delegate(core.PLUGIN_PATH, profiler.options)],
        experimental_op_resolver_type=resolver,
        **options,
    )
    interpreter.allocate_tensors()
    lifetimes.zero_inputs(interpreter)
    return profiler, interpreter


@pytest.fixture
def net(tmp_path: Path) -> Any:
    def write(content: bytes) -> Path:
        path = tmp_path / "net.tflite"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    ("name", "delegate", "hooked"),
    [
        ("conv", "xnnpack", 1),  # one partition
        ("conv", "none", 6),
        ("int8", "xnnpack", 2),  # the partition and the SOFTMAX that it left
        ("int8", "none", 4),
        ("while", "xnnpack", 4),  # WHILE, LESS, the int32 ADD, a partition of the float ADD
        ("while", "none", 4),
        ("growing", "none", 5),
    ],
)
def test_every_node_of_the_plan_is_hooked(name: str, delegate: str, hooked: int) -> None:
    profiler, _interpreter = attach(lifetimes.path_of(name), delegate)
    numbers = range(profiler.subgraph_count)
    assert not any(node[4] for number in numbers for node in profiler.nodes(number))
    assert profiler.hook() == hooked
    assert [node[4] for number in numbers for node in profiler.nodes(number)] == [True] * hooked
    profiler.unhook()
    assert not any(node[4] for number in numbers for node in profiler.nodes(number))


def test_the_plan_names_the_delegate_and_its_members() -> None:
    profiler, _interpreter = attach(lifetimes.path_of("int8"))
    profiler.hook()
    (softmax, delegate) = sorted(profiler.nodes(0))
    # BuiltinOperator: 25 SOFTMAX, 51 DELEGATE, 3 CONV_2D, 40 MEAN, 9 FULLY_CONNECTED
    assert softmax == (3, 25, "", None, True)
    assert delegate == (4, 51, "TfLiteXNNPackDelegate", [0, 1, 2], True)
    assert profiler.builtin_codes(0, 6) == [3, 40, 9, 25, 51, -1]


def test_nodes_record_nanoseconds_and_kernels_microseconds_before_their_node() -> None:
    profiler, interpreter = attach(lifetimes.path_of("conv"))
    profiler.hook()
    profiler.reserve(100)
    profiler.start(41)
    before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    interpreter.invoke()
    after_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    profiler.stop()
    records = profiler.drain()
    assert records.dtype == core.record_dtype
    *kernels, node = records
    assert [int(record["kind"]) for record in kernels] == [core.KIND_KERNEL] * 7 and node["kind"] == core.KIND_NODE
    assert set(records["inference"]) == {41} and set(records["subgraph"]) == {0} and set(records["node"]) == {6}
    assert before_ns <= node["start_ns"] and node["start_ns"] + node["duration_ns"] <= after_ns
    assert 1000 * sum(int(kernel["duration_us"]) for kernel in kernels) <= node["duration_ns"]
    assert [int(kernel["kernel"]) for kernel in kernels] == list(range(7))
    assert node["kernel"] == node["name"] == -1
    names = profiler.kernel_names
    assert [names[kernel["name"]].split(" (")[0] for kernel in kernels] == [
        *("Convolution", "Convolution", "Add", "Mean", "Static Reshape", "Fully Connected", "Softmax")
    ]


def test_nothing_is_recorded_unless_asked() -> None:
    profiler, interpreter = attach(lifetimes.path_of("while"))
    profiler.hook()
    interpreter.invoke()
    assert len(profiler.drain()) == 0
    profiler.start(0)
    interpreter.invoke()
    profiler.stop()
    interpreter.invoke()
    # WHILE; LESS before each of 3 passes and once more; 2 ADDs a pass, one of them with a kernel
    assert len(profiler.drain()) == 1 + 4 + 3 * 3
    assert len(profiler.drain()) == 0


def test_a_node_that_fails_is_recorded_and_fails(net: Any) -> None:
    profiler, interpreter = attach(net(lifetimes.builder.gather_net()), "none")
    profiler.hook()
    row = interpreter.get_input_details()[1]["index"]
    interpreter.set_tensor(row, np.array([9], np.int32))
    profiler.start(3)
    with pytest.raises(RuntimeError, match="gather index out of bounds"):
        interpreter.invoke()
    assert list(profiler.drain()["node"]) == [0, 1]
    interpreter.set_tensor(row, np.array([2], np.int32))
    interpreter.invoke()
    assert list(profiler.drain()["node"]) == [0, 1]


def test_outputs_are_the_same_with_recording_off_on_and_without_a_profiler() -> None:
    path = lifetimes.path_of("conv")
    bare = litert.Interpreter(str(path))
    bare.allocate_tensors()
    profiler, interpreter = attach(path)
    image = np.random.default_rng(3).standard_normal((1, 16, 16, 3)).astype(np.float32)
    outputs = []
    for one in (bare, interpreter):
        one.set_tensor(one.get_input_details()[0]["index"], image)
        one.invoke()
        outputs.append(one.get_tensor(one.get_output_details()[0]["index"]))
    profiler.hook()
    for recording in (False, True):
        if recording:
            profiler.start(0)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert len({output.tobytes() for output in outputs}) == 1


def test_tensors_are_those_of_the_file_and_where_they_lie() -> None:
    profiler, _interpreter = attach(lifetimes.path_of("conv"), "none")
    facts = read_model(lifetimes.path_of("conv")).subgraphs[0]
    tensors = profiler.tensors(0)
    for (name, kind, size, address), fact in zip(tensors, facts.tensors, strict=False):
        assert (name, size) == (fact.name, fact.bytes)
        # kTfLiteMmapRo = 1 (lies in the file), kTfLiteArenaRw = 2
        assert kind == (1 if fact.constant else 2) and address != 0
    assert len(tensors) >= len(facts.tensors)


@pytest.mark.parametrize("subgraph", [-1, 1, 2**31 - 1])
def test_a_subgraph_that_is_not_there(subgraph: int) -> None:
    profiler, _interpreter = attach(lifetimes.path_of("conv"))
    for ask in (profiler.nodes, profiler.tensors, lambda number: profiler.builtin_codes(number, 1)):
        with pytest.raises(IndexError, match=f"subgraph {subgraph} of 1"):
            ask(subgraph)


@pytest.mark.parametrize(
    ("sizes", "refused"),
    [
        ([], True),
        ([(1000, 6)], True),  # fewer tensors than the file has
        ([(14, 5)], True),  # another number of ops
        ([(1000, 6), (14, 6)], False),  # any subgraph of the model may be the one
    ],
)
def test_contexts_that_look_like_no_subgraph_are_left_alone(sizes: list[tuple[int, int]], refused: bool) -> None:
    profiler = core.OpProfiler(sizes)
    delegate = litert.load_delegate(core.PLUGIN_PATH, profiler.options)
    interpreter = litert.Interpreter(str(lifetimes.path_of("conv")), experimental_delegates=[delegate])
    interpreter.allocate_tensors()
    assert profiler.refused == refused
    assert profiler.hook() == (0 if refused else 1)
    profiler.start(0)
    interpreter.invoke()
    assert len(profiler.drain()) == (0 if refused else 8)


@pytest.mark.parametrize("options", [{}, {"session": "0"}, {"session": "-1"}, {"session": "x"}, {"other": "1"}])
def test_the_plugin_refuses_a_session_that_is_not_there(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="names no op profiler that is free"):
        litert.load_delegate(core.PLUGIN_PATH, options)


def test_a_session_serves_one_interpreter_at_a_time() -> None:
    profiler, interpreter = attach(lifetimes.path_of("conv"))
    with pytest.raises(ValueError, match="names no op profiler that is free"):
        litert.load_delegate(core.PLUGIN_PATH, profiler.options)
    del interpreter
    assert profiler.subgraph_count == 0
    delegate = litert.load_delegate(core.PLUGIN_PATH, profiler.options)
    again = litert.Interpreter(str(lifetimes.path_of("conv")), experimental_delegates=[delegate])
    again.allocate_tensors()
    assert profiler.hook() == 1


def test_a_session_ends_with_its_profiler() -> None:
    options = core.OpProfiler([(1, 1)]).options
    with pytest.raises(ValueError, match="names no op profiler that is free"):
        litert.load_delegate(core.PLUGIN_PATH, options)


@pytest.mark.parametrize("sizes", [None, 5, [3], [(1, 2, 3)], [(-1, 2)], [("a", 1)], [(2**64, 1)]])
def test_sizes_that_are_none(sizes: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        core.OpProfiler(sizes)


@pytest.mark.parametrize("scenario", lifetimes.SCENARIOS)
def test_no_order_of_coming_and_going_ends_the_process(scenario: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, str(TESTS / "op_profiler_lifetimes.py"), "--repeat", "50", scenario]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    died = f"died of {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"exit {done.returncode}"
    assert done.returncode == 0 and done.stdout.splitlines()[-1:] == ["all well"], f"{died}\n{done.stderr[-3000:]}"


def avx() -> bool:
    info = Path("/proc/cpuinfo")
    return info.is_file() and " avx " in info.read_text()


def test_a_word_that_names_nothing_to_do_before_an_op_is_refused_and_changes_nothing(net: Any) -> None:
    profiler, interpreter = attach(net(lifetimes.NETS["conv"]), "none")
    profiler.hook()
    with pytest.raises(ValueError, match=r"nothing called 'reset'.*nothing, reset-vectors, "):
        profiler.prepare("reset")
    interpreter.invoke()


@pytest.mark.parametrize("before", core.BEFORE_OPS)
@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
@pytest.mark.parametrize("name", ["conv", "int8", "while"])
def test_what_is_done_before_an_op_leaves_outputs_and_records_as_they_are(
    net: Any, name: str, delegate: str, before: str
) -> None:
    if before.startswith("reset") and not avx():
        pytest.skip("this processor has no vector registers with upper halves")
    profiler, interpreter = attach(net(lifetimes.NETS[name]), delegate)
    profiler.hook()
    found = []
    for what in ("nothing", before, "nothing"):
        profiler.prepare(what)
        profiler.start(0)
        interpreter.invoke()
        profiler.stop()
        records = profiler.drain()
        outputs = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
        found.append((list(zip(records["kind"], records["node"], records["kernel"], strict=True)), outputs))
    for records, outputs in found[1:]:
        assert records == found[0][0]
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(outputs, found[0][1], strict=True))


def test_flushed_caches_make_ops_slower_than_warm_ones() -> None:
    # Element-wise ops: their time is that of their bytes.
    profiler, interpreter = attach(EMBEDDED, "none")
    profiler.hook()
    adds = {node[0] for node in profiler.nodes() if node[1] == ADD_CODE}
    assert len(adds) > 5
    medians = {}
    for before in ("warm-caches", "flush-caches"):
        profiler.prepare(before)
        for number in range(15):
            profiler.start(number)
            interpreter.invoke()
            profiler.stop()
        records = profiler.drain()
        medians[before] = float(np.median(records["duration_ns"][np.isin(records["node"], list(adds))]))
    assert medians["flush-caches"] > 1.2 * medians["warm-caches"]


def test_a_profiler_without_kernels_times_nodes_alone(net: Any) -> None:
    path = net(lifetimes.NETS["conv"])
    profiler = core.OpProfiler([(len(s.tensors), len(s.ops)) for s in read_model(path).subgraphs], kernels=False)
    plugin = litert.load_delegate(core.PLUGIN_PATH, profiler.options)
    interpreter = litert.Interpreter(str(path), experimental_delegates=[plugin])
    interpreter.allocate_tensors()
    lifetimes.zero_inputs(interpreter)
    profiler.hook()
    profiler.start(0)
    interpreter.invoke()
    profiler.stop()
    assert set(profiler.drain()["kind"]) == {core.KIND_NODE}

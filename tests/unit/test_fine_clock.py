"""Kernels inside XNNPACK in nanoseconds: against chains of equal ops, whose latency tells what one of them takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

core = pytest.importorskip("qprof.core._op_profiler")
pytest.importorskip("ai_edge_litert")

from qprof.record.ops import SOURCES  # noqa: E402
from qprof.runtimes.litert.interpreter import LiteRTModel  # noqa: E402
from qprof.runtimes.litert.profiled import ProfiledModel  # noqa: E402
from tflite_builder import Graph, build_model  # noqa: E402

LENGTHS = (40, 80, 120, 160)


def fully_connected(graph: Graph, length: int) -> int:
    value = graph.input("x", (1, 8))
    for i in range(length):
        weights = np.random.default_rng(i).normal(size=(8, 8)).astype(np.float32) / 3
        value = graph.fully_connected(f"fc{i}", value, graph.constant(f"w{i}", weights))
    return value


def add(graph: Graph, length: int) -> int:
    value, one = graph.input("x", (1, 8)), graph.constant("one", np.ones((1, 8), np.float32))
    for i in range(length):
        value = graph.add(f"add{i}", value, one)
    return value


def convolution(graph: Graph, length: int) -> int:
    value = graph.input("x", (1, 4, 4, 4))
    for i in range(length):
        kernel = np.random.default_rng(i).normal(size=(4, 3, 3, 4)).astype(np.float32) / 6
        value = graph.conv_2d(f"conv{i}", value, graph.constant(f"k{i}", kernel))
    return value


def chain(folder: Path, op: Callable[[Graph, int], int], length: int) -> Path:
    graph = Graph("main")
    graph.outputs = [op(graph, length)]
    path = folder / f"{op.__name__}{length}.tflite"
    path.write_bytes(build_model([graph]))
    return path


def fed(model: Any) -> Any:
    model.set_inputs([np.ones(spec.shape, np.float32) for spec in model.loaded.inputs])
    return model


def fastest_ns(path: Path) -> int:
    model = fed(LiteRTModel(path))
    taken = []
    for _ in range(400):
        begin_ns = time.perf_counter_ns()
        model.run_once()
        taken.append(time.perf_counter_ns() - begin_ns)
    return int(np.percentile(taken, 10))


def profiled(path: Path, inferences: int = 200, **options: Any) -> tuple[ProfiledModel, NDArray[Any]]:
    model = fed(ProfiledModel(path, **options))
    model.discover()
    model.reserve(inferences)
    for inference in range(inferences):
        model.record(inference)
    return model, model.profiler.drain()


@pytest.mark.parametrize("op", [fully_connected, add, convolution])
def test_an_op_of_a_few_nanoseconds_takes_what_a_chain_of_them_says(
    op: Callable[[Graph, int], int], tmp_path: Path
) -> None:
    """XNNPACK's own report of them is 0 µs, always."""
    paths = [chain(tmp_path, op, length) for length in LENGTHS]
    truth_ns = float(np.polyfit(LENGTHS, [fastest_ns(path) for path in paths], 1)[0])
    model = fed(ProfiledModel(paths[-1]))
    model.discover()
    for inference in range(200):
        model.record(inference)
    events = model.drain()
    assert events.duration_ns[events.source == SOURCES.index("kernel")].size == 0
    inside = events.source == SOURCES.index("clocked")
    by_op = np.zeros((200, len(model.ops)))
    np.add.at(by_op, (events.inference[inside], events.op[inside]), events.duration_ns[inside])
    found_ns = float(np.mean(np.percentile(by_op[:, 1:], 10, axis=0)))
    resolution_ns = 1e3 * float(model.ops[1].resolution_us or 0.0)
    # Beyond the clock's own, what a busy neighbour does to either of the two.
    assert abs(found_ns - truth_ns) <= resolution_ns + 0.2 * truth_ns, (found_ns, truth_ns)
    # The share of a partition that whole microseconds would have given it is many times that, or half of it more.
    assert 0.0 < resolution_ns < 200.0


def test_kernels_follow_one_another_inside_their_node(tmp_path: Path) -> None:
    _, records = profiled(chain(tmp_path, add, 40), 20)
    kernels, nodes = (records[records["kind"] == kind] for kind in (core.KIND_KERNEL, core.KIND_NODE))
    assert len(nodes) == 20 and (kernels["readings"] == 1).all()
    assert (kernels["duration_us"] == kernels["duration_ns"] // 1000).all()
    for inference, node in enumerate(nodes):
        mine = kernels[kernels["inference"] == inference]
        ends = mine["start_ns"] + mine["duration_ns"]
        assert len(mine) == 40 and (ends[:-1] == mine["start_ns"][1:]).all()
        assert node["start_ns"] <= mine["start_ns"][0] and ends[-1] <= node["start_ns"] + node["duration_ns"]


def test_threads_of_the_delegate_change_nothing(tmp_path: Path) -> None:
    _, records = profiled(chain(tmp_path, convolution, 10), 10, threads=2)
    assert (records["readings"][records["kind"] == core.KIND_KERNEL] >= 1).all()


def test_an_op_of_several_operators_is_one_kernel_with_as_many_readings(tmp_path: Path) -> None:
    """XNNPACK copies what a CONCATENATION of five joins one by one."""
    from ai_edge_litert import schema_py_generated as schema

    graph = Graph("main")
    value = graph.input("x", (1, 8))
    parts = [graph.add(f"add{i}", value, graph.constant(f"c{i}", np.full((1, 8), i, np.float32))) for i in range(5)]
    joined = graph.tensor("joined", (1, 40))
    graph.op("CONCATENATION", parts, [joined], schema.ConcatenationOptionsT(axis=1), 1)
    graph.outputs = [joined]
    path = tmp_path / "joined.tflite"
    path.write_bytes(build_model([graph]))
    _, records = profiled(path, 3)
    kernels = records[(records["kind"] == core.KIND_KERNEL) & (records["inference"] == 0)]
    assert kernels["readings"].tolist() == [1, 1, 1, 1, 1, 5]


def test_a_reading_has_a_cost_and_a_process_keeps_its_clock(tmp_path: Path) -> None:
    assert 1 <= core.OpProfiler.reading_cost_ns() < 5000
    model = fed(ProfiledModel(chain(tmp_path, add, 10)))
    model.discover()
    before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    model.record(0)
    assert 0 <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) - before_ns < 10**9

"""Subgraphs with several callers, loops and branches: each op is timed per call and counted per run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

import tflite_builder as tflite
from qprof.core._op_profiler import KIND_KERNEL, KIND_NODE, record_dtype
from qprof.findings.op_runs import callers, is_container, own_times, per_inference, with_call_names
from qprof.record.ops import OpMeta
from qprof.runtimes.litert.calls import Calls
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.model_facts import SubgraphFacts
from qprof.runtimes.litert.profiled import ProfiledModel
from tflite_builder import Graph, build_model

WIDTH = 64


def composite(subgraph: int) -> schema.StableHLOCompositeOptionsT:
    return schema.StableHLOCompositeOptionsT(
        name="block", decompositionSubgraphIndex=subgraph, compositeAttributes=np.zeros(0, np.uint8), version=1
    )


def block(name: str, rows: int = 8) -> Graph:
    """value -> value times a matrix."""
    graph = Graph(name)
    value = graph.input(f"{name}/value", (rows, WIDTH))
    weights = np.random.default_rng(0).normal(0, 0.1, (WIDTH, WIDTH)).astype(np.float32)
    graph.outputs = [graph.fully_connected(f"{name}/product", value, graph.constant(f"{name}/weights", weights))]
    return graph


def shared_net() -> bytes:
    """Two composites in the main graph with one decomposition, and a loop of three passes that runs it as well."""
    main = Graph("main")
    counter, value = main.input("counter", (1,), "int32"), main.input("value", (8, WIDTH))
    first, second = (main.tensor(name, (8, WIDTH)) for name in ("first", "second"))
    main.op("STABLEHLO_COMPOSITE", [value], [first], composite(3))
    main.op("STABLEHLO_COMPOSITE", [first], [second], composite(3))
    main.outputs = [main.tensor("end", (1,), "int32"), main.tensor("result", (8, WIDTH))]
    main.op("WHILE", [counter, second], main.outputs, schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=2))

    condition = Graph("cond")
    counter = condition.input("cond/counter", (1,), "int32")
    condition.input("cond/value", (8, WIDTH))
    limit = condition.constant("cond/limit", np.array([3], np.int32))
    condition.outputs = [condition.tensor("cond/more", (1,), "bool")]
    condition.op("LESS", [counter, limit], condition.outputs, schema.LessOptionsT())

    body = Graph("body")
    counter, value = body.input("body/counter", (1,), "int32"), body.input("body/value", (8, WIDTH))
    one = body.constant("body/one", np.array([1], np.int32))
    inner = body.tensor("body/inner", (8, WIDTH))
    body.op("STABLEHLO_COMPOSITE", [value], [inner], composite(3))
    body.outputs = [body.add("body/next", counter, one), inner]
    return build_model([main, condition, body, block("block")])


@pytest.fixture
def profiled(tmp_path: Path) -> Callable[[bytes], ProfiledModel]:
    def load(content: bytes, **options: Any) -> ProfiledModel:
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return ProfiledModel(path, **options)

    return load


def zeros(model: ProfiledModel) -> list[NDArray[Any]]:
    return [np.zeros(spec.shape, spec.dtype) for spec in model.loaded.inputs]


@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_each_call_of_a_subgraph_has_ops_of_its_own(profiled: Callable[..., ProfiledModel], delegate: str) -> None:
    model = profiled(shared_net(), delegate=delegate)
    model.set_inputs(zeros(model))
    ops = model.discover()
    products = {op.op: op for op in ops if op.type == "FULLY_CONNECTED"}
    assert list(products) == ["3/0@0", "3/0@1", "3/0@2/0"]
    assert [op.runs for op in products.values()] == [1, 1, 3], "one per composite, and one per pass of the loop"
    assert {op.macs for op in products.values()} == {8 * WIDTH * WIDTH}
    assert {op.macs for op in ops if op.type in ("WHILE", "STABLEHLO_COMPOSITE")} == {0}, "their ops count"
    for inference in range(5):
        model.record(inference)
    events = model.drain()
    position = {op.op: place for place, op in enumerate(ops)}
    timed = {name: np.bincount(events.inference[events.op == position[name]]).tolist() for name in products}
    assert timed == {"3/0@0": [1] * 5, "3/0@1": [1] * 5, "3/0@2/0": [3] * 5}
    # Whatever runs inside an op is over before it, so that no op takes longer than the one that called it.
    total = np.array([events.duration_ns[events.op == place].sum() for place in range(len(ops))], np.float64)
    for place, inside in callers(ops).items():
        assert 0 < total[inside].sum() <= total[place], ops[place].op
    if delegate == "xnnpack":
        assert len({op.partition for op in ops if op.type == "DELEGATE"}) == 1, "one partition, called three times"


def test_own_times_add_up_to_the_ops_at_the_top(profiled: Callable[..., ProfiledModel]) -> None:
    model = profiled(shared_net())
    model.set_inputs(zeros(model))
    ops = model.discover()
    for inference in range(4):
        model.record(inference)
    events = model.drain()
    times = np.zeros((4, len(ops)))
    np.add.at(times, (events.inference, events.op), events.duration_ns)
    own = own_times(ops, times)[:, ~is_container(ops)].sum(axis=1)
    top = times[:, [op.parent is None for op in ops]].sum(axis=1)
    # A partition's kernels are timed by the clock that the delegate reads: what it does around them is nobody's.
    around = np.zeros(4)
    for place, op in enumerate(ops):
        if op.type == "DELEGATE":
            around += times[:, place] - times[:, [inside.parent == op.op for inside in ops]].sum(axis=1)
    assert own + around == pytest.approx(top, rel=1e-9)
    assert (around >= 0).all() and around.sum() < 0.1 * top.sum()
    assert (own_times(ops, times) >= 0).all()


def test_names_tell_the_calls_apart(profiled: Callable[..., ProfiledModel]) -> None:
    model = profiled(shared_net())
    model.set_inputs(zeros(model))
    names = [op.name for op in with_call_names(model.discover()) if op.type == "FULLY_CONNECTED"]
    assert names == ["block/product in first", "block/product in second", "block/product in body/inner"]


def facts(*runs: Sequence[Sequence[int]], tmp_path: Path) -> list[SubgraphFacts]:
    """Subgraphs whose ops run the listed subgraphs."""
    graphs = []
    for number, ops in enumerate(runs):
        graph = Graph(f"g{number}")
        at = graph.input(f"g{number}/in", (8, WIDTH))
        for place, children in enumerate(ops):
            to = graph.tensor(f"g{number}/{place}", (8, WIDTH))
            if len(children) == 2:
                graph.op("WHILE", [at], [to], schema.WhileOptionsT(*children))
            else:
                graph.op("STABLEHLO_COMPOSITE", [at], [to], composite(*children))
            at = to
        graph.outputs = [at]
        graphs.append(graph)
    path = tmp_path / "calls.tflite"
    path.write_bytes(build_model(graphs))
    return list(read_model(path).subgraphs)


def test_a_shared_subgraph_behind_another_shared_one(tmp_path: Path) -> None:
    """Subgraph 2 is run by the main one and by 1, which the main one runs twice: three calls, known by their callers'
    own calls, whichever of the two subgraphs was met first."""
    calls = Calls(facts([[2], [1], [1]], [[2]], [], tmp_path=tmp_path))
    found = {(call.subgraph, call.caller) for call in calls.all}
    assert [call.number for call in calls.all] == [0, 2, 1, 3, 4, 5]
    assert found == {(0, None), (2, (0, 0)), (1, (0, 1)), (2, (1, 0)), (1, (0, 2)), (2, (4, 0))}
    # In the order of their ends: 2 in op 0; 2 in 1 in op 1; 2 in 1 in op 2. Nobody has yet returned to the last.
    nodes = [(2, 0, 1), (0, 0, 0), (2, 0, 4), (1, 0, 3), (0, 1, 2), (2, 0, 7), (1, 0, 6), (0, 2, 5), (2, 0, 8)]
    records = np.zeros(len(nodes), record_dtype)
    for place, (subgraph, node, start) in enumerate(nodes):
        records[place] = (KIND_NODE, 0, subgraph, node, -1, -1, start, 1, 0, 0)
    assert calls.assign(records)["subgraph"].tolist() == [2, 0, 3, 1, 0, 5, 4, 0, -1]
    assert records["subgraph"].tolist() == [row[0] for row in nodes], "the profiler's own records stay"


def test_a_caller_that_left_no_record_does_not_lend_its_ops_to_the_next(tmp_path: Path) -> None:
    calls = Calls(facts([[1], [1]], [], tmp_path=tmp_path))
    records = np.zeros(4, record_dtype)
    records[0] = (KIND_NODE, 0, 1, 0, -1, -1, 10, 5, 0, 0)  # of the first caller, which is not timed
    records[1] = (KIND_KERNEL, 0, 1, 0, 0, 0, 0, 0, 3, 0)
    records[2] = (KIND_NODE, 0, 1, 0, -1, -1, 30, 5, 0, 0)
    records[3] = (KIND_NODE, 0, 0, 1, -1, -1, 29, 7, 0, 0)
    assert calls.assign(records)["subgraph"].tolist() == [-1, 2, 2, 0]


def test_calls_without_number_and_in_circles_end(tmp_path: Path) -> None:
    doubling = [[[i + 1], [i + 1]] for i in range(40)]
    calls = Calls(facts(*doubling, [], tmp_path=tmp_path))
    assert len(calls.all) == 41 and not any(map(calls.is_shared, calls.all)), "2**40 calls are not told apart"
    circle = Calls(facts([[1]], [[2]], [[1]], tmp_path=tmp_path))
    assert [call.subgraph for call in circle.all] == [0, 1, 2]
    chain = [[[i + 1]] for i in range(3000)]
    assert len(Calls(facts(*chain, [], tmp_path=tmp_path)).all) == 3001


def test_a_model_without_shared_subgraphs_has_its_records_back_as_they_are(tmp_path: Path) -> None:
    calls = Calls(facts([[1, 2]], [], [], tmp_path=tmp_path))
    records = np.zeros(3, record_dtype)
    assert calls.assign(records) is records


def test_counts_are_those_of_all_runs() -> None:
    ops = [
        OpMeta("0", "loop", "WHILE", 0, macs=0, runs=1.0),
        OpMeta("1/9", "XNNPACK partition 0", "DELEGATE", 1, subgraph=1, parent="0", partition=0, runs=4.0),
        OpMeta("1/0", "product", "FULLY_CONNECTED", 2, 1, parent="1/9", partition=0, macs=10, weight_bytes=7, runs=4.0),
        OpMeta("1/1", "folded", "RESHAPE", 3, 1, parent="1/9", partition=0, macs=0, activation_bytes=3, runs=4.0),
        OpMeta("2/0", "other branch", "ADD", 4, 2, parent="0", macs=5, runs=1.0),
        OpMeta("phase/x", "a layer", "Linear", 5, macs=11),
    ]
    # A sample of three passes that was run once, and one of two that was run twice: 2.5 on average.
    counts = np.array([[1, 3, 3, 0, 0, 1], [1, 2, 2, 0, 0, 1], [1, 2, 2, 0, 0, 1]], np.float64)
    counted = {op.name: op for op in per_inference(ops, counts, np.array([7, 8, 8]))}
    assert (counted["product"].runs, counted["product"].macs, counted["product"].weight_bytes) == (2.5, 25, 7)
    assert (counted["folded"].runs, counted["folded"].activation_bytes) == (2.5, 8)
    assert (counted["other branch"].runs, counted["other branch"].macs) == (0.0, 0)
    assert counted["a layer"] == ops[-1], "its counts are of a whole inference"


def test_a_net_that_is_not_shared_keeps_plain_ids(profiled: Callable[..., ProfiledModel]) -> None:
    model = profiled(tflite.while_net(count=3))
    model.set_inputs(zeros(model))
    assert {op.op: op.runs for op in model.discover() if op.type != "DELEGATE"} == {
        "0": 1,
        "1/0": 4,
        "2/0": 3,
        "2/1": 3,
    }


def test_a_branch_that_is_taken_later_is_timed_op_by_op(profiled: Callable[..., ProfiledModel]) -> None:
    """What ran in the other branch's partition was not seen when the ops were discovered."""
    model = profiled(tflite.if_net(width=64))
    ops = {op.op: op for op in _discovered(model, taken=True)}
    later = next(op for op in ops.values() if op.type != "DELEGATE" and op.subgraph and op.runs == 0)
    earlier = next(op for op in ops.values() if op.type != "DELEGATE" and op.subgraph and op.runs == 1)
    assert later.delegate == earlier.delegate == "XNNPACK" and later.subgraph != earlier.subgraph
    _set(model, taken=False)
    for inference in range(3):
        model.record(inference)
    events = model.drain()
    position = {name: place for place, name in enumerate(ops)}
    assert np.count_nonzero(events.op == position[later.op]) == 3
    assert np.count_nonzero(events.op == position[earlier.op]) == 0
    assert model.drain().op.size == 0


def _set(model: ProfiledModel, *, taken: bool) -> None:
    arrays = [np.full(spec.shape, taken if spec.dtype == "bool" else 1, spec.dtype) for spec in model.loaded.inputs]
    model.set_inputs(arrays)


def _discovered(model: ProfiledModel, *, taken: bool) -> list[OpMeta]:
    _set(model, taken=taken)
    return model.discover()

"""Models that keep a state: what is compared or scored has the same history, and what is kept is told."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from qprof.core._op_profiler import OpProfiler
from qprof.measure.requests import LoadedVariant, LoadVariant, MeasureBlock
from qprof.measure.worker.bench import Bench
from qprof.record.manifest import PreparedTask
from qprof.record.phases import INFERENCE
from qprof.runtimes.litert.align import align_kernels
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.patched import PatchedModel
from qprof.runtimes.litert.profiled import ProfiledModel
from qprof.runtimes.litert.state import State, state_of
from qprof.tasks.latency.kind import LatencySection
from tflite_builder import Graph, build_model

assert OpProfiler  # without the compiled core none of this runs

UNITS = 8


def rnn_net(quantized_like: float = 1.0) -> bytes:
    """A sequence kernel that keeps its hidden state in a variable tensor of the graph."""
    random = np.random.default_rng(0)
    graph = Graph("main")
    steps = graph.input("steps", (1, 3, UNITS))
    weights = [
        graph.constant(name, (quantized_like * random.normal(0, 0.3, (UNITS, UNITS))).astype(np.float32))
        for name in ("weights", "recurrent")
    ]
    bias = graph.constant("bias", np.zeros(UNITS, np.float32))
    hidden = graph.tensor("hidden", (1, UNITS), variable=True)
    graph.outputs = [graph.tensor("states", (1, 3, UNITS))]
    options = schema.SequenceRNNOptionsT(fusedActivationFunction=schema.ActivationFunctionType.TANH)
    graph.op("UNIDIRECTIONAL_SEQUENCE_RNN", [steps, *weights, bias, hidden], graph.outputs, options)
    return build_model([graph])


def _handle(graph: Graph, name: str) -> int:
    handle = graph.tensor(name, (), "resource")
    graph.op("VAR_HANDLE", [], [handle], schema.VarHandleOptionsT(container="", sharedName="total"))
    return handle


def variable_net(written: bool = True) -> bytes:
    """total = total + value, in a resource variable that begins at 1; where not `written`, value + 1 for ever."""
    main = Graph("main")
    value = main.input("value", (1, UNITS))
    main.op("CALL_ONCE", [], [], schema.CallOnceOptionsT(initSubgraphIndex=1))
    handle, before = _handle(main, "handle"), main.tensor("before", (1, UNITS))
    main.op("READ_VARIABLE", [handle], [before], schema.ReadVariableOptionsT())
    after = main.add("after", before, value)
    if written:
        main.op("ASSIGN_VARIABLE", [handle, after], [], schema.AssignVariableOptionsT())
    main.outputs = [main.add("doubled", after, after)]
    first = Graph("init")
    ones = first.constant("ones", np.ones((1, UNITS), np.float32))
    first.op("ASSIGN_VARIABLE", [_handle(first, "handle_1"), ones], [], schema.AssignVariableOptionsT())
    return build_model([main, first])


@pytest.fixture
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    found = tmp_path / "model.tflite"
    found.write_bytes(request.param())
    return found


def run(model: LiteRTModel, value: float = 0.5) -> list[float]:
    model.set_inputs([np.full(spec.shape, value, spec.dtype) for spec in model.loaded.inputs])
    model.invoke()
    return [float(number) for number in model.outputs()[0].reshape(-1)]


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    def kept(content: bytes) -> State:
        file = tmp_path / "any.tflite"
        file.write_bytes(content)
        return state_of(read_model(file))

    assert kept(rnn_net()) == State(tensors=("hidden",))
    assert kept(variable_net()) == State(resources=("handle",))
    assert kept(variable_net(written=False)) == State(), "set once, by the CALL_ONCE: a constant"
    assert "1 variable tensor: hidden" in kept(rnn_net()).says and "reset before" in kept(rnn_net()).says
    assert "1 resource variable: handle" in kept(variable_net()).says and "loaded anew" in kept(variable_net()).says
    assert State().says == ""


@pytest.mark.parametrize("path", [rnn_net], indirect=True)
def test_a_state_in_tensors_begins_anew(path: Path) -> None:
    model = LiteRTModel(path)
    first, second = run(model), run(model)
    assert first != second, "the net does keep a state"
    model.enter(INFERENCE)
    assert [run(model), run(model)] == [first, second]
    assert model.loaded.keeps_state and model.loaded.resets_state


@pytest.mark.parametrize("path", [variable_net], indirect=True)
@pytest.mark.parametrize("delegate", ["xnnpack", "none"])
def test_a_state_in_resources_is_not_reset(path: Path, delegate: str) -> None:
    model = LiteRTModel(path, delegate=delegate)
    found = [run(model)[0] for _ in range(3)]
    model.enter(INFERENCE)
    assert [*found, run(model)[0]] == [3.0, 4.0, 5.0, 6.0], "(1 + n * 0.5) * 2"
    assert model.loaded.keeps_state and not model.loaded.resets_state


def bench(path: Path) -> Bench:
    variant = LoadedVariant(runtime="litert", path=str(path), options={"threads": 1})
    task = PreparedTask(section=msgspec.to_builtins(LatencySection(samples=3)))
    return Bench(LoadVariant(variant=variant, task=task))


@pytest.mark.parametrize("path", [rnn_net, variable_net], indirect=True)
def test_the_instrumented_model_is_not_doubted_for_its_history(path: Path) -> None:
    tried = bench(path)
    (note,) = tried.describe().notes[:1]
    assert note.startswith("keeps a state")
    tried.warm_up(INFERENCE, 0.02)  # a history that the instrumented model has not
    answer = tried.instrument()
    assert answer.outputs_identical and answer.notes == []


@pytest.mark.parametrize("path", [rnn_net, variable_net], indirect=True)
def test_an_instrumented_model_that_computes_otherwise_is_doubted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = bench(path)
    outputs = ProfiledModel.outputs
    monkeypatch.setattr(ProfiledModel, "outputs", lambda self: [array + 1 for array in outputs(self)])
    answer = tried.instrument()
    assert not answer.outputs_identical and "mistrust its op times" in answer.notes[0]


@pytest.mark.parametrize("path", [rnn_net, variable_net], indirect=True)
def test_predictions_do_not_depend_on_what_ran_before(path: Path) -> None:
    """The same block twice, with others in between and of other lengths: the same predictions."""

    def predicted(tried: Bench, min_ms: float) -> dict[int, Any]:
        block = MeasureBlock(kind="clean", phase=INFERENCE, samples=[0, 1, 2], min_ms=min_ms, keep=True)
        return tried.block(block).predictions

    first, other = bench(path), bench(path)
    other.warm_up(INFERENCE, 0.03)
    found = [predicted(first, 1.0), predicted(first, 9.0), predicted(other, 3.0)]
    assert all(a == b for a, b in itertools.pairwise(found))
    assert len(found[0]) == 3


@pytest.mark.parametrize("path", [rnn_net], indirect=True)
def test_a_sample_is_predicted_as_if_it_were_the_first(path: Path) -> None:
    tried = bench(path)

    def predicted(*samples: int) -> dict[int, Any]:
        block = MeasureBlock(kind="clean", phase=INFERENCE, samples=list(samples), min_ms=1.0, keep=True)
        return tried.block(block).predictions

    together = predicted(0, 1, 2)
    assert [predicted(number)[number] for number in range(3)] == [together[number] for number in range(3)]


def test_a_patched_model_begins_both_its_models_anew(tmp_path: Path) -> None:
    """An RNN and a sum behind it; the sum of the variant is patched, so that the baseline's state counts."""
    paths = []
    for name, scale in (("baseline", 1.0), ("variant", 0.5)):
        content = rnn_net(scale)
        paths.append(tmp_path / f"{name}.tflite")
        paths[-1].write_bytes(content)
    model = PatchedModel(paths[1], paths[0], {"states": "states"})
    steps = [np.full((1, 3, UNITS), 0.5, np.float32)]

    def once() -> list[float]:
        model.set_inputs(steps)
        model.invoke()
        return [float(value) for value in model.outputs()[0].reshape(-1)]

    first, second = once(), once()
    assert first != second
    model.enter(INFERENCE)
    assert [once(), once()] == [first, second]
    assert model.loaded.keeps_state and model.loaded.resets_state


@pytest.mark.parametrize("path", [variable_net], indirect=True)
def test_ops_on_variables_move_their_bytes_and_multiply_nothing(path: Path) -> None:
    main, first = read_model(path).subgraphs
    counted = {op.type: (op.macs, op.weight_bytes, op.activation_bytes) for op in main.ops}
    size = 4 * UNITS
    assert counted["VAR_HANDLE"] == (0, 0, 0)
    assert counted["READ_VARIABLE"] == (0, 0, 2 * size), "out of the variable, into a tensor"
    assert counted["ASSIGN_VARIABLE"] == (0, 0, 2 * size)
    assert [(op.weight_bytes, op.activation_bytes) for op in first.ops[1:]] == [(size, size)], "a constant is a weight"


def test_a_variable_that_is_assigned_is_the_copy() -> None:
    """As XNNPACK 2.3.0 runs a recurrent step on a resource variable."""
    nodes = ["VAR_HANDLE", "READ_VARIABLE", "FULLY_CONNECTED", "FULLY_CONNECTED", "ADD", "TANH", "ASSIGN_VARIABLE"]
    product = ["Static Reshape (NC)", "Fully Connected (NC, F32) GEMM"]
    found = align_kernels([*product, *product, "Add (ND)", "TanH (NC)", "Copy (NC, X32)"], nodes)
    assert found.positions == [2, 2, 3, 3, 4, 5, 6] and not found.doubtful
    assert align_kernels(["Copy (NC, X32)"], ["VAR_HANDLE", "ASSIGN_VARIABLE"]).positions == [1]

"""Ops of exported networks: what they are called, what they do, and that their times add up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")

from qprof.errors import ModelError  # noqa: E402
from qprof.runtimes.base import Calibration, Side  # noqa: E402
from qprof.runtimes.match_ops import match_ops  # noqa: E402
from qprof.runtimes.torch_export import program  # noqa: E402
from qprof.runtimes.torch_export.graph import read_graph  # noqa: E402
from qprof.runtimes.torch_export.maker import TorchExportMaker  # noqa: E402
from qprof.runtimes.torch_export.marks import Marks, called, function_in  # noqa: E402
from qprof.runtimes.torch_export.model import ExportedModel  # noqa: E402
from qprof.runtimes.torch_export.profiled import ProfiledNetwork  # noqa: E402
from qprof.runtimes.torch_export.runtime import RUNTIME  # noqa: E402
from qprof.runtimes.torch_export.sections import (  # noqa: E402
    MadeTorchVariant,
    TorchExportModelSection,
    TorchExportOptions,
)
from torch_networks import save_images  # noqa: E402

SAMPLE = [np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ProfiledNetwork]]:
    """Each form of a network, instrumented."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QPROF_CACHE", str(tmp_path_factory.mktemp("cache")))
        path = save_images(tmp_path_factory.mktemp("ops") / "net.pt2")
        maker = TorchExportMaker(TorchExportModelSection(path=str(path)))
        found = {}
        for name in ("float32-eager", "float32", "int8"):
            made = maker.make(MadeTorchVariant(name=name), Calibration(lambda: iter([SAMPLE] * 4), "same"))
            model = ExportedModel(made.path, TorchExportOptions(engine=made.run["engine"]))
            model.set_inputs(SAMPLE)
            found[name] = ProfiledNetwork(model)
            found[name].discover()
        yield found


def named(profiled: ProfiledNetwork) -> dict[str, Any]:
    return {op.name: op for op in profiled.ops}


def test_a_layer_has_one_name_in_every_form(profiled: dict[str, ProfiledNetwork]) -> None:
    for one in profiled.values():
        assert {"stem.0", "body.0", "head"} <= named(one).keys()
    forms = [profiled[name].ops for name in ("float32", "int8")]
    match = match_ops(*forms)
    pairs = {forms[0][i].name: forms[1][j].name for i, j in match.pairs}
    assert all(pairs[name] == name for name in ("stem.0", "body.0", "head"))


def test_what_an_op_does_is_told(profiled: dict[str, ProfiledNetwork]) -> None:
    for name, one in profiled.items():
        ops = named(one)
        assert (ops["stem.0"].type, ops["head"].type) == ("conv2d", "linear")
        assert ops["stem.0"].macs == 8 * 8 * 8 * 27 and ops["body.0"].macs == 8 * 8 * 8 * 72
        assert ops["head"].macs == 32
        assert sum(op.macs or 0 for op in one.ops) == 512 * 99 + 32, name
    exact, int8 = named(profiled["float32"]), named(profiled["int8"])
    assert exact["body.0"].quantization is None and exact["body.0"].weight_bytes == (8 * 72 + 8) * 4
    assert int8["body.0"].quantization == "int8 per-channel weights, uint8 activations"
    assert int8["body.0"].inputs[0] == "uint8[1,8,8,8]" and "qconv" in (int8["body.0"].kernel or "")
    assert (int8["body.0"].weight_bytes or 0) < (exact["body.0"].weight_bytes or 0)


@pytest.mark.parametrize("name", ["float32-eager", "float32", "int8"])
def test_ops_fill_the_inference(profiled: dict[str, ProfiledNetwork], name: str) -> None:
    """Never more than the whole; and most of it, however short it is."""
    from time import perf_counter_ns

    one = profiled[name]
    spans = []
    for number in range(60):
        one.begin(number)
        start = perf_counter_ns()
        one.run_once()
        spans.append(perf_counter_ns() - start)
        one.end()
    events = one.drain()
    assert len(events.op) == 60 * len(one.ops) and (events.duration_ns > 0).all()
    shares = events.duration_ns.reshape(60, -1).sum(axis=1) / np.array(spans)
    assert shares.max() <= 1.0
    assert np.median(shares) > 0.5  # a network of 0.1 ms: what is around the ops is not much less


def test_outside_of_a_profiled_inference_nothing_is_read(profiled: dict[str, ProfiledNetwork]) -> None:
    one = profiled["float32"]
    before = one.outputs()[0]
    one.begin(0)
    one.run_once()
    one.end()
    assert len(one.drain().op) == len(one.ops)
    one.run_once()
    assert len(one.drain().op) == 0
    np.testing.assert_array_equal(one.outputs()[0], before)


def test_readings_lie_behind_the_calls_that_are_asked_for() -> None:
    source = "def f(x):\n    y = op(x)\n    z = other(y)\n    w = op(z)\n    return w\n"
    space: dict[str, Any] = {"op": lambda x: x + 1, "other": lambda x: x * 2}
    exec(source, space)
    function: FunctionType = space["f"]
    tree = function_in(source, "f")
    assert tree is not None
    marks = Marks(function, tree, lambda statement: called(statement) == "op", "here")
    assert function(1) == 5 and marks.drain().shape == (0, 3)
    marks.put()
    assert function(1) == 5 and function(2) == 7
    marks.take_away()
    assert function(1) == 5
    readings = marks.drain()
    assert readings.shape == (2, 3) and (np.diff(readings, axis=1) > 0).all()


def test_a_loop_is_not_taken_apart() -> None:
    source = "def f(x):\n    for i in x:\n        op(i)\n    return x\n"
    space: dict[str, Any] = {}
    exec(source, space)
    tree = function_in(source, "f")
    assert isinstance(tree, ast.FunctionDef)
    with pytest.raises(ModelError, match="has a loop"):
        Marks(space["f"], tree, lambda statement: True, "here")


def test_several_ops_of_a_module_are_told_apart(tmp_path: Path) -> None:
    class Both(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            found = self.one(x)
            return torch.relu(found @ found.T) + torch.relu(x)

    found = torch.export.export(Both().eval(), (torch.randn(4, 4),))
    graph = read_graph(program.network(tmp_path, found).module)
    assert [graph.names[node] for node in graph.nodes] == ["one", "numpy_t", "matmul", "relu", "relu_1", "add"]


def test_layers_are_compared_with_batch_norm_folded(profiled: dict[str, ProfiledNetwork]) -> None:
    sides = [Side(profiled[name].model, profiled[name].model.options) for name in ("float32", "int8")]
    comparison = RUNTIME.compare_layers(*sides, ())
    seen: dict[tuple[str, str], float] = {}

    def record(kind: str, op: str, reference: Any, value: Any, saturated: int | None) -> None:
        seen[kind, op] = 10 * np.log10(np.square(reference).sum() / np.square(reference - value).sum())

    comparison.weights(record)
    comparison.sample(SAMPLE, record)
    for op in ("stem.0", "body.0", "head"):
        assert 30 < seen["weights", op] < 80, seen  # unfolded it would be about 0
        assert 20 < seen["cumulative", op] < 80 and 20 < seen["own", op] < 80, seen

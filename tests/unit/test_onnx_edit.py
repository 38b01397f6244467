"""Finished .onnx files, changed for experiments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import helper  # noqa: E402

from onnx_models import SIZE, floats, model, residual_net, weights  # noqa: E402
from qprof.errors import ModelError  # noqa: E402
from qprof.record.manifest import VariantEntry  # noqa: E402
from qprof.runtimes.interventions import Impossible  # noqa: E402
from qprof.runtimes.onnx import edit  # noqa: E402
from qprof.runtimes.onnx.runtime import RUNTIME  # noqa: E402


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def saved(path: Path, net: Any, change: Callable[[Any], None] | None = None) -> Path:
    made = onnx.ModelProto.FromString(net.SerializeToString())
    if change is not None:
        change(made.graph)
        onnx.checker.check_model(made, full_check=True)
    path.write_bytes(made.SerializeToString())
    return path


def output(path: Path) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    return session.run(None, {"x": image})[0]


def types(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def node(graph: Any, name: str) -> Any:
    return next(one for one in graph.node if one.name == name)


def swap(tensor: str) -> Callable[[Any], None]:
    """Other numbers in a constant."""

    def change(graph: Any) -> None:
        stored = next(one for one in graph.initializer if one.name == tensor)
        other = onnx.numpy_helper.to_array(stored)[::-1].copy()
        stored.CopyFrom(onnx.numpy_helper.from_array(other, tensor))

    return change


def split_relu(graph: Any) -> None:
    """relu1 as where(c1 > 0, c1, 0)."""
    place = list(graph.node).index(node(graph, "relu1"))
    del graph.node[place]
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    graph.node.insert(place, helper.make_node("Where", ["positive", "c1", "zero"], ["r1"], name="where"))
    graph.node.insert(place, helper.make_node("Greater", ["c1", "zero"], ["positive"], name="greater"))


def test_ops_that_were_put_in_are_cut_out(tmp_path: Path) -> None:
    """Greater gives no floats, and nothing else reads what it gives. An op of the optimizer's is in no file."""
    other = saved(tmp_path / "other.onnx", residual_net(), split_relu)
    without = edit.bypassed(other, ["where", "greater", "ReorderOutput"])
    plain = saved(tmp_path / "plain.onnx", residual_net(), lambda graph: None)
    removed = edit.bypassed(plain, ["relu1"])
    assert types(without) == types(removed) and "Where" not in types(without)
    np.testing.assert_array_equal(output(without), output(removed))
    assert np.abs(output(without) - output(plain)).max() > 1e-3


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["greater"], "nothing that is computed without these ops has its type and shape"),
        (["stem"], "reads 'c1', and nothing that is computed"),
        (["head"], "its output 'y' is made by one of these ops"),
        (["nowhere"], "has no op named 'nowhere'"),
    ],
)
def test_what_would_not_fit_together_is_refused(tmp_path: Path, names: list[str], told: str) -> None:
    other = saved(tmp_path / "other.onnx", residual_net(), split_relu)
    with pytest.raises(ModelError, match=told):
        edit.bypassed(other, names)


def test_constants_of_the_baseline_give_its_numbers_back(tmp_path: Path) -> None:
    base = saved(tmp_path / "base.onnx", residual_net())
    other = saved(tmp_path / "other.onnx", residual_net(), swap("body.weight"))
    assert np.abs(output(other) - output(base)).max() > 1e-3
    np.testing.assert_array_equal(output(edit.constants_from(other, base, [("body", "body")])), output(base))
    np.testing.assert_array_equal(output(edit.constants_from(other, base, [("stem", "stem")])), output(other))


def test_attributes_come_with_the_ops_and_not_with_their_constants(tmp_path: Path) -> None:
    def pads(graph: Any) -> None:
        chosen = next(one for one in node(graph, "conv2").attribute if one.name == "pads")
        chosen.ints[:] = [2, 2, 0, 0]

    base = saved(tmp_path / "base.onnx", residual_net())
    other = saved(tmp_path / "other.onnx", residual_net(), pads)
    np.testing.assert_array_equal(output(edit.constants_from(other, base, [("body", "body")])), output(other))
    np.testing.assert_array_equal(output(edit.ops_from(other, base, [("body", "body")])), output(base))


def test_constants_of_another_shape_are_refused(tmp_path: Path) -> None:
    base, other = saved(tmp_path / "base.onnx", residual_net()), saved(tmp_path / "o.onnx", residual_net(channels=8))
    with pytest.raises(ModelError, match=r"is of another type or shape in base\.onnx"):
        edit.ops_from(other, base, [("body", "body")])
    with pytest.raises(ModelError, match="is a Conv and a Relu"):
        edit.ops_from(base, base, [("body", "relu1")])


def wider(graph_size: int) -> Any:
    """Two convolutions one behind the other with so many channels between them, before a third."""
    sizes = [(graph_size, 3), (16, graph_size), (4, 16)]
    nodes, constants, given = [], {}, "x"
    for number, (out, into) in enumerate(sizes):
        constants[f"layer{number}.weight"] = weights(out, into, 3, 3)
        made = f"t{number}" if number < 2 else "y"
        nodes.append(
            helper.make_node("Conv", [given, f"layer{number}.weight"], [made], name=f"conv{number}", pads=[1] * 4)
        )
        if number == 0:
            nodes.append(helper.make_node("Relu", [made], ["between"], name="between"))
            made = "between"
        given = made
    return model(nodes, [floats("x", [1, 3, SIZE, SIZE])], [floats("y", [1, 4, SIZE, SIZE])], constants)


def test_a_wider_part_is_made_narrow_again(tmp_path: Path) -> None:
    base, other = saved(tmp_path / "base.onnx", wider(8)), saved(tmp_path / "other.onnx", wider(32))
    part, around = ["layer0", "layer1", "ReorderInput"], [("layer2", "layer2"), ("between", "between")]
    made = edit.part_from(other, base, part, part, around)
    np.testing.assert_array_equal(output(made), output(base))
    # An output of the model that the part makes keeps its name; half of the part does not fit.
    rest = [(name, name) for name in ("layer0", "between", "layer1")]
    last = edit.part_from(other, other, ["layer2"], ["layer2"], rest)
    np.testing.assert_array_equal(output(last), output(other))
    with pytest.raises(ModelError, match="the part does not fit"):
        edit.part_from(other, base, ["layer0"], ["layer0"], [("layer1", "layer1"), *around])
    with pytest.raises(ModelError, match="these ops are the whole model"):
        edit.part_from(other, base, [*part, "layer2"], [*part, "layer2"], [])
    with pytest.raises(ModelError, match=r"for which base\.onnx has nothing there; name that op as well"):
        edit.part_from(other, base, part, part, [])


def test_what_makes_constants_for_a_part_comes_with_it(tmp_path: Path) -> None:
    def by_a_node(graph: Any) -> None:
        stored = next(one for one in graph.initializer if one.name == "body.bias")
        graph.node.insert(0, helper.make_node("Constant", [], ["body.bias"], name="told", value=stored))
        graph.initializer.remove(stored)

    base = saved(tmp_path / "base.onnx", residual_net(), by_a_node)
    other = saved(tmp_path / "other.onnx", residual_net(), swap("body.weight"))
    around = [(name, name) for name in ("stem", "relu1", "add", "relu2", "mean", "flat", "head")]
    made = edit.part_from(other, base, ["body"], ["body"], around)
    assert types(made)["Constant"] == 1
    np.testing.assert_array_equal(output(made), output(base))


def test_models_that_are_not_taken_apart(tmp_path: Path) -> None:
    path = tmp_path / "beside.onnx"
    onnx.save(residual_net(channels=32), str(path), save_as_external_data=True, location="data", size_threshold=0)
    with pytest.raises(ModelError, match="keeps tensors in files of their own"):
        edit.bypassed(path, ["relu1"])


def test_the_runtime_runs_the_changed_file_as_it_ran_the_other(tmp_path: Path) -> None:
    path = saved(tmp_path / "base.onnx", residual_net())
    section = {"name": "v", "file": str(path), "threads": 2, "provider": "cpu"}
    entry = VariantEntry(name="v", path=str(path), section=section)
    found = RUNTIME.interventions.bypassed(entry, {"relu1"})
    assert not isinstance(found, Impossible)
    assert found["name"].startswith("v+without-") and (found["threads"], found["provider"]) == (2, "cpu")
    assert found["file"] != str(path)
    for method in ("constants_from", "ops_from"):
        made = getattr(RUNTIME.interventions, method)(entry, entry, [("body", "body")])
        assert not isinstance(made, Impossible) and made["file"]
    refused = RUNTIME.interventions.part_from(entry, entry, ["stem", "body", "head"], [], [])
    assert isinstance(refused, Impossible) and "its ops cannot be replaced by those of v" in refused.reason

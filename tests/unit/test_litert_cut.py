"""Models without some of their ops: what is dropped, what comes out, and that they run as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tflite_builder
from qprof.errors import ModelError
from qprof.runtimes.litert.cut import cut, following
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.interpreter import LiteRTModel


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """stem -> depthwise -> residual (with stem) -> pooled -> logits -> probabilities"""
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite_builder.tiny_conv_net())
    return path


def names(path: Path) -> list[str]:
    return [op.name for op in read_model(path).subgraphs[0].ops]


def test_all_that_follows_is_dropped(net: Path) -> None:
    assert following(net, {"logits"}) == {"logits", "probabilities"}
    assert following(net, {"depthwise"}) == {"depthwise", "residual", "pooled", "logits", "probabilities"}
    assert following(net, {"no such op"}) == set()


def test_what_the_dropped_ops_read_comes_out(net: Path) -> None:
    made = cut(net, {"logits"})
    assert names(made) == ["stem", "depthwise", "residual", "pooled"]
    image = np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype(np.float32)
    model, whole = LiteRTModel(made), LiteRTModel(net)
    assert [tensor.name for tensor in model.loaded.outputs] == ["pooled"]
    for each in (model, whole):
        each.set_inputs([image])
        each.invoke()
    # The dropped ops, by hand, give the outputs of the whole.
    weights, bias = (_constant(net, name) for name in ("logits/weights", "logits/bias"))
    logits = model.outputs()[0] @ weights.T + bias
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(whole.outputs()[0], expected, rtol=1e-4)


def _constant(path: Path, name: str) -> NDArray[np.float32]:
    interpreter = LiteRTModel(path, delegate="none").interpreter
    index = next(detail["index"] for detail in interpreter.get_tensor_details() if detail["name"] == name)
    return np.asarray(interpreter.get_tensor(index), np.float32)


def test_a_tensor_that_two_dropped_ops_read_comes_out_once(net: Path) -> None:
    made = cut(net, {"depthwise"})
    assert names(made) == ["stem"]
    assert [tensor.name for tensor in LiteRTModel(made).loaded.outputs] == ["stem"]


def test_outputs_that_remain_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "two.tflite"
    path.write_bytes(tflite_builder.multi_io_net())
    made = LiteRTModel(cut(path, {"logits"}))
    assert sorted(tensor.name for tensor in made.loaded.outputs) == ["product", "total"]


def test_it_is_made_once(net: Path) -> None:
    first = cut(net, {"logits"})
    written = first.stat().st_mtime_ns
    assert cut(net, {"logits"}) == first and first.stat().st_mtime_ns == written
    assert cut(net, {"probabilities"}) != first


def test_nothing_would_remain(net: Path) -> None:
    with pytest.raises(ModelError, match="nothing that computes would remain"):
        cut(net, {"stem"})


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "text.tflite"
    path.write_text("not a model")
    with pytest.raises(ModelError, match=r"text\.tflite"):
        cut(path, {"logits"})

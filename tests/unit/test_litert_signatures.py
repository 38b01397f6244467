"""Signatures of a file other than its first; shapes that it leaves open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

models = pytest.importorskip("input_models", reason="models are built with ai_edge_litert's schema")

from ai_edge_litert.interpreter import Interpreter  # noqa: E402

from qprof.errors import ModelError  # noqa: E402
from qprof.runtimes.litert.interpreter import LiteRTModel  # noqa: E402
from qprof.runtimes.litert.signatures import selected  # noqa: E402


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.tflite"
    path.write_bytes(models.two_signatures_net())
    return path


@pytest.mark.parametrize("key", ["double", "square"])
def test_what_is_run_is_the_signature(two: Path, key: str) -> None:
    numbers = np.linspace(-2, 2, 8, dtype=np.float32)[None]
    expected = Interpreter(str(two)).get_signature_runner(key)(x=numbers)["y"]
    model = LiteRTModel(selected(two, key))
    model.set_inputs([numbers])
    model.invoke()
    np.testing.assert_array_equal(model.outputs()[0], expected)
    assert model.loaded.inputs[0].argument == "x"
    other = {"double": "square", "square": "double"}[key]
    assert model.loaded.notes == [
        f"its signature {key!r} is run; it also has {other!r} (--signature, or model.signature)"
    ]


def test_the_first_needs_no_other_file_and_none_is_made_of_one_that_qprof_made(two: Path) -> None:
    assert selected(two, "double") == two and selected(two, "") == two
    made = selected(two, "square")
    assert made != two and selected(made, "double") == made
    assert len(made.read_bytes()) == pytest.approx(two.stat().st_size, abs=400)


def test_a_signature_that_is_not_there(two: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no signature 'sqare'; did you mean square\?"):
        selected(two, "sqare")
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(models.pixel_net())
    with pytest.raises(ModelError, match="it has none; leave out the signature"):
        selected(plain, "any")


def test_an_open_shape_is_said_unless_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "open.tflite"
    path.write_bytes(models.open_sequence_net())
    (note,) = LiteRTModel(path).loaded.notes
    assert note.startswith("input 'a' leaves its shape open [1, -1, 16] and is run at [1, 1, 16]: give the shape")
    assert "--shape a=1x128x16" in note
    for key in ("a", "0", "serving_default_a:0"):
        given = LiteRTModel(path, input_shapes={key: [1, 24, 16]})
        assert given.loaded.notes == [] and given.loaded.inputs[0].shape == (1, 24, 16)


def test_an_open_batch_is_one_without_a_word(tmp_path: Path) -> None:
    from tflite_builder import dynamic_batch_net

    path = tmp_path / "batch.tflite"
    path.write_bytes(dynamic_batch_net())
    model = LiteRTModel(path)
    assert model.loaded.inputs[0].shape_signature == (-1, *model.loaded.inputs[0].shape[1:])
    assert model.loaded.notes == []

"""A file that LiteRT refuses, or dies of, is told of in one line, and the process that asks lives on."""

from __future__ import annotations

from pathlib import Path

import pytest

import tflite_builder
from qprof.errors import ModelError
from qprof.runtimes.litert.loadable import refuse_unloadable_file


def test_a_good_file_is_none_of_its_business(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(tflite_builder.tiny_conv_net())
    refuse_unloadable_file(tmp_path / "m.tflite", "m", "make it anew")


def test_a_file_that_litert_refuses(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(tflite_builder.custom_op_net())
    with pytest.raises(ModelError, match=r"^m with a change: LiteRT cannot load it: .*NoSuchOp.*; make it anew$"):
        refuse_unloadable_file(tmp_path / "m.tflite", "m with a change", "make it anew")


def test_a_file_that_litert_dies_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.tflite").write_bytes(tflite_builder.tiny_conv_net())
    site = "import os\nimport ai_edge_litert.interpreter as i\ni.Interpreter.__init__ = lambda *a, **k: os.abort()\n"
    (tmp_path / "sitecustomize.py").write_text(site)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with pytest.raises(ModelError, match=r"^m: LiteRT dies of it \(signal 6\); make it anew$"):
        refuse_unloadable_file(tmp_path / "m.tflite", "m", "make it anew")

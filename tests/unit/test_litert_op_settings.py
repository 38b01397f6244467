"""How ops are set, read of the file, and after its options were changed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qprof.errors import ModelError
from qprof.record.manifest import VariantEntry
from qprof.runtimes.litert.edit import open_file
from qprof.runtimes.litert.interventions import LiteRTInterventions
from qprof.runtimes.litert.objects import packed
from qprof.runtimes.litert.op_settings import _settings, op_settings
from tflite_builder import tiny_conv_net


def test_what_a_file_says_of_its_ops(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(tiny_conv_net())
    before = op_settings(path)
    assert before["0"] == {
        **{"padding": "SAME", "strideW": "2", "strideH": "2", "fusedActivationFunction": "RELU6"},
        **{"dilationWFactor": "1", "dilationHFactor": "1"},
    }
    file = open_file(path).objects
    options: Any = file.subgraphs[0].operators[0].builtinOptions
    options.padding, options.fusedActivationFunction = 1, 0
    path.write_bytes(packed(file))
    assert op_settings(path) == {**before, "0": {**before["0"], "padding": "VALID", "fusedActivationFunction": "NONE"}}


def test_lists_of_the_same_name_are_told_as_they_are() -> None:
    """Of StableHLO's windows and convolutions, whose padding is a list."""
    options = SimpleNamespace(padding=np.array([0, 1]), fusedActivationFunction=3, weightsFormat=1)
    assert _settings(options) == {"padding": "[0, 1]", "fusedActivationFunction": "RELU6"}


def test_a_file_that_is_gone_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        op_settings(tmp_path / "gone.tflite")
    gone = VariantEntry(name="a", path=str(tmp_path / "gone.tflite"))
    assert LiteRTInterventions().settings_of_ops(gone) == {}

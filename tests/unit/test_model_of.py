"""Which file a variant runs, by its manifest, which may be damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qprof.record.manifest import VariantEntry
from qprof.runtimes.interventions import model_of


@pytest.mark.parametrize("file", [2**70, -1, ["a"], None, "", "not there"])
def test_a_file_that_is_none_is_not_looked_for(tmp_path: Path, file: Any) -> None:
    assert model_of(VariantEntry(name="a", section={"file": file}, path="made.tflite")) == Path("made.tflite")


def test_a_file_that_is_there_is_what_is_run(tmp_path: Path) -> None:
    given = tmp_path / "given.tflite"
    given.touch()
    assert model_of(VariantEntry(name="a", section={"file": str(given)}, path="made.tflite")) == given

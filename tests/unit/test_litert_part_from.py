"""A part of a baseline in the place of a finished file's own, inside of which the two differ."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import qprof
from litert_edits import entry, ops_of
from qprof.errors import ModelError
from qprof.runtimes.interventions import Impossible
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.part_from import part_from
from qprof.runtimes.litert.runtime import RUNTIME

EMBEDDED = Path(qprof.__file__).parent / "embedded"
FLOAT, INT8 = EMBEDDED / "shapes_detector.tflite", EMBEDDED / "shapes_detector_qat.tflite"
BLOCK = [f"stage1_block1_{part}" for part in ("expand", "depthwise", "project")]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def edits(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The edits that the real cases are made by."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "real"))
    import makers_edits

    yield makers_edits
    for name in ("makers_edits", "graph"):
        sys.modules.pop(name, None)


def image() -> NDArray[np.float32]:
    shape = LiteRTModel(FLOAT).loaded.inputs[0].shape
    return np.random.default_rng(7).uniform(-1, 1, shape).astype(np.float32)


def outputs(path: Path) -> dict[str, NDArray[Any]]:
    model = LiteRTModel(path)
    model.set_inputs([image()])
    model.invoke()
    names = [tensor.name for tensor in model.loaded.outputs]
    return dict(zip(names, (array.copy() for array in model.outputs()), strict=True))


def parted(path: Path, *patterns: str) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """(ops of a file that match, those of the float detector, the others that both have)."""
    own, its = ([op.name for op in ops_of(file)] for file in (path, FLOAT))
    out, into = ([name for name in side if any(p in name for p in patterns)] for side in (own, its))
    around = [(name, name) for name in own if name in its and name not in out]
    return out, into, around


@pytest.mark.parametrize("how", ["widened", "upsampled"])
def test_with_the_baselines_block_it_computes_what_the_baseline_computes(tmp_path: Path, edits: Any, how: str) -> None:
    other = tmp_path / "other.tflite"
    if how == "widened":
        edits.widened(FLOAT, other, "stage1_block1", 4)
    else:
        edits.upsampled(FLOAT, other, BLOCK)
        assert any(np.abs(outputs(other)[name] - array).max() > 1e-3 for name, array in outputs(FLOAT).items())
    out, into, around = parted(other, *BLOCK, "planted/")
    made = part_from(other, FLOAT, out, into, around)
    assert Counter(op.type for op in ops_of(made)) == Counter(op.type for op in ops_of(FLOAT))
    assert sum(op.macs or 0 for op in ops_of(made)) == sum(op.macs or 0 for op in ops_of(FLOAT))
    assert sum(op.macs or 0 for op in ops_of(other)) > sum(op.macs or 0 for op in ops_of(FLOAT))
    for name, array in outputs(FLOAT).items():
        np.testing.assert_array_equal(outputs(made)[name], array)


def test_ops_that_make_an_output_of_the_model_are_replaced_under_its_name(tmp_path: Path, edits: Any) -> None:
    """Tasks know outputs by their names."""
    last = ops_of(FLOAT)[-1]
    around = [(op.name, op.name) for op in ops_of(FLOAT) if op.name != last.name]
    made = part_from(FLOAT, FLOAT, [last.name], [last.name], around)
    assert {name: array.tolist() for name, array in outputs(made).items()} == {
        name: array.tolist() for name, array in outputs(FLOAT).items()
    }


def test_half_of_what_differs_does_not_fit(tmp_path: Path, edits: Any) -> None:
    """The image is large behind one of the planted ops, and small again behind the other."""
    other = tmp_path / "other.tflite"
    edits.upsampled(FLOAT, other, BLOCK)
    with pytest.raises(ModelError, match=r"has nothing there; name that op as well|the part does not fit"):
        part_from(other, FLOAT, *parted(other, *BLOCK))


def test_what_reads_another_number_format_does_not_fit() -> None:
    block = [op.name for op in ops_of(INT8) if any(part in op.name for part in BLOCK)]
    names = {op.name for op in ops_of(FLOAT)}
    assert block and names.issuperset(block)
    around = [(op.name, op.name) for op in ops_of(INT8) if op.name in names and op.name not in block]
    with pytest.raises(ModelError, match=r"int8\[.*and float32\[.*the part does not fit"):
        part_from(INT8, FLOAT, block, block, around)


def test_the_whole_model_is_no_part_of_it() -> None:
    names = [op.name for op in ops_of(FLOAT)]
    with pytest.raises(ModelError, match="these ops are the whole model"):
        part_from(FLOAT, FLOAT, names, names, [])


def test_what_reads_nothing_that_the_other_model_has_does_not_fit() -> None:
    """Without the op before it among those that correspond."""
    out, into, around = parted(FLOAT, "stage1_block1_depthwise")
    with pytest.raises(ModelError, match="which has no counterpart in"):
        part_from(FLOAT, FLOAT, out, into, [pair for pair in around if "stage1_block1_expand" not in pair[0]])


def test_the_runtime_names_the_variant_and_tells_why_it_cannot(tmp_path: Path, edits: Any) -> None:
    other = tmp_path / "other.tflite"
    edits.widened(FLOAT, other, "stage1_block1", 4)
    interventions = RUNTIME.interventions
    found = interventions.part_from(entry(other, threads=2), entry(FLOAT, "base"), *parted(other, *BLOCK))
    assert not isinstance(found, Impossible)
    assert found["name"].startswith("variant+part-") and found["threads"] == 2
    refused = interventions.part_from(entry(other), entry(FLOAT, "base"), ["no such op"], [], [])
    assert isinstance(refused, Impossible) and "its ops cannot be replaced by those of base" in refused.reason

"""Calibration on other data: told by the input that does not fit, or by layer after layer that is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qprof.findings.calibration import Uncovered, uncovered
from qprof.record.manifest import Manifest, RecordedProfile, VariantEntry
from qprof.record.ops import SOURCES, OpMeta
from qprof.record.rows import LAYER_ERROR_COLUMNS, LayerErrorRow
from qprof.record.tensors import TensorSpec
from qprof.report.plausibility import calibration_lines
from qprof.store.manifests import write_manifest
from qprof.store.run import Run
from qprof.store.writer import write_run_tables

LAYERS = 20


def row(op: str, share: float | None) -> LayerErrorRow:
    known: dict[str, Any] = {"variant": "int8", "op": op, "name": f"name of {op}", "type": "CONV_2D"}
    known |= {"own_saturated_share": share, "samples": 8}
    return LayerErrorRow(**(dict.fromkeys(LAYER_ERROR_COLUMNS) | known))


def run_of(folder: Path, image: float | None, layers: Sequence[float]) -> Run:
    """int8 cuts off these shares of its input (`None`: it takes the numbers as they are) and of its layers."""
    inputs = [TensorSpec(name="image", shape=(1, 8, 8, 3), dtype="float32")]
    entries = [VariantEntry(name="float32", inputs=inputs), VariantEntry(name="int8", inputs=inputs)]
    manifest = Manifest(status="complete", created="", profile=RecordedProfile(name="x"), variants=entries)
    write_manifest(folder, manifest)
    ops = [OpMeta(op="q", name="image_quantized", type="QUANTIZE", index=0, inputs=["float32[1,8,8,3]"])]
    ops += [
        OpMeta(op=str(n), name=str(n), type="CONV_2D", index=n + 1, inputs=["int8[1,8,8,3]"])
        for n in range(len(layers))
    ]
    rows = [] if image is None else [row("q", image)]
    rows += [row(str(n), share) for n, share in enumerate(layers)]
    write_run_tables(folder, [], {"int8": ops}, [], rows, SOURCES)
    return Run(folder)


def test_a_calibration_that_fits_says_nothing(tmp_path: Path) -> None:
    assert uncovered(run_of(tmp_path, 0.03, [0.002] * (LAYERS - 3) + [0.02] * 3)) == []


def test_an_input_outside_its_range(tmp_path: Path) -> None:
    (found,) = uncovered(run_of(tmp_path, 0.8, [0.002] * (LAYERS - 1) + [0.02]))
    assert found == Uncovered("int8", 0.8, 1, LAYERS, f"name of {LAYERS - 1}", 0.02)
    lines = list(calibration_lines([found]))
    assert lines[0].startswith("int8 WAS CALIBRATED ON OTHER DATA")
    assert "80.0% of its input's numbers" in lines[1]
    assert f"1 of {LAYERS} layers cut off 1% or more" in lines[2]


def test_layer_after_layer_is_cut_off(tmp_path: Path) -> None:
    (found,) = uncovered(run_of(tmp_path, None, [0.002] * (LAYERS - 4) + [0.02] * 4))
    assert (found.input_share, found.layers, found.compared) == (None, 4, LAYERS)
    assert "input" not in list(calibration_lines([found]))[1]


@pytest.mark.parametrize("layers", [[], [0.0]])
def test_a_run_without_comparison_says_nothing(tmp_path: Path, layers: list[float]) -> None:
    assert uncovered(run_of(tmp_path, None, layers)) == []
    (tmp_path / "layer_errors.parquet").unlink()
    assert uncovered(Run(tmp_path)) == []

"""Layers by their own error, and the sections that leave them in float."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planted.cases_layers import LAYERS, LayerError, LayerWorld, layer, world
from qprof.findings import float_layers
from qprof.findings.comparison import Comparison
from qprof.findings.float_layers import layer_errors, lost_score, not_made_anew, section_in_float
from qprof.record.manifest import Making, VariantEntry
from qprof.runtimes.litert import neighbours
from qprof.runtimes.litert.interventions import LiteRTInterventions
from qprof.store.run import Run

BAD = {3: LayerError(20.0), 8: LayerError(10.0, saturated=0.3)}


def recorded(folder: Path, made: LayerWorld) -> Run:
    return made.record(folder / "run")


def test_the_worst_come_first_and_only_what_is_quantized(tmp_path: Path) -> None:
    made = world(BAD, {3: 0.2})
    float32, int8 = made.variants
    ops = [replace(op, quantization=None) if op.name == layer(5) else op for op in int8.ops]
    run = recorded(tmp_path, replace(made, variants=[float32, replace(int8, ops=ops)]))
    found = layer_errors(run, "int8")
    assert [one.name for one in found[:2]] == [layer(8), layer(3)]
    assert len(found) == LAYERS - 1 and layer(5) not in {one.name for one in found}
    assert (found[0].saturated_share, found[0].skip_layers) == (0.3, (layer(8),))
    assert found[0].noise == pytest.approx(0.1) and found[1].noise == pytest.approx(0.01)
    assert layer_errors(run, "float32") == []
    (run.folder / "layer_errors.parquet").unlink()
    assert layer_errors(Run(run.folder), "int8") == []


def test_neighbours_stay_in_float_with_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = recorded(tmp_path, world(BAD, {3: 0.2}))
    beside = {f"inference/{layer(3)}": [f"inference/{layer(2)}", f"inference/{layer(4)}"]}
    monkeypatch.setattr(neighbours, "neighbours", lambda path: beside)
    found = {one.name: one for one in layer_errors(run, "int8")}
    assert found[layer(3)].skip_layers == (layer(3), layer(2), layer(4))
    assert found[layer(8)].skip_layers == (layer(8),)
    entry = VariantEntry(name="int8", section={"name": "int8", "skip_layers": ["kept"]})
    section = section_in_float(entry, LiteRTInterventions(), [found[layer(3)]], "x")
    assert section == {
        "name": "int8+x",
        "method": "int8",
        "skip_layers": sorted(["kept", layer(2), layer(3), layer(4)]),
    }


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"section": {"file": "x.tflite"}}, "ready-made file"),
        ({"section": {"library": "autogptq"}, "runtime": "torch_lm"}, "AutoGPTQ leaves no single layer"),
        ({"making": Making(tool="tensorflow")}, "made by tensorflow"),
        ({"making": Making(tool="ai-edge-quantizer")}, None),
        ({}, None),
    ],
)
def test_what_cannot_be_made_anew(tmp_path: Path, entry: dict[str, Any], text: str | None) -> None:
    run = recorded(tmp_path, world({}, {}))
    for key, value in {"section": {}, "runtime": "litert", **entry}.items():
        setattr(run.variant("int8"), key, value)
    reason = not_made_anew(run, "int8")
    assert (reason is None) == (text is None) and (text or "") in (reason or "")


def test_a_loss_is_one_that_is_sure_and_larger_than_the_margin(tmp_path: Path) -> None:
    def lost(folder: str, rows: float) -> Any:
        run = recorded(tmp_path / folder, world({}, {}, evenly=rows))
        return lost_score(Comparison(run, "float32", "int8", "inference"))

    found = lost("much", 0.1)
    assert found is not None and found[0] == "accuracy" and found[1].value == pytest.approx(-0.1, abs=0.02)
    assert lost("none", 0.0) is None


def test_long_names_are_cut_in_their_middle() -> None:
    one = float_layers.LayerError("0", "a" * 100 + "end", "", "CONV_2D", 20.0, None, ())
    assert len(one.label) == 49 and one.label.endswith("end") and "…" in one.label
    assert replace(one, name="short").label == "short"

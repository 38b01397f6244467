"""Layers left in float: what is predicted, what is measured, and every layer's costs in one row."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from planted.cases_layers import LAYERS, LayerError, LayerWorld, layer, variant, world
from planted.world import PlantedVariant
from qprof.errors import ModelError, StoreError
from qprof.findings import mixed_precision
from qprof.findings.mixed_precision import float_layer_pareto, layer_rows
from qprof.findings.verify import Verification
from qprof.measure.profile import resolved, validate
from qprof.measure.progress import SilentProgress
from qprof.store.run import Run

ERRORS = {3: LayerError(10.0), 7: LayerError(13.0), 9: LayerError(16.0)}
COSTS = {3: 0.12, 7: 0.06}


def slower_in_float(made: LayerWorld) -> LayerWorld:
    """A layer in float takes twice as long; five of them cannot be made."""

    def respond(section: dict[str, Any]) -> PlantedVariant:
        left = section.get("skip_layers", [])
        if len(left) == 4:
            raise ModelError("no such form of four")
        lost = sum(cost for number, cost in COSTS.items() if layer(number) not in left)
        return variant(section["name"], 0.8 - lost, outside_us=20.0 + 20.0 * len(left))

    task = {"kind": "detection", "annotations": "/nowhere/annotations.json", "images": "/nowhere"}
    manifest = {**made.manifest, "profile": {"task": task}}
    return LayerWorld(**{**vars(made), "respond": respond, "manifest": manifest})


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[Verification]]:
    made = slower_in_float(world(ERRORS, COSTS))
    asked: list[Verification] = []

    def carried_out(run: Run, verification: Verification, progress: object) -> Run:
        asked.append(verification)
        profile = resolved(validate(verification.profile, source="test"))
        answers = [made._answer(section, {}) for section in profile.variants]
        return made._written(tmp_path / "verified", answers, profile, 5)

    monkeypatch.setattr(mixed_precision, "carry_out", carried_out)
    return made.record(tmp_path / "run"), asked


def test_the_worst_layers_are_left_in_float_and_measured(planted: tuple[Run, list[Verification]]) -> None:
    run, asked = planted
    start, one, two, four = float_layer_pareto(run, "int8", SilentProgress(), most_layers=4, samples=50)
    (verification,) = asked
    assert [v["name"] for v in verification.profile["variants"]] == [
        *("float32", "int8", "int8+1-in-float", "int8+2-in-float", "int8+4-in-float")
    ]
    protocol = verification.profile["protocol"]
    assert protocol["rounds"] == 8 and protocol["scored"] and not protocol["profiled"]
    assert verification.profile["task"]["limit"] == 50
    assert (start.count, start.layers, start.gained) == (0, (), None)
    assert one.skip_layers == (layer(3),) and two.layers == (layer(3), layer(7))
    lost = (run.score("float32", "accuracy") or 0.0) - (run.score("int8", "accuracy") or 0.0)
    assert 0.5 < one.noise_share < two.noise_share < 1.0
    assert one.predicted == pytest.approx(one.noise_share * lost)
    assert one.gained is not None and one.gained.value == pytest.approx(0.12, abs=0.03)
    assert two.gained is not None and two.gained.value == pytest.approx(0.18, abs=0.03)
    assert two.score == pytest.approx((start.score or 0.0) + two.gained.value)
    assert two.latency_change_us is not None and two.latency_change_us.value == pytest.approx(40.0, abs=8.0)
    assert four.reason == "no such form of four" and four.score is None and four.latency_us is None


def test_what_cannot_be_left_in_float_is_refused(tmp_path: Path, planted: tuple[Run, list[Verification]]) -> None:
    run, _ = planted
    with pytest.raises(StoreError, match=r"no errors of quantized layers of float32; .*protocol\.layer_errors"):
        float_layer_pareto(run, "float32", SilentProgress())
    run.variant("int8").section["file"] = "x.tflite"
    with pytest.raises(ModelError, match="int8: it is a ready-made file"):
        float_layer_pareto(run, "int8", SilentProgress())


def test_a_row_per_layer_joins_what_is_known(planted: tuple[Run, list[Verification]]) -> None:
    run, _ = planted
    rows = layer_rows(run, "int8")
    assert [row.name for row in rows] == [layer(number) for number in range(LAYERS)]
    assert (rows[3].own_sqnr_db, rows[3].sqnr_db) == (10.0, 0.0)
    assert rows[3].p50_us is not None and rows[3].p50_us.value == pytest.approx(20.0, rel=0.1)
    assert sum(row.share or 0.0 for row in rows) == pytest.approx(480 / 500, abs=0.01)
    assert all(row.energy_j is None for row in rows)  # nothing measured any
    assert all(row.own_sqnr_db is None for row in layer_rows(run, "float32"))


def test_a_layer_has_its_share_of_the_best_known_joules(
    planted: tuple[Run, list[Verification]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(name: str, provenance: str, joules: float | None) -> SimpleNamespace:
        gross = SimpleNamespace(value=joules)
        return SimpleNamespace(variant=name, provenance=provenance, sensor=f"{provenance} sensor", gross=gross)

    rows = [row("int8", "modelled", 9.0), row("float32", "measured", 7.0), row("int8", "measured", None)]
    rows.append(row("int8", "estimated", 2.0))
    monkeypatch.setattr(mixed_precision, "energy_table", lambda run, phase: SimpleNamespace(rows=rows))
    found = layer_rows(planted[0], "int8")[4]
    assert found.energy_source == "estimated: estimated sensor"
    assert found.share is not None and found.energy_j == pytest.approx(2.0 * found.share)

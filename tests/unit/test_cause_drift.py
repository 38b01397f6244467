"""The baseline's drift foretells the variant's: a machine drifts for both, a variant for itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planted.cases_environment import host, pair, variant
from planted.world import Noise, World
from qprof.findings.causes.base import Finding
from qprof.findings.causes.drift import CAUSE

STILL = Noise(0.01)
RISE = {round_: 1.02**round_ for round_ in range(10)}


def explained(folder: Path, world: World) -> list[Finding]:
    return world.explain(folder, causes=[CAUSE])


@pytest.mark.parametrize("per_round", [0.02, -0.02])
def test_a_machine_that_drifts(tmp_path: Path, per_round: float) -> None:
    (finding,) = explained(tmp_path, World(pair(ratio=0.5), replace(STILL, drift_per_round=per_round)))
    assert finding.status == "consistent"
    assert finding.measured.value == pytest.approx(5 * per_round, abs=0.02)
    assert ("higher" in finding.hypothesis.claim) == (per_round > 0) != ("lower" in finding.hypothesis.claim)
    assert finding.hypothesis.evidence[1].value < 0.01
    # Interleaved rounds: the difference is of the same size in both halves.
    assert abs(finding.hypothesis.effect.value) < 0.15 * 250.0


def test_the_variant_is_to_change_as_the_baseline_did_and_no_less_exactly(tmp_path: Path) -> None:
    (finding,) = explained(tmp_path, World(pair(ratio=0.5), replace(STILL, drift_per_round=0.02)))
    prediction = finding.hypothesis.intervention.prediction
    foretold = finding.hypothesis.evidence[0].interval
    assert prediction.value == foretold.value == pytest.approx(5 * 0.02, abs=0.02)
    half = (foretold.high - foretold.low) / 2.0
    assert prediction.high - prediction.value == pytest.approx(half * 1.960 / 2.576, rel=0.01)


def test_a_variant_that_drifts_half_as_far_is_not_the_machine(tmp_path: Path) -> None:
    back = {round_: 1.02 ** (-round_ / 2.0) for round_ in range(40)}
    variants = [variant("float32"), variant("int8", by_round=back)]
    (finding,) = explained(tmp_path, World(variants, replace(STILL, drift_per_round=0.02), rounds=40))
    assert finding.status == "refuted", finding


def test_a_baseline_that_drifts_by_itself_refutes_the_machine(tmp_path: Path) -> None:
    world = World([variant("float32", by_round=RISE), variant("int8")], STILL)
    (finding,) = explained(tmp_path, world)
    assert finding.status == "refuted", finding


def test_a_variant_that_drifts_by_itself_is_no_drift_of_the_machine(tmp_path: Path) -> None:
    assert explained(tmp_path, World([variant("float32"), variant("int8", by_round=RISE)], STILL)) == []


@pytest.mark.parametrize(
    "noise",
    [STILL, Noise(0.001, drift_per_round=0.004), replace(STILL, by_round={7: 1.5, 8: 1.5}), Noise(0.03)],
    ids=["still", "too little", "two rounds", "noisy"],
)
def test_no_trend_no_claim(tmp_path: Path, noise: Noise) -> None:
    assert explained(tmp_path, World(pair(), noise)) == []


@pytest.mark.parametrize("rounds", [1, 5])
def test_too_few_rounds_show_no_trend(tmp_path: Path, rounds: int) -> None:
    assert explained(tmp_path, World(pair(), replace(STILL, drift_per_round=0.05), rounds=rounds)) == []


def test_what_a_sensor_explains_is_no_drift(tmp_path: Path) -> None:
    """A neighbour that comes in the last rounds, or a clock that falls in them."""
    late = dict.fromkeys((6, 7, 8, 9), 1.3)
    steps = replace(STILL, by_round={6: 1.2, 7: 1.25, 8: 1.3, 9: 1.35}, drift_per_round=0.004)
    assert explained(tmp_path / "blind", World(pair(5000.0), steps))[0].status == "consistent"
    assert explained(tmp_path / "neighbour", World(pair(5000.0, readings=host(late)), steps)) == []
    clock = {6: 2500.0, 7: 2400.0, 8: 2300.0, 9: 2200.0}
    assert explained(tmp_path / "clock", World(pair(5000.0, readings=host({}, clock)), steps)) == []


def test_many_rounds_are_tested_in_groups(tmp_path: Path) -> None:
    world = World(pair(), replace(STILL, drift_per_round=0.002), rounds=80, inferences=3)
    (finding,) = explained(tmp_path, world)
    assert finding.status == "consistent" and finding.hypothesis.evidence[1].value < 1e-6

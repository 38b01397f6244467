"""A neighbour is told by the CPU time that others used, and convicted by the latencies of the same rounds."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from planted.cases_environment import QUIET, host, pair, variant
from planted.cases_language import ceilings
from planted.world import PlantedOp, PlantedVariant, World
from qprof.findings.causes.base import Finding
from qprof.findings.causes.busy_neighbour import CAUSE

BUSY = {3: 1.4, 4: 1.2, 5: 1.3, 8: 1.3}


def explained(folder: Path, world: World) -> list[Finding]:
    return world.explain(folder, causes=[CAUSE])


def disturbed(factor: float, ratio: float = 0.5) -> World:
    return World(pair(5000.0, ratio, readings=host(BUSY)), replace(QUIET, by_round=dict.fromkeys(BUSY, factor)))


def test_disturbed_rounds_are_named_with_their_numbers(tmp_path: Path) -> None:
    (finding,) = explained(tmp_path, disturbed(1.25))
    hypothesis = finding.hypothesis
    assert finding.status == "consistent"
    assert "rounds 4 to 6 and 9 were disturbed by another process (1.3 cores" in hypothesis.claim
    assert "of int8 is 25 % higher" in hypothesis.claim or "of int8 is 26 % higher" in hypothesis.claim
    cores, others, slow, calm = hypothesis.evidence
    assert cores.value == pytest.approx(1.3, abs=0.15) and others.value < 0.15 and cores.unit == "cores"
    assert slow.value / calm.value == pytest.approx(1.25, abs=0.03) and slow.unit == "us"


def test_only_what_disturbs_one_more_than_the_other_is_in_their_difference(tmp_path: Path) -> None:
    (alike,) = explained(tmp_path / "alike", disturbed(1.25, ratio=1.0))
    assert alike.status == "consistent" and abs(alike.hypothesis.effect.value) < 0.01 * 5000.0
    slowed = variant("int8", 5000.0, host(BUSY), by_round=dict.fromkeys(BUSY, 3.0))
    (alone,) = explained(tmp_path / "alone", World([variant("float32", 5000.0, host(BUSY)), slowed], QUIET))
    assert alone.status == "consistent" and alone.hypothesis.effect.value > 0.3 * 5000.0


def of_both(first: float, second: float) -> World:
    """float32 and int8, which rounds with a neighbour slow by these factors."""
    made = zip(("float32", "int8"), (5000.0, 2500.0), (first, second), strict=True)
    return World([variant(name, us, host(BUSY), by_round=dict.fromkeys(BUSY, slow)) for name, us, slow in made], QUIET)


def test_the_prediction_is_what_the_same_neighbour_did_to_the_other_variant(tmp_path: Path) -> None:
    points = []
    for factor in (1.0, 1.25, 1.8):
        (finding,) = explained(tmp_path / f"{factor}", of_both(1.25, factor))
        prediction = finding.hypothesis.intervention.prediction
        assert prediction.value == pytest.approx(math.log(1.25), abs=0.03)
        assert prediction.high - prediction.value < 0.1
        points.append((finding.status == "consistent", prediction.value))
    assert [met for met, _ in points] == [False, True, False]
    assert points[0][1] == pytest.approx(points[2][1], abs=0.005)  # nothing of the variant's own latencies is in it


def test_a_neighbour_that_slows_nobody_else_takes_its_fair_share_at_most(tmp_path: Path) -> None:
    (finding,) = explained(tmp_path, of_both(1.0, 1.25))
    prediction = finding.hypothesis.intervention.prediction
    # 1.25 cores more than in the calm rounds: so many users of what is shared, and as many in turn on its processor.
    assert prediction.value == pytest.approx(math.log(1.0 + 1.25), abs=0.06)
    half = 1.96 * math.log(1.0 + 1.25) / math.sqrt(3.0)
    assert prediction.high == pytest.approx(prediction.value + half, abs=0.06)


def test_a_thread_that_never_waited_can_only_have_shared(tmp_path: Path) -> None:
    variants = [variant("float32", 5000.0, host(BUSY)), variant("int8", 2500.0, host(BUSY), on_cpu=1.0)]
    (finding,) = explained(tmp_path, World(variants, QUIET))
    assert finding.hypothesis.intervention.prediction.value == pytest.approx(math.log(1.0 + 1.25) / 2.0, abs=0.03)


@pytest.mark.parametrize(
    ("factor", "statuses"),
    [(1.0, ("refuted", "inconclusive")), (0.7, ("refuted",)), (1.3, ("consistent",)), (9.0, ("refuted",))],
)
def test_latency_can_refute_it(tmp_path: Path, factor: float, statuses: tuple[str, ...]) -> None:
    (finding,) = explained(tmp_path, disturbed(factor))
    assert finding.status in statuses, finding


def test_the_baseline_is_looked_at_where_the_variant_was_left_in_peace(tmp_path: Path) -> None:
    variants = [
        variant("float32", 5000.0, host(BUSY), by_round=dict.fromkeys(BUSY, 1.3)),
        variant("int8", 2500.0, host({})),
    ]
    (finding,) = explained(tmp_path, World(variants, QUIET))
    assert finding.status == "consistent" and "the p50 of float32 is" in finding.hypothesis.claim
    assert -400.0 < finding.hypothesis.effect.value < -200.0  # the difference is too low with the baseline slowed


def test_a_neighbour_in_nearly_every_round_leaves_nothing_to_compare_with(tmp_path: Path) -> None:
    always = dict.fromkeys(range(9), 1.2)
    world = World(pair(5000.0, readings=host(always)), replace(QUIET, by_round=dict.fromkeys(always, 1.4)))
    (finding,) = explained(tmp_path, world)
    assert finding.status == "hypothesis" and "no calm round" in finding.because
    assert "to 1.2 cores" in finding.hypothesis.claim or "to 1.3 cores" in finding.hypothesis.claim


@pytest.mark.parametrize(
    "neighbours",
    [{}, {4: 1.3}, dict.fromkeys((2, 3, 4), 0.2)],
    ids=["nobody", "one round", "too little"],
)
def test_no_evidence_no_claim(tmp_path: Path, neighbours: dict[int, float]) -> None:
    noise = replace(QUIET, by_round=dict.fromkeys((2, 3, 4), 1.5))
    assert explained(tmp_path, World(pair(5000.0, readings=host(neighbours)), noise)) == []


def test_no_sensors_no_claim(tmp_path: Path) -> None:
    assert explained(tmp_path, World(pair(5000.0), replace(QUIET, by_round={2: 2.0, 3: 2.0}))) == []


@pytest.mark.parametrize(("smt", "part"), [(None, 1.0), (True, 1.0), (False, 0.3)])
def test_on_a_core_of_its_own_no_more_than_memory_is_shared(tmp_path: Path, smt: bool | None, part: float) -> None:
    """Its ops would take three tenths of their time at the memory's ceiling."""
    ops = [
        PlantedOp(f"fc{n}", "FULLY_CONNECTED", 1000.0, macs=0, weight_bytes=3_000_000, activation_bytes=0)
        for n in range(5)
    ]
    variants = [PlantedVariant(name, ops, readings=host(BUSY), on_cpu=1.0) for name in ("float32", "int8")]
    manifest = {"machine": {"smt_active": smt}, "ceilings": ceilings("litert")}
    (finding,) = explained(tmp_path, World(variants, QUIET, manifest=manifest))
    assert finding.hypothesis.intervention.prediction.value == pytest.approx(math.log1p(part * 1.25) / 2.0, abs=0.03)

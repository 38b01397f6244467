"""Any two variants of a run against each other: by the same rule as against the baseline."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from energy_runs import Recording, Variant, a100
from planted.world import Noise, PlantedOp, PlantedVariant, World
from qprof.findings.energy import energy_changes, energy_table
from qprof.findings.explanation import explain
from qprof.findings.latency import figure_level, request_ratio
from qprof.findings.pairs import RunPairs
from qprof.findings.verdicts import figures_between, request_verdict, verdicts
from qprof.record.phases import Phase
from qprof.report.explain import explanation_lines, verdict_table
from qprof.store.run import Run

TWO_PHASES = (Phase("prefill", tokens=64), Phase("decode", tokens=1, steps=4))


def variant(name: str, us: float, **changes: object) -> PlantedVariant:
    return PlantedVariant(name, [PlantedOp("conv", "CONV_2D", us)], section={"method": "float32"}, **changes)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    variants = [variant("base", 1000.0), variant("slow", 1500.0), variant("fast", 700.0)]
    return World(variants, Noise(0.01)).record(tmp_path / "run")


def test_a_pair_without_the_baseline_has_the_figures_of_one_with_it(run: Run) -> None:
    found = {one.figure: one for one in figures_between(run, "slow", "fast")}
    assert found["latency"].kind == "better" and found["size"].kind == "equivalent"
    change = found["latency"].change
    assert change is not None and change.value == pytest.approx(720.0 / 1520.0 - 1.0, rel=0.03)
    assert change.level == pytest.approx(0.975), "as wide as for all variants together"
    [against_base] = [one for one in verdicts(run) if (one.variant, one.figure) == ("fast", "latency")]
    assert next(one for one in figures_between(run, "base", "fast") if one.figure == "latency") == against_base


def test_the_level_counts_the_variants_that_run(run: Run) -> None:
    assert figure_level(run, "base", "fast") == pytest.approx(0.975)
    run.variants[2].status = "failed"
    assert figure_level(run, "base", "fast") == pytest.approx(0.95)
    run.variants[1].status = "failed"
    assert figure_level(run, "base", "fast") == pytest.approx(0.95)


def test_pairs_are_looked_at_once_and_no_further_than_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(run: Run, a: str, b: str):  # type: ignore[no-untyped-def]
        for one in figures_between(run, a, b):
            asked.append((a, b, one.figure))
            yield one

    monkeypatch.setattr("qprof.findings.pairs.figures_between", counted)
    judged = verdicts(run)
    pairs = RunPairs(run, judged)
    assert next(pairs.figures("slow", "fast")).figure == "size"
    assert asked == [("slow", "fast", "size")]
    whole = [one.figure for one in pairs.figures("slow", "fast")]
    assert whole == [one.figure for one in pairs.figures("slow", "fast")] == ["size", "peak memory", "latency"]
    assert len(asked) == 3
    assert list(pairs.figures("base", "slow")) == [one for one in judged if one.variant == "slow"]
    assert len(asked) == 3, "what is known of the baseline is not asked again"


def test_a_request_runs_every_phase_as_often_as_it_does(tmp_path: Path) -> None:
    def phased(name: str, prefill: float, decode: float) -> PlantedVariant:
        ops = [PlantedOp("p", "LINEAR", prefill, phase="prefill"), PlantedOp("d", "LINEAR", decode, phase="decode")]
        return PlantedVariant(name, ops, outside_us=0.0, section={"method": "float32"})

    # The prefill is slower, the whole request (1 + 4 steps) faster: 1000 + 4 x 500 and 1200 + 4 x 400.
    world = World(
        [phased("base", 1000.0, 500.0), phased("other", 1200.0, 400.0)], Noise(0.002), phases=TWO_PHASES, rounds=8
    )
    run = world.record(tmp_path / "run")
    ratio = request_ratio(run, "base", "other")
    assert ratio is not None and ratio.rounds == 8
    assert ratio.value == pytest.approx(math.log(2800.0 / 3000.0), abs=0.004)
    verdict = request_verdict(run, "base", "other")
    assert verdict is not None and verdict.kind == "better"
    assert RunPairs(run).request("other", "base") == "worse"


def test_without_accuracy_the_advice_goes_by_what_was_measured(run: Run) -> None:
    explanation = explain(run)
    assert explanation.choice.variant == "fast" and explanation.choice.by == ["latency"]
    assert explanation.limits.score_drop is None and not explanation.choice.misses
    text = "\n".join(explanation_lines(explanation))
    assert "no accuracy was scored: this goes by latency, size, memory and energy" in text
    assert "deploy fast: the fastest (no limits given): p50" in text
    assert "its accuracy is not known" not in text


def test_two_that_are_alike_are_told_as_that(tmp_path: Path) -> None:
    run = World([variant("base", 1000.0), variant("same", 1000.0)], Noise(0.002)).record(tmp_path / "run")
    text = "\n".join(explanation_lines(explain(run)))
    assert "deploy base: as good as any (no limits given)" in text
    assert "not beaten by another: base, same" in text


# -- energy


def energetic(**changes: object) -> Recording:
    variants = {"base": Variant(0.05), "a": Variant(0.073), "b": Variant(0.025)}
    return a100(variants=variants, **changes)  # type: ignore[arg-type]


def test_energy_has_verdicts_and_they_are_those_of_the_energy_table(tmp_path: Path) -> None:
    run = energetic().write(tmp_path / "run")
    found = {one.variant: one for one in verdicts(run) if one.figure.startswith("energy")}
    assert {name: one.kind for name, one in found.items()} == {"a": "worse", "b": "better"}
    rows = {row.variant: row for row in energy_table(run).rows}
    for name, one in found.items():
        change = rows[name].change
        assert change is not None and one.change is not None and one.unit == "J"
        assert (one.change.value, one.change.low, one.change.high) == (
            change.energy.value,
            change.energy.low,
            change.energy.high,
        )
        assert (one.baseline, one.value) == (rows["base"].gross.value, rows[name].gross.value)
    [between] = energy_changes(run, "a", "b")
    assert between.change.value == pytest.approx(Variant(0.025).joules / Variant(0.073).joules - 1.0, abs=0.02)
    table = verdict_table(explain(run))
    energies = [row for row in table.rows if row["figure"] == "energy"]
    assert len(energies) == 2 and all(str(row["value"]).endswith(" J") for row in energies)


def test_a_run_without_sensors_has_no_verdict_on_energy(run: Run) -> None:
    assert energy_changes(run, "base", "slow") == []
    assert not [one for one in verdicts(run) if one.unit == "J"]


def test_requests_without_a_common_round_are_not_compared(tmp_path: Path) -> None:
    run = World([variant("base", 1000.0), variant("other", 900.0)], rounds=5).record(tmp_path / "run")
    assert not np.isnan(request_ratio(run, "base", "other").value)  # type: ignore[union-attr]
    assert request_ratio(run, "base", "other").rounds == 5  # type: ignore[union-attr]


def test_the_interval_of_an_energy_is_as_wide_as_for_all_variants_together(tmp_path: Path) -> None:
    run = energetic().write(tmp_path / "run")
    [together] = energy_changes(run, "base", "b")
    run.variants[1].status = "failed"
    [alone] = energy_changes(run, "base", "b")
    assert together.change.low < alone.change.low < alone.change.high < together.change.high  # type: ignore[operator]

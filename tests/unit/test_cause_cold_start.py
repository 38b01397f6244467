"""First inferences are cold where they are far off those of the clean blocks, as the warm-up itself foretells."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from planted.cases_environment import variant
from planted.world import Noise, PlantedOp, PlantedVariant, World
from qprof.findings.causes.base import Finding
from qprof.findings.causes.cold_start import CAUSE, _against_steady
from qprof.record.phases import Phase


def explained(folder: Path, world: World) -> list[Finding]:
    return world.explain(folder, causes=[CAUSE])


def test_the_cold_inferences_are_counted(tmp_path: Path) -> None:
    world = World([variant("float32"), variant("int8", 230.0, warmup_us=[2500.0, 750.0, 350.0])], Noise(0.01))
    (finding,) = explained(tmp_path, world)
    assert finding.status == "consistent"
    claim = finding.hypothesis.claim
    assert "the first inference of int8 took 2500 us, 10.0 times its steady 25" in claim
    assert "steady after the first 3 inferences, which cost 28" in claim  # 2500 + 750 + 350 - 3 * 250
    assert finding.measured.low < math.log(10.0) < finding.measured.high and finding.measured.low > math.log(9.0)


def test_how_exactly_the_warm_up_foretells_is_what_blocks_differ_by(tmp_path: Path) -> None:
    """Clean blocks that lie apart by 10 % say that the warm-up, one block, may lie as far off."""
    apart = {round_: 1.1 ** (-1) ** round_ for round_ in range(10)}
    for name, by_round, error in (("alike", {}, 0.01), ("apart", apart, math.log(1.1) * math.sqrt(10 / 9))):
        world = World([variant("float32"), variant("int8", 230.0, warmup_us=[2500.0], by_round=by_round)], Noise(0.01))
        (finding,) = explained(tmp_path / name, world)
        prediction = finding.hypothesis.intervention.prediction
        assert prediction.value == pytest.approx(math.log(2500.0 / 250.0), abs=0.02)
        assert prediction.high - prediction.value == pytest.approx(1.96 * error, abs=0.02)


def test_the_baseline_is_looked_at_where_the_variant_starts_warm(tmp_path: Path) -> None:
    world = World([variant("float32", warmup_us=[5000.0]), variant("int8")], Noise(0.01))
    (finding,) = explained(tmp_path, world)
    assert finding.status == "consistent" and "first inference of float32 took 5000 us" in finding.hypothesis.claim
    assert "steady after it, which cost" in finding.hypothesis.claim


@pytest.mark.parametrize("first_us", [[], [650.0]], ids=["none", "within the noise"])
def test_a_warm_start_is_no_cause(tmp_path: Path, first_us: list[float]) -> None:
    assert explained(tmp_path, World([variant("float32"), variant("int8", warmup_us=first_us)])) == []


def test_a_first_inference_among_others_like_it_is_not_confirmed(tmp_path: Path) -> None:
    """Spikes as long as the first inference, all over the clean blocks: a spike, as far as can be told."""
    world = World([variant("float32"), variant("int8", warmup_us=[2000.0])], Noise(0.01, spikes=0.05, spike_factor=5.0))
    (finding,) = explained(tmp_path, world)
    assert finding.status == "inconclusive"


def test_clean_blocks_as_slow_as_the_start_refute_it(tmp_path: Path) -> None:
    """The warm-up got fast, but what is quoted is slow again: cold was not what made it slow."""
    slow = dict.fromkeys(range(10), 8.0)
    world = World([variant("float32"), variant("int8", warmup_us=[4000.0, 600.0], by_round=slow)], Noise(0.01))
    (finding,) = explained(tmp_path, world)
    assert finding.status == "refuted"


def test_each_phase_has_a_warm_up_of_its_own(tmp_path: Path) -> None:
    phases = [Phase("prefill", tokens=8), Phase("decode", tokens=1, steps=4)]
    ops = [PlantedOp("linear", "linear", us, phase=name) for name, us in (("prefill", 900.0), ("decode", 90.0))]
    cold = PlantedVariant("int4", ops, warmup_us=[1000.0], section={"method": "int4-dynamic"})
    found = explained(tmp_path, World([PlantedVariant("float32", ops), cold], Noise(0.01), phases=phases))
    assert [finding.status for finding in found] == ["consistent"]  # 1000 us are cold for a decode of 110 us alone
    assert "steady 110 us" in found[0].hypothesis.claim or "steady 11" in found[0].hypothesis.claim


def test_a_steady_first_inference_is_beyond_the_bounds_as_seldom_as_they_say() -> None:
    rng = np.random.default_rng(4)
    runs, beyond = 4000, 0
    for _ in range(runs):
        values = rng.lognormal(0.0, 1.0, 200)
        interval = _against_steady(float(values[0]), values[1:])
        beyond += interval.low > 0.0 or interval.high < 0.0
    assert interval.level == pytest.approx(0.99)
    assert beyond / runs == pytest.approx(0.01, abs=0.005)

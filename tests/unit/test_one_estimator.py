"""The four commands on simulated runs: the same quantity has the same number, interval and word in all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from one_estimator import assert_commands_agree
from planted.world import Noise, PlantedOp, PlantedVariant, World
from qprof.cli.main import main
from qprof.findings.pairs import RunPairs
from qprof.record.phases import Phase

NOISES = {
    "quiet": Noise(0.002),
    "noisy": Noise(0.05),
    "drift": Noise(0.01, drift_per_round=0.03),
    "ar": Noise(0.03, ar1=0.7),
    "spikes": Noise(0.02, spikes=0.1),
}
TWO_PHASES = (Phase("prefill", tokens=64), Phase("decode", tokens=1, steps=4))


class InProcess:
    """Commands without a process of their own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def out(self, *words: str | Path) -> str:
        self.capsys.readouterr()
        code = main([str(word) for word in words])
        printed = self.capsys.readouterr()
        assert code in (0, 1), printed.err
        return printed.out

    def json_of(self, *words: str | Path) -> Any:
        return json.loads(self.out(*words, "--json"))


def variant(name: str, us: float, phases: tuple[Phase, ...], **changes: Any) -> PlantedVariant:
    ops = [PlantedOp("conv", "CONV_2D", us, phase=phase.name) for phase in phases]
    return PlantedVariant(name, ops, section={"method": "float32"}, **changes)


CASES = [
    *((noise, 5, (Phase(),)) for noise in NOISES),
    ("noisy", 3, (Phase(),)),
    ("spikes", 12, (Phase(),)),
    ("drift", 6, TWO_PHASES),
]


@pytest.mark.parametrize(("noise", "rounds", "phases"), CASES, ids=[f"{n}-{r}-{len(p)}" for n, r, p in CASES])
def test_the_commands_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], noise: str, rounds: int, phases: tuple[Phase, ...]
) -> None:
    times = (("base", 1000.0), ("same", 1000.0), ("slightly", 1013.0), ("fast", 640.0))
    variants = [variant(name, us, phases) for name, us in times]
    world = World(variants, NOISES[noise], rounds=rounds, inferences=8, phases=phases, seed=rounds)
    run = world.record(tmp_path / "run")
    commands = InProcess(capsys)
    assert assert_commands_agree(run.folder, commands.out, commands.json_of) == 3 * len(phases)


def test_a_variant_that_slows_down_by_itself_is_told_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its rounds do not agree with each other, and its own p50 says another thing than they do."""
    uneven = variant("uneven", 1000.0, (Phase(),), by_round={0: 1.5, 1: 1.4, 2: 1.5, 3: 0.8, 4: 0.9, 5: 0.8})
    run = World([variant("base", 1000.0, (Phase(),)), uneven], NOISES["quiet"], rounds=7).record(tmp_path / "run")
    commands = InProcess(capsys)
    assert assert_commands_agree(run.folder, commands.out, commands.json_of) == 1


def test_no_command_gives_a_verdict_where_the_machine_was_disturbed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = [
        variant("base", 1000.0, (Phase(),), on_cpu=1.0),
        variant("waited", 700.0, (Phase(),), on_cpu=0.5),
        variant("fast", 700.0, (Phase(),), on_cpu=1.0),
    ]
    run = World(variants, NOISES["quiet"], rounds=6).record(tmp_path / "run")
    commands = InProcess(capsys)
    assert assert_commands_agree(run.folder, commands.out, commands.json_of) == 2
    words = {row["name"]: row["phases"][0]["verdict"] for row in commands.json_of("show", run.folder)}
    assert words == {"base": None, "waited": "withheld", "fast": "better"}
    pairs = RunPairs(run)
    assert pairs.request("fast", "waited") == "inconclusive" and pairs.request("base", "fast") == "better"
    assert {one.figure: one.kind for one in pairs.figures("waited", "fast")}["latency"] == "withheld"

"""A run that is over as soon as what it was made for is decided."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qprof.measure.parent import blocks, execution
from qprof.measure.profile import Profile, validate
from qprof.measure.progress import SilentProgress
from qprof.store.run import Run
from tflite_builder import tiny_conv_net


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "a.tflite"
    model.write_bytes(tiny_conv_net())
    quick = {"rounds": 12, "block_ms": 1.0, "warmup_max_s": 0.1, "energy": "off", "stacks_s": 0.0, "ceilings": False}
    less = {"profiled": False, "layer_errors": 0, "output_samples": 0, "own_process": False, "scored": False}
    variants = [{"name": name, "file": str(model)} for name in "ab"]
    data = {"name": "p", "variants": variants, "task": {"kind": "latency"}, "protocol": {**quick, **less}}
    return validate(data, "p")


def asked_until(rounds: int) -> tuple[list[tuple[int, list[int]]], Callable[[Path], bool]]:
    """What is asked, and who says that so many rounds are enough: the rounds that lie there, and the looks."""
    seen: list[tuple[int, list[int]]] = []

    def until(folder: Path) -> bool:
        run = Run(folder)
        assert run.manifest.stopping is not None
        there = {name: set(run.latency(name).round.tolist()) for name in "ab"}
        assert there["a"] == there["b"] == set(range(len(there["a"])))
        seen.append((len(there["a"]), list(run.manifest.stopping.looks)))
        return len(there["a"]) >= rounds

    return seen, until


@pytest.mark.parametrize(
    ("enough", "asked", "rounds", "looks"),
    [
        (6, [(6, [6])], 6, [6]),
        (7, [(6, [6]), (8, [6, 8])], 8, [6, 8]),
        (99, [(6, [6]), (8, [6, 8])], 12, [6, 8, 12]),
    ],
)
def test_rounds_are_over_when_they_are_enough(
    profile: Profile, tmp_path: Path, enough: int, asked: list[Any], rounds: int, looks: list[int]
) -> None:
    seen, until = asked_until(enough)
    execution.start(profile, tmp_path / "run", SilentProgress(), until=until)
    run = Run(tmp_path / "run")
    assert seen == asked and run.complete
    assert set(run.latency("a").round.tolist()) == set(range(rounds))
    assert run.manifest.stopping is not None and run.manifest.stopping.rounds == 12
    assert run.manifest.stopping.looks == looks


def test_where_nobody_asks_there_are_all_rounds(profile: Profile, tmp_path: Path) -> None:
    execution.start(profile, tmp_path / "run", SilentProgress())
    run = Run(tmp_path / "run")
    assert len(set(run.latency("b").round.tolist())) == 12 and run.manifest.stopping is None


def test_one_that_was_interrupted_has_no_look_twice(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_block = blocks.Measurement._run_block

    def interrupted(self: Any, block: Any) -> None:
        if block.round == 6:
            raise KeyboardInterrupt
        run_block(self, block)

    monkeypatch.setattr(blocks.Measurement, "_run_block", interrupted)
    seen, until = asked_until(8)
    with pytest.raises(KeyboardInterrupt):
        execution.start(profile, tmp_path / "run", SilentProgress(), until=until)
    monkeypatch.setattr(blocks.Measurement, "_run_block", run_block)
    execution.resume(tmp_path / "run", SilentProgress(), until=until)
    assert seen == [(6, [6]), (8, [6, 8])]
    assert set(Run(tmp_path / "run").latency("a").round.tolist()) == set(range(8))

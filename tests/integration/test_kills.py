"""A slice of tests/campaigns/kills.py: runs that are killed at random moments are resumed, and nothing is lost."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "campaigns"))

import kills


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kills.Stage]:
    stage = kills.Stage.set_up(tmp_path_factory.mktemp("kills"))
    yield stage
    assert stage.line.left_behind() == []


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_parent_that_is_killed(stage: kills.Stage, number: signal.Signals, seed: int) -> None:
    rng = random.Random(f"{number} {seed}")
    codes = {-number} if number == signal.SIGKILL else kills.interrupted_by(number)
    assert kills.disturb(stage, f"{number.name}-{seed}", kills.parent_by(number), codes, rng) == []


@pytest.mark.parametrize("seed", range(2))
def test_a_worker_that_is_killed(stage: kills.Stage, seed: int) -> None:
    assert kills.disturb(stage, f"worker-{seed}", kills.a_worker, {0, 1, 2}, random.Random(seed)) == []


@pytest.mark.parametrize("seed", range(2))
def test_a_disk_that_is_full(stage: kills.Stage, seed: int) -> None:
    assert kills.full_disk(stage, f"disk-{seed}", random.Random(seed)) == []

"""By how much two peaks of memory may differ where nothing does, and what verdicts make of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from planted.world import PlantedOp, PlantedVariant, World
from qprof.findings.choice import dominated
from qprof.findings.explanation import candidates_of
from qprof.findings.memory import memory_tolerance
from qprof.findings.pairs import RunPairs
from qprof.findings.verdicts import FigureVerdict, verdicts
from qprof.record.manifest import Memory
from qprof.store.run import Run

PAGE = 4096
#: Resident pages of the bare runtime, as five workers of one run had them.
BARE = (13320, 13287, 13298, 13298, 13311)


def run_of(folder: Path, bare_pages: Sequence[int | None], peaks: Sequence[int]) -> Run:
    ops, section = [PlantedOp("conv", "CONV_2D", 1000.0)], {"method": "float32"}
    variants = [PlantedVariant(f"v{i}", ops, section=section) for i in range(len(peaks))]
    run = World(variants, rounds=8, seed=1).record(folder / "run")
    for entry, bare, peak in zip(run.variants, bare_pages, peaks, strict=True):
        entry.memory = Memory(
            peak_rss_above_runtime_bytes=peak,
            rss_above_runtime_bytes=peak,
            runtime_rss_bytes=None if bare is None else bare * PAGE,
        )
    return run


def of_memory(run: Run) -> list[FigureVerdict]:
    return [one for one in verdicts(run) if one.figure == "peak memory"]


def test_the_tolerance_is_two_pages_and_the_scatter_of_the_bare_runtime(tmp_path: Path) -> None:
    found = memory_tolerance(run_of(tmp_path, BARE, [2000 * PAGE] * 5))
    mean = sum(BARE) / 5
    deviation = math.sqrt(sum((pages - mean) ** 2 for pages in BARE) / 4)
    by_hand = (2.0 + 2.7764451 * math.sqrt(2.0) * deviation) * PAGE  # t(0.975) of 4 degrees
    assert found.n_bytes == pytest.approx(by_hand, rel=1e-6)
    assert found.basis == f"{by_hand / 1e3:.0f} kB: two pages, and the scatter of the bare runtime over 5 workers"


def test_pages_are_as_large_as_the_readings_say(tmp_path: Path) -> None:
    run = run_of(tmp_path, [16 * 800] * 3, [16 * PAGE, 48 * PAGE, 80 * PAGE])
    assert memory_tolerance(run).n_bytes == 2 * 65536


@pytest.mark.parametrize("bare", [[None, None, None], [13320, None, 13287]])
def test_few_workers_tell_no_scatter_and_a_stated_share_holds(tmp_path: Path, bare: list[int | None]) -> None:
    peak = 2500 * PAGE
    run = run_of(tmp_path, bare, [peak, peak + 49 * PAGE, peak + 51 * PAGE])
    assert [one.kind for one in of_memory(run)] == ["equivalent", "worse"]
    assert of_memory(run)[0].margin == pytest.approx(0.02) and "too few workers" in str(of_memory(run)[0].basis)


def test_another_runtime_scatters_by_itself(tmp_path: Path) -> None:
    run = run_of(tmp_path, [13320, 13320, 130000, 130000, 130000], [2719 * PAGE] * 5)
    for entry in run.variants[2:]:
        entry.runtime = "torch_lm"
    assert memory_tolerance(run).n_bytes == 2 * PAGE


def test_a_few_pages_more_are_not_worse(tmp_path: Path) -> None:
    peak = 2719 * PAGE
    run = run_of(tmp_path, BARE, [peak, peak + 4 * PAGE, peak - 4 * PAGE, peak + 107 * PAGE, peak - 746 * PAGE])
    assert [one.kind for one in of_memory(run)] == ["equivalent", "equivalent", "worse", "better"]
    first = of_memory(run)[0]
    assert first.difference is not None and first.difference.value == 16384
    assert first.change is not None and first.change.value == pytest.approx(4 / 2719)


def test_three_identical_files_dominate_nothing(tmp_path: Path) -> None:
    peak = 2719 * PAGE
    run = run_of(tmp_path, BARE[:3], [peak, peak + 4 * PAGE, peak - 4 * PAGE])
    judged = verdicts(run)
    assert {one.kind for one in judged} <= {"equivalent", "inconclusive"}
    assert dominated(candidates_of(run, judged), RunPairs(run, judged)) == {}

"""Blocks sorted by sensors: what counts as a reading of a block, and what the contrast of two groups can say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from planted.cases_environment import QUIET, busy_neighbour_of_one, host, pair, variant
from planted.world import World
from qprof.findings.comparison import Comparison
from qprof.findings.environment import (
    CleanBlock,
    clean_blocks,
    contrast,
    effect_on_difference,
    log_change,
    percent,
    rounds_text,
    taken_cores,
)
from qprof.findings.explanation import explain
from qprof.store.readings import Series


def block(**traces: list[tuple[int, float]]) -> CleanBlock:
    """A block from 1.0 s to 1.5 s; readings by channel, "_" for ".", as (ms, value)."""
    columns = {
        name.replace("_", ".", 1): Series(
            np.array([t * 1_000_000 for t, _ in read], np.int64),
            np.array([value for _, value in read], np.float64),
        )
        for name, read in traces.items()
    }
    return CleanBlock(0, 1_000_000_000, 1_500_000_000, 100.0, columns)


def test_a_gauge_is_that_of_the_window_or_of_the_readings_next_to_it() -> None:
    found = block(host_mhz=[(900, 1.0), (1100, 2000.0), (1400, 3000.0), (1700, 9.0)], host_x=[(900, 1.0), (1600, 3.0)])
    assert found.gauge("host.mhz") == 2500.0 and found.gauge("host.x") == 2.0 and found.gauge("host.y") is None


def test_the_rate_of_a_counter_is_between_its_outer_readings() -> None:
    found = block(host_busy=[(1600, 11.2), (900, 10.5), (1100, 10.6)], host_once=[(1100, 3.0)])
    assert found.rate("host.busy") == pytest.approx(1.0)
    assert found.rate("host.once") is None and found.rate("host.none") is None


def test_others_are_what_was_busy_less_the_worker_plus_what_was_stolen() -> None:
    readings = {"host_busy": [(900, 0.0), (1900, 1.8)], "host_cpu_s": [(1500, 0.4)]}
    assert taken_cores(block(**readings)) == pytest.approx(1.0)  # 1.8 busy, 0.4 s of 0.5 s are its own
    assert taken_cores(block(**readings, host_steal=[(900, 0.0), (1900, 0.3)])) == pytest.approx(1.3)
    assert taken_cores(block(host_busy=[(900, 0.0), (1900, 0.2)], host_cpu_s=[(1500, 0.4)])) == 0.0
    assert taken_cores(block(host_busy=readings["host_busy"])) is None
    assert taken_cores(block(host_cpu_s=[(1500, 0.4)])) is None


def test_blocks_are_those_of_one_variant_and_their_readings(tmp_path: Path) -> None:
    run = World([variant("float32"), variant("int8", 240.0, host({4: 1.0}))], QUIET).record(tmp_path / "run")
    comparison = Comparison(run, "float32", "int8", "inference")
    first, second = (clean_blocks(comparison, name) for name in ("float32", "int8"))
    assert [b.round for b in second] == list(range(10)) and not first[0].traces
    assert [b.p50_us for b in second] == pytest.approx([260.0] * 10, rel=0.05)
    assert all(set(b.traces) == {"host.busy", "host.steal", "host.cpu_s"} for b in second)
    assert all(b.start_ns < b.end_ns and len(b.traces["host.busy"]) == 4 for b in second)


def test_a_contrast_needs_both_sides() -> None:
    blocks = [block() for _ in range(10)]
    numbers = {id(b): i for i, b in enumerate(blocks)}
    assert contrast("b", blocks, lambda b: numbers[id(b)] < 1) is None
    assert contrast("b", blocks, lambda b: numbers[id(b)] < 8) is None
    assert contrast("b", blocks, lambda b: None) is None
    found = contrast("b", blocks, lambda b: None if numbers[id(b)] == 9 else numbers[id(b)] < 2)
    assert found is not None and (len(found.disturbed), len(found.calm)) == (2, 7)


@pytest.mark.parametrize("disturbed", [2, 3, 5])
def test_groups_without_a_difference_exclude_zero_as_seldom_as_the_level_says(disturbed: int) -> None:
    rng = np.random.default_rng(8)
    runs = 3000
    values = np.exp(0.05 * rng.standard_normal((runs, 10)))
    intervals = [log_change(row[:disturbed], row[disturbed:]) for row in values]
    outside = sum(i.low > 0.0 or i.high < 0.0 for i in intervals)
    assert outside / runs == pytest.approx(0.01, abs=0.006)
    shifted = [log_change(1.5 * row[:disturbed], row[disturbed:]) for row in values]
    assert sum(i.low <= math.log(1.5) <= i.high for i in shifted) / runs == pytest.approx(0.99, abs=0.006)


def test_the_effect_on_the_difference_is_what_the_rounds_add_to_it(tmp_path: Path) -> None:
    slow = dict.fromkeys((1, 2, 3, 4), 2.0)
    run = World([variant("float32"), variant("int8", 480.0, by_round=slow)], QUIET).record(tmp_path / "run")
    comparison = Comparison(run, "float32", "int8", "inference")
    # Of ten rounds four take twice as long: the ratio's location is the middle of 1 and 2, by their logarithms.
    expected = 500.0 * (math.sqrt(2.0) - 1.0)
    assert effect_on_difference(comparison, slow).value == pytest.approx(expected, abs=15.0)
    assert abs(effect_on_difference(comparison, (6, 7)).value) < 260.0
    assert effect_on_difference(comparison, range(10)) is None
    alike = Comparison(World(pair(), QUIET).record(tmp_path / "alike"), "float32", "int8", "inference")
    assert abs(effect_on_difference(alike, (1, 2)).value) < 5.0


def test_words() -> None:
    assert rounds_text([3]) == "round 4" and rounds_text([3, 4]) == "rounds 4 to 5"
    assert rounds_text([5, 0, 3, 4, 9]) == "rounds 1, 4 to 6 and 10"
    assert percent(math.log(1.12)) == "12 % higher" and percent(math.log(0.5)) == "50 % lower"


def test_every_row_keeps_its_sentence_where_the_host_took_a_part(tmp_path: Path) -> None:
    (found,) = explain(busy_neighbour_of_one().world.record(tmp_path / "run")).comparisons
    assert found.decomposition is not None
    sentences = {row.mechanism: row.sentence for row in found.decomposition.rows}
    assert sentences["outside"] == "was taken by what else the machine did while they ran"
    assert all(sentences.values())

"""Verdicts on simulated runs: no more false claims than stated, and true differences found.

`tests/benchmarks/verdict_calibration.py` does the same at length and beside other methods.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from pooled_medians import pooled_log_ratio
from qprof.stats.multiplicity import simultaneous_level
from qprof.stats.rounds import RoundEffect, round_log_ratios
from qprof.stats.verdict import judge
from simulated_rounds import MACHINES, log_ratios, simulate

RUNS = 200
ROUNDS = (5, 10, 12, 30)


@cache
def kinds(
    machine: str, rounds: int, effect: float = 0.0, margin: float | None = None, inferences: int = 5
) -> list[str]:
    rng = np.random.default_rng([MACHINES.index(machine), rounds])
    ratios = log_ratios(*simulate(rng, machine, RUNS, rounds, inferences, effect))
    return [judge(RoundEffect(row), margin).kind for row in ratios]


def claimed(found: list[str]) -> int:
    return found.count("better") + found.count("worse")


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("machine", MACHINES)
def test_equals_are_called_different_in_5_percent_at_most(machine, rounds):
    # 5 % of 200 are 10; more than 17 has a chance of 1 % where the rate is 5 %.
    assert claimed(kinds(machine, rounds)) <= 17


def test_equals_are_called_different_in_5_percent_at_most_over_all():
    found = [claimed(kinds(machine, rounds)) for machine in MACHINES for rounds in ROUNDS]
    assert sum(found) <= 0.05 * RUNS * len(found)
    wrong_side = [kinds(machine, rounds).count("better") for machine in MACHINES for rounds in ROUNDS]
    assert 0.35 <= sum(wrong_side) / sum(found) <= 0.65, "neither side is favoured"


@pytest.mark.parametrize("inferences", [1, 2, 50])
def test_inferences_per_block_do_not_matter(inferences):
    found = [claimed(kinds(machine, 10, inferences=inferences)) for machine in MACHINES]
    assert sum(found) <= 0.05 * RUNS * len(found)


def test_these_machines_do_fool_a_test_that_takes_inferences_for_independent():
    rng = np.random.default_rng(0)
    for machine in ("quiet", "ar 0.5", "spikes"):
        a, b = simulate(rng, machine, 60, 10, 20)
        claims, each = 0, np.arange(a[0].size)
        for x, y in zip(a, b, strict=True):
            found = pooled_log_ratio(x.ravel(), each, y.ravel(), each, resamples=200)
            claims += not found.low <= 0.0 <= found.high
        assert claims / 60 > 0.4


@pytest.mark.parametrize(
    ("machine", "rounds", "effect", "least"),
    [
        # Power as measured over 10,000 runs, less what 200 runs may miss.
        ("quiet", 12, 0.04, 0.90),
        ("quiet", 30, 0.02, 0.80),
        ("drift", 12, 0.02, 0.60),
        ("ar 0.5", 12, 0.06, 0.90),
        ("walk", 10, 0.02, 0.80),
        ("spikes", 30, 0.02, 0.50),
        ("cauchy", 30, 0.02, 0.90),
        ("quiet", 5, 0.15, 0.95),
    ],
)
def test_planted_differences_are_found(machine, rounds, effect, least):
    slower = kinds(machine, rounds, effect, margin=0.005)
    assert slower.count("worse") / RUNS >= least and slower.count("better") == 0
    faster = kinds(machine, rounds, -effect, margin=0.005)
    assert faster.count("better") / RUNS >= least and faster.count("worse") == 0


@pytest.mark.parametrize("machine", MACHINES)
def test_equivalence_is_not_claimed_of_an_effect_at_the_margin(machine):
    margin = math.log1p(0.03)
    found = [kinds(machine, rounds, margin, margin).count("equivalent") for rounds in ROUNDS]
    assert sum(found) <= 0.065 * RUNS * len(found)


@pytest.mark.parametrize("machine", ["quiet", "drift", "cauchy"])
def test_equals_are_called_equivalent_once_there_are_enough_rounds(machine):
    assert kinds(machine, 30, 0.0, math.log1p(0.03)).count("equivalent") / RUNS > 0.95


@pytest.mark.parametrize("machine", MACHINES)
def test_intervals_cover_the_planted_ratio(machine):
    rng = np.random.default_rng(3)
    a, b = simulate(rng, machine, RUNS, 10, 5, 0.1)
    numbers = np.repeat(np.arange(10), 5)
    hits = 0
    for x, y in zip(a, b, strict=True):
        found = round_log_ratios(x.ravel(), numbers, y.ravel(), numbers).interval()
        hits += found.low <= 0.1 <= found.high
    assert hits / RUNS >= 0.915


@pytest.mark.parametrize("machine", ["quiet", "drift", "ar 0.5", "spikes"])
def test_the_words_of_all_variants_hold_together(machine):
    """Of four equals, and of four at the margin: how often any of the four words is false."""
    rng = np.random.default_rng(11)
    level, margin = simultaneous_level(0.95, 4), math.log1p(0.02)
    for effect, false in ((0.0, ("better", "worse")), (margin, ("equivalent", "better"))):
        ratios = [log_ratios(*simulate(rng, machine, RUNS, 12, effect=effect)) for _ in range(4)]
        words = [[judge(RoundEffect(row), margin, level=level).kind for row in of_one] for of_one in ratios]
        wrong = sum(any(found in false for found in together) for together in zip(*words, strict=True))
        assert wrong <= 17, effect  # as above: a chance of 1 % where the rate is 5 %

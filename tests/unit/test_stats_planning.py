"""Detectable effects, and how much more would decide: the formulas, and whether the plans come true."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qprof.stats.intervals import Interval
from qprof.stats.paired_outcomes import PairedOutcomes
from qprof.stats.planning import (
    blocks_to_decide,
    detectable_effect,
    implied_scatter,
    outcome_scatter,
    samples_to_decide,
)
from qprof.stats.rounds import RoundEffect
from qprof.stats.verdict import judge


def interval(value: float, half: float, level: float = 0.95) -> Interval:
    return Interval(value, value - half, value + half, level)


@pytest.mark.parametrize(
    ("n", "power", "effect"),
    [
        # statsmodels 0.15.0: TTestPower().solve_power(effect_size=None, nobs=n, alpha=0.05, power=power)
        (5, 0.8, 1.6819970833232674),
        (10, 0.8, 0.9960019107624178),
        (12, 0.9, 1.0294699805927454),
        (30, 0.5, 0.3701080052632009),
        (100, 0.8, 0.2829117119690806),
    ],
)
def test_detectable_effect_is_that_of_statsmodels(n, power, effect):
    assert detectable_effect(2.0, n, power=power) == pytest.approx(2 * effect, rel=0.02)


@pytest.mark.parametrize(
    ("effect", "n"),
    # statsmodels 0.15.0: TTestPower().solve_power(effect_size=effect, nobs=None, alpha=0.05, power=0.8)
    [(0.5, 33.36713118431779), (0.8, 14.30276455812943), (1.0, 9.93785094105438)],
)
def test_blocks_are_those_of_statsmodels(effect, n):
    half = 2.7764451051977934 / math.sqrt(5)  # 5 rounds of scatter 1
    assert blocks_to_decide(interval(effect, half), 5) == math.ceil(n) - 5


def test_scatter_is_what_the_interval_implies():
    assert implied_scatter(interval(3.0, 2.2621571627982053), 10) == pytest.approx(math.sqrt(10))
    assert implied_scatter(Interval(1.0, None, None, 0.95, "few"), 3) is None
    rounds = np.random.default_rng(0).normal(0.0, 0.05, 400)
    assert implied_scatter(RoundEffect(rounds).interval(), 400) == pytest.approx(0.05 * math.sqrt(1.2), rel=0.1)


def test_more_blocks_for_smaller_effects_and_more_power():
    needed = [blocks_to_decide(interval(value, 0.05), 10) for value in (0.04, 0.02, 0.01)]
    assert needed == sorted(needed) and needed[2] > 10 * needed[0]
    assert blocks_to_decide(interval(0.02, 0.05), 10, power=0.9) > blocks_to_decide(interval(0.02, 0.05), 10, power=0.5)
    assert blocks_to_decide(interval(-0.02, 0.05), 10) == blocks_to_decide(interval(0.02, 0.05), 10)


def test_equivalence_is_planned_where_it_comes_first():
    alone = blocks_to_decide(interval(0.002, 0.03), 10)
    with_margin = blocks_to_decide(interval(0.002, 0.03), 10, margin=0.02)
    assert with_margin < alone / 10
    # An effect of nothing with a margin of one standard deviation: 13 in all by Julious' formula with tests at 2.5 %,
    # (z(0.975) + z(0.9))^2 = 10.5, and two for Student's t.
    half = 2.7764451051977934 / math.sqrt(5)
    assert blocks_to_decide(interval(0.0, half), 5, margin=1.0) in (7, 8)


def test_never():
    assert blocks_to_decide(interval(0.0, 0.05), 10) is None
    assert blocks_to_decide(interval(1e-6, 0.05), 10) is None
    assert blocks_to_decide(Interval(0.1, None, None, 0.95, "few"), 3) is None
    assert blocks_to_decide(interval(1e-3, 0.05), 10, most=50) is None
    at_margin = interval(0.0005, 0.05)
    assert blocks_to_decide(at_margin, 10, margin=0.0005) is None, "not equivalent at its margin, however long"
    assert blocks_to_decide(interval(0.5, 0.05), 10, most=10) is None


def test_constant_rounds_decide_at_once():
    assert blocks_to_decide(interval(0.1, 0.0), 5) == 1
    assert blocks_to_decide(interval(0.0, 0.0), 5, margin=0.1) == 1
    assert samples_to_decide(PairedOutcomes(100, 0, 0)) is None


def test_samples_from_discordant_rates():
    outcomes = PairedOutcomes(1000, 30, 20)
    assert outcome_scatter(outcomes) == pytest.approx(math.sqrt(0.05), rel=0.02)
    # Connor, "Sample Size for Testing Differences in Proportions for the Paired-Sample Design", Biometrics 43(1), 1987:
    # (z(0.975) sqrt(p) + z(0.8) sqrt(p - d^2))^2 / d^2 with p = 0.05, d = 0.01: 3923 samples.
    assert samples_to_decide(outcomes) + 1000 == pytest.approx(3923, rel=0.03)
    assert samples_to_decide(outcomes, margin=0.03) < samples_to_decide(outcomes)
    few = PairedOutcomes(200, 0, 0)
    more = samples_to_decide(few, margin=0.01)
    assert judge(few, 0.01).kind == "inconclusive"
    assert 0 < more < 1000


@pytest.mark.parametrize("effect", [0.03, 0.0])
def test_plans_come_true(effect):
    """As many rounds as planned decide in about 80 % of all runs, for a difference and for an equivalence."""
    rng = np.random.default_rng(1)
    planned = blocks_to_decide(interval(effect, 0.04), 8, margin=0.025)
    scatter = implied_scatter(interval(effect, 0.04), 8) / math.sqrt(1.2)
    kinds = [judge(RoundEffect(rng.normal(effect, scatter, 8 + planned)), 0.025).kind for _ in range(500)]
    decided = kinds.count("worse") if effect else kinds.count("equivalent")
    assert 0.72 <= decided / 500 <= 0.90


def test_detectable_effects_are_detected():
    rng = np.random.default_rng(2)
    effect = detectable_effect(0.02 * math.sqrt(1.2), 12)
    found = [judge(RoundEffect(rng.normal(effect, 0.02, 12))).kind == "worse" for _ in range(500)]
    assert 0.72 <= np.mean(found) <= 0.88


@pytest.mark.parametrize(
    "call",
    [
        lambda: detectable_effect(1.0, 1),
        lambda: detectable_effect(-1.0, 10),
        lambda: detectable_effect(math.nan, 10),
        lambda: detectable_effect(1.0, 10, power=1.0),
        lambda: detectable_effect(1.0, 10, level=0.4),
        lambda: blocks_to_decide(interval(0.1, 0.2), 10, margin=0.0),
        lambda: samples_to_decide(PairedOutcomes(10, 1, 1), power=0.2),
    ],
)
def test_bad_settings_are_refused(call):
    with pytest.raises(ValueError):
        call()

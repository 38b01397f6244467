"""The decision rule, and bootstrap p-values that agree with the bootstrap's intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qprof.stats.intervals import Interval, PairedRounds, resample_weights
from qprof.stats.rounds import RoundEffect
from qprof.stats.verdict import Replicates, judge, word


def around(value: float, scatter: float, rounds: int = 12) -> RoundEffect:
    """Evenly spread rounds about a value."""
    return RoundEffect(value + scatter * np.linspace(-1.0, 1.0, rounds))


@pytest.mark.parametrize(
    ("value", "scatter", "margin", "kind", "detectable"),
    [
        (-0.10, 0.01, 0.02, "better", True),
        (+0.10, 0.01, 0.02, "worse", True),
        (+0.10, 0.01, None, "worse", True),
        (0.000, 0.01, 0.02, "equivalent", False),
        (0.005, 0.001, 0.02, "equivalent", True),
        (-0.005, 0.001, 0.02, "equivalent", True),
        (0.005, 0.001, None, "worse", True),
        (0.005, 0.05, 0.02, "inconclusive", False),
        (0.020, 0.01, 0.02, "worse", True),
        (0.000, 0.01, None, "inconclusive", False),
    ],
)
def test_kinds(value, scatter, margin, kind, detectable):
    verdict = judge(around(value, scatter), margin)
    assert (verdict.kind, verdict.detectable) == (kind, detectable)
    assert (verdict.p_equivalence is None) == (margin is None)
    turned = judge(around(value, scatter), margin, lower_is_better=False)
    assert turned.kind == {"better": "worse", "worse": "better"}.get(kind, kind)


@pytest.mark.parametrize("evidence", [RoundEffect([0.3] * 4), Replicates(0.3, [0.3] * 50, 4)])
def test_without_an_interval_nothing_is_claimed(evidence):
    verdict = judge(evidence, 0.5)
    assert (verdict.kind, verdict.p_difference, verdict.p_equivalence) == ("inconclusive", None, None)
    assert verdict.effect.value == pytest.approx(0.3) and verdict.effect.reason and not verdict.detectable


def test_replicates_that_contradict_their_value_claim_nothing():
    assert judge(Replicates(0.1, np.linspace(-2.0, -1.0, 500), 30)).kind == "inconclusive"


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_bad_margins_are_refused(margin):
    with pytest.raises(ValueError, match="margin"):
        judge(around(0.0, 0.1), margin)


@pytest.mark.parametrize("level", [0.5, 1.0, 0.0])
def test_bad_levels_are_refused(level):
    with pytest.raises(ValueError, match="level"):
        judge(around(0.0, 0.1), level=level)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    bound=st.floats(-4.0, 4.0),
    level=st.sampled_from([0.6, 0.8, 0.9, 0.95]),
    blocks=st.integers(6, 40),
    method=st.sampled_from(["percentile", "expanded"]),
    digits=st.sampled_from([0, 1, 8]),
)
def test_p_values_and_intervals_of_a_bootstrap_agree(seed, bound, level, blocks, method, digits):
    rng = np.random.default_rng(seed)
    drawn = np.round(rng.standard_normal(2000), digits)
    bound = round(bound, digits)
    evidence = Replicates(float(np.median(drawn)), drawn, blocks, method)
    found = evidence.interval(level)
    tail = (1 - level) / 2
    if min(abs(bound - found.low), abs(bound - found.high)) > 1e-9:
        assert (evidence.p_above(bound) < tail) == (bound < found.low)
        assert (evidence.p_below(bound) < tail) == (bound > found.high)


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(-0.1, 0.1), min_size=6, max_size=20),
    margin=st.floats(0.001, 0.2),
    rounds=st.booleans(),
)
def test_p_values_say_at_which_level_the_word_would_just_hold(values, margin, rounds):
    if rounds:
        evidence = RoundEffect(values)
    else:
        drawn = resample_weights(len(values), 1000, 0) @ np.asarray(values) / len(values)
        evidence = Replicates(float(np.mean(values)), drawn, len(values), "expanded")
    verdict = judge(evidence, margin)
    found = verdict.effect
    if min(abs(found.low + margin), abs(found.high - margin)) > 1e-9:
        assert (verdict.kind == "equivalent") == (verdict.p_equivalence <= 0.05)
    if min(abs(found.low), abs(found.high)) > 1e-9:
        assert verdict.detectable == (verdict.p_difference <= 0.05)
    assert verdict.kind == word(found, margin)


def test_p_value_of_a_bootstrap_of_a_mean_is_close_to_the_t_test():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(5).normal(0.02, 0.03, 12)
    drawn = resample_weights(12, 20_000, 1) @ values / 12
    found = Replicates(float(values.mean()), drawn, 12, "expanded").p_above(0.0)
    assert found == pytest.approx(stats.ttest_1samp(values, 0.0, alternative="greater").pvalue, rel=0.25)


def test_tail_goes_on_beyond_the_outermost_replicate():
    drawn = np.random.default_rng(6).normal(1.0, 0.1, 2000)
    evidence = Replicates(1.0, drawn, 12, "expanded")
    p = [evidence.p_above(bound) for bound in (0.9, 0.8, 0.7, float(drawn.min()), 0.5, 0.0, -1.0)]
    assert p == sorted(p, reverse=True) and len(set(p)) == len(p)
    assert 0.0 < p[-2] < 1e-4
    assert evidence.p_below(0.0) == 1.0
    assert Replicates(1.0, np.ones(50), 12).p_above(0.0) == 0.0
    assert Replicates(1.0, np.ones(50), 12).p_above(1.0) == 1.0


def test_pooled_medians_can_be_judged():
    rng = np.random.default_rng(7)
    rounds = np.repeat(np.arange(12), 20)
    a, b = rng.lognormal(4.0, 0.02, 240), 1.1 * rng.lognormal(4.0, 0.02, 240)
    pairs = PairedRounds.of(a, rounds, b, rounds)
    of_a, of_b = pairs.replicates(resample_weights(12, 1000, 0), 0.5)
    value = math.log(np.median(b) / np.median(a))
    verdict = judge(Replicates(value, np.log(of_b / of_a), pairs.rounds, "expanded"), math.log1p(0.02))
    assert verdict.kind == "worse" and verdict.effect.low < math.log(1.1) < verdict.effect.high


@pytest.mark.parametrize("replicates", [[], [np.nan], [[1.0]]])
def test_bad_replicates_are_refused(replicates):
    with pytest.raises(ValueError, match="finite"):
        Replicates(0.0, replicates, 10)


@pytest.mark.parametrize(
    ("low", "value", "high", "margin", "kind"),
    [
        (-0.03, -0.02, -0.01, 0.01, "better"),
        (-0.03, -0.02, -0.01, 0.04, "equivalent"),
        (0.001, 0.002, 0.003, 0.004, "equivalent"),
        (0.001, 0.002, 0.003, 0.003, "worse"),
        (0.001, 0.002, 0.003, None, "worse"),
        (0.0, 0.002, 0.003, None, "inconclusive"),
        (-0.01, 0.002, 0.03, 0.02, "inconclusive"),
        (None, 0.002, None, 0.02, "inconclusive"),
        (0.0, 0.0, 0.0, 0.02, "equivalent"),
        (0.0, 0.0, 0.0, None, "inconclusive"),
    ],
)
def test_the_word_is_what_the_interval_says(low, value, high, margin, kind):
    assert word(Interval(value, low, high, 0.95), margin) == kind
    turned = Interval(-value, None if high is None else -high, None if low is None else -low, 0.95)
    assert word(turned, margin, lower_is_better=False) == kind


def test_a_higher_level_says_less():
    evidence = around(0.02, 0.03)
    assert judge(evidence, 0.01, level=0.9).kind == "worse"
    assert judge(evidence, 0.01, level=0.999).kind == "inconclusive"

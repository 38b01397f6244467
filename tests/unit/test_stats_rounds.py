"""The effect over rounds: Hodges-Lehmann with a signed-rank standard error."""

from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qprof.stats import rounds
from qprof.stats.intervals import quantile_interval, resample_weights
from qprof.stats.multiplicity import benjamini_hochberg
from qprof.stats.rounds import (
    RoundDifference,
    RoundEffect,
    location_replicates,
    paired_medians,
    round_log_ratios,
)

EIGHT = [0.01, -0.004, 0.006, 0.003, -0.002, 0.008, 0.001, 0.005]


def test_value_is_the_median_of_all_pairwise_means():
    pairs = [(x + y) / 2 for i, x in enumerate(EIGHT) for y in EIGHT[i:]]
    assert RoundEffect(EIGHT).value == pytest.approx(float(np.median(pairs)), abs=1e-15)
    assert RoundEffect([1.0, 2.0, 3.0, 4.0, 1000.0]).value == 3.0


def test_standard_error_is_that_of_the_signed_rank_interval():
    # 2 P(T <= t) over the 256 equally likely signs of 8 ranks.
    at_most = [sum(sum(k + 1 for k in range(8) if m >> k & 1) <= t for m in range(256)) / 128 for t in range(12)]
    outside = max(t for t, p in enumerate(at_most) if p <= 0.2)
    assert rounds._signed_rank_bound(8) == (outside, pytest.approx(at_most[outside]))
    pairs = sorted((x + y) / 2 for i, x in enumerate(EIGHT) for y in EIGHT[i:])
    stats = pytest.importorskip("scipy.stats")
    t = stats.t.ppf(1 - at_most[outside] / 2, 7)
    expected = math.sqrt(1.2) * (pairs[-1 - outside] - pairs[outside]) / 2 / t
    assert RoundEffect(EIGHT).standard_error == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [20, 45, 51, 200])
def test_signed_rank_bound_is_that_of_scipy(n):
    stats = pytest.importorskip("scipy.stats")
    outside, alpha = rounds._signed_rank_bound(n)
    total = n * (n + 1) // 2
    values = np.arange(1.0, n + 1)
    # Signs such that the sum of the positive ranks is `outside`: greedily from the largest rank.
    left, signs = outside, -np.ones(n)
    for rank in range(n, 0, -1):
        if rank <= left:
            signs[rank - 1], left = 1.0, left - rank
    found = stats.wilcoxon(values * signs, method="exact" if n <= 51 else "approx", correction=n > 51)
    assert found.statistic == outside and outside < total / 2
    assert found.pvalue == pytest.approx(alpha, abs=0.006) and alpha <= 0.2


@given(
    st.lists(st.floats(-0.5, 0.5), min_size=5, max_size=15),
    st.floats(-0.2, 0.2),
    st.sampled_from([0.8, 0.9, 0.95, 0.99]),
)
def test_a_bound_outside_the_interval_is_one_that_is_rejected(differences, bound, level):
    effect = RoundEffect(differences)
    found = effect.interval(level)
    tail = (1 - level) / 2
    if abs(bound - found.low) > 1e-9 and abs(bound - found.high) > 1e-9:
        assert (effect.p_above(bound) < tail) == (bound < found.low)
        assert (effect.p_below(bound) < tail) == (bound > found.high)
    assert found.low <= found.value <= found.high


#: Differences of logarithms of a clock's readings: what lies closer together than rounding is equal or not by chance.
READINGS = st.floats(-0.5, 0.5).map(lambda value: round(value, 6))


@given(st.lists(READINGS, min_size=5, max_size=12), st.floats(-1, 1), st.floats(0.1, 10))
def test_it_moves_with_the_data_and_changes_sign_with_them(differences, shift, scale):
    plain = RoundEffect(differences)
    moved = RoundEffect(np.asarray(differences) * scale + shift)
    assert moved.value == pytest.approx(plain.value * scale + shift, abs=1e-9)
    assert moved.standard_error == pytest.approx(plain.standard_error * scale, abs=1e-9)
    turned = RoundEffect(-np.asarray(differences))
    assert turned.value == pytest.approx(-plain.value, abs=1e-12)
    assert turned.p_below(0.1) == pytest.approx(plain.p_above(-0.1), abs=1e-9)


def test_one_spoilt_round_does_not_spoil_the_effect():
    rng = np.random.default_rng(0)
    calm = rng.normal(0.03, 0.01, 12)
    spoilt = np.append(calm[:-1], 3.0)
    assert RoundEffect(spoilt).interval().low > 0.01
    assert RoundEffect(spoilt).standard_error < 2 * RoundEffect(calm).standard_error


def test_p_values_are_as_small_as_the_effect_is_large():
    rng = np.random.default_rng(1)
    assert RoundEffect(rng.normal(1.0, 0.01, 10)).p_above(0.0) < 1e-9
    assert RoundEffect(rng.normal(1.0, 0.01, 5)).p_above(0.0) < 1e-4


def test_equal_differences_of_a_coarse_clock():
    constant = RoundEffect([0.01] * 6)
    assert (constant.interval().low, constant.interval().high) == (0.01, 0.01)
    assert (constant.p_above(0.0), constant.p_above(0.01), constant.p_below(0.0)) == (0.0, 1.0, 1.0)
    nearly = RoundEffect([0.0] * 11 + [0.01])
    assert nearly.standard_error > 0 and nearly.p_above(0.0) == pytest.approx(0.5)


def test_too_few_rounds_give_a_value_and_a_reason():
    effect = RoundEffect([0.1, 0.2, 0.3, 0.4])
    assert effect.value == pytest.approx(0.25)
    assert effect.interval().low is None and effect.p_above(0.0) is None and effect.p_below(0.0) is None
    assert effect.interval().reason == "no interval from 4 rounds: at least 5 are needed"
    assert "1 round:" in RoundEffect([0.1]).interval().reason


def test_thousands_of_rounds_are_grouped():
    values = np.random.default_rng(2).normal(0.01, 0.05, 10_000)
    effect = RoundEffect(values)
    assert effect.rounds == 10_000
    assert effect.value == pytest.approx(values.mean(), abs=3e-4)
    assert effect.standard_error == pytest.approx(math.sqrt(1.2) * 0.05 / 100, rel=0.15)


@pytest.mark.parametrize("values", [[], [np.nan, 1.0], [[1.0, 2.0]]])
def test_bad_differences_are_refused(values):
    with pytest.raises(ValueError, match="finite"):
        RoundEffect(values)


def test_log_ratios_pair_the_medians_of_each_round():
    a = [1.0, 2.0, 90.0, 4.0, 6.0, 50.0]
    b = [4.0, 10.0, 7.0]
    effect = round_log_ratios(a, [3, 3, 3, 8, 8, 9], b, [3, 8, 77])
    assert effect.rounds == 2
    assert effect.value == pytest.approx((math.log(4 / 2) + math.log(10 / 5)) / 2)
    with pytest.raises(ValueError, match="positive"):
        round_log_ratios([0.0], [1], [1.0], [1])
    with pytest.raises(ValueError, match="no round"):
        round_log_ratios([1.0], [1], [1.0], [2])


def test_what_a_round_does_to_both_cancels():
    rng = np.random.default_rng(3)
    shared = np.repeat(np.exp(rng.normal(0.0, 0.5, 10)), 20)
    numbers = np.repeat(np.arange(10), 20)
    a, b = (shared * np.exp(rng.normal(0.0, 0.01, 200)) * factor for factor in (1.0, 1.01))
    found = round_log_ratios(a, numbers, b, numbers).interval()
    assert 0.0 < found.low < math.log(1.01) < found.high < 0.02


def test_a_million_op_events_in_seconds_and_500_mb():
    rng = np.random.default_rng(4)
    ops, rounds_, inferences = 100, 10, 500
    numbers = np.repeat(np.arange(rounds_), inferences)
    a = rng.lognormal(3.0, 0.1, (ops, rounds_ * inferences))
    b = rng.lognormal(3.0, 0.1, (ops, rounds_ * inferences))
    b[:10] *= 1.1
    tracemalloc.start()
    start = time.process_time()
    effects = [round_log_ratios(x, numbers, y, numbers) for x, y in zip(a, b, strict=True)]
    adjusted = benjamini_hochberg([2 * min(e.p_above(0.0), e.p_below(0.0)) for e in effects])
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.all(adjusted[:10] < 0.05) and np.count_nonzero(adjusted < 0.05) <= 12
    assert seconds < 30.0 and peak < 500e6


def test_differences_apart_by_rounding_alone_are_equal() -> None:
    apart = [0.0] * 6 + [-0.5, -1e-77]
    assert RoundEffect(apart).standard_error == RoundEffect([0.0] * 6 + [-0.5, 0.0]).standard_error > 0.01


# -- both medians, and the difference that follows from the ratio


def paired(rng, rounds=10, factor=1.05, noise=0.01):
    numbers = np.repeat(np.arange(rounds), 20)
    shared = np.repeat(np.exp(rng.normal(0.0, 0.3, rounds)), 20)
    return tuple(100.0 * f * shared * np.exp(rng.normal(0.0, noise, len(numbers))) for f in (1.0, factor)), numbers


def test_the_difference_is_that_of_the_ratio_in_the_unit_of_a():
    (a, b), numbers = paired(np.random.default_rng(5))
    found = paired_medians(a, numbers, b, numbers, level=0.99)
    assert (found.a.value, found.b.value) == (np.median(a), np.median(b))
    assert found.a == quantile_interval(a, numbers, method="expanded")
    for bound in ("value", "low", "high"):
        ratio, difference = getattr(found.log_ratio, bound), getattr(found.difference, bound)
        assert difference == pytest.approx(found.a.value * (math.exp(ratio) - 1.0))
    assert found.log_ratio == round_log_ratios(a, numbers, b, numbers).interval(0.99)
    assert 0.0 < found.difference.low < 5.0 < found.difference.high, "5 % of 100, although the rounds differ by 30 %"
    assert found.difference.level == 0.99 and found.a.level == 0.95
    assert found.rounds == 10 and found.left_out == ()


def test_rounds_of_one_variant_are_no_pair_and_are_named():
    found = paired_medians([1.0, 2.0, 900.0], [0, 1, 2], [3.0, 6.0, 5.0], [0, 1, 9])
    assert found.log_ratio.value == pytest.approx(math.log(3.0)) and found.log_ratio.low is None
    assert found.rounds == 2 and found.left_out == (2, 9)
    assert found.difference.value == pytest.approx(2.0 * found.a.value) and found.difference.reason


@given(st.lists(st.floats(-0.5, 0.5), min_size=5, max_size=12), st.floats(-150.0, 150.0), st.sampled_from([0.9, 0.99]))
def test_a_difference_and_its_ratio_never_disagree(logs, bound, level):
    ratio = RoundEffect(logs)
    difference = RoundDifference(ratio, 100.0)
    found = difference.interval(level)
    assert math.copysign(1, found.low) == math.copysign(1, ratio.interval(level).low) or found.low == 0.0
    assert difference.p_above(0.0) == ratio.p_above(0.0) and difference.p_below(0.0) == ratio.p_below(0.0)
    if min(abs(bound - found.low), abs(bound - found.high)) > 1e-6:
        assert (difference.p_above(bound) < (1 - level) / 2) == (bound < found.low)
        assert (difference.p_below(bound) < (1 - level) / 2) == (bound > found.high)


def test_nothing_is_faster_than_no_time_at_all():
    surely = RoundDifference(RoundEffect([-0.1, -0.2, -0.15, -0.12, -0.18]), 100.0)
    assert surely.p_above(-100.0) == 0.0 and surely.p_below(-200.0) == 1.0
    assert RoundDifference(RoundEffect([0.1] * 4), 100.0).p_above(-200.0) is None
    with pytest.raises(ValueError, match="positive"):
        RoundDifference(RoundEffect([0.1] * 5), 0.0)


@pytest.mark.parametrize("rounds_", [1, 2, 5, 12])
def test_replicates_are_the_locations_of_drawn_rounds(rounds_):
    rng = np.random.default_rng(rounds_)
    values = rng.normal(0.02, 0.05, rounds_)
    weights = resample_weights(rounds_, 40, 3)
    found = location_replicates(values, weights)
    expected = [RoundEffect(np.repeat(values, drawn)).value for drawn in weights]
    assert found == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("heavy", [False, True])
def test_replicates_of_many_rounds_are_close_to_exact(heavy, monkeypatch):
    rng = np.random.default_rng(6)
    values = rng.standard_cauchy(80) * 0.01 if heavy else rng.normal(0.02, 0.05, 80)
    weights = resample_weights(80, 1000, 0)
    found = np.quantile(location_replicates(values, weights), [0.025, 0.5, 0.975])
    monkeypatch.setattr(rounds, "_EXACT_ROUNDS", 80)
    exact = np.quantile(location_replicates(values, weights), [0.025, 0.5, 0.975])
    assert found == pytest.approx(exact, abs=0.06 * (exact[2] - exact[0]))


def test_replicates_of_thousands_of_rounds_take_no_square_of_memory():
    values = np.random.default_rng(7).normal(0.01, 0.05, 5000)
    tracemalloc.start()
    found = location_replicates(values, resample_weights(5000, 200, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6
    assert float(np.std(found)) == pytest.approx(0.05 / math.sqrt(5000), rel=0.2)

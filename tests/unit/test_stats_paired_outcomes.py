"""McNemar, the score interval of a paired difference, and the paired bootstrap."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qprof.stats.paired_outcomes import PairedOutcomes, paired_bootstrap
from qprof.stats.verdict import judge

counts = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 400)).map(
    lambda t: PairedOutcomes(t[0] + t[1] + t[2], t[0], t[1])
)


def test_counts():
    a = np.array([True, True, False, False, True])
    b = np.array([True, False, True, False, False])
    found = PairedOutcomes.of(a, b)
    assert found == PairedOutcomes(5, 2, 1)
    assert found.value == pytest.approx(b.mean() - a.mean())


@pytest.mark.parametrize(
    ("b", "c", "exact"),
    [
        # statsmodels 0.15.0: mcnemar([[50, b], [c, 60]], exact=True).pvalue
        (7, 1, 0.0703125),
        (0, 4, 0.125),
        (12, 3, 0.03515625),
        (30, 18, 0.11140289106101878),
        (5, 5, 1.0),
        (1200, 1100, 0.03896685268382023),
    ],
)
def test_exact_mcnemar_is_that_of_statsmodels(b, c, exact):
    found = PairedOutcomes(b + c + 110, b, c)
    assert found.mcnemar_exact_p == pytest.approx(exact, rel=1e-9)
    assert PairedOutcomes(b + c + 110, c, b).mcnemar_p == found.mcnemar_p


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        # scipy 1.17.1: min(1, 2 * binom.cdf(x, n, 0.5) - binom.pmf(x, n, 0.5)), n = b + c, x = min(b, c)
        (7, 1, 0.0390625),
        (0, 4, 0.0625),
        (12, 3, 0.02127075195312501),
        (30, 18, 0.08543313315739456),
        (5, 5, 1.0),
        (0, 0, 1.0),
        (1200, 1100, 0.037074406338548235),
    ],
)
def test_mid_p_mcnemar(b, c, p):
    assert PairedOutcomes(b + c + 110, b, c).mcnemar_p == pytest.approx(p, rel=1e-9)


def test_a_million_discordant_samples_take_no_time():
    start = time.process_time()
    p = PairedOutcomes(5_000_000, 500_000, 502_000).mcnemar_p
    assert p == pytest.approx(2 * (1 - 0.5 * (1 + math.erf(2000 / math.sqrt(1_002_000) / math.sqrt(2)))), rel=0.01)
    assert PairedOutcomes(5_000_000, 0, 1_000_000).mcnemar_p == 0.0
    assert time.process_time() - start < 5.0


@settings(max_examples=60, deadline=None)
@given(counts, st.floats(-0.9, 0.9))
def test_score_is_that_of_the_constrained_likelihood(outcomes, bound):
    optimize = pytest.importorskip("scipy.optimize")
    n, b, c = outcomes.samples, outcomes.b_only, outcomes.a_only

    def unlikely(p_a: float) -> float:
        shares = ((b, p_a + bound), (c, p_a), (n - b - c, 1 - 2 * p_a - bound))
        return -sum(count * math.log(max(share, 1e-300)) for count, share in shares if count)

    least, most = max(0.0, -bound), (1.0 - bound) / 2
    p_a = optimize.minimize_scalar(unlikely, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    variance = n * (2 * p_a + bound - bound**2)
    assert outcomes._score(bound) == pytest.approx((b - c - n * bound) / math.sqrt(variance), rel=1e-3, abs=1e-3)


def test_published_interval():
    # Airway reactivity of 21 children, 7 against 1 discordant; Fagerland, Lydersen & Laake 2014, Tango's interval.
    found = PairedOutcomes(21, 7, 1)
    assert (round(found._bound(1.959964), 3), round(found._bound(-1.959964), 3)) == (-0.517, -0.026)


def test_score_at_zero_is_the_chi_square_of_mcnemar():
    assert PairedOutcomes(200, 18, 30)._score(0.0) == pytest.approx(12 / math.sqrt(48))


@settings(max_examples=200, deadline=None)
@given(counts, st.sampled_from([0.8, 0.9, 0.95, 0.99]), st.floats(-0.5, 0.5))
def test_intervals_and_p_values_agree(outcomes, level, bound):
    found = outcomes.interval(level)
    assert -1.0 <= found.low <= found.value <= found.high <= 1.0
    assert (outcomes.mcnemar_p <= 1 - level) == (found.low > 0.0 or found.high < 0.0)
    tail = (1 - level) / 2
    if min(abs(bound - found.low), abs(bound - found.high), abs(bound)) > 1e-6 and found.low * found.high:
        assert (outcomes.p_above(bound) < tail) == (bound < found.low)
        assert (outcomes.p_below(bound) < tail) == (bound > found.high)


def test_half_widths_of_the_documented_example():
    # 5153 samples, 5 % discordant: 0.61 points.
    found = PairedOutcomes(5153, 129, 129).interval()
    assert (found.high - found.low) / 2 == pytest.approx(0.0061, abs=0.0001)


def test_no_discordant_sample_is_not_certainty():
    found = PairedOutcomes(500, 0, 0)
    assert found.interval().high == pytest.approx(3.8415 / 503.8415, rel=1e-3)
    assert found.interval().low == -found.interval().high
    assert judge(found, 0.01, lower_is_better=False).kind == "equivalent"
    assert judge(found, 0.001, lower_is_better=False).kind == "inconclusive"


def test_verdicts_of_accuracies():
    assert judge(PairedOutcomes(5000, 300, 100), 0.01, lower_is_better=False).kind == "worse"
    assert judge(PairedOutcomes(5000, 100, 300), 0.01, lower_is_better=False).kind == "better"
    few = judge(PairedOutcomes(5000, 4, 0), 1e-6, lower_is_better=False)
    assert few.kind == "inconclusive" and few.effect.high == 0.0


@pytest.mark.parametrize("discordant", [0.002, 0.02, 0.1])
def test_false_claims_and_coverage(discordant):
    rng = np.random.default_rng(1)
    claims = hits = 0
    for _ in range(2000):
        a_only, b_only = rng.multinomial(1000, [discordant / 2, discordant / 2, 1 - discordant])[:2].tolist()
        claims += PairedOutcomes(1000, a_only, b_only).mcnemar_p <= 0.05
        a_only, b_only = rng.multinomial(1000, [discordant, discordant / 4, 1 - 1.25 * discordant])[:2].tolist()
        found = PairedOutcomes(1000, a_only, b_only).interval()
        hits += found.low <= -0.75 * discordant <= found.high
    assert claims / 2000 <= 0.06
    assert 0.93 <= hits / 2000 <= 1.0


@pytest.mark.parametrize("arguments", [(0, 0, 0), (10, -1, 0), (10, 6, 5)])
def test_impossible_counts_are_refused(arguments):
    with pytest.raises(ValueError, match="cannot be"):
        PairedOutcomes(*arguments)


@pytest.mark.parametrize(("a", "b"), [([], []), ([True], [True, False]), ([1, 0], [1, 1])])
def test_bad_outcomes_are_refused(a, b):
    with pytest.raises(ValueError, match="bool"):
        PairedOutcomes.of(np.asarray(a), np.asarray(b))


def test_paired_bootstrap_of_a_mean_is_close_to_the_t_test():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    hard = rng.normal(0.0, 3.0, 400)
    a, b = hard + rng.normal(0.0, 0.5, 400), hard + 0.06 + rng.normal(0.0, 0.5, 400)
    evidence = paired_bootstrap(a, b, resamples=10_000)
    found, expected = evidence.interval(), stats.ttest_rel(b, a).confidence_interval()
    assert found.value == pytest.approx(b.mean() - a.mean())
    assert found.low == pytest.approx(expected.low, abs=0.01) and found.high == pytest.approx(expected.high, abs=0.01)
    twice = min(evidence.p_above(0.0), evidence.p_below(0.0)) * 2
    assert twice == pytest.approx(stats.ttest_rel(b, a).pvalue, rel=0.25)
    unpaired = stats.ttest_ind(b, a).confidence_interval()
    assert unpaired.high - unpaired.low > 5 * (found.high - found.low)


def test_paired_bootstrap_of_equals_with_heavy_tails():
    rng = np.random.default_rng(4)
    kinds = []
    for seed in range(400):
        hard = rng.lognormal(0.0, 1.5, 100)
        a, b = (hard * rng.lognormal(0.0, 0.3, 100) for _ in "ab")
        kinds.append(judge(paired_bootstrap(a, b, resamples=500, seed=seed)).kind)
    # 5 % of 400 are 20; more than 30 has a chance of 1 % where the rate is 5 %.
    assert kinds.count("better") + kinds.count("worse") <= 30


def test_paired_bootstrap_is_seeded_and_chunked(monkeypatch):
    from qprof.stats import paired_outcomes

    rng = np.random.default_rng(3)
    a, b = rng.random(50), rng.random(50)
    assert paired_bootstrap(a, b, seed=1).interval() == paired_bootstrap(a, b, seed=1).interval()
    assert paired_bootstrap(a, b, seed=1).interval() != paired_bootstrap(a, b, seed=2).interval()
    monkeypatch.setattr(paired_outcomes, "_CHUNK_ELEMENTS", 120)
    chunked = paired_bootstrap(a, b, resamples=301)
    assert len(chunked.sorted) == 301 and chunked.sorted.std() > 0


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, np.nan], [1.0, 2.0])])
def test_bad_scores_are_refused(a, b):
    with pytest.raises(ValueError):
        paired_bootstrap(a, b)

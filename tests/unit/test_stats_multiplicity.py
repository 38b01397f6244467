"""Adjusted p-values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qprof.stats.multiplicity import benjamini_hochberg, holm, simultaneous_level

P = [0.01, 0.04, 0.03, 0.005, 0.5, 0.04, 1.0]
p_vectors = st.lists(st.floats(0.0, 1.0), max_size=30)


def test_values_of_statsmodels():
    # statsmodels 0.15.0: multipletests(P, method="holm")[1], multipletests(P, method="fdr_bh")[1]
    assert holm(P).tolist() == pytest.approx([0.06, 0.16, 0.15, 0.035, 1.0, 0.16, 1.0])
    assert benjamini_hochberg(P).tolist() == pytest.approx([0.035, 0.056, 0.056, 0.035, 0.5833333333333334, 0.056, 1.0])


@settings(deadline=None)
@given(p_vectors.filter(len))
def test_against_statsmodels(p):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for adjust, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        np.testing.assert_allclose(adjust(p), multitest.multipletests(p, method=method)[1], rtol=1e-12)


@given(p_vectors)
def test_order_is_kept_and_nothing_gets_smaller(p):
    for adjust in (holm, benjamini_hochberg):
        found = adjust(p)
        assert np.all(found >= np.asarray(p) * (1 - 1e-12)) and np.all(found <= 1.0)
        assert np.all(np.diff(found[np.argsort(p, kind="stable")]) >= 0.0)
    assert np.all(benjamini_hochberg(p) <= holm(p) * (1 + 1e-12))


@pytest.mark.parametrize("p", [[0.5, np.nan], [-0.1], [1.1], [[0.5]]])
def test_what_is_no_p_value_is_refused(p):
    for adjust in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match="p-values"):
            adjust(p)


def test_errors_stay_at_their_rate():
    rng = np.random.default_rng(0)
    any_claim = false_share = 0.0
    for _ in range(2000):
        p = rng.random(20)
        any_claim += holm(p).min() <= 0.05
        p[:5] *= 1e-4  # five true differences
        claimed = benjamini_hochberg(p) <= 0.05
        false_share += claimed[5:].sum() / max(1, claimed.sum())
    assert 0.03 <= any_claim / 2000 <= 0.065
    assert 0.02 <= false_share / 2000 <= 0.055


def test_simultaneous_level():
    assert simultaneous_level(0.95, 1) == pytest.approx(0.95)
    assert simultaneous_level(0.95, 10) == pytest.approx(0.995)
    for level, comparisons in ((1.0, 3), (0.95, 0)):
        with pytest.raises(ValueError):
            simultaneous_level(level, comparisons)

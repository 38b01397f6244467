"""Welch's t for two runs."""

from __future__ import annotations

import numpy as np
import pytest

from qprof.stats.unpaired import UnpairedEffect

# scipy 1.15: a = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1]; b = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8]
# ttest_ind(b, a, equal_var=False): t = 2.2297, p = 0.0448, df = 12.33
A = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1]
B = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8]


def test_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    found = UnpairedEffect(A, B)
    expected = stats.ttest_ind(B, A, equal_var=False)
    assert found.degrees == int(expected.df)
    assert found.value / found.standard_error == pytest.approx(expected.statistic)
    assert found.p_above(0.0) == pytest.approx(expected.pvalue / 2, abs=0.001)  # degrees rounded down


def test_interval_and_p_value_agree() -> None:
    found = UnpairedEffect(A, B)
    low = found.interval(0.95).low
    assert low is not None
    assert found.p_above(low) == pytest.approx(0.025)
    assert found.p_below(found.value) == pytest.approx(0.5)


def test_false_alarms_of_equal_series_are_nominal() -> None:
    rng = np.random.default_rng(4)
    claims = sum(UnpairedEffect(rng.normal(0, 1, 6), rng.normal(0, 3, 12)).p_above(0.0) <= 0.05 for _ in range(2000))
    assert 0.03 <= claims / 2000 <= 0.065


def test_few_blocks_give_no_interval() -> None:
    found = UnpairedEffect([1.0] * 4, [2.0] * 9)
    assert found.value == 1.0 and found.p_above(0.0) is None
    assert found.interval().reason == "no interval from 4 blocks: at least 5 are needed"


def test_series_without_scatter() -> None:
    found = UnpairedEffect([1.0] * 5, [2.0] * 5)
    assert (found.p_above(0.5), found.p_above(1.0), found.p_below(0.5)) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("bad", [[], [[1.0]], [float("nan")] * 6])
def test_bad_series(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="a series must be"):
        UnpairedEffect(bad, [1.0] * 6)

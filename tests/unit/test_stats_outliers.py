"""Outliers by the modified z-score."""

from __future__ import annotations

import numpy as np
import pytest

from qprof.stats.outliers import modified_z_outliers


def test_threshold_is_14_826_median_absolute_deviations():
    values = np.array([-1.0, -1.0, 0.0, 1.0, 1.0])  # median 0, MAD 1
    assert modified_z_outliers([*values, -1.0, 1.0, 14.82, -14.82]).sum() == 0
    assert modified_z_outliers([*values, -1.0, 1.0, 14.83, -14.83]).tolist() == [False] * 7 + [True, True]


def test_an_ordinary_right_tail_is_not_flagged():
    latencies = np.random.default_rng(0).lognormal(8.0, 0.2, 5000)
    flags = modified_z_outliers(np.append(latencies, 1e6))
    assert flags[-1] and flags.sum() == 1


def test_mostly_equal_values_fall_back_to_the_mean_deviation():
    coarse = [100.0] * 60 + [101.0] * 30  # MAD 0: a clock of 1 us
    assert not modified_z_outliers(coarse).any()
    assert modified_z_outliers([*coarse, 500.0]).tolist() == [False] * 90 + [True]


@pytest.mark.parametrize("values", [[], [5.0], [5.0, 5.0, 5.0]])
def test_nothing_to_flag(values):
    flags = modified_z_outliers(values)
    assert flags.dtype == np.bool_ and len(flags) == len(values) and not flags.any()


@pytest.mark.parametrize("values", [[1.0, np.inf], [np.nan], [[1.0, 2.0]]])
def test_bad_input_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        modified_z_outliers(values)

"""Sums over the first so many values under many weightings of their blocks, against the data sets spelled out."""

from __future__ import annotations

import numpy as np
import pytest

from qprof.stats import midmean
from qprof.stats.intervals import resample_weights
from qprof.stats.resampled_sums import ResampledSums


@pytest.mark.parametrize(("n", "blocks"), [(1, 1), (15, 3), (16, 2), (17, 4), (200, 7)])
def test_sums_are_those_of_the_repeated_values(n: int, blocks: int) -> None:
    rng = np.random.default_rng(n)
    values, block = rng.integers(-50, 50, (n, 3)).astype(float), rng.integers(0, blocks, n)
    weights = rng.integers(0, 4, (30, blocks))
    weights[0] = 0
    totals = weights[:, block].sum(axis=1)
    for count in (np.zeros_like(totals), totals // 3, totals):
        found = ResampledSums(values, block, blocks).first(weights, count)
        expected = [np.repeat(values, w[block], axis=0)[:c].sum(axis=0) for w, c in zip(weights, count, strict=True)]
        assert np.array_equal(found, expected)


@pytest.mark.parametrize(("n", "bound"), [(9000, "_DIRECT"), (3000, "_DIRECT_VALUES")])
def test_a_midmean_of_many_inferences_is_that_of_few(monkeypatch: pytest.MonkeyPatch, n: int, bound: str) -> None:
    rng = np.random.default_rng(1)
    rounds = 12
    parts = rng.lognormal(3.0, 0.2, (n, 5))
    parts[:, 4] = 0.0  # folded into another
    total, blocks = parts.sum(axis=1) + rng.normal(5.0, 1.0, n), rng.integers(0, rounds, n)
    weights = resample_weights(rounds, 500, 0)
    direct, many = (midmean.conditional_midmean(parts, total, blocks) for _ in range(2))
    monkeypatch.setattr(midmean, bound, 100)
    many.replicates(weights, 0)
    assert many._sums is not None
    monkeypatch.setattr(midmean, "_DIRECT", 2**20)
    monkeypatch.setattr(midmean, "_DIRECT_VALUES", 2**20)
    assert np.array_equal(many.means, direct.means)
    direct.replicates(weights, 0)
    assert direct._sums is None
    for part in range(-1, 4):
        np.testing.assert_allclose(many.replicates(weights, part), direct.replicates(weights, part), rtol=1e-12)
    assert not many.replicates(weights, 4).any()
    np.testing.assert_allclose(many.total_replicates(weights), direct.total_replicates(weights), rtol=1e-12)

"""Block-bootstrap intervals: exact resampled quantiles, known coverage, and what pairing buys."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qprof.stats import intervals
from qprof.stats.intervals import (
    BlockQuantiles,
    Interval,
    PairedRounds,
    quantile_interval,
    resample_weights,
    student_t_quantile,
)


def measured(rng: np.random.Generator, blocks: int, per_block: int, block_effect: np.ndarray) -> np.ndarray:
    """Latencies of median 100 us: a log-normal block effect times log-normal noise."""
    return 100.0 * np.exp(np.repeat(block_effect, per_block) + rng.normal(0.0, 0.03, blocks * per_block))


@settings(max_examples=150, deadline=None)
@given(
    data=st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 4)), min_size=1, max_size=300),
    q=st.floats(0.0, 1.0),
    seed=st.integers(0, 100),
    segment=st.integers(1, 70),
)
def test_replicates_are_the_quantiles_of_the_concatenated_blocks(data, q, seed, segment):
    values = np.array([value for value, _ in data])
    _, blocks = np.unique([block for _, block in data], return_inverse=True)
    count = int(blocks.max()) + 1
    weights = resample_weights(count, 7, seed)
    original, intervals._SEGMENT = intervals._SEGMENT, segment
    try:
        found = BlockQuantiles(values, blocks, count).quantiles(weights, q)
    finally:
        intervals._SEGMENT = original
    expected = [
        np.quantile(np.concatenate([np.repeat(values[blocks == b], times) for b, times in enumerate(row)]), q)
        for row in weights
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-6)


def test_chunking_does_not_change_the_replicates(monkeypatch):
    rng = np.random.default_rng(0)
    values, blocks = rng.random(500), np.repeat(np.arange(5), [20, 60, 100, 140, 180])
    weights = resample_weights(5, 100, seed=1)
    whole = BlockQuantiles(values, blocks, 5).quantiles(weights, 0.9)
    monkeypatch.setattr(intervals, "_CHUNK_ELEMENTS", 200)
    monkeypatch.setattr(intervals, "_TABLE_BYTES", 64)  # segments of ceil(500 * 5 * 8 / 64) positions
    chunked = BlockQuantiles(values, blocks, 5)
    assert chunked.segment == 313
    np.testing.assert_array_equal(chunked.quantiles(weights, 0.9), whole)


def test_value_is_the_plain_quantile_and_lies_inside():
    values = np.random.default_rng(2).lognormal(5, 0.1, 999)
    found = quantile_interval(values, np.arange(999) % 9, q=0.9)
    assert found.value == np.quantile(values, 0.9)
    assert found.low is not None and found.high is not None
    assert found.low < found.value < found.high
    assert found.level == 0.95 and found.reason is None


def test_same_seed_same_interval_and_other_seed_another():
    values, blocks = np.random.default_rng(3).random(400), np.arange(400) // 40
    assert quantile_interval(values, blocks, seed=5) == quantile_interval(values, blocks, seed=5)
    assert quantile_interval(values, blocks, seed=5) != quantile_interval(values, blocks, seed=6)


def test_block_labels_are_only_labels():
    values, blocks = np.random.default_rng(4).random(300), np.arange(300) // 30
    assert quantile_interval(values, blocks) == quantile_interval(values, blocks * 1000 - 7)


def test_too_few_blocks_give_no_interval_but_a_value_and_a_reason():
    found = quantile_interval([1.0, 2.0, 4.0], [7, 7, 7])
    assert found == Interval(2.0, None, None, 0.95, "no interval from 1 block: at least 5 are needed")
    values = np.random.default_rng(8).random(50)
    assert quantile_interval(values, np.arange(50) % 4).low is None
    assert quantile_interval(values, np.arange(50) % 5).low is not None


def test_constant_values_give_a_point():
    found = quantile_interval(np.full(60, 3.0), np.arange(60) // 10)
    assert (found.low, found.value, found.high) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(("method", "at_least", "at_most"), [("percentile", 0.84, 0.96), ("expanded", 0.90, 0.98)])
def test_coverage_with_eight_blocks_is_what_the_docstring_says(method, at_least, at_most):
    rng = np.random.default_rng(5)
    hits, runs = 0, 300
    for seed in range(runs):
        values = measured(rng, 8, 20, rng.normal(0.0, 0.02, 8))
        found = quantile_interval(values, np.repeat(np.arange(8), 20), resamples=300, seed=seed, method=method)
        hits += found.low <= 100.0 <= found.high
    assert at_least <= hits / runs <= at_most


def test_resampling_single_inferences_would_be_far_too_sure():
    rng = np.random.default_rng(6)
    values = measured(rng, 12, 100, rng.normal(0.0, 0.05, 12))
    by_block = quantile_interval(values, np.repeat(np.arange(12), 100))
    by_inference = quantile_interval(values, np.arange(1200))
    assert by_block.high - by_block.low > 5 * (by_inference.high - by_inference.low)


@pytest.mark.parametrize(
    ("values", "blocks", "message"),
    [
        ([], [], "no values"),
        ([1.0, np.nan], [0, 1], "1 of 2 values are not finite"),
        ([1.0, 2.0], [0], "one length"),
        ([[1.0]], [[0]], "vectors"),
        ([1.0], [0.5], "must be integers"),
    ],
)
def test_bad_input_is_refused(values, blocks, message):
    with pytest.raises(ValueError, match=message):
        quantile_interval(values, np.asarray(blocks, dtype=int) if blocks == [] else blocks)


@pytest.mark.parametrize("arguments", [{"q": 1.1}, {"q": -0.1}, {"level": 1.0}, {"level": 0.0}, {"resamples": 0}])
def test_bad_settings_are_refused(arguments):
    with pytest.raises(ValueError):
        quantile_interval([1.0, 2.0], [0, 1], **arguments)


def test_rounds_that_hold_both_are_paired_and_the_others_named():
    pairs = PairedRounds.of([1.0, 2.0, 900.0], [0, 3, 2], [4.0, 5.0, -900.0], [3, 0, 9])
    assert pairs.rounds == 2 and pairs.ids.tolist() == [0, 3] and pairs.left_out == (2, 9)
    assert (pairs.a_values.tolist(), pairs.b_values.tolist()) == ([1.0, 2.0], [4.0, 5.0])
    with pytest.raises(ValueError, match="no round"):
        PairedRounds.of([1.0], [0], [1.0], [1])


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 12, 29, 100])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.975, 0.9995])
def test_student_t_quantile_is_that_of_scipy(p, degrees):
    stats = pytest.importorskip("scipy.stats")
    assert student_t_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-8, abs=1e-9)


def test_twenty_thousand_values_take_no_time():
    values, blocks = np.random.default_rng(9).random(20_000), np.arange(20_000) % 12
    start = time.process_time()
    quantile_interval(values, blocks, resamples=2000)
    assert time.process_time() - start < 5.0

"""Midmeans of op times, conditional on the total: robust, and exactly additive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qprof.stats.midmean import conditional_midmean, midmean_intervals, paired_midmean_intervals


def profiled(seed: int, rounds: int = 10, per_round: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three ops of 10, 20 and 30 us, 5 us of rest, shared round noise."""
    rng = np.random.default_rng(seed)
    count = rounds * per_round
    noise = np.exp(np.repeat(np.random.default_rng(99).normal(0, 0.1, rounds), per_round))[:, None]
    parts = np.array([10.0, 20.0, 30.0]) * noise * np.exp(rng.normal(0, 0.02, (count, 3)))
    return parts, parts.sum(axis=1) + 5.0, np.repeat(np.arange(rounds), per_round)


@settings(max_examples=100, deadline=None)
@given(
    parts=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 40), st.integers(0, 5)), elements=st.floats(0, 1e6, allow_subnormal=False)
    ),
    rest=st.floats(-10, 1e4),
    blocks=st.integers(1, 5),
)
def test_parts_and_rest_add_up_to_the_midmean_of_the_total(parts, rest, blocks):
    total = parts.sum(axis=1) + rest
    found = conditional_midmean(parts, total, np.arange(len(parts)) % blocks)
    tolerance = 1e-9 * max(1.0, float(np.abs(total).max()))
    assert found.means.sum() + found.rest == pytest.approx(found.total, abs=tolerance)
    assert found.total == pytest.approx(total[found.selected].mean(), abs=tolerance)
    np.testing.assert_allclose(found.means, parts[found.selected].mean(axis=0), atol=tolerance)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 101])
def test_total_of_one_block_is_the_trimmed_mean_of_scipy(count):
    stats = pytest.importorskip("scipy.stats")
    total = np.random.default_rng(count).lognormal(size=count)
    found = conditional_midmean(np.zeros((count, 0)), total, np.zeros(count, dtype=int))
    assert found.total == pytest.approx(stats.trim_mean(total, 0.25))


def test_the_total_alone_selects_and_over_all_blocks():
    parts = np.array([[1.0], [100.0], [2.0], [3.0], [50.0], [60.0], [70.0], [999.0]])
    total = np.array([9.0, 10.0, 11.0, 900.0, 20.0, 21.0, 22.0, 23.0])
    found = conditional_midmean(parts, total, np.array([4, 4, 4, 4, 2, 2, 2, 2]))
    assert found.selected.tolist() == [False, False, True, False, True, True, True, False]
    assert found.means.tolist() == [(2.0 + 50.0 + 60.0 + 70.0) / 4]
    assert found.rest == (11.0 + 20.0 + 21.0 + 22.0) / 4 - found.means[0]
    assert found.block_ids.tolist() == [2, 4]


def test_a_disturbed_block_does_not_move_it():
    parts, total, blocks = profiled(7)
    calm = conditional_midmean(parts, total, blocks)
    parts[blocks == 3] *= 4
    total[blocks == 3] *= 4
    disturbed = conditional_midmean(parts, total, blocks)
    np.testing.assert_allclose(disturbed.means, calm.means, rtol=0.05)
    np.testing.assert_allclose(disturbed.total, np.median(total), rtol=0.05)


def test_outliers_do_not_move_it():
    parts, total, blocks = profiled(0)
    calm = conditional_midmean(parts, total, blocks)
    parts[::10, 1] += 5000.0
    total[::10] += 5000.0
    disturbed = conditional_midmean(parts, total, blocks)
    # 10 % of outliers move the quartiles of a 10 % wide distribution by some percent; a mean would move 25-fold.
    np.testing.assert_allclose(disturbed.means, calm.means, rtol=0.03)


def test_intervals_hold_the_truth_and_resample_whole_blocks():
    found = conditional_midmean(*profiled(1))
    intervals = midmean_intervals(found, seed=1)
    assert [part.value for part in intervals.parts] == found.means.tolist()
    assert intervals.total.value == found.total and intervals.rest.value == found.rest
    for part in intervals.parts:
        assert part.low < part.value < part.high
        assert (part.high - part.low) / part.value > 0.05, "the 10 % between rounds shows"
    assert intervals.rest.low == pytest.approx(5.0) and intervals.rest.high == pytest.approx(5.0)


def test_replicates_are_the_means_of_the_resampled_blocks():
    parts, total, blocks = (array[:-5] for array in profiled(2, rounds=4, per_round=9))
    found = conditional_midmean(parts, total, blocks)
    weights = np.array([[1, 1, 1, 1], [0, 3, 0, 1]])
    drawn = np.concatenate([np.flatnonzero(blocks == b) for b in (1, 1, 1, 3)])
    copied = conditional_midmean(parts[drawn], total[drawn], np.zeros(len(drawn), int))
    np.testing.assert_allclose(found.replicates(weights, 2), [found.means[2], copied.means[2]])
    np.testing.assert_allclose(found.replicates(weights[1:], -1), [copied.rest])
    np.testing.assert_allclose(
        found.total_replicates(weights), sum(found.replicates(weights, part) for part in (0, 1, 2, -1))
    )


def test_paired_difference_cancels_what_the_rounds_share():
    parts, total, blocks = profiled(3)
    slower, slower_total, _ = profiled(4)
    slower[:, 2] *= 1.1
    slower_total = slower.sum(axis=1) + 5.0
    a, b = conditional_midmean(parts, total, blocks), conditional_midmean(slower, slower_total, blocks)
    found = paired_midmean_intervals(a, b)
    assert found.parts[2].low > 0 and found.parts[2].low < 3.0 < found.parts[2].high * 1.1
    assert abs(found.parts[0].value) < 0.05 < found.parts[0].high - found.parts[0].low
    assert found.total.value == b.total - a.total
    alone = midmean_intervals(b).parts[2]
    assert found.parts[2].high - found.parts[2].low < 0.5 * (alone.high - alone.low)


def test_one_block_gives_values_without_bounds():
    parts, total, _ = profiled(5)
    intervals = midmean_intervals(conditional_midmean(parts, total, np.zeros(len(total), dtype=int)))
    assert intervals.parts[0].low is None and intervals.parts[0].reason


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="3 rows"):
        conditional_midmean(np.zeros((2, 1)), np.ones(3), np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match="1 of 2 part values"):
        conditional_midmean(np.array([[np.nan], [1.0]]), np.ones(2), np.zeros(2, dtype=int))
    a = conditional_midmean(np.zeros((2, 1)), np.ones(2), np.array([0, 1]))
    with pytest.raises(ValueError, match="parts"):
        paired_midmean_intervals(a, conditional_midmean(np.zeros((2, 2)), np.ones(2), np.array([0, 1])))
    with pytest.raises(ValueError, match="same rounds"):
        paired_midmean_intervals(a, conditional_midmean(np.zeros((2, 1)), np.ones(2), np.array([0, 2])))

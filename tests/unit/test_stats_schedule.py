"""The order of the variants within the rounds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qprof.stats.schedule import interleaved


@given(variants=st.integers(1, 7), rounds=st.integers(0, 13), seed=st.integers(0, 2**32))
def test_every_round_runs_every_variant_once(variants, rounds, seed):
    orders = interleaved(variants, rounds, seed)
    assert len(orders) == rounds
    assert all(sorted(order) == list(range(variants)) for order in orders)


@given(variants=st.integers(2, 7), rounds=st.integers(1, 13), seed=st.integers(0, 2**32))
def test_precedence_is_balanced_to_one_round(variants, rounds, seed):
    before = np.zeros((variants, variants), dtype=int)
    after = np.zeros((variants, variants), dtype=int)
    for order in interleaved(variants, rounds, seed):
        for position, first in enumerate(order):
            before[first, order[position + 1 :]] += 1
        for first, then in pairwise(order):
            after[first, then] += 1
    allowed = rounds % 2
    assert np.abs(before - before.T).max() <= allowed
    assert np.abs(after - after.T).max() <= allowed


def test_a_linear_drift_cancels_over_a_pair_of_rounds():
    orders = interleaved(5, 6, seed=3)
    for first, second in zip(orders[::2], orders[1::2], strict=True):
        when = {variant: [] for variant in range(5)}
        for time, variant in enumerate(first + second):
            when[variant].append(time)
        assert {sum(times) for times in when.values()} == {9}


def test_seed_decides():
    assert interleaved(4, 9, seed=1) == interleaved(4, 9, seed=1)
    assert interleaved(4, 9, seed=1) != interleaved(4, 9, seed=2)
    starts = {order[0] for order in interleaved(4, 60, seed=1)}
    assert starts == {0, 1, 2, 3}


@pytest.mark.parametrize(("variants", "rounds"), [(0, 3), (2, -1)])
def test_bad_counts_are_refused(variants, rounds):
    with pytest.raises(ValueError):
        interleaved(variants, rounds, seed=0)

"""Batches of about one length."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qprof.tasks.lastword.batching import padded, plan


def test_rows_of_one_length_go_together_longest_first() -> None:
    assert plan({0: 5, 1: 9, 2: 5, 3: 9, 4: 7}, 100, 0) == [[1, 3], [4], [0, 2]]


def test_a_batch_holds_at_most_so_many_tokens_and_at_least_one_row() -> None:
    assert plan(dict.fromkeys(range(5), 10), 20) == [[0], [1, 2], [3, 4]]
    assert plan(dict.fromkeys(range(3), 10), 9) == [[0], [1], [2]]


def test_batches_of_a_length_are_even() -> None:
    assert [len(batch) for batch in plan(dict.fromkeys(range(45), 1), 40)] == [22, 23]


def test_rows_are_padded_where_that_costs_less_than_a_pass() -> None:
    lengths = {0: 50, 1: 47, 2: 40, 3: 20}
    assert plan(lengths, 4096, 2) == [[0], [1], [2], [3]]
    assert plan(lengths, 4096, 4) == [[0, 1], [2], [3]]
    assert plan(lengths, 4096, 12) == [[0, 1, 2], [3]]
    assert plan(lengths, 4096, 64) == [[0, 1, 2, 3]]


def test_padding_counts_as_tokens_of_a_batch() -> None:
    assert plan({0: 10, 1: 8}, 20, 64) == [[0, 1]]
    assert plan({0: 10, 1: 8}, 19, 64) == [[0], [1]]


def test_many_short_rows_are_not_padded_for_a_long_one() -> None:
    lengths = {0: 60, **dict.fromkeys(range(1, 9), 40)}
    assert plan(lengths, 4096, 64) == [[0], list(range(1, 9))]


def test_nothing_to_plan() -> None:
    assert plan({}, 10) == []


def cost(batches: list[list[int]], lengths: dict[int, int], pass_tokens: int) -> int:
    return sum(pass_tokens + len(batch) * max(lengths[sample] for sample in batch) for batch in batches)


@pytest.mark.parametrize("seed", range(5))
def test_every_sample_once_and_within_bounds(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = {int(sample): int(random.integers(1, 60)) for sample in random.permutation(500)[:200]}
    batches = plan(lengths, 64, 10)
    assert sorted(sample for batch in batches for sample in batch) == sorted(lengths)
    for batch in batches:
        found = [lengths[sample] for sample in batch]
        assert found == sorted(found, reverse=True)
        assert found[0] - found[-1] <= 10
        assert len(batch) * found[0] <= 64
    assert cost(batches, lengths, 10) <= cost(plan(lengths, 64, 0), lengths, 10)


@pytest.mark.parametrize("seed", range(20))
def test_no_other_way_to_cut_the_lengths_is_cheaper(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = {n: int(length) for n, length in enumerate(random.choice(np.arange(10, 40), 9, replace=False))}
    ordered = sorted(lengths, key=lambda sample: -lengths[sample])
    ways = []
    for size in range(len(ordered)):
        for cuts in itertools.combinations(range(1, len(ordered)), size):
            edges = [0, *cuts, len(ordered)]
            ways.append(cost([ordered[a:b] for a, b in itertools.pairwise(edges)], lengths, 12))
    assert cost(plan(lengths, 4096, 12), lengths, 12) == min(ways)


def test_padding_is_the_last_token_of_its_row() -> None:
    found = padded([[4, 5, 6], [7, 8]])
    assert found.dtype == np.int64
    assert found.tolist() == [[4, 5, 6], [7, 8, 8]]

"""Batches of one length."""

from __future__ import annotations

import numpy as np
import pytest

from qprof.tasks.lastword.batching import plan


def test_rows_of_one_length_go_together_longest_first() -> None:
    assert plan({0: 5, 1: 9, 2: 5, 3: 9, 4: 7}, 100) == [[1, 3], [4], [0, 2]]


def test_a_batch_holds_at_most_so_many_tokens_and_at_least_one_row() -> None:
    assert plan(dict.fromkeys(range(5), 10), 20) == [[0], [1, 2], [3, 4]]
    assert plan(dict.fromkeys(range(3), 10), 9) == [[0], [1], [2]]


def test_batches_of_a_length_are_even() -> None:
    assert [len(batch) for batch in plan(dict.fromkeys(range(45), 1), 40)] == [22, 23]


def test_nothing_to_plan() -> None:
    assert plan({}, 10) == []


@pytest.mark.parametrize("seed", range(5))
def test_every_sample_once_and_never_mixed(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = {int(sample): int(random.integers(1, 30)) for sample in random.permutation(500)[:200]}
    batches = plan(lengths, 64)
    assert sorted(sample for batch in batches for sample in batch) == sorted(lengths)
    for batch in batches:
        assert len({lengths[sample] for sample in batch}) == 1
        assert len(batch) * lengths[batch[0]] <= 64
        assert batch == sorted(batch)

"""Shares and means over predictions that are written down."""

from __future__ import annotations

import math
from typing import Any

import pytest

from qprof.tasks.lastword.predictions import Prediction
from qprof.tasks.lastword.scoring import scored


def prediction(**changes: Any) -> Prediction:
    right: dict[str, Any] = {
        "target": "dog",
        "tokens": 9,
        "target_tokens": 1,
        "greedy": True,
        "ranks": [0],
        "log_likelihood": -1.0,
        "first_rank": 0,
        "top5": [" dog", ".", " cat", "ish", ","],
        "top5_ids": [1, 2, 3, 4, 5],
        "top5_kinds": ["word", "punctuation", "word", "fragment", "punctuation"],
        "naive_hit1": True,
        "naive_hit5": True,
        "naive_possible": True,
        "miss": None,
    }
    return {**right, **changes}  # type: ignore[typeddict-item]


@pytest.mark.parametrize(("rank", "top1", "top5"), [(0, 1, 1), (1, 0, 1), (4, 0, 1), (5, 0, 0), (None, 0, 0)])
def test_ranks_count_from_zero(rank: int | None, top1: int, top5: int) -> None:
    scores = scored({3: prediction(first_rank=rank)}, "lambada_openai")
    assert (scores.summary["top1"], scores.summary["top5"]) == (top1, top5)
    assert scores.samples == [3]


def test_misses_are_shares_of_all_rows_and_kinds_of_all_strings() -> None:
    wrong = {"greedy": False, "first_rank": 7, "naive_hit1": False}
    rows = [
        prediction(),
        prediction(**wrong, miss="punctuation", top5_kinds=["punctuation"] * 5),
        prediction(**wrong, miss="fragment", top5_kinds=["fragment"] * 5),
        prediction(**wrong, miss="other", log_likelihood=None, top5_kinds=[]),
    ]
    summary = scored(dict(enumerate(rows)), "next-token").summary
    assert [summary[f"miss_{miss}"] for miss in ("punctuation", "fragment", "other")] == [0.25, 0.25, 0.25]
    assert summary["top5_punctuation"] == pytest.approx(7 / 15)
    assert summary["top5_fragment"] == pytest.approx(6 / 15)
    assert (summary["accuracy"], summary["naive_top1"], summary["naive_top5"]) == (0.25, 0.25, 1)
    assert (summary["not_finite"], summary["perplexity"]) == (0.25, None)


def test_perplexity_is_of_words_not_of_tokens() -> None:
    rows = {0: prediction(log_likelihood=-1.0), 1: prediction(log_likelihood=-4.0, target_tokens=3, ranks=[0, 1, 2])}
    assert scored(rows, "lambada_openai").summary["perplexity"] == pytest.approx(math.exp(2.5))


def test_the_last_token_is_judged_by_itself() -> None:
    """A word whose beginning is wrong and whose end is right, and one the other way round."""
    rows = {
        0: prediction(ranks=[9, 0], first_rank=9, greedy=False, target_tokens=2),
        1: prediction(ranks=[0, 4], greedy=False, target_tokens=2),
        2: prediction(ranks=[0, None], greedy=False, target_tokens=2, log_likelihood=None),
    }
    scores = scored(rows, "last-token")
    assert list(scores.columns)[:2] == ["last_token_top1", "last_token_top5"]
    assert (scores.summary["last_token_top1"], scores.summary["last_token_top5"]) == (1 / 3, 2 / 3)
    assert scores.summary["accuracy"] == 0 and scores.per_sample["not_finite"].tolist() == [0, 0, 1]

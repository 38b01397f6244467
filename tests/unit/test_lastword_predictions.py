"""From logits to predictions, on logits that were worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lastword_models import byte_tokenizer
from qprof.errors import DataError
from qprof.tasks.lastword.pieces import Pieces, words_of
from qprof.tasks.lastword.predictions import Prediction, predictions_of
from qprof.tasks.lastword.protocols import Encoded

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TOKENIZER = byte_tokenizer(["Ġmilk", "milk", "Ġrow", "Ġfu", "ll"])
VOCABULARY = len(TOKENIZER)
PIECES = Pieces(TOKENIZER, words_of(["the milk stood in a row, full and cold"]))


def ids(*tokens: str) -> list[int]:
    found: list[int] = TOKENIZER.convert_tokens_to_ids(list(tokens))
    return found


def logits(*rows: dict[str, float], dtype: Any = torch.float32) -> Any:
    """Per row logits that are -20 but for the tokens that are named."""
    table = torch.full((len(rows), VOCABULARY), -20.0)
    for n, row in enumerate(rows):
        for token, value in row.items():
            table[n, ids(token)[0]] = value
    return table.to(dtype)


def predict(table: Any, *rows: tuple[str, list[int]]) -> list[Prediction]:
    encoded = [Encoded([2, 3, *target], 2) for _, target in rows]
    return predictions_of(table, encoded, [word for word, _ in rows], PIECES)


def log_softmax(rows: Any, row: int, token: str) -> float:
    """In float64, by the definition."""
    values = rows[row].double().numpy()
    return float(values[ids(token)[0]] - math.log(np.exp(values).sum()))


def test_a_row_that_is_right() -> None:
    table = logits({"Ġmilk": 3, "Ġrow": 1, ".": 2, "ll": 0})
    (found,) = predict(table, ("milk", ids("Ġmilk")))
    assert found["log_likelihood"] == pytest.approx(log_softmax(table, 0, "Ġmilk"), abs=1e-6)
    assert found == {
        "target": "milk",
        "tokens": 2,
        "target_tokens": 1,
        "greedy": True,
        "ranks": [0],
        "log_likelihood": found["log_likelihood"],
        "first_rank": 0,
        "top5": [" milk", ".", " row", "ll", "<s>"],  # of all that lie at -20 the lowest id
        "top5_ids": [*ids("Ġmilk", ".", "Ġrow", "ll"), 0],
        "top5_kinds": ["word", "punctuation", "word", "fragment", "punctuation"],
        "naive_hit1": True,
        "naive_hit5": True,
        "naive_possible": True,
        "miss": None,
    }


def test_a_target_of_two_tokens_sums_both_and_needs_both() -> None:
    table = logits({"Ġfu": 2, "Ġrow": 1}, {"ll": 1, "Ġmilk": 2, ".": 3}, {"Ġfu": 2}, {"ll": 5, "Ġmilk": 2})
    half, whole = predict(table, ("full", ids("Ġfu", "ll")), ("full", ids("Ġfu", "ll")))
    assert (half["ranks"], half["greedy"], half["first_rank"]) == ([0, 2], False, 0)
    assert (whole["ranks"], whole["greedy"]) == ([0, 0], True)
    total = log_softmax(table, 0, "Ġfu") + log_softmax(table, 1, "ll")
    assert half["log_likelihood"] == pytest.approx(total, abs=1e-6)
    assert (half["target_tokens"], half["tokens"]) == (2, 3)
    assert half["miss"] is None  # the first token is right
    # right by one protocol, and beyond reach by the other
    assert (whole["naive_hit1"], whole["naive_hit5"], whole["naive_possible"]) == (False, False, False)


def test_the_naive_protocol_compares_strings() -> None:
    table = logits({"milk": 3, "Ġmilk": 2}, {"Ġrow": 3, "milk": 2}, {"Ġrow": 3})
    glued, later, never = predict(table, *[("milk", ids("Ġmilk"))] * 3)
    assert (glued["greedy"], glued["naive_hit1"], glued["first_rank"]) == (False, True, 1)
    assert (later["naive_hit1"], later["naive_hit5"]) == (False, True)
    assert (never["naive_hit1"], never["naive_hit5"]) == (False, False)


def test_what_stands_first_instead() -> None:
    table = logits({".": 3}, {"ll": 3}, {"Ġfu": 3}, {"Ġrow": 3}, {"<s>": 3})
    found = predict(table, *[("milk", ids("Ġmilk"))] * 5)
    assert [row["miss"] for row in found] == ["punctuation", "fragment", "fragment", "other", "punctuation"]


def test_white_space_around_the_word_does_not_count_for_the_naive_protocol() -> None:
    (found,) = predict(logits({"Ġmilk": 3}), ("milk\n", ids("Ġmilk")))
    assert found["naive_hit1"]
    assert found["target"] == "milk\n"


def test_equal_logits_count_by_id_in_ranks_and_in_the_first_five_alike() -> None:
    table = torch.zeros(1, VOCABULARY)
    for token in range(7):
        (found,) = predict(table, ("milk", [token]))
        assert (found["first_rank"], found["top5_ids"]) == (token, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_ranks_and_first_five_agree(dtype: str) -> None:
    generator = torch.Generator().manual_seed(5)
    table = torch.randn(300, VOCABULARY, generator=generator).mul(4).round().to(getattr(torch, dtype))  # ties abound
    targets = torch.randint(VOCABULARY, (300,), generator=generator).tolist()
    for row, (target, found) in enumerate(zip(targets, predict(table, *[("x", [t]) for t in targets]), strict=True)):
        order = sorted(range(VOCABULARY), key=lambda token: (-float(table[row, token]), token))
        assert found["top5_ids"] == order[:5]
        assert found["first_rank"] == order.index(target)
        expected = float(torch.log_softmax(table[row].double(), 0)[target])
        assert found["log_likelihood"] == pytest.approx(expected, abs=1e-5)


def test_a_vocabulary_of_fewer_than_five() -> None:
    tokenizer = byte_tokenizer([])
    (found,) = predictions_of(
        torch.tensor([[0.0, 1.0, 0.5]]), [Encoded([0, 1], 1)], ["x"], Pieces(tokenizer, frozenset())
    )
    assert found["top5_ids"] == [1, 2, 0]


def test_logits_that_are_no_numbers_leave_a_row_without_a_score() -> None:
    table = logits({"Ġmilk": 3}, {"Ġfu": 3}, {"ll": 3}, {"Ġmilk": 3}, {"Ġrow": 3})
    table[0, 7] = math.nan
    table[2, 7] = math.nan
    broken, half, sound, other = predict(
        table, ("milk", ids("Ġmilk")), ("full", ids("Ġfu", "ll")), ("milk", ids("Ġmilk")), ("milk", ids("Ġmilk"))
    )
    assert (broken["greedy"], broken["ranks"], broken["log_likelihood"]) == (False, [None], None)
    assert (broken["first_rank"], broken["top5"], broken["naive_hit5"], broken["miss"]) == (None, [], False, None)
    assert (half["greedy"], half["ranks"], half["log_likelihood"], half["first_rank"]) == (False, [0, None], None, 0)
    assert half["top5"][0] == " fu"
    assert sound["greedy"] and sound["log_likelihood"] == pytest.approx(log_softmax(table, 3, "Ġmilk"), abs=1e-6)
    assert other["miss"] == "other"


def test_nothing_but_broken_rows() -> None:
    (found,) = predict(torch.full((1, VOCABULARY), math.nan), ("milk", ids("Ġmilk")))
    assert found["ranks"] == [None]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_infinite_logits_have_ranks_but_no_likelihood(sign: float) -> None:
    table = logits({"Ġmilk": sign * math.inf, "Ġrow": 1})
    (found,) = predict(table, ("milk", ids("Ġmilk")))
    assert found["log_likelihood"] is None
    assert found["first_rank"] == (0 if sign > 0 else VOCABULARY - 1)


def test_logits_for_other_targets_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 target tokens, but logits of shape \[1, "):
        predict(logits({}), ("full", ids("Ġfu", "ll")))
    with pytest.raises(DataError, match="target"):  # out of the vocabulary: no NaN to blame
        predict(logits({}), ("x", [VOCABULARY]))

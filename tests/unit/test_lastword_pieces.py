"""What a token is to a reader."""

from __future__ import annotations

from typing import Any

import pytest

from lastword_models import BOS, byte_tokenizer
from qprof.tasks.lastword.pieces import FRAGMENT, PUNCTUATION, WORD, Pieces, words_of

pytest.importorskip("transformers")

TEXTS = ["He drank the milk, didn\u2019t he? A full row of personal things.", "It isn't a St. Bernard's dog: 7 of 9."]
#: As GPT-2 writes them: "\u0120" is a space, "\u010a" a new line.
TOKENS = [
    "Ġmilk",
    "Ġfull",
    "row",
    "ish",
    "Ġpo",
    "po",
    "Ġpersonal",
    'Ġ"',
    "Ġ(he",
    "Ġisn't",
    "'s",
    "Ġa",
    "Ġx",
    "Ġ7",
    "ĠMilk",
]
TOKENS += ["ĊĊ", "Ġdrank,", "Ġhe-he", "Ċthe"]


@pytest.fixture
def tokenizer() -> Any:
    return byte_tokenizer(TOKENS)


def test_words_of_a_data_set() -> None:
    assert words_of(TEXTS) >= {
        "he",
        "drank",
        "the",
        "milk",
        "didn\u2019t",
        "isn't",
        "st",
        "bernard's",
        "full",
        "a",
        "7",
    }
    assert not words_of(TEXTS) & {"s", "didn", ",", "bernard", "Milk", "He"}


def test_a_letter_is_a_word_where_it_is_common() -> None:
    many = ["so it goes on and on and on and on and on"] * 200  # 2,200 words
    assert "a" in words_of([*many, "a b", "a c", "a d"])
    assert not words_of([*many, "J. Doe"]) & {"j"}
    assert "it" in words_of(["it", *["on and on"] * 5000])


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("Ġmilk", WORD),
        ("ĠMilk", WORD),  # whatever its case
        ("Ġfull", WORD),
        ("row", FRAGMENT),  # a word, but glued to the one before
        ("ish", FRAGMENT),
        ("po", FRAGMENT),
        ("Ġpo", FRAGMENT),  # begins a word that no text has
        ("Ġpersonal", WORD),
        ("Ġ(he", WORD),  # marks at the ends do not count
        ("Ġdrank,", WORD),
        ("Ġhe-he", FRAGMENT),  # more than one word
        ("Ġisn't", WORD),
        ("'s", FRAGMENT),
        ("Ġa", WORD),
        ("Ġx", FRAGMENT),
        ("Ġ7", WORD),
        ("Ċthe", WORD),
        ('Ġ"', PUNCTUATION),
        ("ĊĊ", PUNCTUATION),
        (".", PUNCTUATION),
        ("Ġ", PUNCTUATION),
        ("_", PUNCTUATION),
        ("k", FRAGMENT),
        ("\u00c3", FRAGMENT),  # half a character: the byte C3
        ("<s>", PUNCTUATION),
    ],
)
def test_kinds(tokenizer: Any, token: str, kind: str) -> None:
    assert Pieces(tokenizer, words_of(TEXTS)).kind(tokenizer.convert_tokens_to_ids(token)) == kind


def test_surface_keeps_the_space_and_the_naive_word_does_not(tokenizer: Any) -> None:
    pieces = Pieces(tokenizer, frozenset())
    milk = tokenizer.convert_tokens_to_ids("Ġmilk")
    assert (pieces.surface(milk), pieces.naive_word(milk)) == (" milk", "milk")
    assert pieces.surface(BOS) == "<s>"


def test_a_decoder_that_strips_the_first_space() -> None:
    """Llama's decoders do: the surface still tells whether a token begins a word."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<unk>": 0, "\u2581": 1, "a": 2, "\u2581a": 3, "m": 4, "\u2581m": 5, "\u2581mi": 6, "i": 7}
    merges = [("\u2581", "a"), ("\u2581", "m"), ("\u2581m", "i")]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", left=1, right=0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    assert tokenizer.decode([6]) == "mi"
    pieces = Pieces(tokenizer, frozenset({"mi", "m"}))
    assert [pieces.surface(token) for token in (6, 7, 4)] == [" mi", "i", "m"]
    assert [pieces.kind(token) for token in (6, 4)] == [WORD, FRAGMENT]
    assert pieces.naive_word(6) == "mi"


def test_naive_words_are_all_that_one_token_can_say(tokenizer: Any) -> None:
    words = Pieces(tokenizer, frozenset()).naive_words
    assert words >= {"milk", "row", "po", "m"}
    assert not words & {"ilk", " milk", "rowish"}

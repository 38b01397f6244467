"""How a text becomes context and target: the steps of lm-evaluation-harness, written a second time."""

from __future__ import annotations

from typing import Any

import pytest

from lastword_models import BOS, EOS, byte_tokenizer
from qprof.errors import DataError
from qprof.tasks.lastword.protocols import Encoder

pytest.importorskip("transformers")

WORDS = ["Ġdog", "Ġthe", "the", "Ġbarks", "Ġa"]


def harness(tokenizer: Any, text: str, add_bos: bool | None) -> tuple[list[int], list[int]]:
    """Context and continuation of `lambada_openai` by lm_eval 0.4.13: the task's templates, `_encode_pair` of
    api/model.py and `tok_encode` of models/huggingface.py."""
    context = " ".join(text.split(" ")[:-1])
    continuation = " " + text.split(" ")[-1]

    def encode(string: str) -> list[int]:
        options = {} if add_bos is None else {"add_special_tokens": add_bos}
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if prefix is not None and string.startswith(tokenizer.decode(prefix)):
            options["add_special_tokens"] = False
        ids: list[int] = tokenizer.encode(string, **options)
        return ids

    spaces = len(context) - len(context.rstrip())
    if spaces > 0:
        continuation = context[-spaces:] + continuation
        context = context[:-spaces]
    whole, begin = encode(context + continuation), encode(context)
    return begin, whole[len(begin) :]


TEXTS = [
    "the dog barks",
    "the dog  barks",  # the space that ends the context belongs to the target
    "the dog \n\n barks",
    "the dog barks\n",
    "a \u00e9\u00e9n \u4f60\u597d",
    "<s>the dog barks",
    "</s>the dog barks",
    "the do g",
    'he said "dog',
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("has_bos", [False, True])
@pytest.mark.parametrize(("bos", "add_bos"), [("auto", None), ("none", False)])
def test_pairs_are_those_of_the_harness(text: str, has_bos: bool, bos: str, add_bos: bool | None) -> None:
    tokenizer = byte_tokenizer(WORDS, bos=has_bos)
    context, _, word = text.rpartition(" ")
    (found,) = Encoder(tokenizer, bos).pairs([(context, word)], None)
    begin, continuation = harness(tokenizer, text, add_bos)
    assert (found.tokens[: found.start], found.target) == (begin, continuation)


def test_what_the_tokens_are() -> None:
    tokenizer = byte_tokenizer(WORDS)
    pairs = [("the dog", "barks"), ("the dog ", "barks")]
    one, two = Encoder(tokenizer).pairs(pairs, None)
    assert tokenizer.convert_ids_to_tokens(one.tokens) == ["the", "Ġdog", "Ġbarks"]
    assert (one.start, one.input_tokens) == (2, 2)
    assert tokenizer.convert_ids_to_tokens(two.target) == ["Ġ", "Ġbarks"]


def test_the_knob_for_the_first_token() -> None:
    plain, own = byte_tokenizer(WORDS), byte_tokenizer(WORDS, bos=True)
    the = plain.convert_tokens_to_ids("the")
    assert [Encoder(plain, bos).encode(["the"])[0] for bos in ("auto", "add", "none")] == [[the], [BOS, the], [the]]
    assert [Encoder(own, bos).encode(["the"])[0] for bos in ("auto", "add", "none")] == [[BOS, the], [BOS, the], [the]]
    # never two of them
    assert Encoder(own, "add").encode(["<s>the", "the"]) == [[BOS, the], [BOS, the]]
    assert Encoder(own).prefix("the") == [BOS]
    assert Encoder(plain).prefix("the") == []
    assert Encoder(plain, "add").prefix("dog") == [BOS]


def test_a_tokenizer_without_special_tokens() -> None:
    tokenizer = byte_tokenizer(WORDS, special=False)
    assert tokenizer.bos_token_id is None
    assert Encoder(tokenizer).encode(["the"]) == Encoder(tokenizer, "none").encode(["the"])
    with pytest.raises(DataError, match='bos = "add", but the tokenizer has no beginning-of-sequence token'):
        Encoder(tokenizer, "add")


def test_the_end_stands_in_where_there_is_no_beginning() -> None:
    tokenizer = byte_tokenizer(WORDS, bos=True)
    tokenizer.bos_token = None
    assert Encoder(tokenizer).encode(["the"])[0][0] == BOS
    assert Encoder(tokenizer).encode(["</s>the"])[0][0] == EOS


def test_long_contexts_lose_their_beginning() -> None:
    tokenizer = byte_tokenizer(WORDS)
    whole = Encoder(tokenizer).pairs([("the" + " dog" * 9, "barks")], None)[0]
    (cut,) = Encoder(tokenizer).pairs([("the" + " dog" * 9, "barks")], 4)
    assert cut.input_tokens == 4  # one more with the last token, which is no input
    assert cut.tokens == whole.tokens[-5:]
    assert cut.target == whole.target
    (kept,) = Encoder(tokenizer).pairs([("the" + " dog" * 9, "barks")], 10)
    assert kept == whole


def test_targets_that_do_not_fit() -> None:
    tokenizer = byte_tokenizer(WORDS)
    with pytest.raises(DataError, match=r"line 7: last word 'abcdef' has 6 tokens, the model takes 5: remove the row"):
        Encoder(tokenizer).pairs([("the dog", "abcdef")], 5, ["line 7"])
    assert Encoder(tokenizer).pairs([("the dog", "abcdef")], 6)[0].start == 1


def test_a_target_that_melts_into_its_context() -> None:
    class Melting:
        bos_token_id = eos_token_id = None

        def __call__(self, texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
            return {"input_ids": [[7, 8] for _ in texts]}

    with pytest.raises(
        DataError, match=r"row 0: last word 'dog' gets no token of its own behind a context of 2 tokens"
    ):
        Encoder(Melting()).pairs([("the", "dog")], None)


def test_more_texts_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qprof.tasks.lastword.protocols.CHUNK", 2)
    tokenizer = byte_tokenizer(WORDS, bos=True)
    texts = ["the", "<s> dog", " barks", "the dog", "<s>"]
    assert Encoder(tokenizer).encode(texts) == [
        tokenizer.encode(text, add_special_tokens=not text.startswith("<s>")) for text in texts
    ]

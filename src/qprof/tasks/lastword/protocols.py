"""What is asked of a model about the last word of a text: the protocols, and how a text becomes tokens.

"lambada_openai" is that of lm-evaluation-harness: the text is split at its last space, context and context + target
are tokenized, the latter sliced at the context's length; a row is right where every target token is the argmax, and
perplexity is exp(-mean log-likelihood of the whole target). `Encoder` follows its `HFLM` (0.4.13) step by step.

"next-token" is that of older write-ups: the context is all words but the last, one forward pass gives one next token,
and its decoded string, stripped, is compared with the last word. A word of which the vocabulary holds no single token
can never be hit. A token that lacks the leading space hits, though it would be glued to the word before.

"last-token" is that of the oldest figures on LAMBADA: what is predicted is the last token of the text alone, from all
tokens before it. Of a word of several tokens that is only its end ("ery" of "bakery"), which is easier than the word;
where words are one token it is the first protocol's top-1.

All look at the same forward pass: the next token of the second is the first target token of the first, the last token
its last.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qprof.errors import DataError

LAMBADA_OPENAI = "lambada_openai"
NEXT_TOKEN = "next-token"
LAST_TOKEN = "last-token"
PROTOCOLS = (LAMBADA_OPENAI, NEXT_TOKEN, LAST_TOKEN)

#: "auto": as the tokenizer does by itself, unless the text begins with that token already (lm-evaluation-harness's
#: default); "add": one at the beginning of every sequence, however many the tokenizer puts there; "none": no special
#: token.
BOS = ("auto", "add", "none")

#: Texts that are tokenized in one call.
CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as tokens: context and target; `start` is the position of the first target token."""

    tokens: list[int]
    start: int

    @property
    def target(self) -> list[int]:
        return self.tokens[self.start :]

    @property
    def input_tokens(self) -> int:
        """Tokens that the model takes in: the last one predicts nothing that is asked for."""
        return len(self.tokens) - 1


class Encoder:
    """A tokenizer under one rule for the beginning-of-sequence token. Raises `DataError` for a rule it cannot keep."""

    def __init__(self, tokenizer: Any, bos: str = "auto") -> None:
        self._tokenizer = tokenizer
        self._bos = bos
        if bos == "add" and tokenizer.bos_token_id is None:
            raise DataError('bos = "add", but the tokenizer has no beginning-of-sequence token: set bos = "auto"')
        # HFLM's prefix token is the end of a sequence where there is no token for its beginning.
        prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self._prefix = tokenizer.decode(prefix) if prefix is not None else None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        if self._bos == "none":
            return self.bare(texts)
        # HFLM adds no special token to a text that begins with one.
        begun = [self._prefix is not None and text.startswith(self._prefix) for text in texts]
        found = iter(self._call([text for text, is_begun in zip(texts, begun, strict=True) if not is_begun], True))
        bare = iter(self._call([text for text, is_begun in zip(texts, begun, strict=True) if is_begun], False))
        ids = [next(bare) if is_begun else next(found) for is_begun in begun]
        if self._bos == "add":
            token = self._tokenizer.bos_token_id
            ids = [[token, *itertools.dropwhile(lambda one: one == token, row)] for row in ids]
        return ids

    def bare(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text without any special token."""
        return self._call(texts, False)

    def prefix(self, text: str) -> list[int]:
        """The special tokens that the rule puts before `text`."""
        (full,), (bare,) = self.encode([text]), self.bare([text])
        begins = (n for n in range(len(full) - len(bare) + 1) if full[n : n + len(bare)] == bare)
        return full[: next(begins, 0)]

    def pairs(
        self, pairs: Sequence[tuple[str, str]], max_tokens: int | None, where: Sequence[str] | None = None
    ) -> list[Encoded]:
        """(context, last word) as tokens, cut from the left so that the model takes in at most `max_tokens`.

        Raises `DataError` where a target has no token of its own or is longer than the model's positions; `where` says
        for each pair where it stands.
        """
        contexts = [context.rstrip() for context, _ in pairs]  # trailing white space belongs to the target
        wholes = self.encode([f"{context} {word}" for context, word in pairs])
        names = where or [f"row {n}" for n in range(len(pairs))]
        return [
            _sliced(whole, len(begin), max_tokens, f"{name}: last word {word[:40]!r}")
            for whole, begin, (_, word), name in zip(wholes, self.encode(contexts), pairs, names, strict=True)
        ]

    def _call(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        ids: list[list[int]] = []
        for begin in range(0, len(texts), CHUNK):
            found = self._tokenizer(
                list(texts[begin : begin + CHUNK]),
                add_special_tokens=special,
                return_attention_mask=False,
                verbose=False,  # texts that are too long are cut here
            )
            ids += found["input_ids"]
        return ids


def _sliced(whole: list[int], start: int, max_tokens: int | None, what: str) -> Encoded:
    count = len(whole) - start
    if start < 1 or count < 1:
        raise DataError(
            f"{what} gets no token of its own behind a context of {start} tokens: remove the row, or set bos to "
            '"add" if it is the context that has none'
        )
    if max_tokens is not None and count > max_tokens:
        raise DataError(f"{what} has {count} tokens, the model takes {max_tokens}: remove the row from the data")
    cut = 0 if max_tokens is None else max(0, len(whole) - max_tokens - 1)
    return Encoded(whole[cut:], start - cut)

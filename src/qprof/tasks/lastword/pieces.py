"""What a single token is to a reader: punctuation, a fragment of a word, or a word of the data set.

A context ends right before a space. So a piece that begins with white space begins a word there, and any other with a
letter or digit continues the word before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any

PUNCTUATION = "punctuation"
FRAGMENT = "fragment"
WORD = "word"

#: Letters and digits, held together by apostrophes: "don't" is one word.
WORD_PATTERN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")

#: What a decoder writes for bytes that are no character by themselves.
BROKEN = "\N{REPLACEMENT CHARACTER}"


#: A single letter is a word ("a", "I") where it is at least this share of all words; elsewhere it is an initial or a
#: part of an abbreviation.
LETTER_SHARE = 1e-3


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """Every word in the texts, case folded."""
    counts = Counter(word.casefold() for text in texts for word in WORD_PATTERN.findall(text))
    least = LETTER_SHARE * counts.total()
    return frozenset(word for word, count in counts.items() if len(word) > 1 or count >= least)


class Pieces:
    """The tokens of a tokenizer, against the words of a data set (see `words_of`)."""

    def __init__(self, tokenizer: Any, words: frozenset[str]) -> None:
        self._tokenizer = tokenizer
        self._words = words
        self._special = frozenset(tokenizer.all_special_ids)
        self._surfaces: dict[int, str] = {}
        self._kinds: dict[int, str] = {}
        self._naive: dict[int, str] = {}
        # A decoder may strip the space of a first token, so a token is decoded behind another.
        self._anchor = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        self._base = self._decoded(self._anchor)

    def surface(self, token: int) -> str:
        """The text that the token adds behind others, leading space and all."""
        if token not in self._surfaces:
            both = self._decoded([*self._anchor, token])
            whole = both.startswith(self._base)
            self._surfaces[token] = both[len(self._base) :] if whole else self._decoded([token])
        return self._surfaces[token]

    def naive_word(self, token: int) -> str:
        """The token decoded by itself and stripped, as the next-token protocol compares it."""
        if token not in self._naive:
            self._naive[token] = self._decoded([token]).strip()
        return self._naive[token]

    @cached_property
    def naive_words(self) -> frozenset[str]:
        """All that the next-token protocol can answer: the decoded, stripped string of every token."""
        return frozenset(map(self.naive_word, self._tokenizer.get_vocab().values()))

    def kind(self, token: int) -> str:
        """One of three, of the text that the token adds:

        - punctuation: there is no letter and no digit in it, or the token is a special one;
        - word: it begins with white space, and what follows, less marks at its ends, is a word of the data set;
        - fragment: anything else. It continues the word before ("ish"), it begins one and stops within (" obv"), or it
          is a byte of a character. A piece that happens to be a word of the data set counts as that word.
        """
        if token not in self._kinds:
            self._kinds[token] = self._kind(token)
        return self._kinds[token]

    def _kind(self, token: int) -> str:
        text = self.surface(token)
        if token in self._special:
            return PUNCTUATION
        if BROKEN in text:
            return FRAGMENT
        found = WORD_PATTERN.findall(text)
        if not found:
            return PUNCTUATION
        begins = text[:1].isspace()
        return WORD if begins and len(found) == 1 and found[0].casefold() in self._words else FRAGMENT

    def _decoded(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        return text

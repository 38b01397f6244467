"""A text cut into windows that a model can take, every token of it predicted once.

As `get_rolling_token_windows` and `make_disjoint_window` of lm-evaluation-harness (0.4.13) cut with a context of one
token: the first window begins with a token that stands before any text; each other begins with the last token of the
one before. The last window, where it is shorter, is filled up on the left with text that was predicted before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """`tokens`: what stands before, then what is predicted, from `start` on; `document`: of which text it is."""

    document: int
    tokens: list[int]
    start: int

    @property
    def predicted(self) -> int:
        return len(self.tokens) - self.start


def windows_of(document: int, tokens: Sequence[int], prefix: int, max_length: int) -> Iterator[Window]:
    """The windows of a text's tokens; a model takes in at most `max_length` of each. `prefix`: the token that stands
    before the text."""
    first = min(max_length, len(tokens))
    if first:
        yield Window(document, [prefix, *tokens[:first]], 1)
    done = first
    while done < len(tokens):
        count = min(len(tokens) - done, max_length)
        end = done + count
        begin = end - max_length - 1
        yield Window(document, list(tokens[begin:end]), max_length + 1 - count)
        done = end

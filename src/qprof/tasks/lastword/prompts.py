"""Prompts of an exact number of tokens, made of consecutive text of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.tasks.lastword.protocols import Encoder

#: Between two texts of a prompt.
SEPARATOR = "\n\n"


def prompt(texts: Sequence[str], first: int, length: int, encoder: Encoder) -> list[int]:
    """`length` tokens of the texts from number `first` on, going round at the end but not over the beginning again.

    Raises `DataError` where all texts together are too short.
    """
    ids = encoder.prefix(texts[first])
    for step in range(len(texts)):
        ids += encoder.bare([texts[(first + step) % len(texts)] + SEPARATOR])[0]
        if len(ids) >= length:
            return ids[:length]
    raise DataError(
        f"prompts of {length} tokens need that much text, {len(texts)} rows have {len(ids)} tokens: lower "
        "prompt_tokens, or give more rows"
    )


def prompts(
    texts: Sequence[str], sample: int, samples: int, shape: tuple[int, int], encoder: Encoder
) -> NDArray[np.int64]:
    """The prompts of one of `samples` timed samples, int64 of `shape` [batch, length].

    Each begins with a text; the beginnings of all prompts are spread evenly over the texts.
    """
    batch, length = shape
    firsts = [(sample * batch + n) * len(texts) // (samples * batch) for n in range(batch)]
    return np.array([prompt(texts, first, length, encoder) for first in firsts], np.int64)

"""Batches of rows of about one length.

A forward pass costs something whatever it takes in: kernels are started, and all weights are read. So a few tokens of
padding are worth a pass that they save. They stand behind a row, where a causal model lets nothing before them see
them; and they are the row's own last token once more, which is in no way unlike the text (a kernel that looks for
outliers in a whole batch finds none in them that the row does not have).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

#: Tokens of a batch unless told otherwise. On a CPU anything from 512 on is as fast (measured: see the docstring of
#: tests/benchmarks/lambada.py).
BATCH_TOKENS = 4096

#: So many tokens cost what a pass costs beside its tokens: as much padding is worth a pass less. Less would be right
#: for a large model, and more for a tiny one; from 16 to 64 it hardly matters (measured: tests/benchmarks/README.md).
PASS_TOKENS = 32


def plan(
    lengths: Mapping[int, int], batch_tokens: int = BATCH_TOKENS, pass_tokens: int = PASS_TOKENS
) -> list[list[int]]:
    """Samples in batches, the longest first, so that what does not fit into memory fails early.

    `lengths`: sample -> tokens. A batch has at most `batch_tokens` tokens with its padding, and at least one row; no
    row is padded with more than `pass_tokens`. Of all ways to cut the lengths, it is the cheapest, where a pass costs
    its tokens, padding among them, and `pass_tokens`. Batches of the same lengths are as even as can be.
    """
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for sample in sorted(lengths):
        by_length[lengths[sample]].append(sample)
    ordered = sorted(by_length, reverse=True)
    batches = []
    for begin, end in _cheapest([(length, len(by_length[length])) for length in ordered], batch_tokens, pass_tokens):
        samples = [sample for length in ordered[begin:end] for sample in by_length[length]]
        count = _passes(len(samples), ordered[begin], batch_tokens)
        edges = [n * len(samples) // count for n in range(count + 1)]
        batches += [samples[first:last] for first, last in itertools.pairwise(edges)]
    return batches


def padded(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """int64[rows, longest]: behind the end of a shorter one stands its last token."""
    longest = max(map(len, rows))
    return np.array([[*row, *[row[-1]] * (longest - len(row))] for row in rows], np.int64)


def _passes(rows: int, longest: int, batch_tokens: int) -> int:
    return -(-rows // max(1, batch_tokens // longest))


def _cheapest(sizes: Sequence[tuple[int, int]], batch_tokens: int, pass_tokens: int) -> list[tuple[int, int]]:
    """How to cut (length, rows), in descending order of length, into neighbours that share passes."""
    costs, begins = [0], [0]
    for end in range(1, len(sizes) + 1):
        found, rows, shortest = [], 0, sizes[end - 1][0]
        for begin in range(end - 1, -1, -1):
            longest, count = sizes[begin]
            if longest - shortest > pass_tokens:  # a pass of its own costs the shortest row less, whatever is before
                break
            rows += count
            cost = rows * longest + pass_tokens * _passes(rows, longest, batch_tokens)
            found.append((costs[begin] + cost, begin))
        cost, begin = min(found)
        costs.append(cost)
        begins.append(begin)
    cuts, end = [], len(sizes)
    while end:
        cuts.append((begins[end], end))
        end = begins[end]
    return cuts[::-1]

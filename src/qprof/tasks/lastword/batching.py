"""Batches of rows of one length: no padding, so no token is computed that is not asked for."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping

#: Tokens of a batch unless told otherwise. On a CPU anything from 512 on is as fast (measured: see the docstring of
#: tests/benchmarks/lambada.py).
BATCH_TOKENS = 4096


def plan(lengths: Mapping[int, int], batch_tokens: int = BATCH_TOKENS) -> list[list[int]]:
    """Samples in batches, of which every one holds samples of one length, in ascending order.

    `lengths`: sample -> tokens. A batch has at most `batch_tokens` tokens, and at least one row. Batches of a length
    are as even as can be. The longest come first, so that what does not fit into memory fails early.
    """
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for sample in sorted(lengths):
        by_length[lengths[sample]].append(sample)
    batches = []
    for length in sorted(by_length, reverse=True):
        samples = by_length[length]
        count = -(-len(samples) // max(1, batch_tokens // length))
        edges = [n * len(samples) // count for n in range(count + 1)]
        batches += [samples[begin:end] for begin, end in itertools.pairwise(edges)]
    return batches

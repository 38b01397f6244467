"""The order in which the variants take their turns: random, and balanced against drift."""

from __future__ import annotations

import numpy as np


def interleaved(variants: int, rounds: int, seed: int) -> list[list[int]]:
    """One order of the variants 0 .. variants-1 per round: `rounds` permutations, the same for the same seed.

    Rounds come in pairs: a random permutation, then its reversal (ABBA for two variants). Within a pair every variant
    precedes every other exactly once, "i directly after j" occurs as often as "j directly after i", and the mean
    position of all variants is the same, so that a linear drift of the machine over the pair cancels from every
    difference (the counterbalancing of cross-over designs: Cochran & Cox, "Experimental Designs", 2nd ed., 1957,
    chapter 4). An odd last round is a random permutation by itself. Raises `ValueError` for negative counts or
    no variant.
    """
    if variants < 1 or rounds < 0:
        raise ValueError(f"need at least one variant and no negative number of rounds, got {variants} and {rounds}")
    rng = np.random.default_rng(seed)
    orders: list[list[int]] = []
    while len(orders) < rounds:
        order = rng.permutation(variants).tolist()
        orders += [order, order[::-1]]
    return orders[:rounds]

"""Channels first or last: the same numbers, as models of different runtimes take them."""

from __future__ import annotations

from collections.abc import Sequence

#: Ranks of tensors with a batch, channels, and one to three axes of space.
_RANKS = (3, 4, 5)


def transposition(given: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...] | None:
    """The axes with which numbers of shape `given` become those of shape `wanted`, which keeps the channels at the
    other end; `None` where the two are no such twins, or equal, so that nothing has to move.

    Of rank 3 either axis may be the batch, or there is none: [H, W, C] and [C, H, W], or [N, T, C] and [N, C, T].
    """
    rank = len(given)
    if rank not in _RANKS or len(wanted) != rank or tuple(given) == tuple(wanted):
        return None
    last = (0, rank - 1, *range(1, rank - 1))  # channels last -> first
    first = (0, *range(2, rank), 1)
    without_batch = [(2, 0, 1), (1, 2, 0)] if rank == 3 else []
    for axes in (last, first, *without_batch):
        if [given[axis] for axis in axes] == list(wanted):
            return axes
    return None

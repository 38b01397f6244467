"""What is found of a run once, for all who ask: tables above and below it, causes, advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from qprof.store.run import Run

Found = TypeVar("Found")


def once_per_run(find: Callable[[Run], Sequence[Found]]) -> Callable[[Run], Sequence[Found]]:
    """Keep what `find` gives for as long as the run is held."""
    known: WeakKeyDictionary[Run, Sequence[Found]] = WeakKeyDictionary()

    @wraps(find)
    def kept(run: Run) -> Sequence[Found]:
        if run not in known:
            known[run] = find(run)
        return known[run]

    return kept

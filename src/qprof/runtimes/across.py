"""Two variants of different runtimes: nothing that is changed about one of them shows what it owes to its runtime."""

from __future__ import annotations

from typing import Any

from qprof.runtimes.interventions import Impossible, Interventions

_WHY = (
    "the two are run by different runtimes, and no change to one of them tells what it owes to its runtime from what "
    "it owes to its graph; compare variants of one runtime"
)


class _AcrossRuntimes(Interventions):
    """Every change is impossible, for one reason."""

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if name.startswith("_") or name in ("deselected", "by_side", "beside"):
            return found
        if name == "not_made_anew":
            return lambda entry: _WHY
        return (lambda *given, **named: Impossible(_WHY)) if callable(found) else found


ACROSS_RUNTIMES: Interventions = _AcrossRuntimes()

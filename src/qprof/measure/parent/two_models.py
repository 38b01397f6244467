"""Whether two variants can be held in memory at once, to be compared."""

from __future__ import annotations

from collections.abc import Sequence

from qprof.errors import ModelError
from qprof.probes.machine import available_memory_bytes
from qprof.record.manifest import VariantEntry

#: Two variants are held at once, with the activations of both: their files may take this part of the free memory.
_MOST_MEMORY = 0.3


def require_memory(baseline: VariantEntry, entry: VariantEntry, setting: str) -> None:
    """Raise `ModelError` where both are too large. `setting`: the key that leaves the comparison out, at 0."""
    needed, free = (baseline.bytes or 0) + (entry.bytes or 0), available_memory_bytes()
    if free is not None and needed > _MOST_MEMORY * free:
        raise ModelError(
            f"both files have {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free, too little to hold "
            f"both with their activations; {setting} = 0 leaves the comparison out"
        )


def fit_together(baseline: VariantEntry, entries: Sequence[VariantEntry]) -> bool:
    """Whether there is memory to compare two variants with the baseline at the same time."""
    sizes, free = sorted(entry.bytes or 0 for entry in entries), available_memory_bytes()
    return free is None or 2 * (baseline.bytes or 0) + sum(sizes[-2:]) <= _MOST_MEMORY * free

"""By how much two workers' peak memories may differ where nothing differs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qprof.findings.margins import MEMORY_MARGIN
from qprof.record.manifest import VariantEntry
from qprof.stats.intervals import student_t_quantile
from qprof.store.run import Run

_LEVEL = 0.95
#: Fewer degrees of freedom than this tell no scatter: t would be 12 for one.
_LEAST_DEGREES = 2
#: The largest page of any machine that this is run on (64 KiB, arm64).
_LARGEST_PAGE = 65536


@dataclass(frozen=True, slots=True)
class MemoryTolerance:
    """`n_bytes`: the tolerance, `None` where the run does not tell it and `MEMORY_MARGIN` holds; `basis`: in words."""

    n_bytes: float | None
    basis: str

    def of(self, peak_bytes: float) -> float:
        """In bytes, for a peak."""
        return MEMORY_MARGIN * peak_bytes if self.n_bytes is None else self.n_bytes


def memory_tolerance(run: Run) -> MemoryTolerance:
    """Two pages, since each peak is counted in whole ones, and the scatter from worker to worker.

    Every worker reads its resident memory once before it loads its model, with the runtime imported and nothing else
    there: the same state, once per process, and the very reading that its peak is counted from. How these readings
    scatter (layout, allocator, pages shared with others) is how far two peaks are apart by themselves; t times the
    standard error of a difference bounds it at 95 %. The readings after each block tell nothing of it: they grow with
    what is recorded.
    """
    bare: dict[str, list[int]] = {}
    for entry in run.variants:
        if not entry.failed and entry.memory.runtime_rss_bytes is not None:
            bare.setdefault(str(entry.runtime), []).append(entry.memory.runtime_rss_bytes)
    degrees = sum(len(readings) - 1 for readings in bare.values())
    page = _page_bytes(run.variants)
    if degrees < _LEAST_DEGREES or page is None:
        return MemoryTolerance(None, f"{MEMORY_MARGIN:.0%} of it: too few workers to tell how much it scatters")
    squares = math.fsum((x - math.fsum(own) / len(own)) ** 2 for own in bare.values() for x in own)
    error = math.sqrt(2.0 * squares / degrees)
    tolerance = 2.0 * page + student_t_quantile((1.0 + _LEVEL) / 2.0, degrees) * error
    workers = degrees + len(bare)
    return MemoryTolerance(
        tolerance,
        f"{tolerance / 1e3:.0f} kB: two pages, and the scatter of the bare runtime over {workers} workers",
    )


def _page_bytes(entries: Iterable[VariantEntry]) -> int | None:
    """The largest page that all readings are whole multiples of; the run may be from another machine."""
    readings = [
        value
        for entry in entries
        for value in (entry.memory.runtime_rss_bytes, entry.memory.rss_above_runtime_bytes)
        if value
    ]
    return min(math.gcd(*readings), _LARGEST_PAGE) if readings else None

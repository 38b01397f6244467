"""By how much a process grows while something is done in it, what is done in between left out."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from qprof.probes.memory import MemoryReading, PeakReset, read_memory, reset_peak
from qprof.record.manifest import Memory


class MemoryGrowth:
    """Adds up the growth of this process over windows."""

    def __init__(self) -> None:
        self._windows: list[tuple[MemoryReading, MemoryReading]] = []
        self._reset = PeakReset(True)

    @contextmanager
    def window(self) -> Iterator[None]:
        """What is done inside counts. Memory that was freed before is handed back first: filled again, it would be
        growth that no reading shows."""
        gc.collect()
        _hand_back()
        self._reset = reset_peak()
        before = read_memory()
        yield
        self._windows.append((before, read_memory()))

    def memory(self, counted: Mapping[str, int]) -> Memory:
        """Bytes above the first window's beginning: resident, proportional, and at the peak; and what the runtime
        itself `counted`."""
        first = self._windows[0][0]
        reasons: dict[str, str] = {}
        peaks: list[int | None] = []
        for before, after in self._windows:
            reasons |= {**before.missing, **after.missing}
            peaks.append(_grown(after.peak_rss_bytes, before.rss_bytes))
        rss = [_grown(after.rss_bytes, before.rss_bytes) for before, after in self._windows]
        pss = [_grown(after.pss_bytes, before.pss_bytes) for before, after in self._windows]
        if not self._reset:
            reasons["peak_rss_bytes"] = f"the peak counter cannot be reset: {self._reset.reason}"
        # The peak of a window stands on what the windows before it left.
        above = [_total([*rss[:number], peak]) for number, peak in enumerate(peaks)]
        known = [one for one in above if one is not None]
        return Memory(
            rss_above_runtime_bytes=_total(rss),
            pss_above_runtime_bytes=_total(pss),
            peak_rss_above_runtime_bytes=max(known) if self._reset and len(known) == len(above) else None,
            runtime_rss_bytes=first.rss_bytes,
            footprint_bytes=counted.get("footprint"),
            device_peak_bytes=counted.get("device_peak"),
            missing=reasons,
        )


def _grown(late: int | None, early: int | None) -> int | None:
    return None if late is None or early is None else late - early


def _total(sizes: list[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def let_go() -> None:
    """Give the system what this process has no use for any more, of what was there when a variant was loaded, too."""
    gc.unfreeze()
    gc.collect()
    _hand_back()


def _hand_back() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries hand back by themselves
    if trim is not None:
        trim(0)

"""What a process grows by, window by window."""

from __future__ import annotations

import mmap

import numpy as np

from qprof.measure.worker.memory_growth import MemoryGrowth

MB = 1 << 20


def touched(size: int) -> mmap.mmap:
    """Memory of its own, every page written."""
    block = mmap.mmap(-1, size)
    np.frombuffer(block, np.uint8)[::4096] = 1
    return block


def test_windows_add_up_and_what_lies_between_does_not() -> None:
    growth = MemoryGrowth()
    with growth.window():
        first = touched(20 * MB)
    between = touched(40 * MB)
    with growth.window():
        second = touched(10 * MB)
        touched(30 * MB).close()
    found = growth.memory({"footprint": 7})
    assert found.rss_above_runtime_bytes is not None and abs(found.rss_above_runtime_bytes - 30 * MB) < 3 * MB
    if found.peak_rss_above_runtime_bytes is not None:  # else the reason stands in `missing`
        assert abs(found.peak_rss_above_runtime_bytes - 60 * MB) < 3 * MB
    else:
        assert "peak_rss_bytes" in found.missing
    assert found.footprint_bytes == 7
    for block in (first, between, second):
        del block

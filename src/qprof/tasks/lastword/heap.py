"""Memory kept between the passes of a model.

glibc gives a large block back to the system as soon as it is freed, and the end of its heap too; the next pass asks for
as much again, page by page. A model that makes large arrays in between (Mamba: one of 16 MB for each step of its scan)
spends up to a quarter of its processor time on that, more or less by chance: what is given back depends on what was
freed before.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator

# malloc.h
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4

#: Where glibc's own thresholds end up in a process that has freed large blocks (malloc.c: DEFAULT_MMAP_THRESHOLD_MAX,
#: and twice that), which is what one that runs models does, and its number of mapped blocks. Once a threshold was set,
#: glibc changes none by itself.
_SETTLED_MMAP, _SETTLED_TRIM, _MOST_MAPPED = 32 << 20, 64 << 20, 65536
_NEVER = -1

_lock = threading.Lock()
_holders = 0


@contextlib.contextmanager
def kept_heap() -> Iterator[None]:
    """While inside, freed memory stays with the process; then it goes back. Nothing on C libraries but glibc."""
    global _holders
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    with _lock:
        _holders += 1
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if not _holders:
                libc.mallopt(_MMAP_MAX, _MOST_MAPPED)
                libc.mallopt(_MMAP_THRESHOLD, _SETTLED_MMAP)
                libc.mallopt(_TRIM_THRESHOLD, _SETTLED_TRIM)
                libc.malloc_trim(0)

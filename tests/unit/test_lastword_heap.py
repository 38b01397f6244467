"""Memory that scoring keeps between its passes, and gives back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from qprof.tasks.lastword import heap
from qprof.tasks.lastword.task import LastWordTask
from qprof.tasks.perplexity.task import PerplexityTask

#: In a process of its own: how many pages are touched for the first time by blocks that are freed and asked for again,
#: and how many bytes are resident in the end.
SCRIPT = """
import contextlib, ctypes, json, resource, sys
from qprof.tasks.lastword.heap import kept_heap
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
SIZE = 48 << 20

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        block = libc.malloc(SIZE)
        ctypes.memset(block, 1, SIZE)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

begin, plain = resident(), faults()
with kept_heap():
    with kept_heap():
        faults()
    nested, held = faults(), resident() - begin
print(json.dumps({"plain": plain, "kept": nested, "held": held, "left": resident() - begin, "after": faults()}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_freed_stays_until_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    pages = (48 << 20) // 4096
    if found["plain"] < 9 * pages // 512:  # huge pages, or another allocator
        pytest.skip("this C library keeps large blocks by itself")
    assert found["kept"] < found["plain"] / 5
    assert found["held"] > 40 << 20 and found["left"] < 10 << 20
    assert found["after"] > found["kept"] * 2  # as before


@pytest.mark.parametrize("kind", [LastWordTask, PerplexityTask])
def test_scoring_keeps_it(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        pass

    seen: list[int] = []

    def bind(self: Any, model: Any) -> None:
        seen.append(heap._holders)
        raise Stopped

    monkeypatch.setattr(kind, "bind", bind)
    with pytest.raises(Stopped):
        kind.predict(object.__new__(kind), None, [0])
    assert (seen, heap._holders) == ([1], 0)

"""A neighbour: a process that keeps one core busy for a share of the time, until it is ended.

python neighbour.py CORE SHARE
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Length of one turn of work and rest: longer than a slice of the scheduler, shorter than a block.
PERIOD_S = 0.04


def work(core: int, share: float) -> None:
    os.sched_setaffinity(0, {core})
    parent = os.getppid()
    while os.getppid() == parent:  # it ends with the suite, whatever ends that
        start = time.monotonic()
        while time.monotonic() - start < PERIOD_S * share:
            sum(range(500))
        time.sleep(max(0.0, PERIOD_S * (1 - share)))


@contextmanager
def busy(core: int, share: float) -> Iterator[None]:
    """A neighbour on `core` while the block runs."""
    process = subprocess.Popen([sys.executable, str(Path(__file__)), str(core), str(share)])
    try:
        time.sleep(0.3)
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    work(int(sys.argv[1]), float(sys.argv[2]))

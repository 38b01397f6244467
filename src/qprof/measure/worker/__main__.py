"""A worker process: `python -m qprof.measure.worker DESCRIPTOR PARENT`, the latter the id of who started it."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys

from qprof.measure.channel import Channel
from qprof.measure.worker.server import serve


def _die_with_parent(parent: int) -> None:
    """A worker that hangs in native code never notices that its parent is gone: let the kernel end it (prctl(2)).

    Of a parent that has died meanwhile the kernel tells nothing any more, and what it asked for is in the channel: a
    worker that went on to do it would make a variant, or measure, for nobody.
    """
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
    if ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0) != 0:
        print(f"prctl: {os.strerror(ctypes.get_errno())}; a hung worker may outlive its parent", file=sys.stderr)
    if os.getppid() != parent:
        sys.exit("the process that started this worker is gone")


#: Objects that are made before the youngest of them are looked through for rings. Importing torch and what belongs to
#: it took 4.7 s with Python 3.11's own 700, and 3.9 s with these; blocks are measured with no collection in them.
_COLLECT_AFTER = 10_000


if __name__ == "__main__":
    _die_with_parent(int(sys.argv[2]))
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    serve(Channel(int(sys.argv[1])))

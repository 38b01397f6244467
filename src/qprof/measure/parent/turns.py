"""One at a time: of several runs of one user on a machine, only one measures at any moment."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path

from qprof.measure.progress import ProgressDisplay
from qprof.store.cache import cache_root


class Turns:
    """A lock that runs with the same cache folder share; where it is held, a block waits for its turn.

    The system lets go of it when its holder dies, however it dies. Where the file system has no such locks, runs do not
    wait for each other, and that is said once.
    """

    def __init__(self, progress: ProgressDisplay, wanted: bool = True) -> None:
        self._progress = progress
        self._wanted = wanted
        self._told = False

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Nothing else of this user measures while the body runs."""
        if not self._wanted:
            yield
            return
        with contextlib.ExitStack() as stack:
            try:
                path = lock_path()
                path.parent.mkdir(parents=True, exist_ok=True)
                stream = stack.enter_context(open(path, "ab"))
                self._acquire(stream.fileno())
            except OSError as error:
                self._wanted = False
                self._progress.note(f"other runs are not waited for: {error.strerror or error}")
            yield

    def _acquire(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        if not self._told:
            self._told = True
            self._progress.note("another run of qprof measures on this machine: waiting for its turn, block by block")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def lock_path() -> Path:
    """The lock's file: of this machine, should several share a home."""
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    return cache_root() / f"measuring-{machine}.lock"

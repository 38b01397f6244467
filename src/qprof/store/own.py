"""What a process makes for the time being, told from what one left that was killed.

The maker holds a lock on it, of which the system lets go when the maker dies, however it dies. What has the name of
such a thing and no lock on it is left over, and another process may remove it. Where a file system has no such locks
nothing can be told, and nothing is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
import weakref
from pathlib import Path
from types import TracebackType

#: How the folders for the time being begin that lie in the system's folder for temporary files.
SCRATCH = "qprof-scratch-"


class OwnFolder:
    """A new folder in `parent`, for its owner alone, with all that is put into it removed when the block is left, or
    when nothing refers to it any more. That of a process which was killed is removed by `sweep`.

    `parent` is by default the system's folder for temporary files. Raises `OSError` where none can be made.
    """

    def __init__(self, parent: Path | None = None, prefix: str = SCRATCH) -> None:
        self.path, descriptor = _made(Path(tempfile.gettempdir()) if parent is None else parent, prefix)
        self._removal = weakref.finalize(self, _removed, self.path, descriptor)

    def remove(self) -> None:
        """Remove it now; once is enough."""
        self._removal()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def sweep(parent: Path | None = None, prefix: str = SCRATCH) -> None:
    """Remove the folders that killed processes of this user and this machine left: those of `OwnFolder`, made with the
    same arguments. What a living process has is left alone, and so are links, and whatever cannot be removed."""
    place = Path(tempfile.gettempdir()) if parent is None else parent
    try:
        names = os.listdir(place)
    except OSError:  # it is not there, or not for this user: nothing of this user's lies in it
        return
    own = re.compile(re.escape(prefix + _machine()) + r"-[0-9a-f]{16}")
    for name in filter(own.fullmatch, names):
        _remove_folder(place / name)


def hold(descriptor: int) -> None:
    """Lock an open file or folder, as long as it is open: nobody takes it for left over."""
    with contextlib.suppress(OSError):  # without locks nothing is taken for left over either
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def is_still(path: Path, descriptor: int) -> bool:
    """Whether what is open is what has the name: another may have removed it in the moment before it was held."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def remove_file(path: Path) -> None:
    """Remove a file that nobody holds. What is held, or is no file, or cannot be removed, is left where it is."""
    with contextlib.suppress(OSError):  # gone meanwhile, or another user's: it harms nobody
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        # For writing, without which some file systems lock nothing.
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if _is_left_over(descriptor) and is_still(path, descriptor):
                path.unlink()
        finally:
            os.close(descriptor)


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        # The name says of which machine it is: of those that share a disk, each may see its own locks alone.
        path = parent / f"{prefix}{_machine()}-{secrets.token_hex(8)}"
        path.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):  # swept in the moment before it was held
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            hold(descriptor)
            if is_still(path, descriptor):
                return path, descriptor
            os.close(descriptor)


def _removed(path: Path, descriptor: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)


def _remove_folder(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone meanwhile, a link, or another user's
        return
    try:
        if os.fstat(descriptor).st_uid == os.geteuid() and _is_left_over(descriptor):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def _is_left_over(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]

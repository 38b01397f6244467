"""Files that are either whole or absent: written beside their place, flushed, renamed."""

from __future__ import annotations

import contextlib
import errno
import functools
import glob
import json
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from qprof.errors import StoreError
from qprof.store import own

#: How the names of temporary files end; those of an earlier qprof say nothing of it.
_TEMPORARY = re.compile(r"\.(qprof-)?[0-9a-f]{16}\.tmp\Z")


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, and rename it into place.

    A crash leaves the old file or the new one, never half of one; the temporary file that it may leave beside is gone
    when the next qprof writes into that folder. Raises `StoreError` where the disk is full or the folder cannot be
    written.
    """
    _drop_once(path.parent)
    # A name that nobody can guess, and must not be there: in a shared folder another could have put a link at it.
    temporary = path.with_name(f".{path.name}.qprof-{secrets.token_hex(8)}.tmp")
    try:
        with _created(temporary) as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(temporary, path)  # while it is held: a temporary file that is not would be dropped
        _flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise store_error(path, error) from error
        raise


def _created(path: Path) -> IO[bytes]:
    """A new file, held as long as it is open."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        own.hold(descriptor)
        if own.is_still(path, descriptor):
            return open(descriptor, "wb")
        os.close(descriptor)


@functools.lru_cache(maxsize=1024)
def _drop_once(folder: Path) -> None:
    """The first time that this process writes into a folder: it may have thousands of files, written one by one."""
    drop_temporaries(folder, "*.qprof-*")


def drop_temporaries(folder: Path, names: str = "*") -> None:
    """Remove what `write_atomic` left beside the files of such names when its process was killed. What a living process
    is writing is left alone, and so is what cannot be removed."""
    for name in glob.glob(f".{names}.tmp", root_dir=folder):
        if _TEMPORARY.search(name):
            own.remove_file(folder / name)


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write `value` as JSON, atomically; NaN is refused (`ValueError`): a missing figure is null."""
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    write_atomic(path, lambda stream: stream.write(text.encode() + b"\n"))


def write_text(path: Path, text: str, follow: bool = True) -> None:
    """Write text as UTF-8, atomically; what UTF-8 cannot hold is escaped. A link that somebody named is followed; with
    `follow` false, for a place in a folder that may be a stranger's, it is replaced. Raises `StoreError`."""
    write_atomic(
        Path(os.path.realpath(path)) if follow else path,
        lambda stream: stream.write(text.encode("utf-8", "backslashreplace")),
    )


def open_file(path: Path) -> IO[bytes]:
    """Open a file of a run directory for reading. Raises `OSError`, also for what is no file: of a stranger's run it
    may be a pipe, which never ends, or a link to a device, which has no end either."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device, and no file")
    return open(descriptor, "rb")


def read_bytes(path: Path) -> bytes:
    """The content of a file of a run directory. Raises `OSError` as `open_file` does."""
    with open_file(path) as stream:
        return stream.read()


def read_json(path: Path) -> Any:
    """Read a JSON file of the run directory. Raises `StoreError` where it is missing or damaged."""
    try:
        return json.loads(read_bytes(path).decode("utf-8"))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); is this a qprof run directory?") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged, not valid JSON ({error}); restore it or run anew") from error


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises `StoreError` where that is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(path, error) from error


def new_folder(path: Path) -> bool:
    """Create a folder that nobody else has created; `False` where it exists. Raises `StoreError`."""
    try:
        path.mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        raise store_error(path, error) from error
    return True


def store_error(path: Path, error: OSError) -> StoreError:
    """What an `OSError` means for a run, and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            f"{path}: no space left to write; all blocks before it are kept: free some space, then continue with "
            "qprof run --resume"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
        return StoreError(f"{path}: cannot be written ({error.strerror}); choose another place with --output DIR")
    return StoreError(f"{path}: {error.strerror or error}")


def _flush_folder(folder: Path) -> None:
    """A rename is only safe from a power cut once the folder itself is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

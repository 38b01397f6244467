"""A cache of made things, each addressed by the content of everything that shapes it.

An entry is a folder. It is put in place by one rename and never written again, so processes may use the cache at the
same time: of two that make the same entry, one puts it there and the other finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from qprof.errors import ModelError, StoreError
from qprof.store.own import OwnFolder, sweep

_log = logging.getLogger(__name__)

Entry = TypeVar("Entry")

#: How the folders of entries begin that are being made, and removed.
_NEW, _OLD = ".new-", ".old-"


def cache_root() -> Path:
    """$QPROF_CACHE, else $XDG_CACHE_HOME/qprof, else ~/.cache/qprof.

    A relative XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification asks.
    """
    if own := os.environ.get("QPROF_CACHE"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(shared) if os.path.isabs(shared) else Path.home() / ".cache"
    return base / "qprof"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the path of the model") from error


def content_sha256(source: Path) -> str:
    """SHA-256 of a file's content; of a folder's, over its files' relative paths and contents in sorted order.

    Raises:
        ModelError: the source does not exist or cannot be read.
    """
    if not source.is_dir():
        return file_sha256(source)
    return files_sha256(source, [path for path in source.rglob("*") if path.is_file()])


def files_sha256(folder: Path, files: list[Path]) -> str:
    """SHA-256 over the paths, relative to `folder`, and the contents of some of its files, whatever their order.

    Raises:
        ModelError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix()):
        # The name's length keeps "ab" + "c" apart from "a" + "bc".
        name = path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape")
        digest.update(len(name).to_bytes(8, "big") + name)
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def json_sha256(facts: Mapping[str, Any]) -> str:
    """SHA-256 over canonical JSON: the address of what the facts shape, whatever the order of their keys."""
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Cache(Generic[Entry]):
    """The entries of one kind, in the folder `name` of the cache.

    `read` turns an entry's folder into what callers get, or returns `None` where the entry is damaged; it must not
    raise for damage. `what` names an entry in messages.
    """

    name: str
    read: Callable[[Path], Entry | None]
    what: str = "cached variant"

    def lookup(self, key: str) -> Entry | None:
        """What is stored under `key`, or `None`. A damaged entry is removed, so that it is made again.

        Raises:
            StoreError: a damaged entry cannot be removed.
        """
        entry = self.entry(key)
        if not entry.is_dir():
            return None
        found = self.read(entry)
        if found is None:
            _log.warning("%s: the %s is damaged and will be made again", entry, self.what)
            self._discard(entry)
        return found

    def store(self, key: str, fill: Callable[[Path], None]) -> Entry:
        """Let `fill` write an entry into an empty folder, put it in place, and return it as it stands there.

        Where another process stored an intact entry under the same key first, that one is returned. An error of
        `fill` leaves nothing behind; what a process left that was killed is removed here.

        Raises:
            StoreError: the cache cannot be written.
        """
        entry = self.entry(key)
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            for prefix in (_NEW, _OLD):
                sweep(self.root(), prefix)
            with OwnFolder(self.root(), _NEW) as staging:
                fill(staging)
                staging.chmod(0o755)
                return self._place(staging, entry, key)
        except OSError as error:
            raise StoreError(
                f"{entry}: cannot be written ({error.strerror}); set QPROF_CACHE to a folder with room"
            ) from error

    def root(self) -> Path:
        """The folder of all entries of this kind."""
        return cache_root() / self.name

    def entry(self, key: str) -> Path:
        """The folder of one entry, whether or not it exists."""
        return self.root() / key[:2] / key

    def _place(self, staging: Path, entry: Path, key: str) -> Entry:
        while True:
            try:
                # A rename onto a folder that is not empty fails: that is what keeps the first of two writers.
                os.replace(staging, entry)
            except OSError:
                if not entry.is_dir():
                    raise
            stored = self.lookup(key)
            if stored is not None:
                return stored
            if not staging.is_dir():
                raise StoreError(f"{entry}: was damaged as soon as it was written; check the disk")

    def _discard(self, entry: Path) -> None:
        """Move the entry aside before deleting it, so that no other process reads a half-deleted one."""
        try:
            with OwnFolder(self.root(), _OLD) as grave, contextlib.suppress(FileNotFoundError):
                os.replace(entry, grave / "entry")  # unless another process was first
        except OSError as error:
            raise StoreError(
                f"{entry}: is damaged and cannot be removed ({error.strerror}); remove it by hand"
            ) from error

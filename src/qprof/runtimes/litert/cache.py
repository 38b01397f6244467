"""The cache of made variants, addressed by the content of everything that shapes them.

A key's folder holds `model.tflite` and `variant.json`. It is put in place by one rename and never written again, so
processes may use the cache at the same time: of two that make the same variant, one puts it there and the other
finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qprof.errors import ModelError, StoreError
from qprof.runtimes.litert.variant import MadeVariant, file_sha256

__all__ = ["cache_root", "content_sha256", "file_sha256", "key", "lookup", "store"]

_log = logging.getLogger(__name__)

_MODEL = "model.tflite"
_FACTS = "variant.json"


def cache_root() -> Path:
    """$QPROF_CACHE, else $XDG_CACHE_HOME/qprof, else ~/.cache/qprof.

    A relative XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification asks.
    """
    if own := os.environ.get("QPROF_CACHE"):
        return Path(own).expanduser().absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(shared) if os.path.isabs(shared) else Path.home() / ".cache"
    return base / "qprof"


def content_sha256(source: Path) -> str:
    """SHA-256 of a file's content; of a folder's, over its files' relative paths and contents in sorted order.

    Raises:
        ModelError: the source does not exist or cannot be read.
    """
    if not source.is_dir():
        return file_sha256(source)
    digest = hashlib.sha256()
    files = [path for path in source.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.relative_to(source).as_posix()):
        # The name's length keeps "ab" + "c" apart from "a" + "bc".
        name = path.relative_to(source).as_posix().encode("utf-8", "surrogateescape")
        digest.update(len(name).to_bytes(8, "big") + name)
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def key(
    source: Path,
    method: str,
    settings: Mapping[str, Any],
    calibration_digest: str | None,
    versions: Mapping[str, str],
) -> str:
    """The address of a variant: SHA-256 over canonical JSON of all that shapes its bytes.

    Raises:
        ModelError: the source cannot be read.
    """
    facts = {
        "source": content_sha256(source),
        "method": method,
        "settings": dict(settings),
        "calibration": calibration_digest,
        "versions": dict(versions),
    }
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def lookup(key: str) -> MadeVariant | None:
    """The variant stored under `key`, or `None`. A damaged entry is removed, so that it is made again.

    Raises:
        StoreError: a damaged entry cannot be removed.
    """
    entry = _entry(key)
    if not entry.is_dir():
        return None
    variant = _read(entry)
    if variant is None:
        _log.warning("%s: the cached variant is damaged and will be made again", entry)
        _discard(entry)
    return variant


def store(key: str, variant: MadeVariant) -> MadeVariant:
    """Copy a made variant into the cache and return it as it stands there.

    Where another process stored an intact entry under the same key first, that one is returned.

    Raises:
        StoreError: the cache cannot be written.
    """
    entry = _entry(key)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=_root(), prefix=".new-"))
        try:
            shutil.copyfile(variant.path, staging / _MODEL)
            (staging / _FACTS).write_text(json.dumps(variant.to_json(), indent=1, sort_keys=True), encoding="utf-8")
            staging.chmod(0o755)
            return _place(staging, entry, key)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"{entry}: cannot be written ({error.strerror}); set QPROF_CACHE to a folder with room"
        ) from error


def _place(staging: Path, entry: Path, key: str) -> MadeVariant:
    while True:
        try:
            # A rename onto a folder that is not empty fails: that is what keeps the first of two writers.
            os.replace(staging, entry)
        except OSError:
            if not entry.is_dir():
                raise
        stored = lookup(key)
        if stored is not None:
            return stored
        if not staging.is_dir():
            raise StoreError(f"{entry}: was damaged as soon as it was written; check the disk")


def _read(entry: Path) -> MadeVariant | None:
    model = entry / _MODEL
    try:
        facts = json.loads((entry / _FACTS).read_text(encoding="utf-8"))
        variant = MadeVariant.from_json(model, facts)
        intact = file_sha256(model) == variant.sha256
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None
    return replace(variant, bytes=model.stat().st_size) if intact else None


def _discard(entry: Path) -> None:
    """Move the entry aside before deleting it, so that no other process reads a half-deleted one."""
    try:
        grave = Path(tempfile.mkdtemp(dir=_root(), prefix=".old-"))
        with contextlib.suppress(FileNotFoundError):  # another process was first
            os.replace(entry, grave / "entry")
    except OSError as error:
        raise StoreError(f"{entry}: is damaged and cannot be removed ({error.strerror}); remove it by hand") from error
    shutil.rmtree(grave, ignore_errors=True)


def _root() -> Path:
    return cache_root() / "variants"


def _entry(key: str) -> Path:
    return _root() / key[:2] / key

"""Digests that stand for the data of a task: equal digests must mean equal samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qprof.errors import DataError


def of_parts(parts: Sequence[Any]) -> str:
    """SHA-256 over what JSON can hold."""
    return hashlib.sha256(json.dumps(list(parts), sort_keys=True).encode()).hexdigest()


def of_text(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def of_file(name: str) -> str | None:
    """SHA-256 of a file's content, `None` for "". Raises `DataError`."""
    if not name:
        return None
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); check the path") from error


def listing(name: str) -> list[list[Any]] | None:
    """Names, sizes and times of a folder's files: reading gigabytes of images only to name them would be too dear."""
    if not name:
        return None
    folder = Path(name)
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    stats = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return [[entry_name, stat.st_size, stat.st_mtime_ns] for entry_name, stat in stats]


def of_source(*modules: Any) -> str:
    """Stands for data that modules make: another version of their sources makes other data."""
    return hashlib.sha256(b"".join(Path(module.__file__).read_bytes() for module in modules)).hexdigest()[:16]

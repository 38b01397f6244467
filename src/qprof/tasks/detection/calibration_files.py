"""Which files of a folder calibrate, and which of them are samples under another name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def file_digest(path: Path) -> bytes:
    """Of the bytes of a file."""
    return hashlib.sha256(path.read_bytes()).digest()


def spread(files: Sequence[Path], count: int) -> list[Path]:
    """All files, `count` evenly spaced ones first, the others after them as reserve."""
    first = dict.fromkeys(files[n * len(files) // min(count, len(files))] for n in range(min(count, len(files))))
    return [*first, *(file for file in files if file not in first)]

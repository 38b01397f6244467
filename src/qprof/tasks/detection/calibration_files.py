"""Which files of a folder calibrate, and which of them are samples under another name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path


def file_digest(path: Path) -> bytes:
    """Of the bytes of a file."""
    return hashlib.sha256(path.read_bytes()).digest()


class Twins:
    """Tells which files have the bytes of one of some samples. Of the samples only those are read that are as long as a
    file in question, and each once: images that are not packed are all of one length."""

    def __init__(self, samples: Iterable[Path]) -> None:
        self._by_length: dict[int, list[Path]] = {}
        for path in samples:
            self._by_length.setdefault(path.stat().st_size, []).append(path)
        self._digests: dict[int, set[bytes]] = {}

    def has(self, path: Path) -> bool:
        """Whether a sample has the bytes of this file."""
        length = path.stat().st_size
        if length not in self._by_length:
            return False
        if length not in self._digests:
            self._digests[length] = {file_digest(sample) for sample in self._by_length[length]}
        return file_digest(path) in self._digests[length]


def spread(files: Sequence[Path], count: int) -> list[Path]:
    """All files, `count` evenly spaced ones first, the others after them as reserve."""
    first = dict.fromkeys(files[n * len(files) // min(count, len(files))] for n in range(min(count, len(files))))
    return [*first, *(file for file in files if file not in first)]

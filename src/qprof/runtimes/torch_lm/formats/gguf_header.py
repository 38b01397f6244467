"""The header of a GGUF file, walked before the package gguf reads it.

That package believes what a header says of itself: it goes through an array of 2**62 numbers of which the file holds
none, and into arrays in arrays until the stack is full. What this module lets pass fits into its file.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from qprof.errors import ModelError

#: Type of a value -> its bytes.
_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_MOST_DIMENSIONS = 4
#: gguf makes Python objects of all entries of arrays; vocabularies have some hundred thousand.
_MOST_ENTRIES = 10_000_000


def refuse_damaged(file: Path) -> None:
    """Raise `ModelError` for a header that does not fit into its file, `OSError` where that cannot be read."""
    with file.open("rb") as stream:
        header = _Header(file, stream)
        if header.number("<I") != int.from_bytes(b"GGUF", "little"):
            raise header.damaged("it does not begin with GGUF")
        version = header.number("<I")
        if version not in _VERSIONS:
            raise header.damaged(f"its version is {version}, and {_VERSIONS[0]} and {_VERSIONS[1]} are read")
        tensors, keys = header.number("<Q"), header.number("<Q")
        for _ in range(header.counted(keys, 13)):
            header.skip(header.number("<Q"))
            header.skip_value(header.number("<I"))
        for _ in range(header.counted(tensors, 24)):
            header.skip(header.number("<Q"))
            dimensions = header.number("<I")
            if dimensions > _MOST_DIMENSIONS:
                raise header.damaged(f"a tensor has {dimensions} dimensions")
            header.skip(8 * dimensions + 12)


class _Header:
    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self._file, self._stream = file, stream
        self._left = file.stat().st_size
        self._entries = _MOST_ENTRIES

    def damaged(self, what: str) -> ModelError:
        return ModelError(f"{self._file}: damaged or cut off: {what}; copy or download it again")

    def number(self, form: str) -> int:
        size = struct.calcsize(form)
        content = self._stream.read(size)
        if len(content) < size:
            raise self.damaged("it ends within its header")
        self._left -= size
        return int(struct.unpack(form, content)[0])

    def skip(self, size: int) -> None:
        if size > self._left:
            raise self.damaged("its header says more than the file holds")
        self._left -= size
        self._stream.seek(size, 1)

    def counted(self, count: int, least: int) -> int:
        """A count of things of which each takes at least so many bytes."""
        if count * least > self._left or count > self._entries:
            raise self.damaged(f"its header tells of {count} entries, more than the file can hold")
        self._entries -= count
        return count

    def skip_value(self, kind: int) -> None:
        if kind in _BYTES:
            self.skip(_BYTES[kind])
        elif kind == _STRING:
            self.skip(self.number("<Q"))
        elif kind == _ARRAY:
            self._skip_array()
        else:
            raise self.damaged(f"a value is of type {kind}, which the format does not have")

    def _skip_array(self) -> None:
        kind, count = self.number("<I"), self.number("<Q")
        if kind == _STRING:
            for _ in range(self.counted(count, 8)):
                self.skip(self.number("<Q"))
        elif kind in _BYTES:
            self.skip(self.counted(count, _BYTES[kind]) * _BYTES[kind])
        else:  # arrays of arrays are allowed by the format, and written by nobody
            raise self.damaged(f"an array holds values of type {kind}")

"""Files of detections and annotations as people keep them: compressed, one object per line, or wrapped in an object."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qprof.errors import DataError

#: A compressed file that holds more than this is refused: a few kilobytes may unpack to all of the memory.
MOST_BYTES = 4 << 30
_CHUNK = 1 << 24
_GZIP = b"\x1f\x8b"
_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
#: Members by which results are known that are wrapped in an object, the COCO format's own first.
_WRAPPED = ("annotations", "detections", "results", "predictions")


def uncompressed(source: Any) -> Any:
    """The path or bytes as given, or what a gzip file of that path holds. Raises `DataError` for a damaged one."""
    if not isinstance(source, (str, os.PathLike)):
        return source
    path = Path(source)
    try:
        with path.open("rb") as file:
            if file.read(len(_GZIP)) != _GZIP:
                return source
        parts, total = [], 0
        with gzip.open(path, "rb") as packed:
            while part := packed.read(_CHUNK):
                parts.append(part)
                total += len(part)
                if total > MOST_BYTES:
                    raise DataError(
                        f"{path.name}: holds more than {MOST_BYTES >> 30} GiB uncompressed: unpack it with gunzip"
                    )
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path.name}: is no sound gzip file ({error}): compress it again") from error
    except OSError:
        return source  # whoever reads it tells why it cannot be read
    return b"".join(parts)


def unwrapped_results(source: Any, name: str) -> Any:
    """Results that are no list: {"annotations": [...]} or JSON Lines, as a list; else the source as given.

    Raises `DataError` for an object that holds no results.
    """
    head = _head(source)
    if not head.startswith(b"{"):
        return source
    data = source if isinstance(source, (bytes, bytearray, memoryview)) else Path(source).read_bytes()
    lines = bytes(data).removeprefix(_BOM).split(b"\n")
    try:
        rows = [json.loads(line) for line in lines if line.strip()]
    except (ValueError, RecursionError):
        rows = None
    if rows is not None and all(isinstance(row, Mapping) and "image_id" in row for row in rows):
        return rows
    try:
        content = json.loads(bytes(data).removeprefix(_BOM))
    except (ValueError, RecursionError):
        return source  # the reader tells where the document is broken
    if not isinstance(content, Mapping):
        return source
    if "image_id" in content:
        return [content]
    for key in _WRAPPED:
        rows = content.get(key)
        if isinstance(rows, list):
            if "images" in content and not any(isinstance(row, Mapping) and "score" in row for row in rows):
                raise DataError(
                    f"{name}: is not a COCO results file: it lists images, and its {key} have no score: give what a "
                    "detector found"
                )
            return rows
    members = ", ".join(sorted(map(str, content))[:5]) or "(none)"
    raise DataError(
        f"{name}: is not a COCO results file: it is an object with the members {members}, and not a list of "
        f"detections: give the list, alone or as {' or '.join(map(repr, _WRAPPED))}"
    )


def _head(source: Any) -> bytes:
    """The first bytes of a document behind a byte order mark and spaces; empty where it cannot be read."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source[:64])
    else:
        try:
            with Path(source).open("rb") as file:
                data = file.read(64)
        except OSError:
            return b""
    return data.removeprefix(_BOM).lstrip(_SPACE)

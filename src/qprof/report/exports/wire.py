"""Messages of Protocol Buffers as bytes: the encoding alone, of the few types that traces and profiles are made of.

https://protobuf.dev/programming-guides/encoding/. What is written here is read back by the generated classes of the
formats in the tests.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

#: Fourteen bits at a time: of a million events this is what takes time. Those that others follow, and the last.
_FOLLOWED = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14)]
_LAST = [bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(1 << 14)]


def varint(value: int) -> bytes:
    """An integer; a negative one in two's complement of 64 bits."""
    rest = value & 0xFFFF_FFFF_FFFF_FFFF
    if rest < 1 << 14:
        return _LAST[rest]
    parts = b""
    while rest >= 1 << 14:
        parts += _FOLLOWED[rest & 0x3FFF]
        rest >>= 14
    return parts + _LAST[rest]


def integer(field: int, value: int) -> bytes:
    """A field of an integer, a boolean or an enumeration."""
    return varint(field << 3) + varint(value)


def number(field: int, value: float) -> bytes:
    """A field of a double."""
    return varint(field << 3 | 1) + struct.pack("<d", value)


def message(field: int, *parts: bytes) -> bytes:
    """A field that holds a message, or bytes."""
    body = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(body)) + body


def text(field: int, value: str) -> bytes:
    """A field of text; what UTF-8 cannot hold (undecodable bytes of a model file) is escaped."""
    return message(field, value.encode("utf-8", "backslashreplace"))


def packed(field: int, values: Iterable[int]) -> bytes:
    """A field of many integers."""
    return message(field, *(varint(value) for value in values))

"""Messages of Protocol Buffers as bytes: the encoding alone, of the few types that traces and profiles are made of.

https://protobuf.dev/programming-guides/encoding/. What is written here is read back by the generated classes of the
formats in the tests.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable


def varint(value: int) -> bytes:
    """An integer; a negative one in two's complement of 64 bits."""
    rest = value & 0xFFFF_FFFF_FFFF_FFFF
    parts = bytearray()
    while rest > 0x7F:
        parts.append(rest & 0x7F | 0x80)
        rest >>= 7
    parts.append(rest)
    return bytes(parts)


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

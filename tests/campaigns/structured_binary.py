"""Changes that know the format of a FlatBuffer, a protobuf message or an image; see structured.py."""

from __future__ import annotations

import functools
import random
import zlib
from dataclasses import dataclass
from typing import Any

from structured import NUMBERS, PICKLE, TEXTS

# -- models -------------------------------------------------------------------------------------------------------


def of_flatbuffer(content: bytes, rng: random.Random) -> bytes:
    """A FlatBuffer with a word that may be an offset, a length or a count changed: to a limit, to itself, backwards."""
    data = bytearray(content)
    words = [
        at for at in range(0, len(data) - 3, 4) if 0 < int.from_bytes(data[at : at + 4], "little") < len(data) - at
    ]
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.choice(words)
        old = int.from_bytes(data[at : at + 4], "little")
        new = rng.choice(
            (*NUMBERS[:9], old + 4, old - 4, old + 1, len(data) - at, -at, len(data) - at - 4, old * 2, 16 - at)
        )
        data[at : at + 4] = (new % 2**32).to_bytes(4, "little")
    return bytes(data)


@dataclass
class _Field:
    """One field of a protobuf message: its number, wire type and value, a list of fields for a message inside."""

    number: int
    wire: int
    value: Any


def of_protobuf(content: bytes, rng: random.Random) -> bytes:
    """A protobuf message with one field changed somewhere inside; lengths around it are right."""
    fields = _parsed(content)
    assert fields is not None
    at, holder = fields, fields
    while True:
        place = rng.randrange(len(at))
        holder, inner = at, at[place].value
        if not isinstance(inner, list) or not inner or rng.random() < 0.1:
            break
        at = inner
    found = holder[place]
    how = rng.choice(("value", "value", "value", "twice", "gone", "number", "deep", "many"))
    if how == "twice":
        holder.insert(place, found)
    elif how == "gone":
        del holder[place]
    elif how == "number":
        found.number = rng.choice((1, 2, 3, 5, 7, 8, 9, 12, 13, 20, 2**28))
    elif how == "many":
        holder[place:place] = [found] * 2000
    elif how == "deep":
        inner = _written([found])
        for _ in range(rng.choice((20, 200, 5000))):
            inner = _key(found.number, 2) + _varint(len(inner)) + inner
        holder[place] = _Field(found.number, 2, inner)
    elif found.wire == 0:
        found.value = rng.choice((*NUMBERS, found.value + 1, 2**64 - found.value))
    elif found.wire in (1, 5):
        size = 8 if found.wire == 1 else 4
        found.value = (rng.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little")
    else:
        found.value = rng.choice(
            (*(text.encode("utf-8", "surrogatepass") for text in TEXTS), b"\xff\xfe", bytes(7), PICKLE)
        )
    return _written(fields)


def _parsed(content: bytes, depth: int = 0) -> list[_Field] | None:
    """The fields of a message, `None` of what is none."""
    found, at = [], 0
    while at < len(content):
        key, at = _read_varint(content, at)
        number, wire = key >> 3, key & 7
        if at < 0 or not number or wire not in (0, 1, 2, 5):
            return None
        value: Any
        if wire == 0:
            value, at = _read_varint(content, at)
            if at < 0:
                return None
        else:
            size = {1: 8, 5: 4}.get(wire, 0)
            if wire == 2:
                size, at = _read_varint(content, at)
            if at < 0 or at + size > len(content):
                return None
            value, at = content[at : at + size], at + size
            if wire == 2 and depth < 12 and 1 < size < 1 << 20:
                value = _parsed(value, depth + 1) or value
        found.append(_Field(number, wire, value))
    return found


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(content):
            return 0, -1
        value |= (content[at + place] & 127) << (7 * place)
        if content[at + place] < 128:
            return value, at + place + 1
    return 0, -1


def _varint(value: int) -> bytes:
    value %= 2**64
    out = bytearray()
    while True:
        out.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(out)


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _written(fields: list[_Field]) -> bytes:
    out = bytearray()
    for field in fields:
        value = _written(field.value) if isinstance(field.value, list) else field.value
        out += _key(field.number, field.wire)
        if field.wire == 0:
            out += _varint(value)
        else:
            out += (_varint(len(value)) if field.wire == 2 else b"") + value
    return bytes(out)


# -- images -------------------------------------------------------------------------------------------------------


@functools.cache
def bomb() -> bytes:
    """256 MB of zeros, packed."""
    return zlib.compress(bytes(1 << 28), 1)


def of_png(content: bytes, rng: random.Random) -> bytes:
    """A PNG with a chunk changed, its checksum right."""
    chunks, at = [], 8
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    place = rng.randrange(len(chunks))
    name, data = chunks[place]
    how = rng.choice(("size", "size", "depth", "flip", "twice", "gone", "text", "bomb", "other"))
    if how in ("size", "depth"):
        head = bytearray(chunks[0][1])
        if how == "size":
            head[(at := rng.choice((0, 4))) : at + 4] = (rng.choice((*NUMBERS[:9], 20_000, 65_536))).to_bytes(4, "big")
        else:
            head[rng.randrange(8, 13)] = rng.randrange(256)
        chunks[0] = b"IHDR", bytes(head)
    elif how == "flip" and data:
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        chunks[place] = name, bytes(changed)
    elif how == "twice":
        chunks.insert(place, chunks[place])
    elif how == "gone":
        del chunks[place]
    elif how == "text":
        chunks.insert(1, (b"zTXt", b"k\0\0" + bomb()))
    elif how == "bomb":
        chunks[place] = b"IDAT", bomb()
    else:
        chunks.insert(place, (rng.choice((b"acTL", b"iCCP", b"PLTE", b"tRNS", b"eXIf", b"fdAT")), rng.randbytes(40)))
    packed = [len(d).to_bytes(4, "big") + n + d + zlib.crc32(n + d).to_bytes(4, "big") for n, d in chunks]
    return content[:8] + b"".join(packed)


def of_jpeg(content: bytes, rng: random.Random) -> bytes:
    """A JPEG with a segment changed: its length, its numbers, or one more."""
    segments, at = [], 2
    while at + 4 <= len(content) and content[at] == 255 and content[at + 1] != 0xDA:
        size = int.from_bytes(content[at + 2 : at + 4], "big")
        segments.append((at, size))
        at += 2 + size
    data = bytearray(content)
    at, size = rng.choice(segments)
    how = rng.choice(("length", "number", "number", "frame", "frame", "more", "twice"))
    if how == "length":
        data[at + 2 : at + 4] = rng.choice((0, 1, 2, size - 1, size + 1, 65_535)).to_bytes(2, "big")
    elif how == "number":
        data[at + 4 + rng.randrange(max(1, size - 2))] = rng.choice((0, 1, 127, 255))
    elif how == "frame":
        frame = next((place for place, _ in segments if data[place + 1] in (0xC0, 0xC1, 0xC2)), segments[0][0])
        data[frame + 5 + (place := rng.choice((0, 2))) : frame + 7 + place] = rng.choice((0, 1, 255, 65_535)).to_bytes(
            2, "big"
        )
    elif how == "more":
        exif = b"Exif\0\0II*\0" + rng.randbytes(60)
        data[2:2] = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    else:
        data[at:at] = data[at : at + 2 + size]
    return bytes(data)


def of_numbers(content: bytes, rng: random.Random) -> bytes:
    """A number in the first bytes of a file changed: for formats whose header is fixed (BMP, WebP)."""
    data = bytearray(content)
    at, size = rng.randrange(min(len(data), 64)), rng.choice((1, 2, 4))
    data[at : at + size] = (rng.choice(NUMBERS) % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(data)

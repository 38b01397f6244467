"""Headers of GGUF files that say more than their file holds."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from qprof.errors import ModelError
from qprof.runtimes.torch_lm.formats.gguf_header import refuse_damaged

U8, U32, STRING, ARRAY = 0, 4, 8, 9


def head(tensors: int, keys: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def array(kind: int, count: int) -> bytes:
    return head(0, 1) + text("a") + struct.pack("<IIQ", ARRAY, kind, count)


@pytest.mark.parametrize(
    "header",
    [
        head(2**60, 0),
        head(0, 2**60),
        array(U8, 2**62),
        array(U8, 20_000_000) + bytes(20_000_000),
        array(STRING, 2**40),
        array(ARRAY, 1) + struct.pack("<IQ", ARRAY, 1) * 5000,
        head(0, 1) + struct.pack("<Q", 2**63),
        head(1, 0) + text("t") + struct.pack("<I", 2**31),
        head(0, 1) + text("a") + struct.pack("<I", 77),
        b"GGUF" + struct.pack("<IQQ", 9, 0, 0),
        b"GGUF\3",
    ],
)
def test_a_header_that_cannot_be_is_refused_at_once(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(header + bytes(64) * (len(header) > 5))
    with pytest.raises(ModelError, match="damaged or cut off"):
        refuse_damaged(tmp_path / "m.gguf")


def test_a_header_that_fits_passes(tmp_path: Path) -> None:
    keys = text("a") + struct.pack("<IIQ", ARRAY, STRING, 2) + text("x") + text("yz")
    keys += text("b") + struct.pack("<II", U32, 7) + text("c") + struct.pack("<IIQ4B", ARRAY, U8, 4, 1, 2, 3, 4)
    tensor = text("t") + struct.pack("<I2QIQ", 2, 4, 4, 0, 0)
    (tmp_path / "m.gguf").write_bytes(head(1, 3) + keys + tensor + bytes(64))
    refuse_damaged(tmp_path / "m.gguf")

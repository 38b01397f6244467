"""The header of a .safetensors file: names, types and places of its tensors, without reading any of them.

Format: https://huggingface.co/docs/safetensors (8 bytes little-endian length, a JSON object, then the data).
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.tool_output import first_line

#: The library's own limit of a header.
_LONGEST_HEADER_BYTES = 100_000_000

#: Of one tensor; torch and NumPy have no more.
_MOST_DIMENSIONS = 64

#: Names of the format -> (names of torch, bits of one element).
_DTYPES = {
    "F64": ("float64", 64),
    "F32": ("float32", 32),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "I64": ("int64", 64),
    "I32": ("int32", 32),
    "I16": ("int16", 16),
    "I8": ("int8", 8),
    "U8": ("uint8", 8),
    "BOOL": ("bool", 8),
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as stored; `dtype` by torch's name, or the format's where torch has none."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        return "float" in self.dtype


def read(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name.

    Raises:
        ModelError: it cannot be read, is no .safetensors file, or is shorter than its header says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = stream.read(length) if size >= 8 and 2 <= length <= min(_LONGEST_HEADER_BYTES, size - 8) else b""
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the folder") from error
    if not header:
        raise ModelError(f"{path}: no .safetensors file, or cut off within its header; copy or download it again")
    try:
        tensors, end = _parse(json.loads(header))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ModelError(
            f"{path}: its header is damaged ({type(error).__name__}); copy or download it again"
        ) from error
    missing = 8 + length + end - size
    if missing:
        state = f"{missing} bytes are missing" if missing > 0 else f"{-missing} bytes belong to no tensor"
        raise ModelError(f"{path}: {state}; copy or download it again")
    return tensors


@contextlib.contextmanager
def opened(path: Path, framework: str) -> Iterator[Any]:
    """A file opened by the library, which refuses more than `read` does; `framework`: of its tensors, "np" or "pt".
    Raises `ModelError`, also for what goes wrong while it is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework=framework) as stored:
            yield stored
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read: {first_line(error)}; copy or download it again") from error


def _parse(header: dict[str, Any]) -> tuple[dict[str, StoredTensor], int]:
    """The tensors, and where the last one ends."""
    tensors: dict[str, StoredTensor] = {}
    end = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, bits = _DTYPES.get(entry["dtype"], (str(entry["dtype"]), None))
        shape = tuple(int(length) for length in entry["shape"])
        first, last = (int(offset) for offset in entry["data_offsets"])
        # What no tensor has is not multiplied out: a header has room for a million sizes of a thousand digits.
        if len(shape) > _MOST_DIMENSIONS or max((first, last, *shape)) >= 2**63:
            raise ValueError(name)
        if min((first, *shape), default=0) < 0 or last < first:
            raise ValueError(name)
        if bits is not None and math.prod(shape) * bits != 8 * (last - first):
            raise ValueError(name)
        tensors[name] = StoredTensor(dtype, shape, last - first)
        end = max(end, last)
    return tensors, end

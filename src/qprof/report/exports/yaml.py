"""YAML 1.2 of plain data: block style, every text in double quotes, so that none is taken for anything else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def dump(value: Any) -> str:
    """Mappings, sequences, texts, numbers, booleans and `None`. Raises `ValueError` for NaN and infinities."""
    return "\n".join(_lines(value, 0)) + "\n"


def _lines(value: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            if isinstance(item, (Mapping, list, tuple)) and item:
                yield f"{indent}{_scalar(key)}:"
                yield from _lines(item, depth + 1)
            else:
                yield f"{indent}{_scalar(key)}: {_scalar(item)}"
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for item in value:
            inner = list(_lines(item, depth + 1))
            yield f"{indent}- {inner[0].lstrip()}"
            yield from inner[1:]
    else:
        yield f"{indent}{_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no place in a file of figures")
    if isinstance(value, (Mapping, list, tuple)):
        return "{}" if isinstance(value, Mapping) else "[]"
    return json.dumps(value)


def _quoted(text: str) -> str:
    """JSON's form, which YAML takes, with what YAML holds unprintable escaped too."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    quoted = json.dumps(safe, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escape(ord(char)) for char in quoted)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

"""Tables and findings for other programs: CSV (RFC 4180) and JSON (RFC 8259)."""

from __future__ import annotations

import csv
import dataclasses
import enum
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from qprof.errors import StoreError
from qprof.store.files import write_atomic

#: Characters that make a spreadsheet take text for a formula (OWASP, "CSV Injection"), full-width forms included.
_FORMULA_STARTS = (
    *"=+-@",
    "\N{FULLWIDTH EQUALS SIGN}",
    "\N{FULLWIDTH PLUS SIGN}",
    "\N{FULLWIDTH HYPHEN-MINUS}",
    "\N{FULLWIDTH COMMERCIAL AT}",
)


def write_csv(target: str | Path | IO[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows` as CSV with a header line: comma, CRLF, quotes doubled (RFC 4180), UTF-8.

    `None` and NaN become an empty field, floats their shortest exact form, booleans true or false. Text that a
    spreadsheet would run as a formula gets a leading apostrophe. A file is written whole or not at all; an open text
    stream is written to as it is, and should have been opened with newline="". Raises `StoreError`.
    """

    def write(stream: IO[str]) -> None:
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow([_csv_text(column) for column in columns])
        for row in rows:
            writer.writerow([_csv_value(row.get(column)) for column in columns])

    _write(target, write)


def write_json(target: str | Path | IO[str], value: Any, indent: int | None = 2) -> None:
    """Write `value` as JSON with sorted keys, so that equal data makes equal bytes.

    NaN and the infinities, which JSON has no form for, become null. Dataclasses become objects, NumPy scalars and
    arrays numbers and lists, paths and enums text. Raises `TypeError` for what has no JSON form, before anything is
    written, and `StoreError` where the file cannot be written.
    """
    text = json.dumps(_json_value(value), indent=indent, sort_keys=True, allow_nan=False)
    _write(target, lambda stream: stream.write(text + "\n"))


def write_json_rows(target: str | Path | IO[str], rows: Iterable[Mapping[str, Any]], indent: int = 2) -> None:
    """Write a list of objects as `write_json` does, byte for byte, and hold no more than one of them."""

    def write(stream: IO[str]) -> None:
        before = "["
        for row in rows:
            text = json.dumps(_json_value(row), indent=indent, sort_keys=True, allow_nan=False)
            stream.write(f"{before}\n{' ' * indent}" + text.replace("\n", f"\n{' ' * indent}"))
            before = ","
        stream.write("[]\n" if before == "[" else "\n]\n")

    _write(target, write)


def _write(target: str | Path | IO[str], write: Callable[[IO[str]], object]) -> None:
    if not isinstance(target, (str, Path)):
        write(target)
        return
    place = Path(os.path.realpath(target))  # a link stays, the file behind it is replaced
    try:
        if place.exists() and not place.is_file():  # /dev/stdout, a named pipe: renaming over it would destroy it
            with open(place, "wb") as stream:
                _as_text(stream, write)
        else:
            write_atomic(place, lambda stream: _as_text(stream, write))
    except (StoreError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        reason = cause.strerror or str(cause)
        raise StoreError(f"{target}: cannot be written ({reason}); choose another file, or free some space") from error


def _as_text(stream: IO[bytes], write: Callable[[IO[str]], object]) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    write(text)
    text.flush()
    text.detach()


def _csv_value(value: Any) -> str | int:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return repr(value)
    return _csv_text(str(value))


def _csv_text(text: str) -> str:
    """`text`, disarmed. Blanks before the sign hinder no spreadsheet, and tab and CR alone start a formula too."""
    # Lone surrogates (undecodable bytes of a model file) have no UTF-8: shown escaped rather than refused.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if text[:1] in ("\t", "\r") or text.lstrip()[:1] in _FORMULA_STARTS:
        return "'" + text
    return text


def _json_value(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_json_value(item) for item in value), key=str)
    if isinstance(value, Path):
        return str(value)
    return value

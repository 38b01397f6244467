"""The keys of a profile against the types of its sections: unknown ones, paths among them, wrong values."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from qprof.errors import ProfileError
from qprof.record.nearest import nearest

Section = TypeVar("Section")


def converted(data: Any, kind: type[Section], where: str) -> Section:
    """A section from plain data; `where` stands before its keys ("task", "variants[1]").

    Raises `ProfileError` naming the key, and for an unknown one the nearest valid one.
    """
    refuse_unknown(data, kind, where)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ProfileError(_said_plainly(str(error), kind, where)) from error
    except ProfileError as error:  # some configurations check themselves
        raise ProfileError(f"{where}.{error}") from error


def refuse_unknown(data: Any, kind: Any, where: str) -> None:
    """Walk data and types together; raise at the first key that no type knows."""
    struct = _record_of(kind)
    if struct is None or not isinstance(data, Mapping):
        item = _item_of(kind)
        if isinstance(data, list) and item is not None:
            for number, element in enumerate(data):
                refuse_unknown(element, item, f"{where}[{number}]")
        return
    hints = typing.get_type_hints(struct, include_extras=True)
    prefix = f"{where}." if where else ""
    for key, value in data.items():
        if key not in hints:
            raise ProfileError(f"unknown key {prefix}{key}; {nearest(str(key), hints, prefix)}")
        refuse_unknown(value, hints[key], f"{prefix}{key}")


def with_paths(data: Any, kind: Any, change: Callable[[str], str]) -> Any:
    """The data with every value changed that its type says is a path (`qprof.record.sections.FilePath`)."""
    if _is_path(kind):
        return change(data) if isinstance(data, str) else data
    if isinstance(data, list):
        item = _item_of(kind)
        return [with_paths(element, item, change) for element in data]
    struct = _record_of(kind)
    if struct is None or not isinstance(data, Mapping):
        return data
    hints = typing.get_type_hints(struct, include_extras=True)
    return {key: with_paths(value, hints.get(key), change) for key, value in data.items()}


def _is_path(kind: Any) -> bool:
    for part in _alternatives(kind):
        if typing.get_origin(part) is Annotated:
            extras = [meta.extra for meta in part.__metadata__ if isinstance(meta, Meta) and meta.extra]
            if any(extra.get("path") for extra in extras):
                return True
    return False


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _record_of(kind: Any) -> Any:
    """The type with named fields that `kind` is or may be, `None` where there is none."""
    found = [k for k in _alternatives(kind) if isinstance(k, type) and (issubclass(k, Struct) or is_dataclass(k))]
    return found[0] if found else None


def _item_of(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else None


def _said_plainly(message: str, kind: Any, where: str) -> str:
    """msgspec's message as a profile's reader needs it: the key first, TOML's words, what is allowed there."""
    what, _, place = message.partition(" - at `$")
    below = place.rstrip("`").lstrip(".")
    key = f"{where}{below}" if below.startswith("[") else ".".join(filter(None, (where, below)))
    missing = re.fullmatch("Object missing required field `(.*)`", what)
    if missing:
        return f"{'.'.join(filter(None, (key, missing[1])))} is missing; add it"
    what = what.replace("`object`", "`table`").replace("`array`", "`list`").replace("| object`", "| table`")
    if "regex" in what:
        what = "a name begins with a letter or digit, and holds letters, digits and . _ + : - alone"
    allowed = _allowed_values(below, kind) if what.startswith("Invalid enum value") else ()
    return f"{key}: {what}" + (f"; allowed: {', '.join(map(repr, allowed))}" if allowed else "")


def _allowed_values(key: str, kind: Any) -> tuple[Any, ...]:
    """What a key that takes a few fixed values may be."""
    for part in filter(None, re.sub(r"\[.*?\]", "", key).split(".")):
        struct = _record_of(_item_of(kind) or kind)
        kind = typing.get_type_hints(struct).get(part) if struct else None
    literals = [k for k in _alternatives(kind) if typing.get_origin(k) is Literal]
    return typing.get_args(literals[0]) if literals else ()

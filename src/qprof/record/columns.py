"""Columns of tables, derived from the types of their rows: a column is named and typed once."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any

#: Integers that never need more: numbers of blocks, rounds, samples.
Int32 = Annotated[int, "int32"]

#: Python type -> the name of an Arrow type.
_ARROW = {str: "string", int: "int64", float: "float64", bool: "bool", Sequence[str]: "list<string>"}


def columns(row: type) -> dict[str, str]:
    """Field -> name of its Arrow type, of a type whose instances are the rows of a table. `None` is a null in any
    column. Raises `TypeError` for a field that no column can hold."""
    hints = typing.get_type_hints(row, include_extras=True)
    return {name: _arrow(kind, f"{row.__name__}.{name}") for name, kind in hints.items()}


def _arrow(kind: Any, where: str) -> str:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is Annotated:
        return str(kind.__metadata__[0])
    if kind not in _ARROW:
        raise TypeError(f"{where}: no column holds {kind}")
    return _ARROW[kind]

"""The least parts of a report's data: figures with intervals, facts, tables."""

from __future__ import annotations

from msgspec import Struct, field


class Data(Struct, frozen=True, omit_defaults=True):
    """What is as its default says is left out of the file."""


class Amount(Data, frozen=True, kw_only=True):
    """A figure with the bounds of its interval; `text`: as the commands print it."""

    value: float
    low: float | None = None
    high: float | None = None
    text: str = ""


class Fact(Data, frozen=True, kw_only=True):
    """Something that is told by name: of the machine, of the protocol."""

    name: str
    value: str


class GridColumn(Data, frozen=True, kw_only=True):
    """`minor`: shown to who asks for all columns."""

    title: str
    key: str
    unit: str = ""
    numeric: bool = True
    minor: bool = False


class Grid(Data, frozen=True, kw_only=True):
    """A table as a command prints it; a row lacks what is not known. `command` prints it."""

    title: str
    columns: list[GridColumn]
    rows: list[dict[str, str]]
    notes: list[str] = field(default_factory=list)
    command: str = ""

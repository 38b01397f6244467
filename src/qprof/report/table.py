"""The one table renderer of all commands: fitted to a terminal, or complete and plain for a pipe."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Literal

from qprof.report.terminal import ascii_only as needs_ascii
from qprof.report.terminal import output_width, printable, shorten_middle, to_ascii, use_color
from qprof.report.units import MISSING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Column", "Table", "output_width", "print_table", "render"]

_GAP = 2
#: Cells that a flexible column keeps: first the comfortable floor, and only when that cannot fit the tight one.
_FLOORS = (24, 8)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `key` finds its cell in a row.

    `priority` 0 is never dropped; of the others the highest number goes first, of equals the rightmost. A `flexible`
    column may be shortened in the middle (op names); all others are shown whole or not at all.
    """

    title: str
    key: str
    align: Literal["left", "right"] = "right"
    priority: int = 0
    flexible: bool = False
    unit: str = ""


@dataclass(slots=True)
class Table:
    """What to show: rows map a column's key to its text; `None`, or no entry, is a missing figure, shown as a dash."""

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, str | None]]
    title: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Layout:
    widths: dict[int, int]  # column index -> cells, of the columns shown
    hidden: list[int]


def print_table(table: Table, stream: IO[str]) -> None:
    """Write `table` as `stream` can show it: its width, its colours (NO_COLOR respected), its encoding."""
    text = render(table, width=output_width(stream), color=use_color(stream), ascii_only=needs_ascii(stream))
    stream.write(text + "\n")


def render(table: Table, *, width: int | None, color: bool, ascii_only: bool = False) -> str:
    """Draw `table` as text without a final line break.

    `width`: cells of the terminal, no line is longer. Columns are dropped by priority until the rest fits, and a
    note names those left out; where even the columns that must stay do not fit, each row becomes a block of
    "title: value" lines, so that no figure is ever cut. `None`: a pipe. Every column, nothing shortened, one line a
    row, fields parted by two spaces (awk -F'  +'), never blank ('""' for empty text), titles and notes behind "# ".

    `color` allows ANSI styles. `ascii_only` spells out what is not ASCII.
    """
    if ascii_only:
        table = _in_ascii(table)
    if width is None:
        return _plain(table, MISSING if not ascii_only else to_ascii(MISSING))
    return _drawn(table, max(width, 2), color, ascii_only)  # a wide character needs two cells


def _in_ascii(table: Table) -> Table:
    columns = [
        Column(to_ascii(c.title), c.key, c.align, c.priority, c.flexible, to_ascii(c.unit)) for c in table.columns
    ]
    rows = [{key: None if text is None else to_ascii(text) for key, text in row.items()} for row in table.rows]
    return Table(columns, rows, to_ascii(table.title), [to_ascii(note) for note in table.notes])


def _plain(table: Table, missing: str) -> str:
    from rich.cells import cell_len

    header = [_heading(column) for column in table.columns]
    lines = [header] + [[_field(row.get(column.key), missing) for column in table.columns] for row in table.rows]
    for line in lines[1:]:
        if line and line[0].startswith("#"):  # else a filter that drops "#" lines loses the row
            line[0] = "\\x23" + line[0][1:]
    widths = [max(cell_len(line[i]) for line in lines) for i in range(len(table.columns))]
    body = [
        (" " * _GAP)
        .join(_pad(text, size, column.align) for text, size, column in zip(line, widths, table.columns, strict=True))
        .rstrip()
        for line in lines
    ]
    if not table.rows:
        body.append("# no rows")
    title = [f"# {printable(table.title)}"] if table.title else []
    return "\n".join([*title, *body, *(f"# {printable(note)}" for note in table.notes)])


def _field(text: str | None, missing: str) -> str:
    """A cell of the plain form: never blank and without two spaces in a row, which would read as a further field."""
    if text is None:
        return missing
    if not text.strip():
        return f'"{printable(text)}"'.replace("  ", " \\x20")
    return re.sub(r"(?<= ) ", r"\\x20", printable(text))


def _pad(text: str, width: int, align: str) -> str:
    from rich.cells import cell_len

    space = " " * (width - cell_len(text))
    return space + text if align == "right" else text + space


def _heading(column: Column) -> str:
    return printable(f"{column.title} ({column.unit})" if column.unit else column.title)


def _drawn(table: Table, width: int, color: bool, ascii_only: bool) -> str:
    from rich.text import Text

    missing, ellipsis, bullet = ("-", "...", "* ") if ascii_only else (MISSING, "…", "• ")
    stream = io.StringIO()
    console = _console(stream, width, color)
    cells = [
        [missing if (text := row.get(column.key)) is None else printable(text) for column in table.columns]
        for row in table.rows
    ]
    layout = _fit(table.columns, cells, width)
    if table.title:
        console.print(Text(printable(table.title), style="bold"), overflow="fold")
    if layout is None:
        _print_records(console, table.columns, cells)
    else:
        _print_grid(console, table.columns, cells, layout, missing, ellipsis, ascii_only)
    if not table.rows:
        console.print(Text("no rows", style="dim"), overflow="fold")
    notes = list(table.notes)
    if layout is not None and layout.hidden:
        notes.append(_hidden_note([table.columns[i] for i in layout.hidden]))
    for note in notes:
        _print_note(console, printable(note), bullet if width >= 20 else "", width)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _console(stream: IO[str], width: int, color: bool) -> Console:
    from rich.console import Console

    return Console(
        file=stream,
        width=width,
        color_system="standard" if color else None,
        force_terminal=color,
        force_jupyter=False,
        legacy_windows=False,
    )


def _fit(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> _Layout | None:
    """The columns that fit `width`, and how wide each is; `None` where those that must stay do not fit."""
    from rich.cells import cell_len

    heads = [max(cell_len(printable(column.title)), cell_len(printable(column.unit))) for column in columns]
    natural = [max([heads[i], *(cell_len(row[i]) for row in cells)]) for i in range(len(columns))]
    for floor in _FLOORS:
        least = [
            min(natural[i], max(heads[i], floor)) if column.flexible else natural[i] for i, column in enumerate(columns)
        ]
        shown = list(range(len(columns)))
        while shown:
            spare = width - sum(least[i] for i in shown) - _GAP * (len(shown) - 1)
            if spare >= 0:
                hidden = [i for i in range(len(columns)) if i not in shown]
                return _Layout(_share({i: least[i] for i in shown}, natural, spare), hidden)
            droppable = [i for i in shown if columns[i].priority > 0]
            if not droppable:
                break
            shown.remove(max(droppable, key=lambda i: (columns[i].priority, i)))
    return None


def _share(least: dict[int, int], natural: Sequence[int], spare: int) -> dict[int, int]:
    """Give `spare` cells to the columns that want more than their least, evenly; what one leaves the next gets."""
    widths = dict(least)
    wanting = sorted((i for i in least if natural[i] > least[i]), key=lambda i: natural[i] - least[i])
    for position, i in enumerate(wanting):
        extra = min(natural[i] - least[i], spare // (len(wanting) - position))
        widths[i] += extra
        spare -= extra
    return widths


def _print_grid(
    console: Console,
    columns: Sequence[Column],
    cells: Sequence[Sequence[str]],
    layout: _Layout,
    missing: str,
    ellipsis: str,
    ascii_only: bool,
) -> None:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    rule = box.Box(str(box.SIMPLE_HEAD).replace("─", "-"), ascii=True) if ascii_only else box.SIMPLE_HEAD
    grid = Grid(box=rule, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    units = any(columns[i].unit for i in layout.widths)
    for i, size in layout.widths.items():
        head = Text(printable(columns[i].title))
        if units:
            head.append("\n" + printable(columns[i].unit), style="not bold dim")
        grid.add_column(head, justify=columns[i].align, width=size, no_wrap=True)
    for row in cells:
        texts = [shorten_middle(row[i], size, ellipsis) for i, size in layout.widths.items()]
        grid.add_row(*(Text(text, style="dim" if text == missing else "") for text in texts))
    console.print(grid)


def _print_records(console: Console, columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    from rich.text import Text

    for number, row in enumerate(cells):
        if number:
            console.print()
        for column, text in zip(columns, row, strict=True):
            console.print(Text.assemble((_heading(column), "bold"), ": ", text), overflow="fold")


def _print_note(console: Console, note: str, bullet: str, width: int) -> None:
    from rich.text import Text

    lines = Text(note, style="dim").wrap(console, width - len(bullet), overflow="fold")
    for number, line in enumerate(lines):
        console.print(Text(bullet if number == 0 else " " * len(bullet)) + line)


def _hidden_note(hidden: Sequence[Column]) -> str:
    names = ", ".join(column.title for column in hidden)
    count = f"{len(hidden)} column{'s' if len(hidden) > 1 else ''}"
    return f"{count} hidden at this width: {names}; widen the terminal, or pipe the output for all of them"

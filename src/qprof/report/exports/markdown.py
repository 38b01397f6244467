"""Tables with intervals and units as Markdown (GitHub's): for an issue, a pull request, a README."""

from __future__ import annotations

import re
from pathlib import Path

from qprof.report.exports.base import Format, Wanted
from qprof.report.exports.figures import tables
from qprof.report.table import Table
from qprof.report.terminal import printable
from qprof.report.units import MISSING
from qprof.store.files import write_text
from qprof.store.run import Run

_MARKUP = re.compile(r"([\\`*_{}\[\]~|$])")


def escaped(text: str) -> str:
    """Text of which nothing is markup: no emphasis, link, image, HTML, mention or cell's end."""
    plain = _MARKUP.sub(r"\\\1", printable(text))
    return (
        plain.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("@", "&#64;")
        .replace("://", "&#58;//")
    )


def markdown(table: Table) -> str:
    """A heading, the table, the notes."""
    heads = [escaped(f"{column.title} ({column.unit})" if column.unit else column.title) for column in table.columns]
    rules = [":---" if column.align == "left" else "---:" for column in table.columns]
    lines = [f"**{escaped(table.title)}**", ""] if table.title else []
    lines += [_line(heads), _line(rules)]
    for row in table.rows:
        cells = (row.get(column.key) for column in table.columns)
        lines.append(_line([MISSING if cell is None else escaped(cell) for cell in cells]))
    lines += ["", *(f"- {escaped(note)}" for note in table.notes)] if table.notes else []
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    paths = []
    for name, table in tables(run, wanted):
        path = folder / f"{name}.md"
        write_text(path, markdown(table))
        paths.append(path)
    return paths


FORMAT = Format("the summary, and where each difference went, as Markdown tables", _write)

"""Tables with intervals and units for a paper: LaTeX with booktabs, for pdflatex, xelatex and lualatex."""

from __future__ import annotations

import re
from pathlib import Path

from qprof.report.exports.base import Format, Wanted
from qprof.report.exports.figures import tables
from qprof.report.table import Table
from qprof.report.terminal import printable
from qprof.store.files import write_text
from qprof.store.run import Run

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # behind \\ it would be an argument
    "]": "{]}",
    "*": "{*}",
    "-": "{-}",  # no dashes made of two
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "\N{EN DASH}": "--",
    "\N{MICRO SIGN}": r"\textmu{}",
    "\N{PLUS-MINUS SIGN}": r"\textpm{}",
    "\N{MULTIPLICATION SIGN}": r"\texttimes{}",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
}
_NUMBERS = re.compile(r"[0-9.,x+\- \[\]%]*\Z")


def escaped(text: str) -> str:
    """Text of which nothing is a command; what pdflatex has no letter for is spelled out."""
    found = []
    for char in printable(text):
        if char in _SPECIAL:
            found.append(_SPECIAL[char])
        elif char.isascii():
            found.append(char)
        else:
            found.append(rf"\textbackslash{{}}u{ord(char):04x}")
    return "".join(found)


def _cell(text: str | None) -> str:
    if text is None:
        return "--"
    if _NUMBERS.match(text):  # figures and their intervals: a minus is one
        return re.sub(r"-", "$-$", text).replace("%", r"\%").replace("[", "{[}").replace("]", "{]}")
    return escaped(text)


def latex(table: Table, label: str) -> str:
    """A table environment; the notes are comments behind it."""
    heads = [escaped(f"{column.title} ({column.unit})" if column.unit else column.title) for column in table.columns]
    layout = "".join("l" if column.align == "left" else "r" for column in table.columns)
    lines = [
        r"% \usepackage{booktabs}, \usepackage{textcomp}, \usepackage[T1]{fontenc}",
        r"\begin{table}",
        r"\centering",
    ]
    lines += [rf"\caption{{{escaped(table.title)}}}"] if table.title else []
    lines += [rf"\label{{tab:{re.sub(r'[^A-Za-z0-9.-]', '-', label)}}}", rf"\begin{{tabular}}{{{layout}}}", r"\toprule"]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    for row in table.rows:
        lines.append(" & ".join(_cell(row.get(column.key)) for column in table.columns) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    lines += [f"% {printable(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    paths = []
    for name, table in tables(run, wanted):
        path = folder / f"{name}.tex"
        write_text(path, latex(table, f"{run.name}-{name}"))
        paths.append(path)
    return paths


FORMAT = Format("the summary, and where each difference went, as LaTeX tables", _write)

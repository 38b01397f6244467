"""What an output stream can show (width, colour, characters), and text made safe for it."""

from __future__ import annotations

import codecs
import os
import textwrap
from collections.abc import Iterable, Mapping
from typing import IO

#: Width of a terminal that does not tell its own.
FALLBACK_WIDTH = 80

_ASCII = str.maketrans(
    {
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{MINUS SIGN}": "-",
        "─": "-",
        "…": "...",
        "•": "*",
        "·": ".",
        "\N{MICRO SIGN}": "u",
        "\N{GREEK SMALL LETTER MU}": "u",
        "Δ": "delta ",
        "±": "+/-",
        "\N{MULTIPLICATION SIGN}": "x",
        "→": "->",
        "≤": "<=",
        "≥": ">=",
        "≈": "~",
        "“": '"',
        "”": '"',
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    }
)


def output_width(stream: IO[str], environ: Mapping[str, str] | None = None) -> int | None:
    """Columns of the terminal behind `stream`, or `None` where it is no terminal (a pipe, a file).

    On a terminal the variable COLUMNS, where it is a positive integer of at most 5 digits, goes before what the
    terminal tells.
    """
    if not _is_terminal(stream):
        return None
    columns = (os.environ if environ is None else environ).get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and len(columns) < 6 and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or FALLBACK_WIDTH
    except OSError:
        return FALLBACK_WIDTH


def use_color(stream: IO[str], environ: Mapping[str, str] | None = None) -> bool:
    """Whether `stream` may get ANSI styles: a terminal that is not dumb, and NO_COLOR unset (https://no-color.org)."""
    variables = os.environ if environ is None else environ
    return _is_terminal(stream) and not variables.get("NO_COLOR") and variables.get("TERM") != "dumb"


def is_interactive(stream: IO[str], environ: Mapping[str, str] | None = None) -> bool:
    """Whether `stream` is a terminal whose cursor can be moved."""
    return _is_terminal(stream) and (os.environ if environ is None else environ).get("TERM") != "dumb"


def ascii_only(stream: IO[str]) -> bool:
    """Whether `stream` cannot show all of Unicode; a stream without an encoding (in memory) can."""
    encoding = getattr(stream, "encoding", None)
    if not encoding:
        return False
    try:
        return not codecs.lookup(encoding).name.startswith("utf-")
    except LookupError:
        return True


def printable(text: str) -> str:
    """`text` with everything escaped that could move the cursor, recolour, reorder or hide what stands around it.

    Names come from model files, so control characters, ANSI sequences, line breaks, bidirectional overrides,
    zero-width and unassigned characters and lone surrogates are shown as `\\x1b`, `\\u202e` ... instead of obeyed.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def to_ascii(text: str) -> str:
    """`text` in ASCII alone: the signs that qprof uses spelled out, all others escaped."""
    return text.translate(_ASCII).encode("ascii", "backslashreplace").decode("ascii")


def shorten_middle(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in at most `width` cells: head and tail kept, since both ends of an op's name tell it from the others."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    room = width - cell_len(ellipsis)
    if room <= 0:
        return ellipsis[:width]
    tail = _longest(text, room // 2, from_end=True)
    head = _longest(text, room - cell_len(tail), from_end=False)
    shortened = head + ellipsis + tail
    # A character that joins its neighbours (an emoji modifier) can widen where the two ends meet.
    while cell_len(shortened) > width:
        head = head[:-1]
        shortened = head + ellipsis + tail
    return shortened


def _longest(text: str, width: int, from_end: bool) -> str:
    """The longest end of `text` that takes at most `width` cells."""
    from rich.cells import cell_len

    if width <= 0:
        return ""

    # A hostile name of a million combining marks fits one cell: no more than a few characters a cell are tried.
    limit = 8 * width
    taken = ""
    for char in reversed(text[-limit:]) if from_end else text[:limit]:
        longer = char + taken if from_end else taken + char
        if cell_len(longer) > width:
            break
        taken = longer
    return taken


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # a closed stream
        return False


def print_lines(lines: Iterable[str], stream: IO[str]) -> None:
    """Print lines of text, what a terminal would obey in them escaped; on a terminal wrapped to its width, the lines
    that follow indented two columns beyond the first."""
    width, in_ascii = output_width(stream), ascii_only(stream)
    for line in lines:
        text = to_ascii(printable(line)) if in_ascii else printable(line)
        indent = " " * (len(text) - len(text.lstrip()))
        wrapped = [text]
        if width is not None and len(text) > width:
            wrapped = textwrap.wrap(
                text.lstrip(), max(20, width), initial_indent=indent, subsequent_indent=f"{indent}  "
            )
        for part in wrapped:
            print(part, file=stream)

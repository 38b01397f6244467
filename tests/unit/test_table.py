"""The table renderer: golden texts, and what must hold for any text in any cell."""

# ruff: noqa: RUF001 - the dash of a missing figure

from __future__ import annotations

import io
import os
import pty
import re
import struct
import subprocess
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from qprof.report.table import Column, Table, output_width, print_table, render
from qprof.report.terminal import ascii_only, printable, shorten_middle, to_ascii, use_color

COLUMNS = [
    Column("op", "op", "left", flexible=True),
    Column("kernel", "kernel", "left", priority=3, flexible=True),
    Column("float32", "base", unit="ms"),
    Column("int8", "variant", unit="ms"),
    Column("difference", "difference", priority=1, unit="ms"),
    Column("share", "share", priority=2, unit="%"),
    Column("MACs", "macs", priority=4, unit="M"),
    Column("weights", "weights", priority=5, unit="kB"),
]
LONG = "mobilenetv2/block_1_expand/Conv2D;mobilenetv2/block_1_expand_BN/FusedBatchNorm"
ROWS: list[dict[str, str | None]] = [
    {
        "op": LONG,
        "kernel": "Convolution (NHWC, F32) IGEMM",
        "base": "1.234",
        "variant": "0.912",
        "difference": "-0.322 [-0.330, -0.314]",
        "share": "12.3",
        "macs": "301",
        "weights": "12.3",
    },
    {"op": "漢字/[bold]x\x1b[31m", "kernel": None, "base": "0.100", "share": "1.0", "macs": "1", "weights": ""},
]
NOTE = "times are medians of 20 blocks; the interval is a 95 % bootstrap interval over the blocks"
TABLE = Table(COLUMNS, ROWS, "Ops of int8 against float32", [NOTE])

AT_80 = """\
Ops of int8 against float32
op                                float32   int8               difference  share
                                       ms     ms                       ms      %
────────────────────────────────────────────────────────────────────────────────
mobilenetv2/bloc…/FusedBatchNorm    1.234  0.912  -0.322 [-0.330, -0.314]   12.3
漢字/[bold]x\\x1b[31m                0.100      –                        –    1.0
• times are medians of 20 blocks; the interval is a 95 % bootstrap interval over
  the blocks
• 3 columns hidden at this width: kernel, MACs, weights; widen the terminal, or
  pipe the output for all of them"""

AT_80_ASCII = """\
Ops of int8 against float32
op                                float32   int8               difference  share
                                       ms     ms                       ms      %
--------------------------------------------------------------------------------
mobilenetv2/blo...FusedBatchNorm    1.234  0.912  -0.322 [-0.330, -0.314]   12.3
\\u6f22\\u5b57/[bold]x\\x1b[31m        0.100      -                        -    1.0
* times are medians of 20 blocks; the interval is a 95 % bootstrap interval over
  the blocks
* 3 columns hidden at this width: kernel, MACs, weights; widen the terminal, or
  pipe the output for all of them"""

AT_200 = f"""\
Ops of int8 against float32
op{" " * 78}kernel                         float32   int8               difference  share  MACs  weights
{" " * 116}ms     ms                       ms      %     M       kB
{"─" * 172}
{LONG}  Convolution (NHWC, F32) IGEMM    1.234  0.912  -0.322 [-0.330, -0.314]   12.3   301     12.3
漢字/[bold]x\\x1b[31m{" " * 60}–                                0.100      –                        –    1.0     1
• {NOTE}"""

PIPED = f"""\
# Ops of int8 against float32
op{" " * 78}kernel                         float32 (ms)  int8 (ms)          difference (ms)  share (%)  MACs (M)\
  weights (kB)
{LONG}  Convolution (NHWC, F32) IGEMM         1.234      0.912  -0.322 [-0.330, -0.314]       12.3       301\
          12.3
漢字/[bold]x\\x1b[31m{" " * 60}–                                     0.100          –                        –\
        1.0         1            ""
# {NOTE}"""

AT_18 = """\
op: conv
float32: 1234.5
int8: –

op: add
float32: 0.5
int8: 0.7"""

ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(
    ("width", "in_ascii", "expected"),
    [(80, False, AT_80), (80, True, AT_80_ASCII), (200, False, AT_200), (None, False, PIPED)],
    ids=["80", "80-ascii", "200", "piped"],
)
def test_golden_text(width: int | None, in_ascii: bool, expected: str) -> None:
    assert render(TABLE, width=width, color=False, ascii_only=in_ascii) == expected


def test_figures_are_never_cut_where_nothing_fits() -> None:
    rows = [{"op": "conv", "base": "1234.5"}, {"op": "add", "base": "0.5", "variant": "0.7"}]
    columns = [COLUMNS[0], Column("float32", "base"), Column("int8", "variant")]
    assert render(Table(columns, rows), width=19, color=False).splitlines()[2] == "conv   1234.5     –"
    assert render(Table(columns, rows), width=18, color=False) == AT_18


def test_one_hidden_column_is_told_in_the_singular() -> None:
    columns = [Column("op", "op", "left"), Column("extra", "extra", priority=1)]
    text = render(Table(columns, [{"op": "conv", "extra": "1" * 40}]), width=30, color=False)
    assert "conv\n• 1 column hidden at this\n  width: extra; widen the\n" in text


def test_equal_priorities_go_from_the_right_and_higher_ones_first() -> None:
    columns = [Column(name, name, priority=p) for name, p in (("aaaa", 0), ("bbbb", 1), ("cccc", 1), ("dddd", 2))]
    table = Table(columns, [])
    shown = {width: render(table, width=width, color=False).splitlines()[0] for width in (22, 21, 16, 15, 10, 9)}
    assert shown == {
        22: "aaaa  bbbb  cccc  dddd",
        21: "aaaa  bbbb  cccc",
        16: "aaaa  bbbb  cccc",
        15: "aaaa  bbbb",
        10: "aaaa  bbbb",
        9: "aaaa",
    }


def test_spare_cells_go_to_the_flexible_columns_evenly() -> None:
    columns = [Column(name, name, "left", flexible=True) for name in "ab"]
    lines = render(Table(columns, [{"a": "x" * 30, "b": "y" * 90}]), width=100, color=False).splitlines()
    assert lines[2] == "x" * 30 + "  " + "y" * 34 + "…" + "y" * 33
    lines = render(Table(columns, [{"a": "x" * 80, "b": "y" * 90}]), width=100, color=False).splitlines()
    assert lines[2] == "x" * 24 + "…" + "x" * 24 + "  " + "y" * 24 + "…" + "y" * 24


def test_a_table_without_rows_says_so() -> None:
    assert render(Table(COLUMNS[2:4], []), width=None, color=False) == "float32 (ms)  int8 (ms)\n# no rows"
    assert render(Table(COLUMNS[2:4], []), width=80, color=False).splitlines()[-1] == "no rows"


def test_awk_finds_every_field_of_the_piped_form() -> None:
    columns = [Column(name, name, "left") for name in "abc"]
    rows: list[dict[str, str | None]] = [
        {"a": "two words", "b": "", "c": "x"},
        {"a": "#no comment", "b": None, "c": "forged  field"},
        {"a": "line\nbreak", "b": "   ", "c": "\tx"},
    ]
    text = render(Table(columns, rows, "title\nforged", ["note"]), width=None, color=False)
    awk = subprocess.run(
        ["awk", "-F", "  +", '!/^#/ {print NF "|" $2}'], input=text + "\n", capture_output=True, text=True, check=True
    )
    assert awk.stdout.splitlines() == ["3|b", '3|""', "3|–", '3|" \\x20 "']
    assert "forged \\x20field" in text
    assert "\\x23no comment" in text


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    name = "a\x1b[2Jb\rc\x9bd\u202ee\u200bf\x00g\ud800h\u2028i"
    assert printable(name) == "a\\x1b[2Jb\\rc\\x9bd\\u202ee\\u200bf\\x00g\\ud800h\\u2028i"
    for width in (80, None):
        text = render(Table([Column("op", "op")], [{"op": name}], name, [name]), width=width, color=False)
        assert text.count(printable(name)) == 3
        text.encode()


def test_markup_in_a_name_is_text() -> None:
    name = "[red]x[/red] :smile:"
    text = render(Table([Column("op", "op")], [{"op": name}], name, [name]), width=80, color=True)
    assert text.count(name) == 3


def test_color_changes_nothing_but_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    colored = render(TABLE, width=80, color=True)
    assert "\x1b[1m" in colored
    assert [line.rstrip() for line in ANSI.sub("", colored).splitlines()] == AT_80.splitlines()


CELLS = st.text(st.characters(), max_size=60) | st.text("0123456789.-[], ", max_size=30)


@given(
    rows=st.lists(st.fixed_dictionaries({key: st.none() | CELLS for key in "abcd"}), max_size=4),
    titles=st.lists(CELLS, min_size=4, max_size=4),
    note=CELLS,
    priorities=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    flexible=st.lists(st.booleans(), min_size=4, max_size=4),
    width=st.integers(2, 120),
    color=st.booleans(),
    in_ascii=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_no_line_exceeds_the_width(
    rows: list[dict[str, str | None]],
    titles: list[str],
    note: str,
    priorities: list[int],
    flexible: list[bool],
    width: int,
    color: bool,
    in_ascii: bool,
) -> None:
    columns = [
        Column(title, key, "left", priority, bends, unit=title[:3])
        for title, key, priority, bends in zip(titles, "abcd", priorities, flexible, strict=True)
    ]
    table = Table(columns, rows, titles[0], [note])
    drawn = ANSI.sub("", render(table, width=width, color=color, ascii_only=in_ascii))
    for line in drawn.split("\n"):
        assert cell_len(line) <= width
        assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in line)
    assert not in_ascii or drawn.isascii()
    piped = render(table, width=None, color=color, ascii_only=in_ascii).split("\n")
    assert len([line for line in piped if not line.startswith("#")]) >= len(rows)
    assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for line in piped for char in line)


@given(text=st.text(max_size=80), width=st.integers(1, 40))
def test_shortening_keeps_both_ends(text: str, width: int) -> None:
    text = printable(text)
    short = shorten_middle(text, width)
    assert cell_len(short) <= width
    if cell_len(text) <= width:
        assert short == text
    else:
        assert any(
            text.startswith(short[:cut]) and short[cut] == "…" and text.endswith(short[cut + 1 :])
            for cut in range(len(short))
        )


def test_shortening_counts_cells_and_not_characters() -> None:
    assert shorten_middle("漢" * 10, 15) == "漢漢漢漢…漢漢漢"
    assert shorten_middle("漢" * 10, 20) == "漢" * 10


def test_shortening_looks_at_few_characters_of_a_name_that_takes_no_room() -> None:
    marks = "\u0301" * 5000
    short = shorten_middle("a" + marks + "b" * 50 + marks, 20)
    assert cell_len(short) <= 20
    assert len(short) < 400


def test_what_has_no_ascii_form_is_escaped() -> None:
    assert to_ascii("12 µs ± 1 – é漢") == "12 us +/- 1 - \\xe9\\u6f22"


class _Terminal(io.StringIO):
    encoding: Any = "utf-8"

    def isatty(self) -> bool:
        return True


def test_width_is_none_without_a_terminal() -> None:
    assert output_width(io.StringIO(), {"COLUMNS": "100"}) is None


@pytest.mark.parametrize(
    ("columns", "width"), [("100", 100), ("0", 80), ("-5", 80), ("wide", 80), ("", 80), ("²", 80), ("1" * 5000, 80)]
)
def test_width_honours_columns(columns: str, width: int) -> None:
    assert output_width(_Terminal(), {"COLUMNS": columns}) == width


def test_width_is_the_terminals_own() -> None:
    import fcntl
    import termios

    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as terminal, os.fdopen(master, "rb"):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 132, 0, 0))
        assert output_width(terminal, {}) == 132
        assert output_width(terminal, {"COLUMNS": "70"}) == 70
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        assert output_width(terminal, {}) == 80


@pytest.mark.parametrize(
    ("environ", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_no_color_is_respected(environ: dict[str, str], colored: bool) -> None:
    assert use_color(_Terminal(), environ) is colored
    assert use_color(io.StringIO(), environ) is False


def test_streams_that_are_not_unicode_get_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1")
    assert ascii_only(stream)
    assert not ascii_only(io.TextIOWrapper(io.BytesIO(), encoding="UTF8"))
    print_table(Table([Column("op", "op", unit="µs")], [{"op": "漢字"}, {"op": None}]), stream)
    stream.flush()
    assert raw.getvalue() == b"     op (us)\n\\u6f22\\u5b57\n           -\n"


def test_a_terminal_gets_the_drawn_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = _Terminal()
    print_table(TABLE, terminal)
    assert terminal.getvalue() == AT_80 + "\n"

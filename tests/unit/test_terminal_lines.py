"""Lines of plain text on a terminal and in a pipe."""

from __future__ import annotations

import io

import pytest

from qprof.report.terminal import print_lines


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_names_from_models_are_not_obeyed() -> None:
    stream = io.StringIO()
    print_lines(["op \x1b[2Jhidden\u202e is slow", ""], stream)
    assert stream.getvalue() == "op \\x1b[2Jhidden\\u202e is slow\n\n"


def test_long_lines_wrap_below_their_indent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    print_lines(["    the quick brown fox jumps over the dog", "short"], stream)
    lines = stream.getvalue().splitlines()
    assert lines == ["    the quick brown fox jumps", "      over the dog", "short"]
    assert max(map(len, lines)) <= 30


def test_a_pipe_gets_whole_lines() -> None:
    stream = io.StringIO()
    print_lines(["x" * 300], stream)
    assert stream.getvalue() == "x" * 300 + "\n"


def test_ascii_streams_get_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_lines(["5 µs → done"], stream)
    stream.flush()
    assert raw.getvalue().isascii()

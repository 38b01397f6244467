"""The figures so far: a table that is drawn in its own place on a terminal, a line for each look elsewhere."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest

from fake_clock import FakeClock
from qprof.measure.progress import Standing
from qprof.report.progress import make_progress


class _Terminal(io.StringIO):
    encoding: Any = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    for name, value in (("COLUMNS", "90"), ("TERM", "xterm"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    return _Terminal()


def _rows(looked: bool, name: str = "int8") -> list[Standing]:
    log = (math.log(0.66), math.log(0.65), math.log(0.67)) if looked else None
    return [
        Standing("float32", "", 2031.6, 6, None, ""),
        Standing(name, "", 1340.9, 6, log, "better" if looked else "undecided yet"),
    ]


def test_lines_of_a_log_are_those_of_the_looks() -> None:
    stream, clock = io.StringIO(), FakeClock()
    with make_progress(stream, clock) as progress:
        progress.phase("measuring", "until decided")
        for _ in range(5):
            progress.standing("after 5 rounds", _rows(False), False)
        progress.standing("after 6 rounds, 3.0 s", _rows(True), True)
    assert stream.getvalue() == (
        "measuring: until decided\nafter 6 rounds, 3.0 s: int8 x0.660 [0.650, 0.670] better\nfinished: 0 steps, 0 s\n"
    )


def test_a_terminal_shows_one_table_which_is_sharpened_in_place(terminal: _Terminal) -> None:
    with make_progress(terminal, FakeClock()) as progress:
        progress.phase("measuring", "until decided")
        progress.standing("after 1 round, 0.5 s", _rows(False), False)
        before = terminal.getvalue()
        assert "undecided yet" in before and "2.03" in before and "x0.660" not in before
        height = before.rpartition("after 1 round")[2].count("\n")
        terminal.seek(0)
        terminal.truncate()
        progress.standing("after 6 rounds, 3.0 s", _rows(True), True)
        drawn = terminal.getvalue()
        assert "x0.660 [0.650, 0.670]  better" in drawn and "after 1 round" not in drawn
        up = drawn.partition("after 6 rounds")[0].count("\x1b[1A")
        assert up == height > 3, "the cursor goes back over the table that was there"


def test_names_cannot_move_the_cursor(terminal: _Terminal) -> None:
    plain = io.StringIO()
    for stream in (plain, terminal):
        with make_progress(stream, FakeClock()) as progress:
            progress.standing("t", _rows(True, "a\x1b[2J\x1b[31m\nb"), True)
        assert "\x1b[2J" not in stream.getvalue() and "\x1b[31m" not in stream.getvalue()

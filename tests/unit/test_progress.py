"""The progress display, to the letter, with a clock that the test moves."""

from __future__ import annotations

import io
import re
import sys
import threading
from typing import Any

import pytest

from fake_clock import FakeClock
from qprof.report.progress import LiveProgress, NullProgress, PlainProgress, Progress, StepTimes, make_progress


class _Terminal(io.StringIO):
    encoding: Any = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return _Terminal()


def _frames(terminal: io.StringIO) -> list[str]:
    """The texts that the terminal showed one after the other on its last line."""
    text = re.sub(r"\x1b\[\?25[lh]|\x1b\[1A", "", terminal.getvalue())
    return [line.strip() for line in re.split(r"\r|\n|\x1b\[2K", text) if line.strip()]


def _measure(progress: Progress, clock: FakeClock) -> None:
    progress.phase("measure", "2 variants")
    progress.plan({"float32": 2, "int8": 2})
    for key, seconds in (("float32", 4.0), ("int8", 3.0), ("float32", 4.0), ("int8", 2.0)):
        progress.start(key, f"{key}, clean block")
        clock.advance(seconds)
        progress.done(key, seconds)


def test_plain_lines_are_sparse() -> None:
    stream, clock = io.StringIO(), FakeClock()
    with make_progress(stream, clock) as progress:
        progress.phase("prepare")
        clock.advance(1)
        _measure(progress, clock)
        progress.note("int8 drifts by 3 %")
        progress.phase("score", "500 samples")
    assert stream.getvalue() == (
        "prepare\n"
        "measure: 2 variants\n"
        "  [3/4] float32, clean block; 7 s left\n"
        "note: int8 drifts by 3 %\n"
        "score: 500 samples\n"
        "finished: 4 steps, 14 s\n"
    )


def test_plain_remaining_time_is_unknown_until_each_key_was_measured() -> None:
    stream, clock = io.StringIO(), FakeClock()
    progress = make_progress(stream, clock)
    progress.phase("measure")
    progress.plan({"a": 3, "b": 1})
    for _ in range(2):
        clock.advance(5)
        progress.start("a", "a")
        progress.done("a", 5.0)
    clock.advance(5)
    progress.start("b", "b")
    progress.done("b", 90.0)
    clock.advance(5)
    progress.start("a", "a again")
    assert stream.getvalue() == (
        "measure\n  [1/4] a; ? left\n  [2/4] a; ? left\n  [3/4] b; ? left\n  [4/4] a again; 5 s left\n"
    )


def test_plain_lines_come_5_seconds_apart_and_not_earlier() -> None:
    stream, clock = io.StringIO(), FakeClock()
    progress = make_progress(stream, clock)
    for _ in range(11):
        progress.start("a", "step")
        progress.done("a", 1.0)
        clock.advance(1)
    progress.finish()
    progress.finish()
    assert stream.getvalue() == (
        "  [1] step; ? left\n  [6] step; ? left\n  [11] step; ? left\nfinished: 11 steps, 11 s\n"
    )


def test_an_exception_says_how_far_it_came() -> None:
    stream, clock = io.StringIO(), FakeClock()
    with pytest.raises(KeyboardInterrupt), make_progress(stream, clock) as progress:
        progress.phase("measure")
        progress.plan({"a": 3})
        progress.start("a", "a")
        clock.advance(61)
        progress.done("a", 61.0)
        raise KeyboardInterrupt
    assert stream.getvalue() == "measure\nstopped: 1 of 3 steps done, 1 min 01 s\n"


def test_hostile_text_cannot_move_the_cursor(terminal: _Terminal) -> None:
    plain = io.StringIO()
    for stream in (plain, terminal):
        progress = make_progress(stream, FakeClock())
        progress.phase("a\x1b[2J", "b\nc")
        progress.note("d\re")
        progress.finish()
        assert "\x1b[2J" not in stream.getvalue()
    assert plain.getvalue() == "a\\x1b[2J: b\\nc\nnote: d\\re\nfinished: 0 steps, 0 s\n"


def test_a_stream_that_is_not_unicode_gets_ascii() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    make_progress(stream, FakeClock()).phase("measure", "12 µs ± 漢")
    assert raw.getvalue() == b"measure: 12 us +/- \\u6f22\n"


def test_live_line(terminal: _Terminal) -> None:
    clock = FakeClock()
    with make_progress(terminal, clock) as progress:
        _measure(progress, clock)
        progress.note("int8 drifts")
        progress.phase("score", "500 samples")

    def line(done: int, count: str, step: str, left: str) -> str:
        head = f"measure {'━' * 4 * done:16} {count} {step}"
        return head + " " * (72 - len(head) - len(left)) + left

    frames = _frames(terminal)
    frames = [frame for i, frame in enumerate(frames) if i == 0 or frame != frames[i - 1]]
    assert re.fullmatch(r"measure [━╸╺ ]+ +2 variants", frames[0])
    assert frames[1:-2] == [
        line(0, "1/4", "float32, clean block", "? left"),
        line(1, "1/4", "float32, clean block", "? left"),
        line(1, "2/4", "int8, clean block", "? left"),
        line(2, "2/4", "int8, clean block", "7 s left"),
        line(2, "3/4", "float32, clean block", "7 s left"),
        line(3, "3/4", "float32, clean block", "3 s left"),
        line(3, "4/4", "int8, clean block", "3 s left"),
        line(4, "4/4", "int8, clean block", "0 s left"),
        "note: int8 drifts",
        line(4, "4/4", "int8, clean block", "0 s left"),
    ]
    assert re.fullmatch(r"score [━╸╺ ]+ +500 samples", frames[-2])
    assert frames[-1] == "finished: 4 steps, 13 s"


def test_live_line_never_wraps(monkeypatch: pytest.MonkeyPatch, terminal: _Terminal) -> None:
    for width in (30, 50, 60, 80):
        monkeypatch.setenv("COLUMNS", str(width))
        stream, clock = _Terminal(), FakeClock()
        progress = make_progress(stream, clock)
        progress.phase("measure", "漢字" * 100)
        progress.plan({"a": 1})
        progress.start("a", "x" * 300)
        assert stream.getvalue().count("\n") == 0
        assert _frames(stream)[-1].endswith("? left")
        progress.finish()


def test_nothing_is_drawn_while_a_step_runs(terminal: _Terminal) -> None:
    threads = threading.active_count()
    progress = make_progress(terminal, FakeClock(step_ns=1_000_000))
    progress.phase("measure")
    progress.plan({"a": 1})
    progress.start("a", "a")
    before = terminal.getvalue()
    assert threading.active_count() == threads
    threading.Event().wait(0.25)  # longer than rich's own refresh period of 0.1 s
    assert terminal.getvalue() == before
    progress.done("a", 1.0)
    assert terminal.getvalue() != before
    progress.finish()


def test_the_cursor_comes_back_after_an_exception(terminal: _Terminal) -> None:
    stdout, stderr = sys.stdout, sys.stderr
    with pytest.raises(RuntimeError), make_progress(terminal, FakeClock()) as progress:
        progress.phase("measure")
        assert terminal.getvalue().rfind("\x1b[?25l") > terminal.getvalue().rfind("\x1b[?25h")
        assert sys.stdout is stdout  # tables on a piped stdout stay there
        raise RuntimeError
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")
    assert (sys.stdout, sys.stderr) == (stdout, stderr)


def test_which_display_is_made(monkeypatch: pytest.MonkeyPatch, terminal: _Terminal) -> None:
    assert isinstance(make_progress(terminal, FakeClock()), LiveProgress)
    assert isinstance(make_progress(io.StringIO(), FakeClock()), PlainProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_progress(terminal, FakeClock()), PlainProgress)


def test_quiet_says_nothing(terminal: _Terminal) -> None:
    clock = FakeClock()
    with make_progress(terminal, clock, quiet=True) as progress:
        assert isinstance(progress, NullProgress)
        _measure(progress, clock)
        progress.note("x")
        progress.finish()
    assert terminal.getvalue() == ""


def test_step_times() -> None:
    times = StepTimes()
    assert (times.total, times.count, times.remaining_s()) == (None, 0, None)
    times.plan({"a": 3, "b": 1})
    times.done("a", 1.0)
    assert times.remaining_s() is None
    times.done("b", 10.0)
    times.done("a", 3.0)
    assert times.remaining_s() == 2.0
    assert (times.total, times.count) == (4, 3)
    times.done("a", 2.0)
    times.done("a", 2.0)  # one more than planned
    assert times.remaining_s() == 0.0
    times.plan({"b": 2})  # what was measured before still counts
    assert times.remaining_s() == 20.0

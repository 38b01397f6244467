"""What is running and how long is left: one live line on a terminal, sparse plain lines elsewhere."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Protocol

from qprof.measure.progress import SilentProgress, Standing
from qprof.probes.clock import Clock
from qprof.report.looks import standing_line, standing_table
from qprof.report.table import render
from qprof.report.terminal import ascii_only, is_interactive, printable, to_ascii, use_color
from qprof.report.units import span

if TYPE_CHECKING:
    from rich import progress as rich_progress
    from rich.text import Text

_QUIET_NS = 5_000_000_000  # between two plain lines that only tell of the next step


class Progress(Protocol):
    """What a long command tells while it works. Steps have a key (variant and kind), whose steps cost alike."""

    def phase(self, name: str, detail: str = "") -> None:
        """A new part of the work begins."""

    def plan(self, total_steps_by_key: Mapping[str, int]) -> None:
        """How many steps of each key this phase has; takes the place of an earlier plan."""

    def start(self, key: str, text: str) -> None:
        """A step begins. Nothing is drawn from here to `done`, so that a measurement is not disturbed."""

    def done(self, key: str, seconds: float) -> None:
        """The step has ended and took `seconds`."""

    def note(self, text: str) -> None:
        """A remark that stays visible."""

    def standing(self, title: str, rows: Sequence[Standing], decided: bool) -> None:
        """The figures so far, in the place of those that were shown before; `decided`: after a look at the verdicts."""

    def finish(self) -> None:
        """The work is complete; shows the cursor again. May be called twice."""

    def __enter__(self) -> Progress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish, or say how far it came where an exception ends it."""


def make_progress(stream: IO[str], clock: Clock, quiet: bool = False) -> Progress:
    """The progress that `stream` (stderr, say) can show; a silent one for `quiet`."""
    if quiet:
        return NullProgress()
    return LiveProgress(stream, clock) if is_interactive(stream) else PlainProgress(stream, clock)


class StepTimes:
    """Counts steps and estimates the rest from the mean time of each key's measured steps."""

    def __init__(self) -> None:
        self._planned: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._measured: dict[str, tuple[int, float]] = {}  # count, seconds; kept from phase to phase

    @property
    def total(self) -> int | None:
        """Steps of the present plan, `None` without one."""
        return sum(self._planned.values()) if self._planned else None

    @property
    def count(self) -> int:
        """Steps done since the present plan."""
        return sum(self._done.values())

    def plan(self, total_steps_by_key: Mapping[str, int]) -> None:
        self._planned = dict(total_steps_by_key)
        self._done = {}

    def done(self, key: str, seconds: float) -> None:
        self._done[key] = self._done.get(key, 0) + 1
        count, total = self._measured.get(key, (0, 0.0))
        self._measured[key] = (count + 1, total + seconds)

    def remaining_s(self) -> float | None:
        """Seconds left; `None` without a plan, or while a key with steps left has no measurement."""
        if not self._planned:
            return None
        left = {key: total - self._done.get(key, 0) for key, total in self._planned.items()}
        left = {key: steps for key, steps in left.items() if steps > 0}
        if any(key not in self._measured for key in left):
            return None
        return sum(steps * self._measured[key][1] / self._measured[key][0] for key, steps in left.items())


class NullProgress(SilentProgress):
    """Says nothing."""

    def finish(self) -> None: ...

    def __enter__(self) -> NullProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _CountingProgress(ABC):
    """The bookkeeping that both displays share; they differ in how they draw."""

    def __init__(self, stream: IO[str], clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._ascii = ascii_only(stream)
        self._times = StepTimes()
        self._began_ns: int | None = None
        self._steps = 0
        self._closed = False

    def phase(self, name: str, detail: str = "") -> None:
        self._begin()
        self._times.plan({})
        self._show_phase(self._safe(name), self._safe(detail))

    def plan(self, total_steps_by_key: Mapping[str, int]) -> None:
        self._begin()
        self._times.plan(total_steps_by_key)

    def start(self, key: str, text: str) -> None:
        self._begin()
        self._show_step(self._safe(text))

    def done(self, key: str, seconds: float) -> None:
        self._steps += 1
        self._times.done(key, seconds)
        self._show_done()

    def note(self, text: str) -> None:
        self._write_line(self._safe(f"note: {text}"))

    def standing(self, title: str, rows: Sequence[Standing], decided: bool) -> None:
        self._show_standing(title, rows, decided)

    def finish(self) -> None:
        self._end("finished")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end("finished" if kind is None else "stopped")

    def _begin(self) -> None:
        if self._began_ns is None:
            self._began_ns = self._clock.now_ns()

    def _end(self, word: str) -> None:
        if self._closed:
            return
        self._closed = True
        self._close()
        if self._began_ns is None:
            return
        steps = f"{self._steps} step{'' if self._steps == 1 else 's'}"
        total = self._times.total
        if word == "stopped" and total is not None:
            steps = f"{self._times.count} of {total} steps done"
        self._write_line(f"{word}: {steps}, {span((self._clock.now_ns() - self._began_ns) / 1e9)}")

    def _count(self) -> str:
        """ "3/12": the number of the step that runs, or of the last one."""
        total = self._times.total
        running = self._times.count + 1
        return str(running) if total is None else f"{min(running, total)}/{total}"

    def _left(self) -> str:
        return f"{span(self._times.remaining_s())} left"

    def _safe(self, text: str) -> str:
        return to_ascii(printable(text)) if self._ascii else printable(text)

    def _write_line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    @abstractmethod
    def _show_phase(self, name: str, detail: str) -> None: ...

    @abstractmethod
    def _show_step(self, text: str) -> None: ...

    @abstractmethod
    def _show_done(self) -> None: ...

    @abstractmethod
    def _show_standing(self, title: str, rows: Sequence[Standing], decided: bool) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...


class PlainProgress(_CountingProgress):
    """Lines for a log: one for each phase, each note and the end, and of the steps at most one in 5 s."""

    def __init__(self, stream: IO[str], clock: Clock) -> None:
        super().__init__(stream, clock)
        self._last_ns: int | None = None

    def __enter__(self) -> PlainProgress:
        return self

    def _show_phase(self, name: str, detail: str) -> None:
        self._last_ns = self._clock.now_ns()
        self._write_line(f"{name}: {detail}" if detail else name)

    def _show_step(self, text: str) -> None:
        now = self._clock.now_ns()
        if self._last_ns is not None and now - self._last_ns < _QUIET_NS:
            return
        self._last_ns = now
        self._write_line(f"  [{self._count()}] {text}; {self._left()}")

    def _show_done(self) -> None:
        """The next step's line tells it."""

    def _show_standing(self, title: str, rows: Sequence[Standing], decided: bool) -> None:
        """A line for each look, of which there are few; what comes between them is for those who watch."""
        if decided:
            self._write_line(self._safe(standing_line(title, rows)))

    def _close(self) -> None:
        """Nothing is open."""


class LiveProgress(_CountingProgress):
    """One line that is redrawn when a step begins or ends, by no thread and at no other time; above it the table of the
    figures so far, where a run has one."""

    def __init__(self, stream: IO[str], clock: Clock) -> None:
        super().__init__(stream, clock)
        self._above: list[Text] = []
        self._display = _line_display(stream, clock, self._above)
        self._task = self._new_task("", "")

    def __enter__(self) -> LiveProgress:
        return self

    def _show_phase(self, name: str, detail: str) -> None:
        self._display.remove_task(self._task)  # its total cannot be taken back
        self._task = self._new_task(name, detail)
        self._redraw()

    def _show_step(self, text: str) -> None:
        self._display.update(self._task, step=text, count=self._count(), left=self._left())
        self._redraw()

    def _show_done(self) -> None:
        self._display.update(self._task, left=self._left())
        self._redraw()

    def _show_standing(self, title: str, rows: Sequence[Standing], decided: bool) -> None:
        from rich.text import Text

        width = self._display.console.width
        drawn = render(standing_table(title, rows), width=width, color=use_color(self._stream), ascii_only=self._ascii)
        self._above[:] = [Text.from_ansi(drawn)]
        self._redraw()

    def _new_task(self, name: str, detail: str) -> rich_progress.TaskID:
        return self._display.add_task(name, total=None, count="", step=detail, left="")

    def _redraw(self) -> None:
        self._display.update(self._task, total=self._times.total, completed=self._times.count)
        if self._display.live.is_started:
            self._display.refresh()
        else:
            self._display.start()  # draws, too

    def _write_line(self, text: str) -> None:
        from rich.text import Text

        # Through the display, which draws the live line anew below it.
        self._display.console.print(Text(text))

    def _close(self) -> None:
        self._display.stop()


def _line_display(stream: IO[str], clock: Clock, above: Sequence[Text]) -> rich_progress.Progress:
    """rich's progress as one line: phase, bar, count, step, time left; a step's long text ends in an ellipsis. What is
    `above` when it is drawn, is drawn above it."""
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress
    from rich.table import Column

    def text(source: str, ratio: int | None = None) -> TextColumn:
        column = Column(no_wrap=True, overflow="ellipsis", ratio=ratio)
        return TextColumn(source, markup=False, table_column=column)

    console = Console(file=stream, force_terminal=True, force_jupyter=False, highlight=False, markup=False, emoji=False)
    bar = [BarColumn(bar_width=16)] if console.width >= 60 else []

    class BelowTable(RichProgress):
        def get_renderables(self) -> Iterable[RenderableType]:
            yield from above
            yield from super().get_renderables()

    return BelowTable(
        text("{task.description}"),
        *bar,
        text("{task.fields[count]}"),
        text("{task.fields[step]}", ratio=1),
        text("{task.fields[left]}"),
        console=console,
        auto_refresh=False,
        transient=True,
        # Tables on a piped stdout must not be drawn into stderr's terminal; warnings on stderr go above the line.
        redirect_stdout=False,
        redirect_stderr=stream is sys.stderr,
        get_time=lambda: clock.now_ns() / 1e9,
        expand=True,
    )

"""The clock of all measurements: CLOCK_MONOTONIC, shared by every process, sensor and compiled part of a run."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qprof.errors import QprofError

_CLOCK = "clock_gettime(CLOCK_MONOTONIC)"
_STUCK_AFTER = 1_000_000  # equal readings: some 50 ms, far above any usable clock's step


class Clock(Protocol):
    """A source of the present time; injected wherever time is read, so that a test needs no waiting."""

    def now_ns(self) -> int:
        """Nanoseconds since a fixed point; never goes back."""


class MonotonicClock:
    """CLOCK_MONOTONIC, in nanoseconds.

    Raises `QprofError` where Python's clocks are another one: op events come from compiled code on CLOCK_MONOTONIC
    (see clock_gettime(2)), and times of two clocks must not meet on one time line. On Linux `time.monotonic_ns` and
    `time.perf_counter_ns` are both that clock.
    """

    def __init__(self) -> None:
        for name in ("monotonic", "perf_counter"):
            found = time.get_clock_info(name).implementation
            if found != _CLOCK:
                raise QprofError(f"clock: Python's {name} is {found}, not CLOCK_MONOTONIC; measure on Linux")

    def now_ns(self) -> int:
        """Nanoseconds since the machine's start (not counting suspension)."""
        return time.perf_counter_ns()


@dataclass(frozen=True, slots=True)
class WallOffset:
    """wall time = monotonic time + `offset_ns`, right to within `error_ns` at the moment it was taken."""

    offset_ns: int
    error_ns: int


def wall_offset(
    clock: Clock | None = None, wall_ns: Callable[[], int] = time.time_ns, attempts: int = 32
) -> WallOffset:
    """Offset of CLOCK_REALTIME from `clock`.

    The wall clock is read between two readings of `clock`; of several attempts the tightest pair counts, and half of
    its width bounds the error (Cristian's algorithm, Distributed Computing 3:146-158, 1989).
    """
    source = clock or MonotonicClock()
    best: tuple[int, int] | None = None
    for _ in range(attempts):
        before = source.now_ns()
        wall = wall_ns()
        after = source.now_ns()
        if best is None or after - before < best[0]:
            best = (after - before, wall - (before + after) // 2)
    if best is None:
        raise ValueError("attempts must be at least 1")
    return WallOffset(best[1], (best[0] + 1) // 2)


def wall_offset_ns(clock: Clock | None = None) -> int:
    """The offset alone; see `wall_offset`."""
    return wall_offset(clock).offset_ns


def resolution_ns(clock: Clock | None = None, readings: int = 2000) -> int:
    """The smallest step seen among `readings` in a row, in nanoseconds.

    An upper bound of the clock's own step: reading it through Python takes longer than the hardware ticks, and no
    interval shorter than this can be told from none. A clock too coarse to step at all is read on, up to a million
    times, and raises `QprofError` where it still stands.
    """
    source = clock or MonotonicClock()
    for _ in range(0, _STUCK_AFTER, readings):
        times = [source.now_ns() for _ in range(readings)]
        steps = [after - before for before, after in itertools.pairwise(times) if after != before]
        if steps:
            return min(steps)
    raise QprofError(f"clock: stands still over {_STUCK_AFTER} readings; no time can be measured with it")


def reading_cost_ns(clock: Clock | None = None, batches: int = 20, readings: int = 500) -> float:
    """What one reading costs, in nanoseconds: the median over `batches` of the mean of `readings`."""
    source = clock or MonotonicClock()
    costs: list[float] = []
    for _ in range(batches):
        start = source.now_ns()
        for _ in range(readings):
            source.now_ns()
        costs.append((source.now_ns() - start) / (readings + 1))
    return statistics.median(costs)

"""Ceilings: what a machine did at most of one kind of work, through a runtime, measured in passes over all of them."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

from qprof.record.ceilings import Ceiling

#: Passes over all ceilings. A disturbance of some tenths of a second spoils the same pass of a few, not their medians.
#: On a machine that is busy, the fewest and nothing tried again once they have taken so many seconds.
REPETITIONS, FEWEST_REPETITIONS, PATIENCE_S = 7, 5, 5.0

#: How long the calls of one pass take together: enough for the clock, and for a timer interrupt not to count.
PASS_S = 0.015

#: A pass whose threads waited longer than this part of it for a processor is tried again, a few times at most.
_CALM, _TRIES = 0.02, 3

#: Seconds that a number of calls, one after the other, take until all their work is done.
CallTimer = Callable[[Callable[[], Any], int], float]


@dataclass(frozen=True, slots=True)
class Bench:
    """A ceiling to be measured: `sample()` gives the figure of one pass, in the ceiling's unit."""

    ceiling: Ceiling
    sample: Callable[[], float]


def on_the_host(call: Callable[[], Any], calls: int) -> float:
    """The `CallTimer` of work that is done when its call returns."""
    begin = perf_counter()
    for _ in range(calls):
        call()
    return perf_counter() - begin


class Paced:
    """Repeats a call often enough for one pass. The first calls, which find that number, are the warm-up."""

    def __init__(self, call: Callable[[], Any], timer: CallTimer) -> None:
        self._call, self._timer = call, timer
        timer(call, 2)
        self._calls = 1
        # Doubled until it lasts: a single call is too short for the clock, and the first are slow.
        while (seconds := timer(call, self._calls)) < PASS_S / 2:
            self._calls *= 2
        self._calls = max(1, round(self._calls * PASS_S / seconds))

    def seconds_per_call(self) -> float:
        self._timer(self._call, 1)  # what other ceilings have put into the caches since is no part of this one
        return self._timer(self._call, self._calls) / self._calls


def throughput(ceiling: Ceiling, work: float, call: Callable[[], Any], timer: CallTimer = on_the_host) -> Bench:
    """A bench of `work` MACs or bytes per call; its unit is 1e9 of them per second."""
    paced = Paced(call, timer)
    return Bench(ceiling, lambda: work / paced.seconds_per_call() / 1e9)


def slope(
    ceiling: Ceiling, links: int, short: Callable[[], Any], long: Callable[[], Any], timer: CallTimer = on_the_host
) -> Bench:
    """A bench of the microseconds that each of `links` more links of a chain cost."""
    shorter, longer = Paced(short, timer), Paced(long, timer)
    return Bench(ceiling, lambda: (longer.seconds_per_call() - shorter.seconds_per_call()) / links * 1e6)


def measure(benches: Sequence[Bench]) -> list[Ceiling]:
    """Every bench's median and interquartile range over some passes through all of them."""
    samples: list[list[tuple[float, float]]] = [[] for _ in benches]
    impatient_ns = perf_counter_ns() + round(PATIENCE_S * 1e9)
    for number in range(REPETITIONS):
        if number >= FEWEST_REPETITIONS and perf_counter_ns() > impatient_ns:
            break
        for bench, found in zip(benches, samples, strict=True):
            found.append(_calmest(bench.sample, _TRIES if perf_counter_ns() < impatient_ns else 1))
    return [_summary(bench.ceiling, found) for bench, found in zip(benches, samples, strict=True)]


def _calmest(sample: Callable[[], float], tries: int) -> tuple[float, float]:
    """(part of the time that was spent waiting for a processor, figure) of a calm pass, or of the calmest there was."""
    tried = []
    for _ in range(tries):
        waited_ns, begin_ns = _waited_ns(), perf_counter_ns()
        figure = sample()
        tried.append(((_waited_ns() - waited_ns) / (perf_counter_ns() - begin_ns), figure))
        if tried[-1][0] <= _CALM:
            break
    return min(tried)


def _waited_ns() -> int:
    """How long this process's threads have been ready to run and had no processor (Documentation/scheduler/
    sched-stats.rst, the second figure); 0 where the system does not tell."""
    waited = 0
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(
            OSError, ValueError, IndexError
        ):  # a thread that ended, or a kernel that does not count
            waited += int(thread.read_text().split()[1])
    return waited


def _summary(ceiling: Ceiling, samples: Sequence[tuple[float, float]]) -> Ceiling:
    figures = [figure for _, figure in samples]
    value = statistics.median(figures)
    disturbed = statistics.median(waited for waited, _ in samples) > _CALM
    ceiling = replace(ceiling, repetitions=len(samples), disturbed=disturbed)
    if value <= 0:
        reason = f"the longer chain took no longer in most of {len(samples)} passes: the machine was too busy"
        return replace(ceiling, reason=reason)
    low, _, high = statistics.quantiles(figures, n=4, method="inclusive")
    return replace(ceiling, value=value, spread=high - low)


@dataclass(frozen=True, slots=True)
class Level:
    """A level of the memory hierarchy: work on `bytes` in all takes place in it; `capacity` is `None` for memory."""

    name: str
    bytes: int
    capacity: int | None
    note: str | None = None


def levels(cache_bytes: Mapping[str, int] | None, largest_bytes: int = 384 << 20) -> list[Level]:
    """The levels to measure: L2 and what is behind it, and memory. `cache_bytes`: cache -> size ("L2", "L3"), `None`
    where the machine does not tell. No working set is larger than `largest_bytes`, for which there must be room."""
    if not cache_bytes:
        return [Level("memory", largest_bytes, None, "cache sizes unknown: all traffic is held against memory")]
    found = []
    inner = 0
    for name in ("L2", "L3", "L4"):
        size = cache_bytes.get(name, 0)
        if size > inner:
            # Half of a level, and for outer ones well above the level before it, so that nothing else serves it.
            found.append(Level(name, size // 2 if not inner else max(size // 4, 3 * inner), size))
            inner = size
    wanted = max(6 * inner, 64 << 20)
    note = None
    if 6 * inner > largest_bytes:
        note = f"the caches hold {inner >> 20} MiB, part of the {largest_bytes >> 20} MiB that are streamed"
    return [*found, Level("memory", min(wanted, largest_bytes), None, note)]

"""Reads probes at a steady rate while something else runs, and tells what that cost.

Probes whose parts have plans are read by one thread of compiled code (`probes.compiled`), which never waits for Python.
Every other probe has a thread of its own, so that a sensor that hangs holds up no other. A hung thread cannot be ended
from outside: it is left behind (a daemon), its probe is dropped with the reason, and what it may still read is thrown
away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qprof.probes import losses
from qprof.probes.base import NullProbe, Probe, ProbeError, ProbeReading, SensorGoneError
from qprof.probes.clock import Clock, MonotonicClock
from qprof.probes.compiled import CompiledLine, CompiledThread
from qprof.probes.traces import ChannelTrace, forgotten
from qprof.record.sensors import Channel, Missing, SamplingCost

MIN_RATE_HZ, MAX_RATE_HZ = 0.01, 1000.0
DEFAULT_RATE_HZ = 10.0
DEFAULT_TIMEOUT_S = 2.0
#: All traces together; the older half is forgotten when they reach it.
DEFAULT_MEMORY_BYTES = 256 << 20
#: Readings in a row that may fail before a sensor is taken for lost.
FAILURES_IN_A_ROW = 20

_FIRST_READINGS = 1024
_BYTES_PER_READING = 16

#: Waits so many seconds, or less where the event is set; tells whether it is.
Wait = Callable[[threading.Event, float], bool]


#: Up to this long a sampler sleeps without looking whether it is to stop: waking from a sleep costs half of what waking
#: from `threading.Event.wait` does (34 against 77 microseconds of a core).
_NAP_S = 0.1


def sleep_or_stop(stop: threading.Event, seconds: float) -> bool:
    """The `Wait` of real time."""
    if seconds > _NAP_S:
        return stop.wait(seconds)
    time.sleep(seconds)
    return stop.is_set()


class Sampler:
    """Samples `probes` between `start` and `stop`; also a context manager.

    `rate_hz` holds for all probes, or maps a probe's name to its own (others: 10 Hz). A call of `read` that takes
    longer than `timeout_s` drops the probe, as do `FAILURES_IN_A_ROW`. Probes are closed by their threads.
    `compiled=False` leaves all of them to Python; so do a clock, a wait and a CPU time of the caller's own.
    Raises `ValueError` for a rate outside 0.01 to 1000 Hz and for names that two probes or channels share.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        rate_hz: float | Mapping[str, float] = DEFAULT_RATE_HZ,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        clock: Clock | None = None,
        wait: Wait = sleep_or_stop,
        cpu_ns: Callable[[], int] = time.thread_time_ns,
        compiled: bool = True,
    ) -> None:
        _no_repeats([probe.name for probe in probes])
        names = [channel.name for probe in probes for channel in probe.channels]
        _no_repeats(names)
        self._clock = clock or MonotonicClock()
        limit = max(_FIRST_READINGS, memory_bytes // (_BYTES_PER_READING * max(1, len(names))))
        own_time = clock is not None or wait is not sleep_or_stop or cpu_ns is not time.thread_time_ns
        together = CompiledThread(timeout_s, FAILURES_IN_A_ROW, _FIRST_READINGS, limit)
        self._lines: list[_Line | CompiledLine] = []
        for probe in probes:
            rate = _rate(probe.name, rate_hz)
            line = together.line(probe, rate) if compiled and not own_time else None
            self._lines.append(line or _Line(probe, rate, timeout_s, limit, self._clock, wait, cpu_ns))
        self._timeout_s = timeout_s

    def start(self) -> None:
        """Begin; each probe is read at once, then at its rate."""
        for line in self._lines:
            line.start()

    def stop(self) -> None:
        """End, and close the probes; a thread that does not end in time is left behind."""
        for line in self._lines:
            line.ask_to_stop()
        deadline = time.monotonic() + self._timeout_s
        for line in self._lines:
            line.finish(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def channels(self) -> list[Channel]:
        """The channels of all probes, those that were dropped among them."""
        return [trace.channel for line in self._lines for trace in line.traces]

    @property
    def missing(self) -> list[Missing]:
        """What was never there, and what was lost so far, with reasons."""
        found: list[Missing] = []
        for line in self._lines:
            found += line.missing
            lost = line.lost()
            if lost is not None:
                found.append(lost)
        return found

    @property
    def costs(self) -> list[SamplingCost]:
        """What each probe with channels cost so far."""
        return [line.cost() for line in self._lines if line.traces]

    def between(self, start_ns: int, end_ns: int, neighbours: int = 0) -> dict[str, ChannelTrace]:
        """Readings with start_ns <= t_ns <= end_ns by channel name, empty where there are none.

        `neighbours` adds so many readings before and after, for interpolation at the edges. Raises `ProbeError` where
        readings that old were forgotten.
        """
        return {
            trace.channel.name: trace.between(start_ns, end_ns, neighbours)
            for line in self._lines
            for trace in line.traces
        }

    def forget(self, before_ns: int) -> None:
        """Free what was read before a time."""
        for line in self._lines:
            for trace in line.traces:
                trace.forget(before_ns)


def open_in_time(name: str, open_probe: Callable[[], Probe], timeout_s: float = 10.0) -> Probe:
    """What `open_probe` opens; a `NullProbe` where it raises, or hangs (its thread is then left behind)."""
    opened: list[Probe] = []

    def attempt() -> None:
        try:
            probe = open_probe()
        except Exception as error:
            probe = NullProbe(name, f"cannot be opened: {_told(error)}", "run `qprof doctor`")
        with deciding:
            opened.append(probe)
            late = given_up
        if late:
            probe.close()

    deciding = threading.Lock()
    given_up = False
    thread = threading.Thread(target=attempt, name=f"qprof open {name}", daemon=True)
    thread.start()
    thread.join(timeout_s)
    with deciding:
        if opened:
            return opened[0]
        given_up = True
    return NullProbe(name, f"did not answer within {timeout_s:g} s when opened", "see whether its driver hangs")


def _rate(name: str, rate_hz: float | Mapping[str, float]) -> float:
    rate = rate_hz.get(name, DEFAULT_RATE_HZ) if isinstance(rate_hz, Mapping) else rate_hz
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise ValueError(f"{name}: {rate:g} Hz is not a sampling rate; from {MIN_RATE_HZ} to {MAX_RATE_HZ:g}")
    return rate


def _no_repeats(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two probes or channels are called {name!r}")


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ProbeError) and text else f"{type(error).__name__}: {text}"


class _Line:
    """One probe, its thread and its traces."""

    def __init__(
        self,
        probe: Probe,
        rate_hz: float,
        timeout_s: float,
        limit: int,
        clock: Clock,
        wait: Wait,
        cpu_ns: Callable[[], int],
    ) -> None:
        self.probe = probe
        self.traces = [_Growing(channel, limit) for channel in probe.channels]
        self._period_ns = round(1e9 / rate_hz)
        self._timeout_ns = round(timeout_s * 1e9)
        self._now_ns, self._wait, self._cpu_ns = clock.now_ns, wait, cpu_ns
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._reading_since: int | None = None
        self._lost: Missing | None = None
        self._reads = self._failed = self._in_a_row = self._skipped = 0
        self._read_ns = self._longest_ns = 0
        self._cpu = 0
        self._started = self._last_seen = 0

    def start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("a sampler is started once")
        self._started = self._last_seen = self._now_ns()
        if self.traces:
            self._thread = threading.Thread(target=self._run, name=f"qprof {self.probe.name}", daemon=True)
            self._thread.start()

    def ask_to_stop(self) -> None:
        self._stop.set()

    def finish(self, patience_s: float) -> None:
        """Wait for the thread to end, which closes the probe."""
        if self._thread is None:
            self.probe.close()
            return
        self._thread.join(patience_s)
        if self._thread.is_alive() and self.lost() is None:
            self._lose(losses.not_ended(self.probe.name))

    @property
    def missing(self) -> Sequence[Missing]:
        return self.probe.missing

    def lost(self) -> Missing | None:
        """Why the probe was dropped; this also finds a reading that hangs now."""
        since = self._reading_since
        if self._lost is None and since is not None and self._now_ns() - since > self._timeout_ns:
            self._lose_hung()
        return self._lost

    def cost(self) -> SamplingCost:
        reads = self._reads
        return SamplingCost(
            probe=self.probe.name,
            reads=reads,
            failed=self._failed,
            skipped=self._skipped,
            cpu_s=self._cpu / 1e9,
            wall_s=(self._last_seen - self._started) / 1e9,
            mean_read_ns=self._read_ns / reads if reads else None,
            longest_read_ns=self._longest_ns if reads else None,
            sampler="python",
        )

    def _run(self) -> None:
        cpu_start = self._cpu_ns()
        due = self._now_ns()
        while True:
            self._turn()
            self._cpu = self._cpu_ns() - cpu_start
            self._last_seen = now = self._now_ns()
            turns = max(1, -(-(now - due) // self._period_ns))
            self._skipped += turns - 1
            due += turns * self._period_ns
            if self._lost is not None or self._wait(self._stop, max(0, due - now) / 1e9):
                break
        self._close()

    def _turn(self) -> None:
        """One reading, kept only where it came in time."""
        readings: list[ProbeReading] | None = None
        self._reading_since = began = self._now_ns()
        try:
            readings = self.probe.read()
            self._in_a_row = 0
        except SensorGoneError as error:
            self._fail()
            self._lose(losses.gone(self.probe.name, _told(error)))
        except ProbeError as error:
            self._fail()
            if self._in_a_row >= FAILURES_IN_A_ROW:
                self._lose(losses.failing(self.probe.name, self._in_a_row, _told(error)))
        except Exception as error:  # a fault in one probe must not end the run; it is told as missing
            self._fail()
            self._lose(Missing(self.probe.name, f"stopped by a fault: {_told(error)}", "report it with this text"))
        took = self._now_ns() - began
        self._reading_since = None
        if took > self._timeout_ns:
            self._lose_hung()
        if readings is None or self._lost is not None:
            return
        self._reads += 1
        self._read_ns += took
        self._longest_ns = max(self._longest_ns, took)
        for position, t_ns, value in readings:
            self.traces[position].append(t_ns, value)

    def _fail(self) -> None:
        self._failed += 1
        self._in_a_row += 1

    def _lose_hung(self) -> None:
        self._lose(losses.hung(self.probe.name, self._timeout_ns / 1e9))

    def _lose(self, why: Missing) -> None:
        with self._lock:  # the first reason is the one that counts
            self._lost = self._lost or why

    def _close(self) -> None:
        try:
            self.probe.close()
        except Exception as error:  # as in `_turn`
            self._lose(losses.not_closed(self.probe.name, _told(error)))


class _Growing:
    """Readings of one channel in arrays that double up to `limit`, and then lose their older half."""

    def __init__(self, channel: Channel, limit: int) -> None:
        self.channel = channel
        self._limit = limit
        self._t_ns: NDArray[np.int64] = np.empty(_FIRST_READINGS, np.int64)
        self._values: NDArray[np.float64] = np.empty(_FIRST_READINGS, np.float64)
        self._count = 0
        self._forgotten_ns: int | None = None  # the last reading that is no more
        self._lock = threading.Lock()

    def append(self, t_ns: int, value: float) -> None:
        with self._lock:
            if self._count == len(self._t_ns):
                self._make_room()
            self._t_ns[self._count] = t_ns
            self._values[self._count] = value
            self._count += 1

    def between(self, start_ns: int, end_ns: int, neighbours: int) -> ChannelTrace:
        with self._lock:
            if self._forgotten_ns is not None and start_ns <= self._forgotten_ns:
                raise forgotten(self.channel)
            times = self._t_ns[: self._count]
            first = max(0, int(np.searchsorted(times, start_ns, "left")) - neighbours)
            last = int(np.searchsorted(times, end_ns, "right")) + neighbours
            return ChannelTrace(
                self.channel, times[first:last].copy(), self._values[first : min(last, self._count)].copy()
            )

    def forget(self, before_ns: int) -> None:
        with self._lock:
            self._drop(int(np.searchsorted(self._t_ns[: self._count], before_ns, "left")))

    def _make_room(self) -> None:
        if len(self._t_ns) >= self._limit:
            self._drop(self._count // 2)
            return
        size = min(self._limit, 2 * len(self._t_ns))
        self._t_ns, self._values = _grown(self._t_ns, size), _grown(self._values, size)

    def _drop(self, first: int) -> None:
        if first == 0:
            return
        self._forgotten_ns = int(self._t_ns[first - 1])
        kept = self._count - first
        self._t_ns[:kept] = self._t_ns[first : self._count].copy()
        self._values[:kept] = self._values[first : self._count].copy()
        self._count = kept


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    larger = np.empty(size, array.dtype)
    larger[: len(array)] = array
    return larger

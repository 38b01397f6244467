"""What every sensor looks like: channels that are read, parts that are missing, and why."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from qprof.errors import QprofError
from qprof.probes import losses
from qprof.probes.clock import Clock, MonotonicClock
from qprof.record.sensors import Channel, Missing

if TYPE_CHECKING:
    from qprof.probes.plan import FilePlan, NvmlPlan

#: (channel position, t_ns on CLOCK_MONOTONIC, value)
ProbeReading = tuple[int, int, float]

_CHUNK_BYTES = 1 << 16
#: No file of a sensor comes near; what goes on for ever must end.
_MOST_BYTES = 1 << 22
#: What a read fails with once the device or the process behind a file is no more.
_GONE = frozenset({errno.ENODEV, errno.ENXIO, errno.ESRCH, errno.ENOENT, errno.EBADF})


class ProbeError(QprofError):
    """A reading failed; the next one may succeed."""


class SensorGoneError(ProbeError):
    """A sensor is lost for the rest of the run: its driver was unloaded, its device removed, its process ended."""


class Probe(Protocol):
    """A sensor with one or more channels. It is read and closed by one thread at a time."""

    name: str

    @property
    def channels(self) -> Sequence[Channel]:
        """The figures it reads; they do not change while it is open."""

    @property
    def missing(self) -> Sequence[Missing]:
        """The figures that it cannot read, or can no longer read."""

    def read(self) -> list[ProbeReading]:
        """One reading of each channel that answers.

        Raises `ProbeError` where none does, `SensorGoneError` where none ever will.
        """

    def close(self) -> None:
        """Give back what the sensor holds; may be called twice."""


class NullProbe:
    """Stands where a sensor is absent: no channels, and the reason."""

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        self.name = name
        self.channels: Sequence[Channel] = ()
        self.missing: Sequence[Missing] = (Missing(name, reason, remedy),)

    def read(self) -> list[ProbeReading]:
        return []

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Part:
    """Channels that one call reads; `read` gives a value for each of them or raises `ProbeError`.

    Within `every_ns` of a reading no other is taken: what the sensor would show is no news, and costs. `plan` tells the
    compiled sampler how to do what `read` does; without one, Python's own thread reads the part.
    """

    name: str
    channels: tuple[Channel, ...]
    read: Callable[[], Sequence[float]]
    remedy: str
    close: Callable[[], None] = lambda: None
    every_ns: int = 0
    plan: FilePlan | NvmlPlan | None = None


class PartsProbe:
    """A probe made of parts that fail on their own: one that fails, or is gone, leaves the others as they are."""

    def __init__(
        self,
        name: str,
        parts: Sequence[Part],
        missing: Sequence[Missing] = (),
        clock: Clock | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.channels: Sequence[Channel] = tuple(channel for part in parts for channel in part.channels)
        self._absent = tuple(missing)
        self._own_clock = clock is not None
        self._now_ns = (clock or MonotonicClock()).now_ns
        self._close = close
        self._parts = tuple(parts)
        self._alive: list[tuple[int, Part]] = []
        position = 0
        for part in parts:
            self._alive.append((position, part))
            position += len(part.channels)
        self._due_ns: dict[str, int] = {}
        #: name of a part -> times that it failed, its last reason
        self._failures: dict[str, tuple[int, str]] = {}

    @property
    def missing(self) -> Sequence[Missing]:
        """What was absent from the start, and which parts failed since."""
        remedies = {part.name: part.remedy for part in self._parts}
        failures = dict(self._failures)
        return self._absent + tuple(
            losses.part_failed(name, times, reason, remedies[name]) for name, (times, reason) in failures.items()
        )

    @property
    def planned(self) -> Sequence[Part] | None:
        """The parts, where every one of them has a plan for the compiled sampler, which has the real clock alone."""
        return None if self._own_clock or any(part.plan is None for part in self._parts) else self._parts

    def read(self) -> list[ProbeReading]:
        """Each part that is due is read in turn; the time of a value is the middle of the call that gave it."""
        readings: list[ProbeReading] = []
        gone: list[str] = []
        failed = False
        before = self._now_ns()
        for position, part in self._alive:
            if part.every_ns:
                if before < self._due_ns.get(part.name, before):
                    continue
                self._due_ns[part.name] = before + part.every_ns
            try:
                values = part.read()
            except ProbeError as error:
                failed = True
                self._failed(part, error, gone)
                before = self._now_ns()
                continue
            after = self._now_ns()
            middle = (before + after) // 2
            for value in values:
                readings.append((position, middle, value))
                position += 1
            before = after
        if gone:
            self._alive = [(position, part) for position, part in self._alive if part.name not in gone]
        if not readings and (failed or (self._parts and not self._alive)):
            kind = ProbeError if self._alive else SensorGoneError
            raise kind(losses.no_part_answers(self.name, next(iter(self._failures.values()))[1]))
        return readings

    def _failed(self, part: Part, error: ProbeError, gone: list[str]) -> None:
        times, _ = self._failures.get(part.name, (0, ""))
        self._failures[part.name] = (times + 1, str(error))
        if isinstance(error, SensorGoneError):
            gone.append(part.name)

    def close(self) -> None:
        """Close every part, then the probe, once."""
        parts, self._parts, self._alive = self._parts, (), []
        for part in parts:
            part.close()
        close, self._close = self._close, lambda: None
        close()


class JoinedProbe:
    """Several probes that are read one after the other, by one thread: waking a thread costs more than most readings.

    For sensors that do not hang, such as files of /proc and /sys: one that does holds up all of them.
    """

    def __init__(self, name: str, probes: Sequence[Probe]) -> None:
        self.name = name
        self._probes = tuple(probes)
        self._gone: dict[str, Missing] = {}
        self.channels: Sequence[Channel] = tuple(channel for probe in probes for channel in probe.channels)

    @property
    def missing(self) -> Sequence[Missing]:
        """What the probes miss, and those that are gone."""
        return tuple(missing for probe in self._probes for missing in probe.missing) + tuple(self._gone.values())

    def read(self) -> list[ProbeReading]:
        """Of every probe that answers; raises `ProbeError` as `Probe.read` does."""
        readings: list[ProbeReading] = []
        failed: ProbeError | None = None
        first = 0
        for probe in self._probes:
            try:
                readings += [(first + position, t_ns, value) for position, t_ns, value in self._read(probe)]
            except ProbeError as error:
                failed = error
            first += len(probe.channels)
        if failed is not None and not readings:
            all_gone = all(probe.name in self._gone or not probe.channels for probe in self._probes)
            raise (SensorGoneError if all_gone else ProbeError)(str(failed))
        return readings

    def _read(self, probe: Probe) -> list[ProbeReading]:
        if probe.name in self._gone:
            raise SensorGoneError(self._gone[probe.name].reason)
        try:
            return probe.read()
        except SensorGoneError as error:
            self._gone[probe.name] = Missing(probe.name, str(error), losses.GONE_REMEDY)
            raise

    @property
    def probes(self) -> Sequence[Probe]:
        """Those that it joins."""
        return self._probes

    def close(self) -> None:
        for probe in self._probes:
            probe.close()


class SensorFile:
    """A file of /proc or /sys that is opened once and read anew each time (the kernel writes it when it is read)."""

    def __init__(self, path: Path) -> None:
        """Raises `ProbeError`."""
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ProbeError(f"{path}: {error.strerror}") from error

    def read(self) -> bytes:
        """Its content now. Raises `ProbeError`; `SensorGoneError` where what it tells of is no more."""
        try:
            content = os.pread(self._descriptor, _CHUNK_BYTES, 0)
            while len(content) % _CHUNK_BYTES == 0 and content:
                more = os.pread(self._descriptor, _CHUNK_BYTES, len(content))
                if not more:
                    break
                content += more
                if len(content) > _MOST_BYTES:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        except OSError as error:
            kind = SensorGoneError if error.errno in _GONE else ProbeError
            raise kind(f"{self.path}: {error.strerror}") from error
        return content

    def number(self) -> int:
        """Its content as one whole number. Raises `ProbeError`."""
        content = self.read()
        try:
            return whole(content)
        except ValueError as error:
            raise ProbeError(f"{self.path}: not a whole number: {content[:40]!r}") from error

    def fileno(self) -> int:
        """The open file, for who reads it without Python."""
        return self._descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def whole(text: bytes) -> int:
    """As `int`, of at most 64 bits and a sign: no counter has more. Raises `ValueError`."""
    value = int(text)
    if abs(value) >> 64:
        raise ValueError("more than 64 bits")
    return value


def read_text(path: Path) -> str:
    """A small file, once. Raises `ProbeError`."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        raise ProbeError(f"{path}: {error.strerror}") from error

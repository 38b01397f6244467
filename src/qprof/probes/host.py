"""The host around a measurement: clocks, steal, other load, pressure, and what the worker's process caused.

Sources: proc(5), Documentation/accounting/psi.rst and Documentation/admin-guide/pm/cpufreq.rst of Linux.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from qprof.probes.base import (
    NullProbe,
    Part,
    PartsProbe,
    Probe,
    ProbeError,
    SensorFile,
    SensorGoneError,
    read_text,
    whole,
)
from qprof.probes.clock import Clock
from qprof.probes.plan import FilePlan
from qprof.record.sensors import Channel, Missing

PROC, SYS = Path("/proc"), Path("/sys")

#: Read at most every 100 ms: load and frequency; every second: pressure and threads (a file for each).
FIGURES = ("load", "pressure", "frequency", "threads")

_FREQUENCY_REMEDY = "measure on bare metal, with a cpufreq driver (see `cpupower frequency-info`)"
_PRESSURE_REMEDY = "boot with psi=1, on a kernel with CONFIG_PSI"
_WORKER_REMEDY = "none: the process has ended"
_PROC_REMEDY = "mount /proc"
_PRESSURES = ("cpu", "memory", "io")
#: CPU times go by ticks of 1 to 10 ms, and frequencies are kept for about as long: ten times that is soon enough.
_TICKS_NS = 100_000_000
#: Pressure is averaged every 2 s; the switches cost a file for each thread.
_SLOW_NS = 1_000_000_000
_KHZ_PER_MHZ = 1000.0


def open_host(
    pid: int | None = None,
    *,
    figures: Collection[str] = FIGURES,
    name: str = "host",
    proc: Path = PROC,
    sys: Path = SYS,
    clock: Clock | None = None,
    ticks_per_s: int | None = None,
) -> Probe:
    """Figures of the machine, and of the process `pid` where one is given; a `NullProbe` where nothing can be read.

    `figures` are of `FIGURES`; `name` begins every channel's name. CPU times are counters in seconds with the step of
    the kernel's tick (10 ms as a rule): take differences over windows far longer than that.
    """
    unknown = set(figures) - set(FIGURES)
    if unknown:
        raise ValueError(f"no such figures of the host: {', '.join(sorted(unknown))}")
    seconds_per_tick = 1.0 / (ticks_per_s or os.sysconf("SC_CLK_TCK"))
    parts: list[Part] = []
    missing: list[Missing] = []
    openers: dict[str, list[tuple[str, str, Callable[[], Part]]]] = {
        "load": [("load", _PROC_REMEDY, lambda: _machine_load(name, proc, seconds_per_tick))],
        "pressure": [(f"pressure.{what}", _PRESSURE_REMEDY, _pressure_opener(name, proc, what)) for what in _PRESSURES],
        "frequency": [("frequency", _FREQUENCY_REMEDY, lambda: _frequency(name, proc, sys))],
        "threads": [],
    }
    if pid is not None:
        own = "the process has ended, or belongs to another user under hidepid"
        openers["load"].append(("worker", own, lambda: _worker_load(name, proc, pid, seconds_per_tick)))
        openers["threads"].append(("threads", own, lambda: _threads(name, proc, pid)))
    for figure in FIGURES:
        for part, remedy, opener in openers[figure] if figure in figures else ():
            try:
                parts.append(opener())
            except ProbeError as error:
                missing.append(Missing(f"{name}.{part}", str(error), remedy))
    if not parts:
        first = missing[0] if missing else Missing(name, "no figures were asked for", "ask for some")
        return NullProbe(name, first.reason, first.remedy)
    return PartsProbe(name, parts, missing, clock)


def _tried(part: Part) -> Part:
    """The part, read once. Raises `ProbeError`, and closes it then."""
    try:
        part.read()
    except ProbeError:
        part.close()
        raise
    return part


def _counter(name: str, unit: str, sensor: str) -> Channel:
    return Channel(name, unit, "counter", "measured", sensor)


def _gauge(name: str, unit: str, sensor: str) -> Channel:
    return Channel(name, unit, "gauge", "measured", sensor)


# --- load


def cpu_ticks(file: SensorFile) -> tuple[int, int]:
    """(busy, stolen) ticks of all cores since boot, from the first line of /proc/stat. Raises `ProbeError`.

    Busy is user, nice, system, irq and softirq: guests are within user and nice already, and waiting is idle.
    """
    line, _, _ = file.read().partition(b"\n")
    try:
        label, *fields = line.split()
        user, nice, system, _, _, irq, softirq, stolen = (whole(field) for field in fields[:8])
    except ValueError as error:
        raise ProbeError(f"{file.path}: not as in proc(5): {line[:60]!r}") from error
    if label != b"cpu":
        raise ProbeError(f"{file.path}: begins with {label[:20]!r}, not with cpu")
    return user + nice + system + irq + softirq, stolen


def process_counts(file: SensorFile) -> tuple[int, int, int]:
    """(CPU ticks, minor faults, major faults) of a process and all its threads, from /proc/PID/stat.

    Raises `ProbeError`; `SensorGoneError` where the process has ended.
    """
    content = file.read()
    # The name stands in brackets and may hold any character, brackets too.
    fields = content[content.rfind(b")") + 1 :].split()
    try:
        state = fields[0]
        minor, major, user, system = (whole(fields[position]) for position in (7, 9, 11, 12))
    except (ValueError, IndexError) as error:
        raise ProbeError(f"{file.path}: not as in proc(5): {content[:60]!r}") from error
    if state in (b"Z", b"X"):
        raise SensorGoneError(f"{file.path}: the process has ended")
    return user + system, minor, major


def _machine_load(name: str, proc: Path, seconds_per_tick: float) -> Part:
    file = SensorFile(proc / "stat")

    def read() -> tuple[float, ...]:
        return tuple(ticks * seconds_per_tick for ticks in cpu_ticks(file))

    channels = (
        _counter(f"{name}.busy", "s", "CPU time of all processes, all cores"),
        _counter(f"{name}.steal", "s", "CPU time that the hypervisor gave to others"),
    )
    plan = FilePlan("cpu_ticks", (file,), (cpu_ticks,), seconds_per_tick)
    return _tried(Part(f"{name}.load", channels, read, _PROC_REMEDY, file.close, _TICKS_NS, plan))


def _worker_load(name: str, proc: Path, pid: int, seconds_per_tick: float) -> Part:
    """The worker's own figures, and what all others did: read together, so that the difference holds."""
    everyone = SensorFile(proc / "stat")
    try:
        own = SensorFile(proc / str(pid) / "stat")
    except ProbeError:
        everyone.close()
        raise
    highest = 0

    def read() -> tuple[float, ...]:
        nonlocal highest
        ticks, minor, major = process_counts(own)
        # The two are counted apart, and may differ by some ticks: what was others' time stays theirs.
        highest = max(highest, cpu_ticks(everyone)[0] - ticks)
        return ticks * seconds_per_tick, highest * seconds_per_tick, float(minor), float(major)

    def close() -> None:
        own.close()
        everyone.close()

    channels = (
        _counter(f"{name}.worker_cpu", "s", f"CPU time of process {pid}"),
        _counter(f"{name}.other_cpu", "s", f"CPU time of all processes but {pid}"),
        _counter(f"{name}.minor_faults", "1", f"page faults of process {pid} without input"),
        _counter(f"{name}.major_faults", "1", f"page faults of process {pid} that read from disk"),
    )
    plan = FilePlan("process", (own, everyone), (process_counts, cpu_ticks), seconds_per_tick)
    return _tried(Part(f"{name}.worker", channels, read, _WORKER_REMEDY, close, _TICKS_NS, plan))


# --- pressure


def some_pressure(file: SensorFile) -> tuple[float, int]:
    """(share of the last 10 s in %, total in us) in which at least one task waited. Raises `ProbeError`."""
    content = file.read()
    found = re.match(rb"some avg10=(\d+\.\d+) .*?total=(\d+)", content)
    if not found:
        raise ProbeError(f"{file.path}: not as in psi.rst: {content[:60]!r}")
    try:
        return float(found[1]), whole(found[2])
    except ValueError as error:
        raise ProbeError(f"{file.path}: not as in psi.rst: {content[:60]!r}") from error


def _pressure_opener(name: str, proc: Path, what: str) -> Callable[[], Part]:
    def opener() -> Part:
        file = SensorFile(proc / "pressure" / what)

        def read() -> tuple[float, float]:
            share, total = some_pressure(file)
            return share, float(total)

        channels = (
            _gauge(f"{name}.pressure.{what}.avg10", "%", f"share of 10 s in which a task waited for {what}"),
            _counter(f"{name}.pressure.{what}.total", "us", f"time in which a task waited for {what}"),
        )
        plan = FilePlan("pressure", (file,), (some_pressure,))
        return _tried(Part(f"{name}.pressure.{what}", channels, read, _PRESSURE_REMEDY, file.close, _SLOW_NS, plan))

    return opener


# --- frequency


def listed_mhz(file: SensorFile) -> list[float]:
    """The "cpu MHz" lines of /proc/cpuinfo. Raises `ProbeError`."""
    found = [float(value) for value in re.findall(rb"^cpu MHz\s*:\s*(\d+(?:\.\d+)?)$", file.read(), re.MULTILINE)]
    if not found:
        raise ProbeError(f"{file.path}: no cpu MHz lines")
    return found


def _frequency(name: str, proc: Path, sys: Path) -> Part:
    """Mean, lowest and highest over the cores: from cpufreq, else from /proc/cpuinfo where it tells the present one."""
    folders = sorted((sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    files: list[SensorFile] = []
    for folder in folders:
        try:
            files.append(SensorFile(folder / "scaling_cur_freq"))
        except ProbeError:
            continue  # an offline core; where all of them fail, cpuinfo decides
    if files:
        source = "cpufreq scaling_cur_freq"
        plan = FilePlan("frequencies", files, (SensorFile.number,) * len(files), _KHZ_PER_MHZ)

        def read() -> Sequence[float]:
            return _spread([file.number() / _KHZ_PER_MHZ for file in files])
    else:
        listing = _listing(proc)
        source, files = "/proc/cpuinfo", [listing]
        plan = FilePlan("listing", files, (listed_mhz,))

        def read() -> Sequence[float]:
            return _spread(listed_mhz(listing))

    def close() -> None:
        for file in files:
            file.close()

    channels = tuple(
        _gauge(f"{name}.frequency.{which}", "MHz", f"core frequency, {which} over the cores ({source})")
        for which in ("mean", "min", "max")
    )
    return _tried(Part(f"{name}.frequency", channels, read, _FREQUENCY_REMEDY, close, _TICKS_NS, plan))


def _listing(proc: Path) -> SensorFile:
    """/proc/cpuinfo where its "cpu MHz" is the present frequency. Raises `ProbeError`.

    The kernel needs APERF and MPERF for that; without them the line holds the nominal frequency, at all times.
    """
    path = proc / "cpuinfo"
    if "aperfmperf" not in read_text(path).split():
        raise ProbeError(f"no cpufreq in /sys, and {path} tells the nominal frequency only (no aperfmperf)")
    return SensorFile(path)


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    total = 0.0
    for value in values:  # rounded at each step, as compiled code does; `sum` is more exact from Python 3.12 on
        total += value
    return total / len(values), min(values), max(values)


# --- threads


def thread_switches(path: Path) -> tuple[int, int]:
    """(voluntary, involuntary) context switches of one thread, from its status file.

    Raises `ProbeError`; `SensorGoneError` where the thread has ended.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise SensorGoneError(f"{path}: the thread has ended") from error
    except OSError as error:
        raise ProbeError(f"{path}: {error.strerror}") from error
    found = re.search(
        rb"^voluntary_ctxt_switches:\s*(\d+)\nnonvoluntary_ctxt_switches:\s*(\d+)$", content, re.MULTILINE
    )
    if not found:
        raise ProbeError(f"{path}: no context switches")
    return int(found[1]), int(found[2])


class _Switches:
    """Context switches of all threads of a process; what an ended thread was seen to have stays in the sum."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, tuple[int, int]] = {}
        self._ended = (0, 0)

    def read(self) -> tuple[float, float]:
        try:
            present = os.listdir(self._folder)
        except OSError as error:
            kind = SensorGoneError if isinstance(error, FileNotFoundError | ProcessLookupError) else ProbeError
            raise kind(f"{self._folder}: {error.strerror}") from error
        now: dict[str, tuple[int, int]] = {}
        for thread in present:
            try:
                now[thread] = thread_switches(self._folder / thread / "status")
            except SensorGoneError:
                continue  # ended since the listing
        for thread, counts in self._seen.items():
            # A lower count is another thread's, which has the number of one that ended.
            if thread not in now or now[thread][0] < counts[0] or now[thread][1] < counts[1]:
                self._ended = (self._ended[0] + counts[0], self._ended[1] + counts[1])
        self._seen = now
        voluntary, involuntary = zip(self._ended, *now.values(), strict=True)
        return float(sum(voluntary)), float(sum(involuntary))


def _threads(name: str, proc: Path, pid: int) -> Part:
    counts = _Switches(proc / str(pid) / "task")
    channels = (
        _counter(f"{name}.voluntary_switches", "1", f"context switches of process {pid} that it asked for"),
        _counter(f"{name}.involuntary_switches", "1", f"context switches of process {pid} that were forced on it"),
    )
    return _tried(Part(f"{name}.threads", channels, counts.read, _WORKER_REMEDY, every_ns=_SLOW_NS))

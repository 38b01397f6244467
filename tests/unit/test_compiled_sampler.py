"""The compiled sampler against Python's, which is the oracle: the same records from the same sensors."""

from __future__ import annotations

import ctypes
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fake_nvml
from qprof.probes import compiled
from qprof.probes.base import JoinedProbe, NullProbe, PartsProbe, Probe, ProbeError, SensorFile, whole
from qprof.probes.compiled import CompiledLine
from qprof.probes.host import _spread, cpu_ticks, listed_mhz, open_host, some_pressure
from qprof.probes.nvml import open_nvml
from qprof.probes.rapl import open_rapl
from qprof.probes.sampler import FAILURES_IN_A_ROW, Sampler, _Line
from qprof.record.sensors import Missing
from sensor_fakes import FakeProbe

_sampler = pytest.importorskip("qprof.core._sampler", reason="the core is not built")

ALWAYS = (0, 1 << 62)
PID = 41
CPU = "cpu  1000 200 300 90000 50 7 3 40 500 60\ncpu0 1 2 3 4 5 6 7 8 9 10\nctxt 5\n"
PROCESS = "41 (a) b) S 1 41 41 0 -1 4194304 1234 99 5 77 150 50 1 1 20 0 3 0 100 4096 10\n"
PRESSURE = "some avg10=12.50 avg60=3.00 avg300=1.00 total=987654\nfull avg10=0.50 avg60=0.10 avg300=0.00 total=10\n"
CPUINFO = "flags\t\t: fpu aperfmperf\ncpu MHz\t\t: 2000.000\n\ncpu MHz\t\t: 3000.517\n"
ZONES = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:1:0": "dram",
    "intel-rapl:2": "psys",
}

Edit = Callable[[Path], object]


def put(root: Path, path: str, content: str | bytes) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def edit(path: str, content: str | bytes) -> Edit:
    return lambda root: put(root, path, content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, (folder, name) in enumerate(ZONES.items()):
        put(tmp_path, f"powercap/{folder}/name", f"{name}\n")
        put(tmp_path, f"powercap/{folder}/energy_uj", f"{123456789012 + number}\n")
        put(tmp_path, f"powercap/{folder}/max_energy_range_uj", "262143328850\n")
    put(tmp_path, "proc/stat", CPU)
    put(tmp_path, f"proc/{PID}/stat", PROCESS)
    for what in ("cpu", "memory", "io"):
        put(tmp_path, f"proc/pressure/{what}", PRESSURE)
    put(tmp_path, "proc/cpuinfo", CPUINFO)
    for core, kilohertz in enumerate((1_200_007, 3_600_000, 3_000_001)):
        put(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", f"{kilohertz}\n")
    return tmp_path


def always_due(probe: Probe) -> Probe:
    """The probe, read whole at every turn."""
    assert isinstance(probe, PartsProbe) and probe.planned is not None
    return PartsProbe(probe.name, [replace(part, every_ns=0) for part in probe.planned], probe.missing)


def rapl(root: Path) -> Probe:
    return open_rapl(root / "powercap")


def host(root: Path, sys: str = "sys", pid: int | None = PID) -> Probe:
    figures = ("load", "pressure", "frequency")
    return always_due(open_host(pid, figures=figures, proc=root / "proc", sys=root / sys, ticks_per_s=100))


def listing(root: Path) -> Probe:
    return host(root, "none")


def joined(root: Path) -> Probe:
    return JoinedProbe("files", [rapl(root), NullProbe("none", "no such", "buy one"), host(root, pid=None)])


class Turns:
    """A probe under one of the two samplers, turn by turn on this thread."""

    def __init__(self, probe: Probe, compiled: bool) -> None:
        self.sampler = Sampler([probe], compiled=compiled)
        (self._line,) = self.sampler._lines
        assert isinstance(self._line, CompiledLine if compiled else _Line)

    def take(self) -> None:
        if isinstance(self._line, CompiledLine):
            self._line._core.read_once(0)
        elif self._line.lost() is None:
            self._line._turn()

    def record(self) -> dict[str, object]:
        (cost,) = self.sampler.costs
        traces = {name: trace.values.tolist() for name, trace in self.sampler.between(*ALWAYS).items()}
        return {"values": traces, "missing": self.sampler.missing, "reads": cost.reads, "failed": cost.failed}


def both(open_probe: Callable[[], Probe], edits: Sequence[Callable[[], object]]) -> dict[str, object]:
    """What the two samplers recorded, which has to be the same; after each edit both take a turn."""
    samplers = [Turns(open_probe(), compiled) for compiled in (False, True)]
    for change in edits:
        change()
        for sampler in samplers:
            sampler.take()
    python, other = (sampler.record() for sampler in samplers)
    for sampler in samplers:
        sampler.sampler.stop()
    assert other == python
    return other


ENERGY = "powercap/intel-rapl:1/energy_uj"
NUMBERS = [b"0\n", b"12", b" 7 \n", b"+8\n", b"1_000\n", b"-3\n", b"262143328849\n", b"18446744073709551615\n"]
NO_NUMBERS = [b"", b"\n", b"twelve\n", b"1.5\n", b"1_\n", b"1__0\n", b"_1\n", b"0x10\n", b"1 2\n", b"1\0\n", b"--1\n"]
NO_NUMBERS += [b"18446744073709551616\n", b"9" * 400, b"\xff\xfe\n", b"12\n" * 2000]


@pytest.mark.parametrize("content", NUMBERS + NO_NUMBERS)
def test_a_zone_is_read_as_python_reads_it(root: Path, content: bytes) -> None:
    edits = [lambda: None, lambda: put(root, ENERGY, content), lambda: put(root, ENERGY, b"5000\n")]
    record: Any = both(lambda: rapl(root), edits)
    good = content in NUMBERS
    assert len(record["values"]["rapl.package-1.energy"]) == (3 if good else 2)
    assert len(record["values"]["rapl.package-0.energy"]) == 3
    reasons = [missing.reason for missing in record["missing"]]
    assert (not reasons) if good else reasons[0].startswith("failed 1x while reading, last: ")


HOST_EDITS = [
    edit("proc/stat", CPU.replace("1000", "18446744073709551615")),
    edit("proc/stat", CPU.replace("1000", "-5")),
    edit("proc/stat", "cpu 1 2 3 4 5 6 7\n"),
    edit("proc/stat", "cpu 1 2 x 4 5 6 7 8\n"),
    edit("proc/stat", "intr 1 2 3 4 5 6 7 8\n"),
    edit("proc/stat", ""),
    edit("proc/stat", "\ncpu 1 2 3 4 5 6 7 8\n"),
    edit("proc/stat", b"cpu\x0b1\x0c2\r3 4 5 6 7 8 nine"),
    edit(f"proc/{PID}/stat", PROCESS.replace(" 150 50 ", " 152 50 ")),
    edit(f"proc/{PID}/stat", PROCESS.replace(" 150 50 ", " 150000000000000000000 50 ")),
    edit(f"proc/{PID}/stat", PROCESS.replace("1234", "many")),
    edit(f"proc/{PID}/stat", PROCESS.replace(" S ", " Z ")),
    edit(f"proc/{PID}/stat", "41 S 1 2 3"),
    edit(f"proc/{PID}/stat", ""),
    edit("proc/pressure/io", PRESSURE.replace("12.50", "0.00")),
    edit("proc/pressure/io", PRESSURE.replace("12.50", "1" * 400 + ".5")),
    edit("proc/pressure/io", PRESSURE.replace("12.50", "0." + "0" * 400 + "1")),
    edit("proc/pressure/io", PRESSURE.replace("12.50", "12.")),
    edit("proc/pressure/io", PRESSURE.replace("987654", "x total=12 total=13")),
    edit("proc/pressure/io", PRESSURE.replace("987654", "99999999999999999999999")),
    edit("proc/pressure/io", "some avg10=1.00\ntotal=5"),
    edit("proc/pressure/io", "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
    edit("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "<unknown>\n"),
    edit("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "900000\n"),
    edit("proc/cpuinfo", "cpu MHz\t: 1\ncpu MHz : 2.5\ncpu MHz: 3.\n xcpu MHz: 4\ncpu MHz\n:\n 5.25"),
    edit("proc/cpuinfo", "cpu MHz : 7x\ncpu MHz :\ncpu MHz"),
    edit("proc/cpuinfo", CPUINFO + "x" * 200_000 + "\ncpu MHz : 9.125\n"),
    edit("proc/cpuinfo", "x" * (5 << 20)),
]


@pytest.mark.parametrize("change", HOST_EDITS)
@pytest.mark.parametrize("open_probe", [host, listing, joined])
def test_the_host_is_read_as_python_reads_it(root: Path, open_probe: Callable[[Path], Probe], change: Edit) -> None:
    untouched = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def restore() -> None:
        for path, content in untouched.items():
            path.write_bytes(content)

    both(lambda: open_probe(root), [lambda: None, lambda: change(root), restore])


def test_every_change_is_seen(root: Path) -> None:
    """What the comparisons above compare is there, and differs from turn to turn."""
    record: Any = both(lambda: host(root), [lambda: None, lambda: put(root, "proc/stat", CPU.replace("1000", "1100"))])
    expected = {
        "host.busy": [15.1, 16.1],
        "host.steal": [0.4, 0.4],
        "host.worker_cpu": [2.0, 2.0],
        "host.other_cpu": [13.1, 14.1],
        "host.minor_faults": [1234, 1234],
        "host.major_faults": [5, 5],
        "host.frequency.mean": [2600.0026666666667] * 2,
        "host.frequency.min": [1200.007, 1200.007],
        "host.frequency.max": [3600.0, 3600.0],
    }
    for what in ("cpu", "memory", "io"):
        expected |= {f"host.pressure.{what}.avg10": [12.5] * 2, f"host.pressure.{what}.total": [987654] * 2}
    assert record["values"].keys() == expected.keys()
    for name, values in expected.items():
        assert record["values"][name] == pytest.approx(values), name


def test_a_file_that_vanishes_is_read_on(root: Path) -> None:
    """It stays open, as in Python; one that is cut to nothing is a failure until it is written again."""
    file = root / ENERGY
    record: Any = both(lambda: rapl(root), [file.unlink, lambda: put(root, ENERGY, "5\n")])
    assert record["values"]["rapl.package-1.energy"] == [123456789.014] * 2


def test_failing_on_and_on_drops_the_probe(root: Path) -> None:
    for folder in list(ZONES)[1:]:
        (root / f"powercap/{folder}/energy_uj").unlink()
    broken = [lambda: put(root, "powercap/intel-rapl:0/energy_uj", "??")] * (FAILURES_IN_A_ROW + 5)
    record: Any = both(lambda: rapl(root), [lambda: None, *broken])
    file = root / "powercap/intel-rapl:0/energy_uj"
    told = f"failed 20 times in a row: rapl: no part answers ({file}: not a whole number: b'??')"
    assert [missing.reason for missing in record["missing"]][-1] == told
    assert record["failed"] == FAILURES_IN_A_ROW and record["reads"] == 1


def test_a_process_that_ends_is_gone(root: Path) -> None:
    changes = [
        lambda: None,
        lambda: put(root, f"proc/{PID}/stat", PROCESS.replace(" S ", " X ")),
        lambda: put(root, f"proc/{PID}/stat", PROCESS),
    ]
    record: Any = both(lambda: host(root), changes)
    assert len(record["values"]["host.worker_cpu"]) == 1  # gone is gone
    assert len(record["values"]["host.busy"]) == 3


def closed_files(probe: Probe) -> None:
    """As if the module behind the files were unloaded: to read them fails for good."""
    assert isinstance(probe, PartsProbe)
    for part in probe.planned or ():
        assert part.plan is not None
        for file in part.plan.files:  # type: ignore[union-attr]
            os.close(file._descriptor)
            file._descriptor = os.open("/proc/self/mem", os.O_RDONLY)  # address 0: EIO


def test_what_the_system_says_is_told(root: Path) -> None:
    def opened() -> Probe:
        probe = rapl(root)
        closed_files(probe)
        return probe

    record: Any = both(opened, [lambda: None] * 3)
    assert record["reads"] == 0 and record["failed"] == 3
    assert "Input/output error" in record["missing"][0].reason


# --- any content


class File(SensorFile):
    """One that shows what it is told to, in a real file that compiled code can read."""

    def show(self, content: bytes) -> None:
        os.ftruncate(self._writable, 0)
        os.pwrite(self._writable, content, 0)

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"")
        super().__init__(path)
        self._writable = os.open(path, os.O_WRONLY)

    def close(self) -> None:
        super().close()
        os.close(self._writable)


def whole_number(file: SensorFile) -> tuple[float, ...]:
    return (file.number() / 1000.0,)


def ticks(file: SensorFile) -> tuple[float, ...]:
    return tuple(found * 0.01 for found in cpu_ticks(file))


def pressure(file: SensorFile) -> tuple[float, ...]:
    share, total = some_pressure(file)
    return share, float(total)


def frequencies(file: SensorFile) -> tuple[float, ...]:
    return _spread(listed_mhz(file))


FORMS = {
    "number": (whole_number, 1000.0, [b"123456\n", b" 1_0 ", b"7", b"+12"]),
    "cpu_ticks": (ticks, 0.01, [CPU.encode()]),
    "pressure": (pressure, 1.0, [PRESSURE.encode()]),
    "listing": (frequencies, 1.0, [CPUINFO.encode()]),
}
PIECES = [b"cpu", b"cpu MHz", b"some avg10=", b"total=", b" ", b"\n", b"\t", b":", b".", b"_", b"-", b"+", b"0", b"9"]
PIECES += [b"17", b"18446744073709551615", b"\x00", b"\x1c", b"\x85", b"\xa0", b"e5", b"inf"]


@st.composite
def contents(draw: st.DrawFn, valid: list[bytes]) -> bytes:
    """Damaged files, and files put together from what files are made of."""
    content = bytearray(draw(st.sampled_from([*valid, b""])))
    for _ in range(draw(st.integers(0, 8))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 3))] = draw(st.sampled_from(PIECES))
    return bytes(content)


@pytest.mark.parametrize("form", FORMS)
def test_any_content_is_read_as_python_reads_it(form: str, tmp_path: Path) -> None:
    parse, scale, valid = FORMS[form]
    file = File(tmp_path / "file")
    core = _sampler.Sampler(timeout_ns=10**10, failures_in_a_row=10**9, first_readings=8, most_readings=10**6)
    core.add_probe(10**9)
    core.add_group(0)
    channels = core.add_files(0, form, [file.fileno()], scale=scale, every_ns=0)
    seen = {"good": 0, "bad": 0}

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(contents(valid))
    def compare(content: bytes) -> None:
        file.show(content)
        before = core.state(0)
        core.read_once(0)
        try:
            expected = parse(file)
        except ProbeError:
            assert core.state(0).failed == before.failed + 1, content
            seen["bad"] += 1
            return
        assert core.state(0).reads == before.reads + 1, content
        found = tuple(core.between(0, channel, *ALWAYS)[1][-1] for channel in range(channels))
        assert found == expected, content
        seen["good"] += 1

    compare()
    assert min(seen.values()) >= 10, seen
    file.close()


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789_+- \n\x0b", max_size=24))
def test_whole_numbers_are_pythons_up_to_64_bits(text: str) -> None:
    try:
        expected = int(text)
    except ValueError:
        with pytest.raises(ValueError):
            whole(text.encode())
        return
    if abs(expected) < 1 << 64:
        assert whole(text.encode()) == expected
    else:
        with pytest.raises(ValueError):
            whole(text.encode())


# --- NVML


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pynvml")
    built = fake_nvml.build(tmp_path_factory.mktemp("nvml"))
    if built is None:
        pytest.skip("needs a C compiler")
    return built


@pytest.fixture
def driver(library: Path) -> Iterator[fake_nvml.FakeDriver]:
    with fake_nvml.installed(library) as installed:
        yield installed


def nvml(**rest: Any) -> Probe:
    return open_nvml(environ={}, **rest)


def test_a_gpu_is_read_as_python_reads_it(driver: fake_nvml.FakeDriver) -> None:
    record: Any = both(nvml, [lambda: driver.show(1234567), lambda: driver.show(2**63 + 5), lambda: driver.show(7)])
    assert record["values"]["nvml.0.energy"] == [1234567.0, float(2**63 + 5), 7.0]
    assert record["values"]["nvml.0.power_instant"][0] == 534.753
    assert len(record["values"]) == 10 and not record["missing"]
    assert driver.opened == 0


def test_power_by_its_older_function(driver: fake_nvml.FakeDriver) -> None:
    driver.refuse("nvmlDeviceGetFieldValues", 3)
    record: Any = both(nvml, [lambda: None])
    driver.refuse("nvmlDeviceGetFieldValues", 0)
    assert record["values"]["nvml.0.power_average"] == [534.567]


@pytest.mark.parametrize("code", [1, 3, 4, 15, 20, 28, 999])
@pytest.mark.parametrize(
    "function", ["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetFieldValues", "nvmlDeviceGetClockInfo"]
)
def test_what_the_driver_refuses_is_told_in_its_words(driver: fake_nvml.FakeDriver, function: str, code: int) -> None:
    changes = [lambda: None, lambda: driver.refuse(function, code), lambda: driver.refuse(function, 0)]
    record: Any = both(nvml, changes)
    (missing,) = record["missing"]
    assert missing.reason.startswith(f"failed 1x while reading, last: {function}: ")
    lengths = sorted({len(values) for values in record["values"].values()})
    assert lengths == ([1, 3] if code in (1, 15, 28) else [2, 3])


@pytest.mark.parametrize("code", [3, 15])
def test_a_field_that_is_refused(driver: fake_nvml.FakeDriver, code: int) -> None:
    changes = [lambda: None, lambda: driver.refuse_field(185, code), lambda: driver.refuse_field(185, 0)]
    record: Any = both(nvml, changes)
    assert [missing.reason for missing in record["missing"]] == [
        f"failed 1x while reading, last: field 185: NVML error {code}"
    ]


def test_a_lost_gpu_is_dropped(driver: fake_nvml.FakeDriver) -> None:
    functions = ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetFieldValues")

    def set_all(code: int) -> None:
        for function in functions:
            driver.refuse(function, code)

    changes = [lambda: None, lambda: set_all(15), lambda: set_all(0)]
    record: Any = both(lambda: nvml(figures=("energy", "power")), changes)
    assert record["missing"][-1].reason.startswith("lost while reading: nvml: no part answers (nvmlDeviceGetTotal")
    assert (record["reads"], record["failed"]) == (1, 1)


def test_a_library_that_cannot_be_opened_again_is_left_to_python(
    driver: fake_nvml.FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pynvml

    monkeypatch.setattr(pynvml.nvmlLib, "_name", "libno-such-driver.so.1")
    with Sampler([nvml()]) as sampler:
        pass
    assert [cost.sampler for cost in sampler.costs] == ["python"]
    assert driver.opened == 0


# --- the thread


def waits_for(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


def test_it_reads_at_its_deadlines_and_says_which_sampler_it_is(root: Path) -> None:
    began = time.perf_counter_ns()
    with Sampler([joined(root)], 200.0) as sampler:
        assert waits_for(lambda: sampler.costs[0].reads >= 20)
    trace = sampler.between(began, time.perf_counter_ns())["rapl.psys.energy"]
    (cost,) = sampler.costs
    assert cost.sampler == "compiled"
    assert len(trace.t_ns) == cost.reads and (np.diff(trace.t_ns) > 0).all()
    assert set(trace.values.tolist()) == {123456789.016}
    # Each turn is a period after the one before it, or was told as left out.
    assert (trace.t_ns[-1] - trace.t_ns[0]) / 5e6 == pytest.approx(cost.reads + cost.skipped, abs=cost.skipped + 3)
    assert cost.cpu_s > 0 and cost.wall_s >= 19 * 0.005
    assert cost.longest_late_ns is not None and cost.longest_late_ns >= 0
    assert [missing.probe for missing in sampler.missing] == ["none"]


def test_python_reads_what_has_no_plan(root: Path) -> None:
    class Own(PartsProbe):
        def read(self) -> list[tuple[int, int, float]]:
            return [(position, t_ns, 1.0) for position, t_ns, _ in super().read()]

    parts = rapl(root)
    assert isinstance(parts, PartsProbe) and parts.planned is not None
    own = Own("own", [replace(parts.planned[0], channels=(replace(parts.planned[0].channels[0], name="own.energy"),))])

    class Now:
        def now_ns(self) -> int:
            return time.perf_counter_ns()

    plain = FakeProbe(Now())
    with Sampler([rapl(root), plain, own], 100.0) as sampler:
        assert waits_for(lambda: all(cost.reads >= 3 for cost in sampler.costs))
    assert {cost.probe: cost.sampler for cost in sampler.costs} == {
        "rapl": "compiled",
        "fake": "python",
        "own": "python",
    }
    assert set(sampler.between(*ALWAYS)["own.energy"].values.tolist()) == {1.0}
    assert plain.closed == 1


def test_a_clock_of_the_callers_own_is_pythons(root: Path) -> None:
    class Now:
        def now_ns(self) -> int:
            return time.perf_counter_ns()

    assert Sampler([rapl(root)], clock=Now()).costs[0].sampler == "python"
    assert Sampler([open_rapl(root / "powercap", Now())]).costs[0].sampler == "python"
    assert Sampler([rapl(root)], compiled=False).costs[0].sampler == "python"
    assert Sampler([rapl(root)]).costs[0].sampler == "compiled"


def test_without_the_core_python_reads(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_sampler", None)
    with Sampler([rapl(root)], 200.0) as sampler:
        pass
    assert [cost.sampler for cost in sampler.costs] == ["python"]
    assert sampler.costs[0].reads >= 1


def test_it_does_not_wait_for_python(root: Path) -> None:
    """Called without its lock being released, a sleep keeps every Python thread out."""
    hold = ctypes.PyDLL(None).usleep
    with Sampler([rapl(root)], 200.0) as sampler:
        began = time.perf_counter_ns()
        hold(400_000)
        ended = time.perf_counter_ns()
    # 80 are due.
    assert len(sampler.between(began, ended)["rapl.psys.energy"].t_ns) >= 10


def threads_named(name: str) -> dict[str, str]:
    """The status files of this process's threads of that name."""
    found = {}
    for folder in Path("/proc/self/task").iterdir():
        try:
            if (folder / "comm").read_text().strip() == name:
                found[folder.name] = (folder / "status").read_text()
        except OSError:  # ended meanwhile
            continue
    return found


def test_it_is_one_thread_that_takes_no_signal(root: Path) -> None:
    before = set(threads_named("qprof sampler"))
    with Sampler([joined(root)], 100.0):
        assert waits_for(lambda: len(set(threads_named("qprof sampler")) - before) == 1)
        (status,) = [text for thread, text in threads_named("qprof sampler").items() if thread not in before]
    blocked = re.search(r"^SigBlk:\s*([0-9a-f]+)$", status, re.MULTILINE)
    assert blocked is not None and int(blocked[1], 16) & (1 << 1 | 1 << 14)  # SIGINT, SIGTERM
    assert waits_for(lambda: set(threads_named("qprof sampler")) <= before)


def test_a_sensor_that_hangs_is_left_behind_and_the_others_go_on(root: Path, driver: fake_nvml.FakeDriver) -> None:
    sampler = Sampler([nvml(figures=("energy",)), rapl(root)], 200.0, timeout_s=0.1)
    sampler.start()
    assert waits_for(lambda: all(cost.reads >= 3 for cost in sampler.costs))
    driver.hang(True)
    assert waits_for(lambda: bool(sampler.missing))
    assert sampler.missing == [Missing("nvml", "did not answer within 0.1 s", "see whether its driver hangs")]
    gpu, files = sampler.costs
    reads = files.reads
    assert waits_for(lambda: sampler.costs[1].reads >= reads + 10)
    sampler.stop()
    assert sampler.costs[0].reads == gpu.reads
    assert driver.opened == 1  # it is still being read
    driver.hang(False)
    assert waits_for(lambda: driver.opened == 0)
    assert len(sampler.between(*ALWAYS)["nvml.0.energy"].t_ns) == gpu.reads  # what came too late is thrown away
    assert len(sampler.missing) == 1


def test_a_sensor_that_hangs_does_not_hold_up_the_end(driver: fake_nvml.FakeDriver) -> None:
    sampler = Sampler([nvml(figures=("energy",))], 200.0, timeout_s=0.3)
    sampler.start()
    assert waits_for(lambda: sampler.costs[0].reads >= 1)
    driver.hang(True)
    assert waits_for(lambda: driver.waiting == 1)
    sampler.stop()
    (missing,) = sampler.missing
    assert missing.reason in ("did not answer within 0.3 s", "did not end when asked to")
    driver.hang(False)
    assert waits_for(lambda: driver.opened == 0)


def test_a_slow_sensor_misses_deadlines_which_are_counted(driver: fake_nvml.FakeDriver) -> None:
    driver.delay(0.012)
    with Sampler([nvml(figures=("energy",))], 200.0) as sampler:
        assert waits_for(lambda: sampler.costs[0].reads >= 5)
    (cost,) = sampler.costs
    assert cost.skipped >= 2 * (cost.reads - 1)
    assert cost.longest_read_ns is not None and cost.longest_read_ns >= 12_000_000


def test_rates_are_each_probes_own(root: Path) -> None:
    probes = [rapl(root), always_due(open_host(None, figures=("load",)))]
    with Sampler(probes, {"rapl": 500.0, "host": 50.0}) as sampler:
        assert waits_for(lambda: sampler.costs[1].reads >= 10)
    fast, slow = sampler.costs
    assert (fast.reads + fast.skipped) / (slow.reads + slow.skipped) == pytest.approx(10, rel=0.3)
    assert [cost.sampler for cost in sampler.costs] == ["compiled", "compiled"]


def test_a_slow_rate_does_not_hold_up_the_end(root: Path) -> None:
    sampler = Sampler([rapl(root)], 0.02, timeout_s=30.0)
    sampler.start()
    assert waits_for(lambda: sampler.costs[0].reads == 1)
    began = time.monotonic()
    sampler.stop()
    assert time.monotonic() - began < 20.0
    assert sampler.costs[0].reads == 1 and not sampler.missing


def test_a_probe_is_read_at_least_once(root: Path) -> None:
    for _ in range(20):
        with Sampler([rapl(root), always_due(open_host(None, figures=("load",)))], 0.1) as sampler:
            pass
        assert [cost.reads for cost in sampler.costs] == [1, 1]


def test_it_is_started_once(root: Path) -> None:
    with Sampler([rapl(root)]) as sampler, pytest.raises(RuntimeError, match="started once"):
        sampler.start()


def test_a_sampler_that_is_dropped_ends(root: Path) -> None:
    before = set(threads_named("qprof sampler"))
    sampler = Sampler([rapl(root)], 200.0)
    sampler.start()
    assert waits_for(lambda: len(set(threads_named("qprof sampler")) - before) == 1)
    del sampler
    assert waits_for(lambda: set(threads_named("qprof sampler")) <= before)


def test_a_close_that_hangs_does_not_hold_up_the_end(root: Path) -> None:
    released = threading.Event()
    parts = rapl(root)
    assert isinstance(parts, PartsProbe) and parts.planned is not None
    probe = PartsProbe("stuck", parts.planned, close=lambda: released.wait(10) and None)
    with Sampler([probe], 200.0, timeout_s=0.2) as sampler:
        pass
    released.set()
    assert [missing.reason for missing in sampler.missing] == ["did not end when asked to"]


# --- what it keeps


def kept(most: int, turns: int, root: Path) -> Any:
    core = _sampler.Sampler(timeout_ns=10**10, failures_in_a_row=20, first_readings=8, most_readings=most)
    core.add_probe(10**9)
    core.add_group(0)
    with open(root / ENERGY, "rb", buffering=0) as file:
        core.add_files(0, "number", [file.fileno()], scale=1.0, every_ns=0)
    for turn in range(turns):
        put(root, ENERGY, f"{turn}\n")
        core.read_once(0)
    return core


def test_arrays_grow_up_to_the_limit_and_then_forget_the_oldest(root: Path) -> None:
    core = kept(32, 70, root)
    assert core.between(0, 0, *ALWAYS) is None
    # 32 fit: forgotten are 16 at the 33rd, the 49th and the 65th.
    t_ns, values = core.between(0, 0, time.perf_counter_ns(), 1 << 62, 70)
    assert values.tolist() == list(range(48, 70))
    assert core.between(0, 0, int(t_ns[0]), 1 << 62)[1].tolist() == list(range(48, 70))
    assert core.between(0, 0, int(t_ns[0]) - 10**9, 1 << 62) is None
    core.forget(0, 0, int(t_ns[5]))
    assert core.between(0, 0, int(t_ns[5]), 1 << 62)[1].tolist() == list(range(53, 70))


@pytest.mark.parametrize("neighbours", [0, 1, 2, 100])
def test_windows_are_pythons(root: Path, neighbours: int) -> None:
    core = kept(1000, 60, root)
    t_ns, values = core.between(0, 0, *ALWAYS)
    assert values.tolist() == list(range(60))
    edges = [int(t_ns[0]) - 1, int(t_ns[0]), int(t_ns[20]), int(t_ns[20]) + 1, int(t_ns[59]), int(t_ns[59]) + 1]
    for start in edges:
        for end in edges:
            first = max(0, int(np.searchsorted(t_ns, start, "left")) - neighbours)
            last = int(np.searchsorted(t_ns, end, "right")) + neighbours
            assert core.between(0, 0, start, end, neighbours)[1].tolist() == values[first:last].tolist()


def test_what_does_not_fit_is_refused(root: Path) -> None:
    core = _sampler.Sampler(timeout_ns=10**9, failures_in_a_row=20, first_readings=8, most_readings=64)
    core.add_probe(10**9)
    with pytest.raises(ValueError):
        core.add_probe(0)
    with pytest.raises(RuntimeError):
        core.add_files(0, "number", [0], scale=1.0, every_ns=0)  # in no group
    core.add_group(0)
    for form, descriptors in (("number", []), ("process", [0]), ("frequencies", []), ("no such", [0])):
        with pytest.raises(ValueError):
            core.add_files(0, form, descriptors, scale=1.0, every_ns=0)
    with pytest.raises(RuntimeError, match="Bad file descriptor"):
        core.add_files(0, "number", [1 << 20], scale=1.0, every_ns=0)
    call: dict[str, Any] = dict(library="libc.so.6", function="no_such", device=0, numbers=[], scale=1.0, every_ns=0)
    with pytest.raises(RuntimeError, match="no_such"):
        core.add_nvml(0, "counter", gone=[], **call)
    with pytest.raises(ValueError, match="32"):
        core.add_nvml(0, "counter", gone=[32], **call)
    with pytest.raises(IndexError):
        core.state(7)
    core.start()
    with pytest.raises(RuntimeError):
        core.add_probe(10**9)
    core.ask_to_stop()
    assert core.wait_for_end(10**10)
    core.wait_for_all()

"""Host figures over made-up /proc and /sys trees, and once over the real ones."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_clock import FakeClock
from qprof.probes import host
from qprof.probes.base import NullProbe, Probe, ProbeError, SensorFile, SensorGoneError
from qprof.probes.host import open_host

PID = 41
#: user nice system idle iowait irq softirq steal guest guest_nice
CPU = "cpu  1000 200 300 90000 50 7 3 40 500 60\ncpu0 1 2 3 4 5 6 7 8 9 10\nctxt 5\n"
#: the name holds brackets and a space; utime 150, stime 50, minflt 1234, majflt 5
PROCESS = "41 (a) b) S 1 41 41 0 -1 4194304 1234 99 5 77 150 50 1 1 20 0 3 0 100 4096 10\n"
PRESSURE = "some avg10=12.50 avg60=3.00 avg300=1.00 total=987654\nfull avg10=0.50 avg60=0.10 avg300=0.00 total=10\n"
SWITCHES = "Name:\tx\nThreads:\t2\nvoluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}\n"


def put(root: Path, path: str, content: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    root = tmp_path / "proc"
    put(root, "stat", CPU)
    put(root, f"{PID}/stat", PROCESS)
    put(root, f"{PID}/task/41/status", SWITCHES.format(10, 3))
    put(root, f"{PID}/task/42/status", SWITCHES.format(100, 30))
    for what in ("cpu", "memory", "io"):
        put(root, f"pressure/{what}", PRESSURE)
    put(root, "cpuinfo", "flags\t\t: fpu aperfmperf\ncpu MHz\t\t: 2000.000\n\ncpu MHz\t\t: 3000.500\n")
    return root


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    for core, kilohertz in enumerate((1_200_000, 3_600_000, 3_000_000)):
        put(tmp_path / "sys", f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", f"{kilohertz}\n")
    (tmp_path / "sys/devices/system/cpu/cpufreq").mkdir()
    return tmp_path / "sys"


def values(probe: Probe) -> dict[str, float]:
    return {probe.channels[position].name: value for position, _, value in probe.read()}


def opened(proc: Path, sys: Path, *figures: str, pid: int | None = PID) -> Probe:
    clock = FakeClock(step_ns=10**10)  # so that each reading is due
    return open_host(pid, proc=proc, sys=sys, clock=clock, ticks_per_s=100, figures=figures or host.FIGURES)


def test_every_figure(proc: Path, sys: Path) -> None:
    probe = opened(proc, sys)
    assert values(probe) == pytest.approx(
        {
            "host.busy": 15.10,
            "host.steal": 0.40,
            "host.worker_cpu": 2.0,
            "host.other_cpu": 13.10,
            "host.minor_faults": 1234,
            "host.major_faults": 5,
            "host.pressure.cpu.avg10": 12.5,
            "host.pressure.cpu.total": 987654,
            "host.pressure.memory.avg10": 12.5,
            "host.pressure.memory.total": 987654,
            "host.pressure.io.avg10": 12.5,
            "host.pressure.io.total": 987654,
            "host.frequency.mean": 2600.0,
            "host.frequency.min": 1200.0,
            "host.frequency.max": 3600.0,
            "host.voluntary_switches": 110,
            "host.involuntary_switches": 33,
        }
    )
    assert not probe.missing
    kinds = {channel.name: (channel.kind, channel.unit) for channel in probe.channels}
    assert kinds["host.steal"] == ("counter", "s")
    assert kinds["host.frequency.mean"] == ("gauge", "MHz")
    assert kinds["host.pressure.io.total"] == ("counter", "us")


def test_without_a_worker_only_the_machine(proc: Path, sys: Path) -> None:
    assert set(values(opened(proc, sys, "load", "threads", pid=None))) == {"host.busy", "host.steal"}


def test_figures_can_be_chosen_and_named(proc: Path, sys: Path) -> None:
    probe = open_host(PID, figures=("threads",), name="host.fp32", proc=proc, sys=sys)
    assert list(values(probe)) == ["host.fp32.voluntary_switches", "host.fp32.involuntary_switches"]
    with pytest.raises(ValueError, match="disk"):
        open_host(figures=("disk",), proc=proc, sys=sys)


def test_others_time_never_goes_back(proc: Path, sys: Path) -> None:
    probe = opened(proc, sys, "load")
    assert values(probe)["host.other_cpu"] == pytest.approx(13.1)
    put(proc, f"{PID}/stat", PROCESS.replace(" 150 50 ", " 152 50 "))  # counted here before it is counted there
    assert values(probe)["host.other_cpu"] == pytest.approx(13.1)
    put(proc, "stat", CPU.replace("cpu  1000", "cpu  1030"))
    assert values(probe)["host.other_cpu"] == pytest.approx(13.38)


def test_a_thread_that_ends_stays_in_the_sum(proc: Path, sys: Path) -> None:
    probe = opened(proc, sys, "threads")
    assert values(probe)["host.voluntary_switches"] == 110
    folder = proc / f"{PID}/task/42"
    (folder / "status").unlink()
    folder.rmdir()
    assert values(probe) == {"host.voluntary_switches": 110, "host.involuntary_switches": 33}
    put(proc, f"{PID}/task/42/status", SWITCHES.format(1, 0))  # the number is given to a new thread
    assert values(probe)["host.voluntary_switches"] == 111
    put(proc, f"{PID}/task/42/status", SWITCHES.format(0, 5))  # and to another one, unseen between
    assert values(probe) == {"host.voluntary_switches": 111, "host.involuntary_switches": 38}


def test_a_worker_that_ends_leaves_the_machine(proc: Path, sys: Path) -> None:
    probe = opened(proc, sys, "load", "threads")
    put(proc, f"{PID}/stat", PROCESS.replace(" S ", " Z "))
    for thread in (41, 42):
        (proc / f"{PID}/task/{thread}/status").unlink()
        (proc / f"{PID}/task/{thread}").rmdir()
    (proc / f"{PID}/task").rmdir()
    assert set(values(probe)) == {"host.busy", "host.steal"}
    assert [missing.probe for missing in probe.missing] == ["host.worker", "host.threads"]
    put(proc, f"{PID}/stat", PROCESS)
    assert set(values(probe)) == {"host.busy", "host.steal"}  # gone is gone


def test_a_worker_that_is_not_there(proc: Path, sys: Path) -> None:
    probe = opened(proc, sys, "load", pid=99)
    (missing,) = probe.missing
    assert missing.probe == "host.worker" and missing.reason == f"{proc}/99/stat: No such file or directory"


def test_cpuinfo_tells_the_frequency_where_the_kernel_measures_it(proc: Path, tmp_path: Path) -> None:
    probe = opened(proc, tmp_path / "none", "frequency")
    assert values(probe) == {
        "host.frequency.mean": 2500.25,
        "host.frequency.min": 2000.0,
        "host.frequency.max": 3000.5,
    }
    assert "/proc/cpuinfo" in probe.channels[0].sensor


def test_a_nominal_frequency_is_not_a_reading(proc: Path, tmp_path: Path) -> None:
    put(proc, "cpuinfo", "flags : fpu\ncpu MHz : 2000.000\n")
    probe = opened(proc, tmp_path / "none", "frequency")
    assert isinstance(probe, NullProbe)
    assert "nominal frequency only" in probe.missing[0].reason


def test_no_pressure_files(proc: Path, sys: Path) -> None:
    (proc / "pressure/io").unlink()
    (missing,) = opened(proc, sys, "pressure").missing
    assert missing.probe == "host.pressure.io" and "psi=1" in missing.remedy


def test_nothing_at_all(tmp_path: Path) -> None:
    probe = open_host(PID, proc=tmp_path / "proc", sys=tmp_path / "sys")
    assert isinstance(probe, NullProbe)
    assert "No such file or directory" in probe.missing[0].reason


@pytest.mark.parametrize(
    ("path", "content", "parse"),
    [
        ("stat", "", host.cpu_ticks),
        ("stat", "cpu 1 2 x 4 5 6 7 8\n", host.cpu_ticks),
        ("stat", "cpu 1 2 3\n", host.cpu_ticks),
        ("stat", "intr 1 2 3 4 5 6 7 8\n", host.cpu_ticks),
        ("p", "", host.process_counts),
        ("p", "41 (a) S 1 2 3\n", host.process_counts),
        ("p", PROCESS.replace("1234", "many"), host.process_counts),
        ("io", "", host.some_pressure),
        ("io", "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", host.some_pressure),
        ("cpuinfo", "processor : 0\n", host.listed_mhz),
    ],
)
def test_a_file_of_another_form(tmp_path: Path, path: str, content: str, parse: Callable[[SensorFile], object]) -> None:
    file = SensorFile(put(tmp_path, path, content))
    with pytest.raises(ProbeError) as error:
        parse(file)
    assert str(file.path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_status_file_of_another_form(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="no context switches"):
        host.thread_switches(put(tmp_path, "status", "Name:\tx\n"))
    with pytest.raises(SensorGoneError, match="ended"):
        host.thread_switches(tmp_path / "none")


@pytest.mark.parametrize("size", [0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 3 << 16])
def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    file = SensorFile(put(tmp_path, "large", "x" * size))
    assert len(file.read()) == size
    file.close()
    file.close()
    with pytest.raises(ProbeError):
        file.read()


def test_this_machine() -> None:
    """Linux has /proc/stat and the process's own files; each reading of work done is at least the one before."""
    probe = open_host(os.getpid(), figures=("load", "threads"), clock=FakeClock(step_ns=10**10))
    before = values(probe)
    # Mapped anew: what an allocator hands out may have been touched before.
    faults = mmap.mmap(-1, 32 << 20)
    faults[:: mmap.PAGESIZE] = bytes(len(faults) // mmap.PAGESIZE)
    sum(range(1_000_000))
    after = values(probe)
    assert len(before) == 8 and not probe.missing and faults
    assert all(after[name] >= before[name] for name in before)
    assert after["host.minor_faults"] > before["host.minor_faults"]
    assert after["host.worker_cpu"] <= after["host.busy"] + 0.05
    probe.close()


def test_slow_figures_are_not_read_at_every_turn(proc: Path, sys: Path) -> None:
    clock = FakeClock()
    probe = open_host(PID, proc=proc, sys=sys, clock=clock, ticks_per_s=100)
    taken = []
    for _ in range(200):
        taken += [probe.channels[position].name for position, _, _ in probe.read()]
        clock.advance(0.01)
    counts = {name: taken.count(f"host.{name}") for name in ("busy", "worker_cpu", "frequency.mean")}
    assert counts == {"busy": 20, "worker_cpu": 20, "frequency.mean": 20}
    assert {taken.count(f"host.{name}") for name in ("pressure.cpu.total", "voluntary_switches")} == {2}

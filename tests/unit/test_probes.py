"""Memory, machine and clock probes over a made-up /proc and /sys, and once over the real ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from fake_clock import FakeClock
from qprof.errors import QprofError
from qprof.probes import clock, machine, memory

SMAPS_ROLLUP = """\
55e8fede2000-7fff41d41000 ---p 00000000 00:00 0                          [rollup]
Rss:                1756 kB
Pss:                 359 kB
Pss_Anon:            116 kB
Shared_Clean:       1584 kB
Private_Clean:        56 kB
Private_Dirty:       116 kB
Anonymous:           117 kB
Private_Hugetlb:       8 kB
Swap:                  3 kB
SwapPss:               2 kB
"""
STATUS = """\
Name:\tpython3
VmPeak:\t    9000 kB
VmHWM:\t    2000 kB
VmRSS:\t    1700 kB
VmSwap:\t       4 kB
Cpus_allowed_list:\t0-1,3
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "smaps_rollup").write_text(SMAPS_ROLLUP)
    (tmp_path / "status").write_text(STATUS)
    (tmp_path / "clear_refs").write_text("")
    return tmp_path


def test_memory_figures(proc: Path) -> None:
    assert memory.read_memory(proc, "linux") == memory.MemoryReading(
        rss_bytes=1756 * 1024,
        pss_bytes=359 * 1024,
        private_bytes=180 * 1024,
        peak_rss_bytes=2000 * 1024,
        anonymous_bytes=117 * 1024,
        swap_bytes=3 * 1024,
    )


def test_memory_without_smaps_rollup_gives_what_status_has_and_why_the_rest_is_missing(proc: Path) -> None:
    (proc / "smaps_rollup").unlink()
    reading = memory.read_memory(proc, "linux")
    assert (reading.rss_bytes, reading.peak_rss_bytes, reading.swap_bytes) == (1700 * 1024, 2000 * 1024, 4 * 1024)
    assert (reading.pss_bytes, reading.private_bytes, reading.anonymous_bytes) == (None, None, None)
    reason = f"{proc / 'smaps_rollup'}: No such file or directory"
    assert reading.missing == {"pss_bytes": reason, "private_bytes": reason, "anonymous_bytes": reason}


def test_memory_the_kernel_does_not_tell_is_none_and_not_0(proc: Path) -> None:
    (proc / "status").write_text("Name:\tkthreadd\n")
    (proc / "smaps_rollup").write_text("")
    reading = memory.read_memory(proc, "linux")
    assert reading.rss_bytes is None
    assert reading.missing["peak_rss_bytes"] == "the kernel does not tell it"
    assert len(reading.missing) == 6


def test_a_peak_is_not_below_the_present_size(proc: Path) -> None:
    (proc / "status").write_text("VmHWM:\t 1000 kB\n")
    assert memory.read_memory(proc, "linux").peak_rss_bytes == 1756 * 1024


def test_memory_off_linux() -> None:
    reading = memory.read_memory(platform="darwin")
    assert reading.rss_bytes is None
    assert set(reading.missing.values()) == {
        "darwin has no /proc: the memory of a process is read on Linux only",
    }
    assert not memory.reset_peak(platform="darwin")


def test_reset_peak_writes_5(proc: Path) -> None:
    outcome = memory.reset_peak(proc, "linux")
    assert outcome
    assert outcome.reason is None
    assert (proc / "clear_refs").read_text() == "5"


def test_reset_peak_that_is_not_possible_says_why(proc: Path) -> None:
    (proc / "clear_refs").unlink()
    outcome = memory.reset_peak(proc, "linux")
    assert not outcome
    assert outcome.reason == f"{proc / 'clear_refs'}: No such file or directory"
    assert not (proc / "clear_refs").exists()
    (proc / "clear_refs").mkdir()
    assert not memory.reset_peak(proc, "linux")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory_of_a_real_process() -> None:
    # In a process of its own: what other tests have freed, the allocator may hand out again without a new page.
    program = (
        "from qprof.probes.memory import read_memory, reset_peak\n"
        "before = read_memory()\n"
        "block = bytearray(b'x') * (64 << 20)\n"
        "held = read_memory()\n"
        "del block\n"
        "reset = reset_peak()\n"
        "after = read_memory()\n"
        "print(held.private_bytes - before.private_bytes, held.peak_rss_bytes - after.peak_rss_bytes, bool(reset))\n"
        "assert before.missing == {}, before\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    private, peak, reset = done.stdout.split()
    assert 63 << 20 <= int(private) <= 70 << 20
    assert reset == "False" or 60 << 20 <= int(peak) <= 140 << 20


CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Gold
flags\t\t: fpu avx2 avx512f avx512_vnni amx_tile hypervisor f16c

processor\t: 1
model name\t: Intel(R) Xeon(R) Gold
"""


def _files(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    cpu = "sys/devices/system/cpu"
    files = {
        "proc/cpuinfo": CPUINFO,
        "proc/meminfo": "MemTotal:       16000 kB\nMemFree:  1 kB",
        "proc/loadavg": "0.50 1.25 2.00 1/234 5678",
        "proc/sys/kernel/osrelease": "6.1.0-test",
        "proc/self/status": STATUS,
        "proc/self/cgroup": "0::/user.slice/job",
        "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12"',
        f"{cpu}/online": "0-3",
        f"{cpu}/smt/active": "1",
        f"{cpu}/intel_pstate/no_turbo": "1",
        f"{cpu}/cpu0/cache/index0/type": "Data",
        f"{cpu}/cpu0/cache/index0/level": "1",
        f"{cpu}/cpu0/cache/index0/size": "48K",
        f"{cpu}/cpu0/cache/index3/type": "Unified",
        f"{cpu}/cpu0/cache/index3/level": "3",
        f"{cpu}/cpu0/cache/index3/size": "32M",
        "sys/fs/cgroup/user.slice/job/cpu.max": "max 100000",
        "sys/fs/cgroup/user.slice/cpu.max": "150000 100000",
        "sys/fs/cgroup/user.slice/job/memory.max": "1048576",
        "sys/fs/cgroup/user.slice/memory.max": "max",
        "sys/hypervisor/type": "kvm",
    }
    for number in range(4):
        files[f"{cpu}/cpu{number}/topology/physical_package_id"] = "0"
        files[f"{cpu}/cpu{number}/topology/core_id"] = str(number // 2)
        files[f"{cpu}/cpu{number}/cpufreq/scaling_governor"] = "performance" if number < 2 else "powersave"
        files[f"{cpu}/cpu{number}/cpufreq/scaling_driver"] = "intel_pstate"
        files[f"{cpu}/cpu{number}/cpufreq/scaling_max_freq"] = "2000000"
        files[f"{cpu}/cpu{number}/cpufreq/cpuinfo_max_freq"] = "980000" if number < 2 else "3500000"
    _files(tmp_path, files)
    return tmp_path


def test_machine_facts(root: Path) -> None:
    facts = msgspec.to_builtins(machine.describe_machine(root))
    for name in ("architecture", "libc", "python"):  # of the machine that runs the test
        assert facts.pop(name) or name in facts["missing"]
    facts["missing"].pop("libc", None)
    assert facts == {
        "cpu_model": "Intel(R) Xeon(R) Gold",
        "cpu_vendor": "GenuineIntel",
        "cpu_flags": ["f16c", "avx2", "avx512f", "avx512_vnni", "amx_tile"],
        "logical_cpus": 4,
        "physical_cores": 2,
        "affinity": [0, 1, 3],
        "smt_active": True,
        "cpu_capacities": None,
        "cache_bytes": {"L1d": 48 << 10, "L3": 32 << 20},
        "governor": "performance,powersave",
        "scaling_driver": "intel_pstate",
        "frequency_limit_hz": 2_000_000_000,
        "frequency_highest_hz": 3_500_000_000,
        "boost": False,
        "memory_bytes": 16000 * 1024,
        "cgroup_cpus": 1.5,
        "cgroup_memory_bytes": 1 << 20,
        "load_average": [0.5, 1.25, 2.0],
        "operating_system": "Debian GNU/Linux 12",
        "kernel": "6.1.0-test",
        "hypervisor": "kvm",
        "container": None,
        "missing": {
            "cpu_capacities": "all cores alike, or not told by the kernel",
            "container": "no sign of a container",
        },
    }


def test_machine_without_proc_and_sys_gives_a_reason_for_each_fact(tmp_path: Path) -> None:
    facts = msgspec.to_builtins(machine.describe_machine(tmp_path))
    missing = facts.pop("missing")
    assert {name for name, value in facts.items() if value is None} == set(missing)
    assert missing["cpu_model"] == f"{tmp_path}/proc/cpuinfo: No such file or directory"
    assert {"memory_bytes", "governor", "boost", "affinity", "container"} <= set(missing)


def test_machine_with_files_of_an_unexpected_form(root: Path) -> None:
    _files(root, {"sys/devices/system/cpu/online": "all", "proc/meminfo": "nothing", "proc/self/cgroup": "nonsense"})
    missing = machine.describe_machine(root).missing
    assert missing["logical_cpus"].startswith("unexpected form: ")
    assert missing["memory_bytes"] == "/proc/meminfo has no MemTotal"
    assert missing["cgroup_cpus"].startswith("unexpected form: ")


def test_machine_arm_and_amd_forms(root: Path) -> None:
    arm = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\nSerial\t: 123"
    _files(root, {"proc/cpuinfo": arm, "sys/devices/system/cpu/cpufreq/boost": "1"})
    facts = machine.describe_machine(root)
    assert facts.cpu_model == "implementer 0x41 part 0xd0b"
    assert facts.cpu_flags == ["asimd", "asimddp", "i8mm"]
    assert facts.boost is True
    assert facts.missing["hypervisor"] == "the processor shows no hypervisor"
    assert "123" not in json.dumps(msgspec.to_builtins(facts))


def test_machine_limits_of_cgroup_v1(root: Path) -> None:
    group = "sys/fs/cgroup"
    _files(
        root,
        {
            "proc/self/cgroup": "4:memory:/docker/ab\n1:cpu,cpuacct:/docker/ab\n0::/",
            f"{group}/cpu/docker/ab/cpu.cfs_quota_us": "50000",
            f"{group}/cpu/docker/ab/cpu.cfs_period_us": "100000",
            f"{group}/cpu/cpu.cfs_quota_us": "-1",
            f"{group}/cpu/cpu.cfs_period_us": "100000",
            f"{group}/memory/docker/ab/memory.limit_in_bytes": "2097152",
            f"{group}/memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    facts = machine.describe_machine(root)
    assert (facts.cgroup_cpus, facts.cgroup_memory_bytes, facts.container) == (0.5, 2 << 20, "docker")
    _files(root, {f"{group}/memory/docker/ab/memory.limit_in_bytes": "9223372036854771712"})
    assert machine.describe_machine(root).missing["cgroup_memory_bytes"] == "no cgroup limits the memory"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and /sys")
def test_the_real_machine_is_told_without_its_name() -> None:
    facts = machine.describe_machine()
    assert facts.logical_cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert facts.affinity == sorted(os.sched_getaffinity(0))
    assert facts.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert facts.kernel == os.uname().release
    text = json.dumps(msgspec.to_builtins(facts), allow_nan=False)
    name = socket.gethostname()
    assert len(name) < 4 or name not in text


def test_packages() -> None:
    versions = machine.packages(["pytest", "no-such-distribution"])
    assert versions == {"pytest": pytest.__version__, "no-such-distribution": None}


@pytest.mark.skipif(sys.platform != "linux", reason="CLOCK_MONOTONIC")
def test_the_clock_is_clock_monotonic() -> None:
    now = clock.MonotonicClock().now_ns
    times = [time.clock_gettime_ns(time.CLOCK_MONOTONIC), now(), time.monotonic_ns(), now(), time.perf_counter_ns()]
    assert times == sorted(times)


def test_another_clock_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = time.get_clock_info("process_time")
    monkeypatch.setattr(time, "get_clock_info", lambda name: other)
    with pytest.raises(QprofError, match="not CLOCK_MONOTONIC; measure on Linux"):
        clock.MonotonicClock()


def test_wall_offset_takes_the_tightest_pair() -> None:
    fake = FakeClock(now=1000)
    delays = iter([500, 8, 300])

    def wall_ns() -> int:
        # The wall clock is read at once, and the second reading comes late: that makes the wide pairs wrong.
        wall = fake.now + 1_000_000
        fake.now += next(delays)
        return wall

    assert clock.wall_offset(fake, wall_ns, attempts=3) == clock.WallOffset(999_996, 4)


def test_wall_offset_of_the_real_clocks() -> None:
    offset = clock.wall_offset_ns()
    assert abs(time.time_ns() - time.monotonic_ns() - offset) < 50_000_000


def test_resolution_is_the_smallest_step() -> None:
    class Coarse(FakeClock):
        def now_ns(self) -> int:
            return super().now_ns() // 100 * 100

    assert clock.resolution_ns(Coarse(step_ns=30), readings=100) == 100
    assert clock.resolution_ns(FakeClock(step_ns=7)) == 7


def test_a_clock_that_stands_still_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_STUCK_AFTER", 5000)
    with pytest.raises(QprofError, match="stands still over 5000 readings"):
        clock.resolution_ns(FakeClock())


def test_reading_cost() -> None:
    assert clock.reading_cost_ns(FakeClock(step_ns=55)) == 55.0
    assert 1 < clock.reading_cost_ns() < 100_000
    assert 1 <= clock.resolution_ns() < 1_000_000

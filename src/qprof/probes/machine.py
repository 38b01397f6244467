"""The machine as the manifest records it: what the figures depend on, and nothing that names its owner."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from qprof.record.machine import Machine

#: CPU features that inference kernels choose by (XNNPACK, oneDNN, ruy); x86 names first, then Arm's, as the kernel
#: spells them in /proc/cpuinfo.
# fmt: off
_FEATURES = (
    "sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512bw", "avx512dq",
    "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx10_1", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
    "neon", "asimd", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "svebf16", "sme", "sme2",
)
# fmt: on
_CPU = "sys/devices/system/cpu"
_CGROUP = "sys/fs/cgroup"
#: cgroup v1 has no "max": no limit is a number near 2^63, rounded down to the page.
_UNLIMITED_BYTES = 1 << 62


class _AbsentError(Exception):
    """A fact that this machine does not tell; the text is the reason."""


def describe_machine(root: Path = Path("/")) -> Machine:
    """Facts about processor, memory, system and surroundings.

    A fact that cannot be had is `None`, with its reason in `missing`. No host name, user name,
    address or serial number is read. `root` is the folder that holds proc/, sys/ and etc/.
    """
    facts: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, read in _FACTS.items():
        try:
            facts[name] = read(root)
        except _AbsentError as reason:
            facts[name], missing[name] = None, str(reason)
        except OSError as error:
            facts[name], missing[name] = None, f"{error.filename}: {error.strerror}"
        except ValueError as error:
            facts[name], missing[name] = None, f"unexpected form: {error}"
    return Machine(**facts, missing=missing)


def available_memory_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can be used without swapping (proc_meminfo(5), MemAvailable); `None` where that is not told."""
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def available_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def packages(names: Iterable[str]) -> dict[str, str | None]:
    """Installed version of each distribution; `None` where it is not installed."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()


def _cpuinfo(root: Path, *keys: str) -> str:
    """The first value of any of `keys` in /proc/cpuinfo."""
    text = _text(root / "proc/cpuinfo")
    for key in keys:
        found = re.search(rf"^{re.escape(key)}[ \t]*:[ \t]*(.+)$", text, re.MULTILINE)
        if found:
            return found[1].strip()
    raise _AbsentError(f"/proc/cpuinfo has no {' or '.join(keys)}")


def _cpu_model(root: Path) -> str:
    try:
        return _cpuinfo(root, "model name", "cpu model", "cpu")
    except _AbsentError:
        # Arm has no name there, but the codes that tell the core's design.
        return f"implementer {_cpuinfo(root, 'CPU implementer')} part {_cpuinfo(root, 'CPU part')}"


def _cpu_flags(root: Path) -> list[str]:
    present = set(_cpuinfo(root, "flags", "Features").split())
    return [name for name in _FEATURES if name in present]


def _cpu_list(text: str) -> list[int]:
    """ "0-3,8" -> [0, 1, 2, 3, 8] (cpuset(7), list format)."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def _online(root: Path) -> list[int]:
    return _cpu_list(_text(root / _CPU / "online"))


def _physical_cores(root: Path) -> int:
    cores = set()
    for cpu in _online(root):
        topology = root / _CPU / f"cpu{cpu}" / "topology"
        cores.add((_text(topology / "physical_package_id"), _text(topology / "core_id")))
    return len(cores)


def _affinity(root: Path) -> list[int]:
    return _cpu_list(_status(root, "Cpus_allowed_list"))


def _status(root: Path, key: str) -> str:
    found = re.search(rf"^{key}:[ \t]*(.+)$", _text(root / "proc/self/status"), re.MULTILINE)
    if not found:
        raise _AbsentError(f"/proc/self/status has no {key}")
    return found[1].strip()


def _of_each_cpu(root: Path, name: str, why_absent: str) -> str:
    """A file of all online cpus: its one content, or the distinct ones joined by "," (big and little cores)."""
    found = {_text(path) for cpu in _online(root) if (path := root / _CPU / f"cpu{cpu}" / name).exists()}
    if not found:
        raise _AbsentError(why_absent)
    return ",".join(sorted(found))


_NO_CPUFREQ = "no cpufreq in /sys: a virtual machine, or a kernel without a frequency driver"


def _governor(root: Path) -> str:
    return _of_each_cpu(root, "cpufreq/scaling_governor", _NO_CPUFREQ)


def _scaling_driver(root: Path) -> str:
    return _of_each_cpu(root, "cpufreq/scaling_driver", _NO_CPUFREQ)


def _frequency_hz(name: str) -> Callable[[Path], int]:
    def read(root: Path) -> int:
        kilohertz = _of_each_cpu(root, f"cpufreq/{name}", _NO_CPUFREQ).split(",")
        return 1000 * max(int(value) for value in kilohertz)

    return read


def _boost(root: Path) -> bool:
    generic, intel = root / _CPU / "cpufreq/boost", root / _CPU / "intel_pstate/no_turbo"
    if generic.exists():
        return _text(generic) == "1"
    if intel.exists():
        return _text(intel) == "0"
    raise _AbsentError("neither cpufreq/boost nor intel_pstate/no_turbo in /sys")


def _cache_bytes(root: Path) -> dict[str, int]:
    """Size of each cache that cpu 0 uses: {"L1d": 49152, "L1i": ..., "L2": ..., "L3": ...}."""
    sizes: dict[str, int] = {}
    for folder in sorted((root / _CPU / "cpu0/cache").glob("index*")):
        kind = {"Data": "d", "Instruction": "i"}.get(_text(folder / "type"), "")
        text = _text(folder / "size")
        sizes[f"L{_text(folder / 'level')}{kind}"] = int(text.rstrip("KM")) * (1 << 20 if text[-1:] == "M" else 1 << 10)
    if not sizes:
        raise _AbsentError("no cache folders in /sys")
    return sizes


def _memory(root: Path) -> int:
    found = re.search(r"^MemTotal:\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE)
    if not found:
        raise _AbsentError("/proc/meminfo has no MemTotal")
    return 1024 * int(found[1])


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """The cgroup folders of this process from its own up to the root: a limit of any of them binds."""
    folders: list[Path] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / _CGROUP / (controller if controllers else "")
        own = top / path.strip("/")
        folders.extend(folder for folder in (own, *own.parents) if folder.is_relative_to(top))
    return folders


def _cpu_quota(root: Path) -> float:
    """Cores' worth of time that the cgroup may use (cgroup v2 cpu.max, v1 cpu.cfs_quota_us)."""
    quotas: list[float] = []
    for folder in _cgroup_folders(root, "cpu"):
        if (limit := folder / "cpu.max").exists():
            quota, period = _text(limit).split()
        elif (limit := folder / "cpu.cfs_quota_us").exists():
            quota, period = _text(limit), _text(folder / "cpu.cfs_period_us")
        else:
            continue
        if quota not in ("max", "-1"):
            quotas.append(int(quota) / int(period))
    if not quotas:
        raise _AbsentError("no cgroup limits the processor time")
    return min(quotas)


def _memory_limit(root: Path) -> int:
    limits: list[int] = []
    for folder in _cgroup_folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (folder / name).exists() and (text := _text(folder / name)) != "max":
                limits.append(int(text))
    limits = [limit for limit in limits if limit < _UNLIMITED_BYTES]
    if not limits:
        raise _AbsentError("no cgroup limits the memory")
    return min(limits)


def _hypervisor(root: Path) -> str:
    """The product name where the machine tells it; else "unknown" where only the cpu flag shows one."""
    if "hypervisor" in _cpuinfo(root, "flags", "Features").split():
        for name in ("sys/hypervisor/type", "sys/class/dmi/id/sys_vendor"):
            if (root / name).exists():
                return _text(root / name)
        return "unknown"
    raise _AbsentError("the processor shows no hypervisor")


def _container(root: Path) -> str:
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    for line in _text(root / "proc/self/cgroup").splitlines():
        found = re.search(r"docker|kubepods|lxc|containerd|libpod", line)
        if found:
            return found[0]
    raise _AbsentError("no sign of a container")


def _load_average(root: Path) -> list[float]:
    return [float(value) for value in _text(root / "proc/loadavg").split()[:3]]


def _operating_system(root: Path) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', _text(root / "etc/os-release"), re.MULTILINE)
    if not found:
        raise _AbsentError("/etc/os-release has no PRETTY_NAME")
    return found[1]


def _libc(root: Path) -> str:
    name = "CS_GNU_LIBC_VERSION"
    if name not in os.confstr_names or not (version := os.confstr(name)):
        raise _AbsentError("the C library is not glibc and does not tell its version")
    return version


_FACTS: dict[str, Callable[[Path], Any]] = {
    "cpu_model": _cpu_model,
    "cpu_vendor": lambda root: _cpuinfo(root, "vendor_id", "CPU implementer"),
    "architecture": lambda root: platform.machine(),
    "cpu_flags": _cpu_flags,
    "logical_cpus": lambda root: len(_online(root)),
    "physical_cores": _physical_cores,
    "affinity": _affinity,
    "smt_active": lambda root: _text(root / _CPU / "smt/active") == "1",
    "cpu_capacities": lambda root: _of_each_cpu(root, "cpu_capacity", "all cores alike, or not told by the kernel"),
    "cache_bytes": _cache_bytes,
    "governor": _governor,
    "scaling_driver": _scaling_driver,
    "frequency_limit_hz": _frequency_hz("scaling_max_freq"),
    "frequency_highest_hz": _frequency_hz("cpuinfo_max_freq"),
    "boost": _boost,
    "memory_bytes": _memory,
    "cgroup_cpus": _cpu_quota,
    "cgroup_memory_bytes": _memory_limit,
    "load_average": _load_average,
    "operating_system": _operating_system,
    "kernel": lambda root: _text(root / "proc/sys/kernel/osrelease"),
    "libc": _libc,
    "hypervisor": _hypervisor,
    "container": _container,
    "python": lambda root: f"{platform.python_implementation()} {platform.python_version()}",
}

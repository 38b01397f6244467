"""Energy of the processor: RAPL counters through powercap (Documentation/power/powercap/powercap.rst of Linux).

A package holds its cores ("core") and, on client parts, the graphics ("uncore"); "psys" holds the whole platform, and
so the packages. Parts are channels of their own: never add one to what holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qprof.probes.base import NullProbe, Part, PartsProbe, Probe, ProbeError, SensorFile, read_text
from qprof.probes.clock import Clock
from qprof.probes.plan import FilePlan
from qprof.record.sensors import Channel, Missing

ROOT = Path("/sys/class/powercap")

_ZONE = re.compile(r"intel-rapl(?P<mmio>-mmio)?:(?P<top>\d+)(?::(?P<sub>\d+))?")
_UJ_PER_MJ = 1000.0
_ABSENT_REMEDY = (
    "on bare metal: sudo modprobe intel_rapl_msr (AMD: Linux 5.8 or newer); Docker hides the folder unless started "
    "with --security-opt systempaths=unconfined; most virtual machines have none: measure on the host"
)


@dataclass(frozen=True, slots=True)
class Zone:
    """One folder of powercap: `label` is "package-0", "package-0.dram" or "psys"."""

    label: str
    folder: Path
    mmio: bool


def open_rapl(root: Path = ROOT, clock: Clock | None = None) -> Probe:
    """Every readable energy counter under `root`, in mJ; a `NullProbe` where there is none. Raises nothing."""
    zones, missing = _zones(root)
    if not zones and not missing:
        return NullProbe("rapl", f"{root}: no intel-rapl zones ({_surroundings(root)})", _ABSENT_REMEDY)
    parts: dict[str, Part] = {}
    refused: dict[str, Missing] = {}
    for zone in zones:
        if zone.label in parts:
            continue  # the same counter once more, read through MMIO
        try:
            parts[zone.label] = _part(zone)
        except ProbeError as error:
            refused.setdefault(zone.label, Missing(f"rapl.{zone.label}.energy", str(error), _remedy(zone)))
            continue
        refused.pop(zone.label, None)
        if parts[zone.label].channels[0].wraps_at is None:
            missing.append(_no_range(zone))
    missing += refused.values()
    if not parts:
        return NullProbe("rapl", missing[0].reason, missing[0].remedy)
    return PartsProbe("rapl", list(parts.values()), missing, clock)


def _surroundings(root: Path) -> str:
    """What is there instead, for the reader who looks for the reason."""
    try:
        others = sorted(entry.name for entry in root.iterdir())
    except OSError as error:
        return error.strerror or "unreadable"
    return "found " + ", ".join(others[:4]) if others else "an empty folder"


def _zones(root: Path) -> tuple[list[Zone], list[Missing]]:
    """The zones of `root`, those read through MSRs first, and those whose name cannot be read."""
    found: list[Zone] = []
    missing: list[Missing] = []
    names: dict[str, str] = {}
    for folder, match in sorted(_folders(root), key=lambda pair: _order(pair[1])):
        try:
            name = read_text(folder / "name")
        except ProbeError as error:
            missing.append(Missing(f"rapl.{folder.name}", str(error), _ABSENT_REMEDY))
            continue
        if match["sub"] is None:
            label = names[folder.name] = _unique(name, match["top"], match["mmio"], found)
        else:
            label = f"{names.get(folder.name.rpartition(':')[0], 'zone-' + match['top'])}.{name}"
        found.append(Zone(label, folder, match["mmio"] is not None))
    return found, missing


def _folders(root: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    try:
        entries = list(root.iterdir())
    except OSError:
        return  # told by `_surroundings`
    for entry in entries:
        match = _ZONE.fullmatch(entry.name)
        if match:
            yield entry, match


def _order(match: re.Match[str]) -> tuple[bool, int, int]:
    return match["mmio"] is not None, int(match["top"]), -1 if match["sub"] is None else int(match["sub"])


def _unique(name: str, top: str, mmio: str | None, found: list[Zone]) -> str:
    """Several sockets may each have a "psys": the later ones carry the number of their zone."""
    if mmio is None and any(zone.label == name for zone in found):
        return f"{name}-{top}"
    return name


def _part(zone: Zone) -> Part:
    """Raises `ProbeError` where the counter cannot be read."""
    file = SensorFile(zone.folder / "energy_uj")
    try:
        file.number()
    except ProbeError:
        file.close()
        raise
    channel = Channel(
        name=f"rapl.{zone.label}.energy",
        unit="mJ",
        kind="counter",
        provenance="measured",
        sensor=f"RAPL {zone.label} energy counter ({zone.folder.name})",
        wraps_at=_range_mj(zone),
    )
    plan = FilePlan("number", (file,), (SensorFile.number,), _UJ_PER_MJ)
    return Part(channel.name, (channel,), lambda: (file.number() / _UJ_PER_MJ,), _remedy(zone), file.close, plan=plan)


def _range_mj(zone: Zone) -> float | None:
    try:
        return int(read_text(zone.folder / "max_energy_range_uj")) / _UJ_PER_MJ
    except (ProbeError, ValueError):
        return None  # told by `_no_range`


def _no_range(zone: Zone) -> Missing:
    return Missing(
        f"rapl.{zone.label}.energy",
        f"{zone.folder / 'max_energy_range_uj'} tells no range: where the counter wraps around, it cannot be told",
        "keep windows short: a package at 200 W wraps in about 20 minutes",
    )


def _remedy(zone: Zone) -> str:
    return (
        f'sudo chmod a+r {zone.folder / "energy_uj"} (until the next boot), or for good: echo \'SUBSYSTEM=="powercap", '
        'ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"\' | sudo tee /etc/udev/rules.d/99-qprof-rapl.rules'
    )

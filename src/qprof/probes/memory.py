"""Memory of one process, read from Linux's /proc (proc(5))."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

_SELF = Path("/proc/self")
_LINE = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)
#: Written to clear_refs it sets VmHWM back to the present resident size (proc(5), since Linux 4.0).
_RESET_PEAK = b"5"


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Memory of a process in bytes; a figure that could not be read is `None`, with its reason in `missing`.

    `rss_bytes`: resident pages, shared ones included. `pss_bytes`: each shared page divided by the number of its
    sharers, so that the figures of several workers may be added. `private_bytes` (USS): what ending the process
    would give back. `peak_rss_bytes`: the highest resident size since the start or the last `reset_peak`.
    `anonymous_bytes`: resident pages that are no file's (heap, stacks). `swap_bytes`: swapped out.
    """

    rss_bytes: int | None = None
    pss_bytes: int | None = None
    private_bytes: int | None = None
    peak_rss_bytes: int | None = None
    anonymous_bytes: int | None = None
    swap_bytes: int | None = None
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PeakReset:
    """Whether the peak starts anew, and why not; true and false as a condition."""

    done: bool
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.done


def read_memory(proc: Path = _SELF, platform: str = sys.platform) -> MemoryReading:
    """Read the memory of the process whose folder is `proc` ("/proc/self", "/proc/1234").

    The kernel walks the whole page table for it: about a millisecond per gigabyte resident, so read it between
    blocks and never inside one.
    """
    rollup, no_rollup = _read_fields(proc / "smaps_rollup", platform)
    status, no_status = _read_fields(proc / "status", platform)
    figures: dict[str, int | None] = {
        # smaps_rollup counts exactly; VmRSS is kept per thread and lags behind (proc(5)).
        "rss_bytes": rollup.get("Rss", status.get("VmRSS")),
        "pss_bytes": rollup.get("Pss"),
        "private_bytes": _private(rollup),
        "peak_rss_bytes": status.get("VmHWM"),
        "anonymous_bytes": rollup.get("Anonymous"),
        "swap_bytes": rollup.get("Swap", status.get("VmSwap")),
    }
    if figures["peak_rss_bytes"] is not None and figures["rss_bytes"] is not None:
        # VmHWM lags in the same way: no peak is below what is resident now.
        figures["peak_rss_bytes"] = max(figures["peak_rss_bytes"], figures["rss_bytes"])
    missing = {
        name: no_status if name == "peak_rss_bytes" else no_rollup for name, value in figures.items() if value is None
    }
    return MemoryReading(
        **figures, missing={name: reason or "the kernel does not tell it" for name, reason in missing.items()}
    )


def reset_peak(proc: Path = _SELF, platform: str = sys.platform) -> PeakReset:
    """Let the peak of the process start anew from what is resident now; false, with the reason, where not allowed."""
    if platform != "linux":
        return PeakReset(False, _not_linux(platform))
    try:
        # Not open(): the file is write-only, and must be neither created nor cut where the kernel has none.
        descriptor = os.open(proc / "clear_refs", os.O_WRONLY)
        try:
            os.write(descriptor, _RESET_PEAK)
        finally:
            os.close(descriptor)
    except OSError as error:
        return PeakReset(False, f"{proc / 'clear_refs'}: {error.strerror}")
    return PeakReset(True)


def _read_fields(path: Path, platform: str) -> tuple[dict[str, int], str | None]:
    """The "Name: 123 kB" lines of a file, in bytes; no lines and the reason where it cannot be read."""
    if platform != "linux":
        return {}, _not_linux(platform)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return {}, f"{path}: {error.strerror}"
    return {name: 1024 * int(kilobytes) for name, kilobytes in _LINE.findall(text)}, None


def _private(rollup: dict[str, int]) -> int | None:
    if "Private_Clean" not in rollup or "Private_Dirty" not in rollup:
        return None
    return rollup["Private_Clean"] + rollup["Private_Dirty"] + rollup.get("Private_Hugetlb", 0)


def _not_linux(platform: str) -> str:
    return f"{platform} has no /proc: the memory of a process is read on Linux only"

"""Why a sampler drops a probe, in the same words whichever sampler it is."""

from __future__ import annotations

from qprof.record.sensors import Missing

_HANGS = "see whether its driver hangs"
GONE_REMEDY = "see whether its driver or device is still there"


def hung(probe: str, timeout_s: float) -> Missing:
    """A reading took too long, or goes on."""
    return Missing(probe, f"did not answer within {timeout_s:g} s", _HANGS)


def gone(probe: str, told: str) -> Missing:
    """It will never answer again."""
    return Missing(probe, f"lost while reading: {told}", GONE_REMEDY)


def failing(probe: str, times: int, told: str) -> Missing:
    """It has not answered for too long."""
    return Missing(probe, f"failed {times} times in a row: {told}", "see whether its driver works")


def not_ended(probe: str) -> Missing:
    """It was still being read, or closed, when the sampler was to end."""
    return Missing(probe, "did not end when asked to", _HANGS)


def not_closed(probe: str, told: str) -> Missing:
    """Giving back what it holds failed."""
    return Missing(probe, f"cannot be closed: {told}", "report it with this text")


def no_memory(probe: str) -> Missing:
    """There was none for its readings."""
    return Missing(probe, "no memory was left for its readings", "close other programs, or sample at a lower rate")


def no_part_answers(probe: str, reason: str) -> str:
    """A probe of parts that all fail; `reason`: of the one that failed first."""
    return f"{probe}: no part answers ({reason})"


def part_failed(part: str, times: int, reason: str, remedy: str) -> Missing:
    """A part that failed while the others went on."""
    return Missing(part, f"failed {times}x while reading, last: {reason}", remedy)

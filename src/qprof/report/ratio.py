"""How the change of a latency is told, everywhere alike."""

from __future__ import annotations

from qprof.report.units import percent
from qprof.stats.intervals import Interval

RATIO_NOTE = (
    "vs baseline: paired by round; intervals of all variants hold together at 95 %, and the verdict is what they say: "
    "equivalent within 2 %"
)


def change_text(found: Interval | None, relative: bool) -> str | None:
    """ "+1.2 % [+0.5 %, +1.9 %]", or in points ("pt") of a score; a value without bounds, or that is exact, alone."""
    if found is None:
        return None

    def text(value: float) -> str:
        return percent(value, signed=True) if relative else f"{value * 100:+.2f} pt"

    if found.low is None or found.high is None or found.low == found.high:
        return text(found.value)
    return f"{text(found.value)} [{text(found.low)}, {text(found.high)}]"

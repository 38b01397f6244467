"""How the change of a latency is told, everywhere alike."""

from __future__ import annotations

from qprof.findings.latency import latency_margin
from qprof.report.units import percent
from qprof.stats.intervals import Interval
from qprof.store.run import Run


def ratio_note(run: Run) -> str:
    """What the ratios of a run and their verdicts mean."""
    over = "" if run.manifest.looks is None else ", over all looks at them,"
    return (
        f"vs baseline: paired by round; intervals of all variants hold together at 95 %{over} and the verdict is what "
        f"they say: equivalent within {100 * latency_margin(run):g} %"
    ).replace("95 % and", "95 %, and")


def change_text(found: Interval | None, relative: bool) -> str | None:
    """ "+1.2 % [+0.5 %, +1.9 %]", or in points ("pt") of a score; a value without bounds, or that is exact, alone."""
    if found is None:
        return None

    def text(value: float) -> str:
        return percent(value, signed=True) if relative else f"{value * 100:+.2f} pt"

    if found.low is None or found.high is None or found.low == found.high:
        return text(found.value)
    return f"{text(found.value)} [{text(found.low)}, {text(found.high)}]"

"""Every chart of a page, by the name of its place."""

from __future__ import annotations

from collections.abc import Iterator

from qprof.report.page.charts.across import side_by_side
from qprof.report.page.charts.base import Spec
from qprof.report.page.charts.curves import curve
from qprof.report.page.charts.machine import error_cost, power, roofline
from qprof.report.page.charts.times import drift, times
from qprof.report.page.charts.trade import trade
from qprof.report.page.charts.waterfall import waterfall
from qprof.report.page.data import Report, RunReport

#: What accuracy is drawn against; without a score, latency against the others.
TRADES = ("latency", "memory", "energy", "size")


def charts(report: Report) -> list[dict[str, Spec]]:
    """Of each run, and at the end of all side by side: name -> specification; a chart for which there is nothing is
    left out."""
    found = [{name: spec for name, spec in _charts(run) if spec is not None} for run in report.runs]
    if report.across is not None:
        phases = dict.fromkeys(phase for run in report.runs for phase in run.phases)
        drawn = {f"p50-{phase}": side_by_side(report.runs, report.across, phase) for phase in phases}
        found.append({name: spec for name, spec in drawn.items() if spec is not None})
    return found


def _charts(run: RunReport) -> Iterator[tuple[str, Spec | None]]:
    up = "accuracy" if any(one.score is not None for one in run.variants) else "latency"
    for across in TRADES:
        if across != up:
            yield f"trade-{across}", trade(run, across, up)
    for number, pair in enumerate(run.pairs):
        yield f"waterfall-{number}", waterfall(pair)
    for phase in run.phases:
        yield f"times-{phase}", times(run, phase)
        yield f"drift-{phase}", drift(run, phase)
    for number, found in enumerate(run.rooflines):
        yield f"roofline-{number}", roofline(found)
    for number, costs in enumerate(run.layers):
        yield f"errors-{number}", error_cost(costs)
    for phase, channel in dict.fromkeys((block.phase, block.channel) for block in run.power):
        yield f"power-{phase}-{channel}", power(run, phase, channel)
    for one in run.curves:
        yield f"curve-{one.name}", curve(run, one)

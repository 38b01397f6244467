"""Power over time as text: one small chart for each block and channel."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qprof.findings.energy import PowerTrace
from qprof.record.phases import INFERENCE
from qprof.report.terminal import printable
from qprof.report.units import significant
from qprof.stats.energy.figures import DROP_OUT

#: Lines of a chart, and columns where no terminal tells its width.
_HEIGHT, _WIDTH = 4, 100
_LEAST_COLUMNS = 16
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def power_charts(traces: Sequence[PowerTrace], width: int | None, ascii_only: bool = False) -> str:
    """All traces, each below its title, on one scale of power, so that blocks compare at a glance."""
    watts = np.concatenate([trace.watts for trace in traces])
    top = float(watts[np.isfinite(watts)].max(initial=0.0))
    return "\n\n".join("\n".join(_chart(trace, top, width or _WIDTH, ascii_only)) for trace in traces)


def _chart(trace: PowerTrace, top: float, width: int, ascii_only: bool) -> list[str]:
    label = f"{significant(top)} W"
    columns = max(width - len(label) - 2, _LEAST_COLUMNS)
    first = min(float(trace.t_s[0]), 0.0)
    last = max(float(trace.t_s[-1]), trace.window_s)
    bars = _bars(_columns(trace, first, last, columns), top, ascii_only)
    side, corner, rule, edge = ("|", "+", "-", "^") if ascii_only else ("│", "└", "─", "┴")
    labels = [label, *[""] * (_HEIGHT - 1)]
    lines = [f"{text:>{len(label)}} {side}{bar}".rstrip() for text, bar in zip(labels, bars, strict=True)]
    marks = [round((t - first) / (last - first) * (columns - 1)) for t in (0.0, trace.window_s)]
    axis = "".join(edge if i in marks else rule for i in range(columns))
    return [
        *textwrap.wrap(_title(trace), width),
        *lines,
        f"{'0 W':>{len(label)}} {corner}{axis}",
        " " * (len(label) + 2) + _times(trace, marks),
    ]


def _title(trace: PowerTrace) -> str:
    phase = "" if trace.phase == INFERENCE else f" {trace.phase}"
    how = "between the counter's updates" if trace.from_counter else "as read"
    return printable(f"{trace.variant}{phase}, round {trace.round + 1}: {trace.channel}, {how} ({trace.provenance})")


def _times(trace: PowerTrace, marks: Sequence[int]) -> str:
    """The window's start and end below their marks."""
    start, end = "0 s", f"{trace.window_s:.2f} s"
    left = max(marks[0] - 1, 0)
    gap = max(marks[1] + 1 - len(end) - left - len(start), 1)
    return " " * left + start + " " * gap + end


def _columns(trace: PowerTrace, first: float, last: float, columns: int) -> NDArray[np.float64]:
    """Mean power in each column, NaN where nothing was read; a counter's power holds since its last update."""
    known = np.isfinite(trace.watts)
    t, watts = trace.t_s[known], trace.watts[known]
    if not len(t):
        return np.full(columns, math.nan)
    where = np.clip(((t - first) / (last - first) * columns).astype(np.int64), 0, columns - 1)
    counts = np.bincount(where, minlength=columns)
    sums = np.bincount(where, weights=watts, minlength=columns)
    centres = first + (np.arange(columns) + 0.5) * (last - first) / columns
    after = np.searchsorted(t, centres)
    later, earlier = np.clip(after, 0, len(t) - 1), np.clip(after - 1, 0, len(t) - 1)
    between = watts[later] if trace.from_counter else np.interp(centres, t, watts)
    # A hole that is longer than the usual spacing is shown as one, and nothing is known beyond the ends.
    usual = DROP_OUT * float(np.median(np.diff(t))) if len(t) > 1 else math.inf
    hole = (t[later] - t[earlier] > usual) | (after == len(t)) | ((after == 0) & (not trace.from_counter))
    filled = np.where(hole, math.nan, between)
    return np.where(counts > 0, sums / np.maximum(counts, 1), filled)


def _bars(power: NDArray[np.float64], top: float, ascii_only: bool) -> list[str]:
    """Lines from the top: each column is filled from 0 W up to its power, in eighths of a line."""
    share = np.nan_to_num(power, nan=0.0) / top if top > 0 else np.zeros(len(power))
    eighths = np.rint(np.clip(share, 0.0, 1.0) * _HEIGHT * 8).astype(np.int64)
    lines = []
    for line in reversed(range(_HEIGHT)):
        filled = np.clip(eighths - 8 * line, 0, 8)
        text = ("#" if part >= 4 else " " for part in filled) if ascii_only else (_EIGHTHS[part] for part in filled)
        lines.append("".join(text))
    return lines

"""Two variants of two runs: what differs around them, then where the difference went."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.across_runs import AcrossRow, AcrossRuns, FigurePair
from qprof.report.op_names import short_names
from qprof.report.ratio import change_text
from qprof.report.table import Column, Table
from qprof.report.units import MISSING, duration, interval, significant, size
from qprof.stats.intervals import Interval
from qprof.stats.rounds import scaled_change

_COLUMNS = [
    Column("op", "label", align="left", flexible=True),
    Column("", "kind", align="left"),
    Column("A", "a", unit="µs"),
    Column("B", "b", unit="µs"),
    Column("B-A [95 %]", "delta", unit="µs"),
    Column("type", "type", align="left", priority=2),
    Column("what changed", "flags", align="left", priority=1),
    Column("A kernel", "a_kernel", align="left", priority=4, flexible=True),
    Column("B kernel", "b_kernel", align="left", priority=3, flexible=True),
]


def across_lines(found: AcrossRuns) -> Iterator[str]:
    """Which two they are, what is not the same around them, and what else is known of both."""
    yield f"A: {found.a} of {found.a_run}"
    yield f"B: {found.b} of {found.b_run}"
    if found.differs:
        yield "not the same:"
        yield from (f"  {one}" for one in found.differs)
    else:
        yield "machine, versions, model file, settings and data are recorded as the same"
    yield from (_figure(pair) for pair in found.figures)


def _figure(pair: FigurePair) -> str:
    def text(value: float | None) -> str:
        if value is None:
            return MISSING
        return size(value) if pair.unit == "bytes" else significant(value, 4)

    return f"{pair.figure}: {text(pair.a)} -> {text(pair.b)}"


def across_table(found: AcrossRuns, top: int | None = None) -> Table:
    """All rows, or the `top` largest ops with the others summed in one row; the end is the total."""
    ops = [row for row in found.rows if row.kind not in ("outside ops", "instrumentation")]
    rest = [row for row in found.rows if row.kind in ("outside ops", "instrumentation")]
    shown = ops
    if top is not None and top < len(ops):
        shown = sorted(ops, key=lambda row: -abs(row.delta_us.value))[:top]
    names = short_names(row.label for row in shown)
    cells = [_cells(row, names.get(row.label, row.label)) for row in shown]
    if len(shown) < len(ops):
        others = [row for row in ops if all(row is not one for one in shown)]
        cells.append(
            {
                "label": f"{len(others)} other ops",
                "kind": "sum",
                "a": _us(math.fsum(row.a_us or 0.0 for row in others)),
                "b": _us(math.fsum(row.b_us or 0.0 for row in others)),
                "delta": f"{math.fsum(row.delta_us.value for row in others):+.1f}",
            }
        )
    cells += [_cells(row, row.label) for row in rest]
    total = {"label": "end to end (p50)", "kind": "total", "a": _us(found.a_us), "b": _us(found.b_us)}
    cells.append({**total, "delta": _delta(found.difference_us)})
    return Table(_COLUMNS, cells, title=_title(found), notes=list(_notes(found)))


def _title(found: AcrossRuns) -> str:
    changed = change_text(scaled_change(found.log_ratio), relative=True)
    where = "" if found.phase == "inference" else f", {found.phase}"
    return f"A -> B{where}: {duration(found.a_us)} -> {duration(found.b_us)}, {changed}: {found.verdict}"


def _notes(found: AcrossRuns) -> Iterator[str]:
    if found.untimed:
        yield f"no ops: {found.untimed}"
    else:
        yield f"closing error {found.closing_error_us:.0e} µs"
    ratio = found.log_ratio
    bounds = (None, None) if ratio.low is None or ratio.high is None else (math.exp(ratio.low), math.exp(ratio.high))
    blocks = f"{found.a_blocks} and {found.b_blocks} blocks"
    yield f"B takes x{interval(math.exp(ratio.value), *bounds)} of A's time; means over {blocks}, unpaired (Welch)"
    if ratio.reason:
        yield ratio.reason
    yield "nothing pairs two runs: of small differences, one run with both variants tells more (qprof run A B)"


def _cells(row: AcrossRow, label: str) -> dict[str, str | None]:
    op = row.a or row.b
    return {
        "label": label,
        "kind": row.kind,
        "a": _us(row.a_us),
        "b": _us(row.b_us),
        "delta": _delta(row.delta_us),
        "type": op.type if op else None,
        "flags": ", ".join(row.flags) or None,
        "a_kernel": row.a.kernel if row.a else None,
        "b_kernel": row.b.kernel if row.b else None,
    }


def _us(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _delta(found: Interval) -> str:
    text = f"{found.value:+.1f}"
    return text if found.low is None or found.high is None else f"{text} [{found.low:+.1f}, {found.high:+.1f}]"

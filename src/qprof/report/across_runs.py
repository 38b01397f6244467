"""Two variants of two runs: what differs around them, then where the difference went."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.across_runs import AcrossRuns, FigurePair
from qprof.report.difference import DIFFERENCE_COLUMNS, op_cells, row_cells, total_cells
from qprof.report.ratio import change_text
from qprof.report.table import Table
from qprof.report.units import MISSING, duration, interval, significant, size
from qprof.stats.rounds import scaled_change


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
    cells = [*op_cells(ops, top), *(row_cells(row, {}) for row in rest)]
    cells.append(total_cells(found.a_us, found.b_us, found.difference_us))
    return Table(DIFFERENCE_COLUMNS, cells, title=_title(found), notes=list(_notes(found)))


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

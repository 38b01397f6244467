"""The table that closes: where the difference between two variants went."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from qprof.findings.across_runs import AcrossRow
from qprof.findings.difference_table import DifferenceGroup, DifferenceRow, DifferenceTable
from qprof.record.phases import INFERENCE
from qprof.report.op_names import short_names
from qprof.report.ratio import change_text
from qprof.report.table import Column, Table
from qprof.report.units import duration
from qprof.stats.intervals import Interval
from qprof.stats.rounds import scaled_change

DIFFERENCE_COLUMNS = [
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

Cells = dict[str, str | None]


def difference_table(table: DifferenceTable, by: str = "op", top: int | None = None, phase: str = INFERENCE) -> Table:
    """All rows, or the `top` largest by absolute difference with the others summed in one row; the end is the total."""
    ops = [row for row in table.rows if row.kind not in ("outside ops", "instrumentation")]
    rest = [row for row in table.rows if row.kind in ("outside ops", "instrumentation")]
    if by == "type":
        cells = [_group_cells(group) for group in table.by_type]
        columns = [column for column in DIFFERENCE_COLUMNS if column.key in ("label", "kind", "a", "b", "delta")]
    else:
        cells = op_cells(ops, top)
        columns = list(DIFFERENCE_COLUMNS)
    cells += [row_cells(row, {}) for row in rest]
    end = table.end_to_end
    cells.append(total_cells(end.a.value, end.b.value, end.difference))
    return Table(columns, cells, title=_title(table, phase), notes=_notes(table))


def op_cells(ops: Sequence[DifferenceRow | AcrossRow], top: int | None) -> list[Cells]:
    """All ops, or the `top` largest by absolute difference with the others summed in one line."""
    names = short_names(row.label for row in ops)
    if top is None or top >= len(ops):
        return [row_cells(row, names) for row in ops]
    order = sorted(ops, key=lambda row: abs(row.delta_us.value), reverse=True)
    others = order[top:]
    summed = math.fsum(row.delta_us.value for row in others)
    line: Cells = {
        "label": f"{len(others)} other ops",
        "kind": "sum",
        "a": _us(math.fsum(row.a_us or 0.0 for row in others)),
        "b": _us(math.fsum(row.b_us or 0.0 for row in others)),
        "delta": f"{summed:+.1f}",
    }
    return [*(row_cells(row, names) for row in order[:top]), line]


def row_cells(row: DifferenceRow | AcrossRow, names: Mapping[str, str]) -> Cells:
    """One row; `names`: label -> how it is shown."""
    op = row.a or row.b
    return {
        "label": names.get(row.label, row.label),
        "kind": row.kind,
        "a": _us(row.a_us),
        "b": _us(row.b_us),
        "delta": _delta(row.delta_us),
        "type": op.type if op else None,
        "flags": ", ".join(row.flags) or None,
        "a_kernel": row.a.kernel if row.a else None,
        "b_kernel": row.b.kernel if row.b else None,
    }


def total_cells(a_us: float, b_us: float, difference_us: Interval) -> Cells:
    """The row at the end: from one p50 to the other."""
    return {
        "label": "end to end (p50)",
        "kind": "total",
        "a": _us(a_us),
        "b": _us(b_us),
        "delta": _delta(difference_us),
    }


def _group_cells(group: DifferenceGroup) -> Cells:
    same = group.a_ops == group.b_ops
    count = f"{group.a_ops} op{'s' * (group.a_ops != 1)}" if same else f"{group.a_ops} -> {group.b_ops} ops"
    return {
        "label": group.label,
        "kind": count,
        "a": _us(group.a_us),
        "b": _us(group.b_us),
        "delta": _delta(group.delta_us),
    }


def _title(table: DifferenceTable, phase: str) -> str:
    end = table.end_to_end
    changed = change_text(scaled_change(end.log_ratio), relative=True)
    where = "" if phase == INFERENCE else f", {phase}"
    times = f"{duration(end.a.value)} -> {duration(end.b.value)}"
    return f"{table.a_name} (A) -> {table.b_name} (B){where}: {times}, {changed}: {table.verdict}"


def _notes(table: DifferenceTable) -> list[str]:
    kinds = "; ".join(
        f"{group.label} {group.a_ops if group.label != 'inserted' else group.b_ops} ops {group.delta_us.value:+.1f} µs"
        for group in table.by_kind
    )
    left = _leavers(table.rows) or _across(table)
    notes = [f"{kinds}; unattributed {_delta(table.unattributed_us)} µs; closing error {table.closing_error_us:.0e} µs"]
    if left:
        notes.append(left)
    end = table.end_to_end
    notes += [
        f"ops: midmeans of the profiled blocks of {table.profiled_rounds} rounds, bootstrap over rounds",
        "end to end: p50 of the clean blocks; B-A is paired by round, A's p50 x (ratio - 1), at "
        f"{100 * end.difference.level:.4g} %; the p50s by themselves are {end.b.value - end.a.value:+.1f} µs apart",
    ]
    return notes


def _across(table: DifferenceTable) -> str | None:
    """Of two runtimes, how their ops were found to be the same, and where to look for the others."""
    if table.across is None:
        return None
    stages = Counter(row.stage for row in table.rows if row.kind == "matched")
    by = ", ".join(f"{count} by {stage}" for stage, count in stages.most_common())
    alone = sum(row.kind in ("inserted", "removed") for row in table.rows)
    told = f"{table.across[0]} (A) against {table.across[1]} (B): ops matched {by or 'none'}"
    return f"{told}; {alone} without a counterpart are to be compared by type (--by type)" if alone else told


def _leavers(rows: Sequence[DifferenceRow]) -> str | None:
    """What ops that left their delegate cost, by type: the first thing to look at when a variant is slower."""
    cost: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for flag in row.flags:
            if flag.startswith("left ") and row.a is not None:
                cost.setdefault((flag, row.a.type), []).append(row.delta_us.value)
    if not cost:
        return None
    parts = [
        f"{len(deltas)} {kind} {flag} ({math.fsum(deltas):+.1f} µs)"
        for (flag, kind), deltas in sorted(cost.items(), key=lambda item: -math.fsum(item[1]))
    ]
    return "; ".join(parts)


def _us(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _delta(interval: Interval) -> str:
    text = f"{interval.value:+.1f}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} [{interval.low:+.1f}, {interval.high:+.1f}]"

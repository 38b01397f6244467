"""What a variant takes for what: a matrix where it fits, else each class with what it is most often taken for."""

from __future__ import annotations

from qprof.report.table import Column, Table
from qprof.store.run import Run
from qprof.tasks.base import Confusion

#: Classes of a matrix that a terminal holds.
_MOST_COLUMNS = 12
_TOLD = 3


def confusion_table(run: Run, variant: str, found: Confusion) -> Table:
    """A row for each class that has samples."""
    small = len(found.labels) <= _MOST_COLUMNS
    rows: list[dict[str, str | None]] = []
    for number, label in enumerate(found.labels):
        counts = found.counts[number]
        samples = sum(counts) + found.lost[number]
        if not samples:
            continue
        row: dict[str, str | None] = {
            "class": label,
            "samples": str(samples),
            "right": f"{counts[number] / samples:.3f}",
        }
        if small:
            row |= {f"c{n}": str(count) for n, count in enumerate(counts)}
        wrong = sorted((-count, n) for n, count in enumerate(counts) if count and n != number)
        told = ", ".join(f"{found.labels[n]} {-count}" for count, n in wrong[:_TOLD])
        row["taken"] = told + (f", {len(wrong) - _TOLD} more" if len(wrong) > _TOLD else "")
        row["lost"] = str(found.lost[number]) if any(found.lost) else None
        rows.append(row)
    columns = [Column("class", "class", align="left"), Column("samples", "samples"), Column("right", "right")]
    if small:
        columns += [Column(label, f"c{n}", priority=1) for n, label in enumerate(found.labels)]
    else:
        columns.append(Column("most often taken for", "taken", align="left"))
    if any(found.lost):
        columns.append(Column("not finite", "lost"))
    notes = ["rows: the class that samples have; columns: the class that they are taken for"] if small else []
    return Table(columns, rows, title=f"{run.name}: confusion of {variant}", notes=notes)

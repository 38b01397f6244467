"""What a variant takes for what: a matrix where it fits, else each class with what it is most often taken for."""

from __future__ import annotations

from qprof.findings.accuracy import AccuracyChange
from qprof.report.explain import others_told
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


def flips_table(run: Run, change: AccuracyChange) -> Table:
    """A row for each sample whose answer changed, and in the notes what that says of the two."""
    rows: list[dict[str, str | None]] = [
        {"sample": str(sample), "file": place, "kind": flip.kind, "answer": answer}
        for flip in change.flip_kinds
        for sample, place, answer in zip(flip.samples, flip.places, flip.answers, strict=True)
    ]
    columns = [
        Column("sample", "sample"),
        Column("file", "file", align="left", flexible=True),
        Column("flip", "kind", align="left"),
        Column(f"{change.baseline} -> {change.variant}", "answer", align="left"),
    ]
    counts = ", ".join(f"{flip.kind} {len(flip.samples)}" for flip in change.flip_kinds)
    notes = [counts]
    if change.flips is not None and change.flips.exact_p_value is not None:
        notes.append(
            f"of {change.flips.samples} samples; McNemar: p = {change.flips.p_value:.2g} (mid-p), "
            f"{change.flips.exact_p_value:.2g} (exact)"
        )
    if told := others_told(change):
        notes.append(f"beside it: {told}")
    return Table(columns, rows, title=f"{run.name}: answers of {change.variant} that are others", notes=notes)

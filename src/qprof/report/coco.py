"""COCO figures as tables, and as rows for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qprof.findings.coco_table import FigureRow, Resampling, Scope
from qprof.report.table import Column, Table
from qprof.stats.intervals import Interval
from qprof.tasks.coco.result import CocoResult

CSV_COLUMNS = ["scope", "label", "category_id", "truths", "figure", "a", "a_low", "a_high"]
CSV_COLUMNS_PAIR = [*CSV_COLUMNS, "b", "b_low", "b_high", "difference", "difference_low", "difference_high"]

Cells = dict[str, str | None]


def coco_tables(
    a: CocoResult, b: CocoResult | None, names: Sequence[str], rows: Sequence[FigureRow], how: Resampling
) -> list[Table]:
    """The summary, then a table of sizes and one of categories where there are such rows. `names` of the detections."""
    tables = [_summary_table(a, b, names, [row for row in rows if row.scope == "all"], how)]
    for scope, title in (("area", "by size"), ("class", "by category")):
        chosen = [row for row in rows if row.scope == scope]
        if chosen:
            tables.append(_wide_table(chosen, title, paired=b is not None))
    tables[-1].notes += _notes(a, b, rows, how)
    return tables


def csv_rows(rows: Sequence[FigureRow]) -> list[dict[str, Any]]:
    """One row per figure, in the columns of `CSV_COLUMNS_PAIR`."""
    found = []
    for row in rows:
        cells: dict[str, Any] = {key: getattr(row, key) for key in CSV_COLUMNS[:5]}
        for key in ("a", "b", "difference"):
            value: Interval | None = getattr(row, key)
            if value is not None:
                cells |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
        found.append(cells)
    return found


def coco_json(
    a: CocoResult, b: CocoResult | None, names: Sequence[str], rows: Sequence[FigureRow], how: Resampling
) -> dict[str, Any]:
    """Everything, for `write_json`."""
    return {
        "ground_truth": a.truth.source,
        "detections": list(names),
        "images": len(a.image_ids),
        "categories": len(a.category_ids),
        "truths": _truths(rows),
        "max_dets": list(a.settings.max_dets),
        "iou_thresholds": a.settings.iou_thresholds,
        "resampling": None if how.resamples is None else how,
        "figures": list(rows),
        "notes": _all_notes(a, b),
    }


def _summary_table(
    a: CocoResult, b: CocoResult | None, names: Sequence[str], rows: Sequence[FigureRow], how: Resampling
) -> Table:
    suffix = "" if how.resamples is None else f" [{100 * how.level:g} %]"
    columns = [
        Column("figure", "figure", align="left"),
        Column("IoU", "iou"),
        Column("size", "size"),
        Column("boxes" if a.settings.iou_type == "bbox" else "found", "limit"),
    ]
    if b is None:
        columns.append(Column(f"value{suffix}", "a"))
        who = names[0]
    else:
        columns += [Column(f"A{suffix}", "a"), Column(f"B{suffix}", "b"), Column(f"B-A{suffix}", "difference")]
        who = f"A = {names[0]}, B = {names[1]}"
    settings = a.settings
    cells: list[Cells] = []
    figures = settings.figures()
    # Behind them AP of groups of categories, of which all but the categories is that of AP.
    figures += figures[:1] * (len(rows) - len(figures))
    for row, figure in zip(rows, figures, strict=True):
        ious = settings.iou_thresholds
        single = None if figure.iou is None else f".{row.figure[-2:]}"
        mean = f"{ious[0]:.2f}:{ious[-1]:.2f}".replace("0.", ".")
        cells.append(
            {
                "figure": row.figure,
                "iou": single or mean,
                "size": settings.area_names[figure.area],
                "limit": str(settings.max_dets[figure.limit]),
                "a": _text(row.a),
                "b": _text(row.b),
                "difference": _text(row.difference, signed=True),
            }
        )
    title = f"{who} on {a.truth.source}: {len(a.image_ids):,} images, {_truths(rows):,} objects"
    return Table(columns, cells, title=title)


def _wide_table(rows: Sequence[FigureRow], title: str, *, paired: bool) -> Table:
    """One line per category or size; of two sets of detections AP alone, else the lines get too long to read."""
    by_label: dict[tuple[str, int | None], list[FigureRow]] = {}
    for row in rows:
        by_label.setdefault((row.label, row.category_id), []).append(row)
    scope: Scope = rows[0].scope
    columns = [
        Column("category" if scope == "class" else "size", "label", align="left", flexible=True),
        Column("objects", "truths"),
    ]
    names = [row.figure for row in next(iter(by_label.values()))]
    if paired:
        columns += [Column("AP A", "AP.a"), Column("AP B", "AP.b"), Column("AP B-A", "AP.difference")]
    else:
        columns += [Column(name, f"{name}.a", priority=min(n, 1) * n) for n, name in enumerate(names)]
    cells: list[Cells] = []
    for (label, _), group in by_label.items():
        line: Cells = {"label": label, "truths": None if group[0].truths is None else str(group[0].truths)}
        for row in group:
            bounds = row.figure == "AP"
            line[f"{row.figure}.a"] = _text(row.a, bounds=bounds)
            line[f"{row.figure}.b"] = _text(row.b, bounds=bounds)
            line[f"{row.figure}.difference"] = _text(row.difference, signed=True)
        cells.append(line)
    return Table(columns, cells, title=title)


def _text(value: Interval | None, *, signed: bool = False, bounds: bool = True) -> str | None:
    """Three decimals, as COCO figures are always given."""
    if value is None:
        return None
    form = "+.3f" if signed else ".3f"
    text = format(value.value, form)
    if bounds and value.low is not None and value.high is not None:
        text += f" [{value.low:{form}}, {value.high:{form}}]"
    return text


def _truths(rows: Sequence[FigureRow]) -> int:
    return rows[0].truths or 0


def _notes(a: CocoResult, b: CocoResult | None, rows: Sequence[FigureRow], how: Resampling) -> list[str]:
    notes = []
    if how.resamples is not None:
        shared = " (the same for A and B)" if b is not None else ""
        notes.append(
            f"intervals: bootstrap over whole images, {how.resamples:,} resamples{shared}, seed {how.seed}; measured"
        )
        overall = [row for row in rows if row.scope == "all" and row.a is not None and row.a.reason]
        notes += sorted({f"{row.a.reason}" for row in overall if row.a is not None})
    if any(row.a is None for row in rows if row.scope == "all"):
        notes.append("\N{EN DASH}: undefined, there is no such object to find")
    return notes + _all_notes(a, b)


def _all_notes(a: CocoResult, b: CocoResult | None) -> list[str]:
    """Those of both, what is the same said once."""
    return list(dict.fromkeys([*a.notes, *(b.notes if b is not None else [])]))

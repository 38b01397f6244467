"""A run as files for other tools: CSV or JSON, one per table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qprof.errors import QprofError, StoreError
from qprof.findings.layers import layers
from qprof.findings.summary import PhaseSummary, summarize
from qprof.report.export import write_csv, write_json_rows
from qprof.stats.intervals import Interval
from qprof.store.files import make_folder
from qprof.store.run import Run

Row = dict[str, Any]
Rows = list[Row]

#: Rows of a file that are Python objects at one time.
_BATCH_ROWS = 4096


def export_run(run: Run, folder: Path, form: str, only: Sequence[str] | None = None) -> list[Path]:
    """Write the run's tables into `folder` as "csv" or "json"; returns the files.

    Raises `QprofError` for a table that there is not, `StoreError` where the folder cannot be written.
    """
    unknown = sorted(set(only or ()) - set(TABLES))
    if unknown:
        raise QprofError(f"--only {unknown[0]}: no such table; there are {', '.join(TABLES)}")
    make_folder(folder)
    written = []
    for name, rows_of in TABLES.items():
        if only and name not in only:
            continue
        path = folder / f"{name}.{form}"
        rows = rows_of(run)
        if form == "csv":
            columns, rows = _columns_of(rows)
            write_csv(path, columns, rows)
        else:
            write_json_rows(path, rows)
        written.append(path)
    return written


def _columns_of(rows: Iterable[Row]) -> tuple[list[str], Iterable[Row]]:
    """The columns of a table, and its rows. Those of a file that is read row by row are all alike."""
    if isinstance(rows, list):
        return list(dict.fromkeys(key for row in rows for key in row)), rows
    rest = iter(rows)
    first = list(itertools.islice(rest, 1))
    return [key for row in first for key in row], itertools.chain(first, rest)


def _summary(run: Run) -> Rows:
    rows = []
    for summary in summarize(run):
        row = asdict(summary)
        scores = row.pop("scores")
        row.pop("phases")
        for phase in summary.phases:
            row |= _phase(f"{phase.name}_" if len(summary.phases) > 1 else "", phase)
        row["reasons"] = "; ".join(f"{what}: {why}" for what, why in summary.reasons.items()) or None
        row["notes"] = "; ".join(summary.notes) or None
        rows.append(row | {f"score_{metric}": value for metric, value in scores.items()})
    return rows


def _phase(prefix: str, phase: PhaseSummary) -> dict[str, Any]:
    figures = {"inferences": phase.inferences, "blocks": phase.blocks, "overhead": phase.overhead}
    intervals = {
        "latency_us": phase.latency_us,
        "log_ratio_vs_baseline": phase.ratio.log_ratio if phase.ratio else None,
        "tokens_per_s": phase.tokens_per_s,
    }
    row = {f"{prefix}{name}": value for name, value in figures.items()}
    for name, found in intervals.items():
        row |= _flat(f"{prefix}{name}", found)
    return row


def _layers(run: Run) -> Rows:
    """One row per op of every variant whose ops were timed, phase after phase."""
    rows: Rows = []
    for entry, phase in itertools.product(run.variants, run.phases()):
        try:
            table = layers(run, entry.name, phase=phase.name)
        except StoreError:  # not timed: the summary's notes say why
            continue
        for layer in table.rows:
            meta = asdict(layer.meta) if layer.meta else {}
            meta = {key: "; ".join(value) if isinstance(value, (list, tuple)) else value for key, value in meta.items()}
            figures = {"share": layer.share, "gflop_per_s": layer.gflop_per_s, "reason": layer.reason}
            rows.append({"variant": entry.name, **meta, **_flat("p50_us", layer.p50_us), **figures})
    return rows


def _flat(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _of_arrow(table: Any) -> Iterator[Row]:
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        yield from batch.to_pylist()


def _plain(rows: Iterable[Any]) -> Iterator[Row]:
    for row in rows:
        yield {name: getattr(row, name) for name in row.__slots__}


TABLES: dict[str, Callable[[Run], Iterable[Row]]] = {
    "summary": _summary,
    "layers": _layers,
    "samples": lambda run: _of_arrow(run.samples),
    "scores": lambda run: _plain(run.score_rows()),
    "outputs": lambda run: map(asdict, run.output_distances),
    "readings": lambda run: _of_arrow(run.readings_table),
}

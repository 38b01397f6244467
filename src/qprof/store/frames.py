"""The tables of a run for data frames and SQL: Arrow, and from that pandas, polars and DuckDB."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qprof.errors import MissingExtraError, StoreError
from qprof.record.rows import (
    LAYER_ERROR_COLUMNS,
    OP_META_COLUMNS,
    OUTPUT_DISTANCE_COLUMNS,
    PLAUSIBILITY_COLUMNS,
    SCORE_COLUMNS,
)
from qprof.store import tables
from qprof.store.run import Run

#: Lists of typed rows, and their columns.
_LISTS = {
    "scores": SCORE_COLUMNS,
    "layer_errors": LAYER_ERROR_COLUMNS,
    "plausibility": PLAUSIBILITY_COLUMNS,
    "output_distances": OUTPUT_DISTANCE_COLUMNS,
}
_TABLES = ("samples", "ops", "op_meta", "readings", *_LISTS)


def table_names(run: Run) -> list[str]:
    """The tables that every run has, finished or not; some may be empty."""
    return list(_TABLES)


def arrow(run: Run, table: str = "samples") -> Any:
    """A table of a run as a `pyarrow.Table`; names that are repeated are dictionary columns.

    "samples" (inferences), "ops" (op events), "op_meta", "readings", "scores", "layer_errors", "plausibility" or
    "output_distances"; what their columns hold, the types of `qprof.record.rows` say. Raises `StoreError` for another.
    """
    if table == "samples":
        return run.samples
    if table == "ops":
        return run.op_events
    if table == "readings":
        return run.readings_table
    if table == "op_meta":
        rows = [{"variant": name, **asdict(op)} for name, ops in run.op_meta.items() for op in ops]
        return tables.rows_table(rows, OP_META_COLUMNS)
    if table in _LISTS:
        return tables.rows_table(map(asdict, getattr(run, table)), _LISTS[table])
    raise StoreError(f"{run.folder}: no table {table!r} in a run; there are {', '.join(_TABLES)}")


def pandas(run: Run, table: str = "samples") -> Any:
    """The same as a `pandas.DataFrame`. Raises `MissingExtraError` without pandas."""
    try:
        import pandas as _  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("pandas is not installed: pip install 'qprof[frames]'") from error
    return arrow(run, table).to_pandas()


def polars(run: Run, table: str = "samples") -> Any:
    """The same as a `polars.DataFrame`. Raises `MissingExtraError` without polars."""
    try:
        import polars as pl
    except ImportError as error:
        raise MissingExtraError("polars is not installed: pip install 'qprof[frames]'") from error
    return pl.from_arrow(arrow(run, table))

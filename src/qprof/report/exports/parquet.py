"""The summary, and every table of the run, as Parquet files that pandas, polars, DuckDB and Spark open."""

from __future__ import annotations

from pathlib import Path

from qprof.report.exports.base import Format, Wanted
from qprof.report.run_export import TABLES
from qprof.store.files import write_atomic
from qprof.store.frames import arrow, table_names
from qprof.store.run import Run


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = {name: arrow(run, name) for name in table_names(run)}
    found |= {name: pa.Table.from_pylist(TABLES[name](run)) for name in ("summary", "layers")}
    paths = []
    for name, table in found.items():
        if wanted.variants and "variant" in table.column_names:
            column = table["variant"].cast(pa.string())
            table = table.filter(pa.compute.is_in(column, value_set=pa.array(list(wanted.variants))))
        path = folder / f"{name}.parquet"
        write_atomic(path, lambda stream, table=table: pq.write_table(table, stream, compression="zstd"))  # type: ignore[misc]
        paths.append(path)
    return paths


FORMAT = Format("all tables as Parquet files", _write)

"""SQL over the tables of a run by DuckDB, which sees them and nothing else: no file, no network, no extension."""

from __future__ import annotations

from typing import Any

from qprof.errors import MissingExtraError, QprofError
from qprof.report.run_export import TABLES
from qprof.report.table import Column, Table
from qprof.store.frames import arrow, table_names
from qprof.store.run import Run

#: Tables that are worked out, not recorded: made only where a query names them.
_MADE = ("summary", "layers")


def query(run: Run, statement: str) -> Any:
    """The result as a `pyarrow.Table`.

    Tables: those of `qprof.store.frames`, `blocks`, and `summary` and `layers` as `qprof export` writes them. Raises
    `QprofError` for what is no query, or none that can be answered, and `MissingExtraError` without DuckDB.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("DuckDB is not installed: pip install 'qprof[frames]'") from error
    settings = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",  # else a name may mean a variable of this process
        "allow_community_extensions": "false",
        "temp_directory": "",  # a result that does not fit is refused, not written beside the run
    }
    connection = duckdb.connect(":memory:", config=settings)
    try:
        for name in _named(run, statement):
            connection.register(name, _table(run, name))
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        statements = connection.extract_statements(statement)
        if len(statements) != 1:
            raise QprofError(f"a query is one statement, not {len(statements)}: select ... from samples ...")
        if statements[0].type != duckdb.StatementType.SELECT:  # which those are that describe and summarize, too
            raise QprofError("a run is only read: give a query that selects, describes or summarizes")
        return connection.sql(statements[0]).to_arrow_table()
    except duckdb.Error as error:
        first = next((line for line in str(error).splitlines() if line.strip()), "refused")
        raise QprofError(f"{first}; tables: {', '.join(names(run))}") from error
    finally:
        connection.close()


def names(run: Run) -> list[str]:
    """The tables that a query can name."""
    return [*table_names(run), "blocks", *_MADE]


def _named(run: Run, statement: str) -> list[str]:
    """All tables, but what takes work only where its name occurs."""
    return [name for name in names(run) if name not in _MADE or name in statement.lower()]


def _table(run: Run, name: str) -> Any:
    import msgspec
    import pyarrow as pa

    if name == "blocks":
        rows = [msgspec.structs.asdict(block) for block in run.blocks()]
        return pa.Table.from_pylist([row | {"window_ns": list(row["window_ns"] or ())} for row in rows])
    if name in _MADE:
        return pa.Table.from_pylist(TABLES[name](run))
    return arrow(run, name)


def result_table(found: Any) -> Table:
    """A result as it is shown: numbers to the right, in full."""
    import pyarrow as pa

    def text(value: Any) -> str | None:
        return None if value is None else str(value)

    numeric = [
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        for kind in found.schema.types
    ]
    columns = [
        Column(name, f"{place}", align="right" if right else "left", flexible=not right)
        for place, (name, right) in enumerate(zip(found.column_names, numeric, strict=True))
    ]
    values = [column.to_pylist() for column in found.columns]
    rows = [{f"{place}": text(cell) for place, cell in enumerate(row)} for row in zip(*values, strict=True)]
    return Table(columns, rows)


def described(run: Run) -> Table:
    """What there is to query: tables, rows, columns."""
    rows: list[dict[str, str | None]] = []
    for name in names(run):
        table = _table(run, name)
        columns = ", ".join(table.column_names) or None
        rows.append({"table": name, "rows": str(table.num_rows), "columns": columns})
    return Table(
        [
            Column("table", "table", align="left"),
            Column("rows", "rows"),
            Column("columns", "columns", align="left", flexible=True),
        ],
        rows,
    )

"""Tables of the terminal as data of the page."""

from __future__ import annotations

from qprof.report.page.data_tables import Grid, GridColumn
from qprof.report.table import Table

#: Columns of this priority and above are those that a terminal drops first.
_MINOR = 3


def grid(table: Table, command: str) -> Grid:
    """The same columns, rows and notes; a missing figure has no entry."""
    return Grid(
        title=table.title,
        columns=[
            GridColumn(
                title=column.title,
                key=column.key,
                unit=column.unit,
                numeric=column.align == "right",
                minor=column.priority >= _MINOR,
            )
            for column in table.columns
        ],
        rows=[
            {column.key: text for column in table.columns if (text := row.get(column.key)) is not None}
            for row in table.rows
        ],
        notes=list(table.notes),
        command=command,
    )

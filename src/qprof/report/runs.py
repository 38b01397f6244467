"""The table of run directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qprof.errors import StoreError
from qprof.report.table import Column, Table
from qprof.store.listing import listed


def runs_table(folder: Path, runs: Sequence[Path]) -> Table:
    """One row per run; a directory that cannot be read says why."""
    columns = [
        Column("run", "run", align="left"),
        Column("status", "status", align="left"),
        Column("created", "created", align="left", priority=1),
        Column("model", "model", align="left", priority=2, flexible=True),
        Column("variants", "variants", align="left", priority=3, flexible=True),
    ]
    return Table(columns, [_row(path) for path in runs], title=f"{len(runs)} run{'s' * (len(runs) != 1)} in {folder}")


def _row(path: Path) -> dict[str, str | None]:
    try:
        run = listed(path)
    except StoreError as error:
        return {"run": path.name, "status": "unreadable", "model": str(error)}
    return {
        "run": path.name,
        "status": run.status,
        "created": run.created,
        "model": run.model,
        "variants": ", ".join(run.variants),
    }

"""The table of what this machine has for measuring."""

from __future__ import annotations

from collections.abc import Sequence

from qprof.measure.doctor import Finding
from qprof.report.table import Column, Table


def doctor_table(findings: Sequence[Finding]) -> Table:
    """One row per sensor, runtime and compiled module; the notes say in full why one is missing, and what to do."""
    columns = [
        Column("", "group", align="left"),
        Column("name", "name", align="left"),
        Column("state", "state", align="left"),
        Column("what it gives", "detail", align="left", flexible=True),
    ]
    rows = [
        {
            "group": finding.group,
            "name": finding.name,
            "state": "ok" if finding.present else "missing",
            "detail": finding.detail or None,
        }
        for finding in findings
    ]
    missing = [finding for finding in findings if not finding.present]
    notes = [f"{len(findings) - len(missing)} there, {len(missing)} missing"]
    for finding in missing:
        notes.append(f"{finding.name}: {finding.reason}" + (f": {finding.remedy}" if finding.remedy else ""))
    return Table(columns, rows, notes=notes)

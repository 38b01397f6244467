"""The energy of a run: joules per inference by every sensor, where from, and where there are none, why."""

from __future__ import annotations

from qprof.findings.energy.power_trace import PowerTrace, power_traces
from qprof.findings.energy.rows import (
    COMPARED_SOURCES,
    Change,
    EnergyChange,
    EnergyRow,
    EnergyTable,
    Figure,
    energy_changes,
    energy_table,
)
from qprof.findings.energy.sensors import Check, Flagged

__all__ = [
    "COMPARED_SOURCES",
    "Change",
    "Check",
    "EnergyChange",
    "EnergyRow",
    "EnergyTable",
    "Figure",
    "Flagged",
    "PowerTrace",
    "energy_changes",
    "energy_table",
    "power_traces",
]

"""The energy of a run: joules per inference by every sensor, where from, and where there are none, why."""

from __future__ import annotations

from qprof.findings.energy.power_trace import PowerTrace, power_traces
from qprof.findings.energy.rows import Change, EnergyRow, EnergyTable, Figure, energy_table
from qprof.findings.energy.sensors import Check, Flagged

__all__ = [
    "Change",
    "Check",
    "EnergyRow",
    "EnergyTable",
    "Figure",
    "Flagged",
    "PowerTrace",
    "energy_table",
    "power_traces",
]

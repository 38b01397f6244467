"""Energy accounting: from the readings of sensors to joules that hold, or to the reason why there are none."""

from __future__ import annotations

from qprof.stats.energy.blocks import (
    BlockEnergy,
    EnergySplit,
    PerInference,
    VariantRounds,
    co2e_g,
    joules_per_inference,
    split_energy_ratio,
)
from qprof.stats.energy.counter import counter_energy
from qprof.stats.energy.figures import Energy, Flag, UpdatePeriod, update_period
from qprof.stats.energy.idle import Account, Agreement, Idle, agreement, idle_power, net_energy
from qprof.stats.energy.power import PowerSensor, power_energy
from qprof.stats.energy.rule import EnergyVerdict, energy_rule, phase_shifts

__all__ = [
    "Account",
    "Agreement",
    "BlockEnergy",
    "Energy",
    "EnergySplit",
    "EnergyVerdict",
    "Flag",
    "Idle",
    "PerInference",
    "PowerSensor",
    "UpdatePeriod",
    "VariantRounds",
    "agreement",
    "co2e_g",
    "counter_energy",
    "energy_rule",
    "idle_power",
    "joules_per_inference",
    "net_energy",
    "phase_shifts",
    "power_energy",
    "split_energy_ratio",
    "update_period",
]

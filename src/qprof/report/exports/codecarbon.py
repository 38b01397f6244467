"""The energy that CodeCarbon modelled, one row for each variant, as its own emissions.csv (3.3; places left out).

The sum over the variant's blocks in which it was read, not a share of the whole run. What is not known is empty.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from qprof.errors import StoreError
from qprof.report.export import write_csv
from qprof.report.exports.base import Format, Wanted, chosen
from qprof.store.run import Run

#: In the order of CodeCarbon's file.
COLUMNS = [
    "timestamp",
    "project_name",
    "run_id",
    "experiment_id",
    "duration",
    "emissions",
    "emissions_rate",
    "cpu_power",
    "gpu_power",
    "ram_power",
    "cpu_energy",
    "gpu_energy",
    "ram_energy",
    "energy_consumed",
    "water_consumed",
    "country_name",
    "country_iso_code",
    "region",
    "cloud_provider",
    "cloud_region",
    "os",
    "python_version",
    "codecarbon_version",
    "cpu_count",
    "cpu_model",
    "gpu_count",
    "gpu_model",
    "ram_total_size",
    "tracking_mode",
    "cpu_utilization_percent",
    "gpu_utilization_percent",
    "ram_utilization_percent",
    "ram_used_gb",
    "on_cloud",
    "pue",
    "wue",
]
_J_PER_KWH = 3.6e6


def _row(run: Run, variant: str) -> dict[str, Any] | None:
    blocks = [block.number for block in run.blocks() if block.variant == variant]
    total = {
        name: run.readings.total(f"codecarbon.{name}", blocks)
        for name in ("seconds", "cpu.energy", "ram.energy", "gpu.energy", "emissions")
    }
    seconds = total["seconds"]
    if not seconds:
        return None
    energies = {part: total[f"{part}.energy"] for part in ("cpu", "gpu", "ram")}
    known = [joules for joules in energies.values() if joules is not None]
    kwh = sum(known) / _J_PER_KWH if known else None
    facts, machine = run.manifest.sensors.codecarbon, run.manifest.machine
    grams = total["emissions"]
    if grams is None and kwh is not None and facts is not None and facts.grid_g_per_kwh is not None:
        grams = kwh * facts.grid_g_per_kwh
    row: dict[str, Any] = {
        "timestamp": datetime.fromisoformat(run.manifest.created).strftime("%Y-%m-%dT%H:%M:%S"),
        "project_name": run.manifest.name,
        "run_id": run.name,
        "experiment_id": variant,
        "duration": seconds,
        "emissions": None if grams is None else grams / 1e3,
        "emissions_rate": None if grams is None else grams / 1e3 / seconds,
        "energy_consumed": kwh,
        "country_iso_code": facts.country if facts else None,
        "os": machine.operating_system,
        "python_version": machine.python,
        "codecarbon_version": facts.version if facts else None,
        "cpu_count": machine.logical_cpus,
        "cpu_model": machine.cpu_model,
        "ram_total_size": None if machine.memory_bytes is None else machine.memory_bytes / 2**30,
        "tracking_mode": "machine",
    }
    for part, joules in energies.items():
        row[f"{part}_power"] = None if joules is None else joules / seconds
        row[f"{part}_energy"] = None if joules is None else joules / _J_PER_KWH
    return row


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    rows = [row for name in chosen(run, wanted) if (row := _row(run, name)) is not None]
    if not rows:
        raise StoreError(f"{run.folder}: CodeCarbon was not read in it; run again with pip install 'qprof[energy]'")
    path = folder / "emissions.csv"
    write_csv(path, COLUMNS, rows)
    return [path]


FORMAT = Format("the energy that CodeCarbon modelled, as its emissions.csv", _write)

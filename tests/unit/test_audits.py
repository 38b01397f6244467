"""What the audits of a measurement pass, and what they doubt."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from energy_runs import a100
from planted.world import PlantedOp, PlantedVariant, World
from qprof.findings.audits import Audit, audits
from qprof.findings.doubts import doubts
from qprof.findings.energy import energy_table
from qprof.findings.summary import summarize
from qprof.record.ceilings import COMPUTE_UNIT, Ceiling
from qprof.record.manifest import Warmup
from qprof.store.run import Run
from qprof.store.tables import write_table


def of(run: Run) -> dict[str, Audit]:
    return {audit.name: audit for audit in audits(run, summarize(run), energy_table(run))}


def recorded(tmp_path: Path, outside_us: float = 20.0, **manifest: Any) -> Run:
    ops, section = [PlantedOp("conv", "CONV_2D", 1000.0)], {"method": "float32"}
    variant = PlantedVariant("base", ops, outside_us=outside_us, section=section)
    return World([variant, replace(variant, name="other")], manifest=manifest).record(tmp_path / "run")


def test_a_sound_measurement(tmp_path: Path) -> None:
    found = of(recorded(tmp_path))
    assert found["instrumentation"].passed and found["unattributed"].passed
    assert "2.0 % of an inference to nobody" in found["unattributed"].says


def test_time_that_belongs_to_no_op(tmp_path: Path) -> None:
    found = of(recorded(tmp_path, outside_us=400.0))
    assert not found["unattributed"].passed and "28.6 %" in found["unattributed"].says


def test_what_a_call_takes_is_no_doubt_of_a_tiny_model(tmp_path: Path) -> None:
    tiny = PlantedVariant("base", [PlantedOp("conv", "CONV_2D", 2.0)], outside_us=0.6, section={"method": "float32"})
    found = of(World([tiny, replace(tiny, name="other")]).record(tmp_path / "run"))
    assert found["unattributed"].passed and "to the call itself (0.6 µs)" in found["unattributed"].says


def test_ops_that_count_twice(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    assert not [doubt for doubt in doubts(run) if doubt.what == "closure"]
    import pyarrow as pa

    table = run.op_events
    twice = [2 * duration for duration in table["duration_ns"].to_pylist()]
    doubled = table.set_column(table.column_names.index("duration_ns"), "duration_ns", pa.array(twice))
    write_table(run.folder / "ops.parquet", doubled)
    again = Run(run.folder)
    assert not of(again)["unattributed"].passed
    assert "add up to 196" in of(again)["unattributed"].says
    (doubt, _) = [doubt for doubt in doubts(again) if doubt.what == "closure"]
    assert "some count twice; mistrust its op times" in doubt.says and not doubt.withholds


def test_ceilings_beside_other_work(tmp_path: Path) -> None:
    known = Ceiling("compute", "CONV_2D", "float32", COMPUTE_UNIT, "", 50.0)
    ceilings = {"litert": [asdict(replace(known, disturbed=disturbed)) for disturbed in (True, False)]}
    found = of(recorded(tmp_path, ceilings=ceilings))
    assert not found["ceilings"].passed
    assert found["ceilings"].says == "1 of 2 ceilings of litert were measured beside other work"


def test_instrumentation_that_surely_slows_down(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    import pyarrow as pa

    table = run.samples
    kinds = table["kind"].to_pylist()
    longer = [
        int(d * (1.5 if kind == "profiled" else 1))
        for d, kind in zip(table["duration_ns"].to_pylist(), kinds, strict=True)
    ]
    run.__dict__["samples"] = table.set_column(table.column_names.index("duration_ns"), "duration_ns", pa.array(longer))
    found = of(run)
    assert not found["instrumentation"].passed and "+5" in found["instrumentation"].says


def test_a_variant_that_was_not_steady(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    run.variants[1].warmup["inference"] = Warmup(steady=False, reason="it still drifts", inferences=30)
    found = of(run)
    assert not found["warm-up"].passed and found["warm-up"].says.endswith("other")


def test_a_counter_and_its_integral(tmp_path: Path) -> None:
    run = a100().write(tmp_path / "run")
    checks = [audit for audit in audits(run, summarize(run), energy_table(run)) if audit.name == "energy"]
    assert checks and all(check.passed for check in checks)
    assert "off the counter (agree)" in checks[0].says

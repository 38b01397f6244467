"""Simulated worlds: what is planted is what a run of them says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planted.world import Noise, PlantedOp, PlantedVariant, World
from qprof.errors import ModelError
from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.difference import differ
from qprof.findings.measured import op_list
from qprof.record.phases import Phase
from qprof.record.readings import Reading

A = PlantedVariant(
    "float32",
    [
        PlantedOp("delegate", "DELEGATE", 0.0, delegate="XNNPACK"),
        PlantedOp("conv", "CONV_2D", 300.0, delegate="XNNPACK", parent="delegate", macs=1000, weight_bytes=40),
        PlantedOp("nms", "CUSTOM", 100.0),
    ],
    sample_scores={"correct": [1.0, 0.0, 1.0]},
    summary_scores={"accuracy": 2 / 3},
    warmup_us=[4000.0, 900.0],
)
B = PlantedVariant("int8", [PlantedOp("conv", "CONV_2D", 500.0), PlantedOp("nms", "CUSTOM", 100.0)])


def seen(round_: int, start_ns: int, end_ns: int) -> list[Reading]:
    return [Reading("host.busy", t, float(t), "s", "measured") for t in (start_ns, end_ns)]


def test_a_run_holds_what_was_planted(tmp_path: Path) -> None:
    world = World([A, PlantedVariant(**{**vars(B), "readings": seen})])
    run = world.record(tmp_path / "run")
    assert run.complete and [entry.name for entry in run.variants] == ["float32", "int8"]
    assert np.median(run.latency("float32").duration_ns) == pytest.approx(420e3, rel=0.03)
    assert np.median(run.latency("int8").duration_ns) == pytest.approx(620e3, rel=0.03)
    assert len(run.latency("float32").duration_ns) == 200
    warmup = run.latency("float32", "warmup").duration_ns
    assert warmup[0] == 4_000_000 and warmup[1] == 900_000 and np.median(warmup[2:]) == pytest.approx(420e3, rel=0.03)
    conv = op_list(run, "float32")[1]
    assert (conv.name, conv.partition, conv.macs) == ("conv", 0, 1000) and conv.parent == op_list(run, "float32")[0].op
    assert run.score("float32", "accuracy") == pytest.approx(2 / 3) and len(run.scores) == 4
    assert run.readings_table.num_rows == 20 and set(run.readings_table["variant"].to_pylist()) == {"int8"}
    table = differ(run, "float32", "int8")
    rows = {row.label: row.delta_us.value for row in table.rows}
    assert rows["conv"] == pytest.approx(200.0, rel=0.1) and rows["nms"] == pytest.approx(0.0, abs=5.0)
    assert "left XNNPACK" in table.rows[0].flags
    assert table.row("outside ops").delta_us.value == pytest.approx(0.0, abs=2.0)


def test_phases_are_told_apart(tmp_path: Path) -> None:
    phases = [Phase("prefill", tokens=64), Phase("decode", tokens=1, steps=16)]
    ops = [PlantedOp("linear", "linear", 800.0, phase="prefill"), PlantedOp("linear", "linear", 80.0, phase="decode")]
    run = World([PlantedVariant("bfloat16", ops, runtime="torch_lm")], phases=phases).record(tmp_path / "run")
    assert np.median(run.latency("bfloat16", phase="decode").duration_ns) == pytest.approx(100e3, rel=0.03)
    assert [op.phase for op in op_list(run, "bfloat16", "decode")] == ["decode"]
    assert np.median(run.ops("bfloat16", "prefill").duration_ns) == pytest.approx(800e3, rel=0.03)


def test_noise_drifts_and_is_disturbed_by_round(tmp_path: Path) -> None:
    noise = Noise(0.002, drift_per_round=0.05, by_round={3: 2.0})
    world = World([A, PlantedVariant(**{**vars(B), "by_round": {4: 3.0}})], noise)
    run = world.record(tmp_path / "run", names=["int8"])
    found = run.latency("int8")
    by_round = [np.median(found.duration_ns[found.round == r]) / 620e3 for r in range(10)]
    assert by_round[9] == pytest.approx(1.05**9, rel=0.02)
    assert by_round[3] == pytest.approx(2 * 1.05**3, rel=0.02) and by_round[4] == pytest.approx(3 * 1.05**4, rel=0.02)
    again = world.record(tmp_path / "again", names=["int8"]).latency("int8")
    assert np.array_equal(again.duration_ns, found.duration_ns)


class Delegated:
    """int8 is slow for its delegate: without it, float32 is as slow."""

    name, title = "delegated", "no delegate"

    def hypotheses(self, comparison):
        assert comparison.b.section["name"] == comparison.variant
        extra = f"{comparison.variant}+xnnpack"
        intervention = Intervention(
            "runs it in the delegate",
            Prediction("latency", comparison.variant, extra, -280.0, -120.0),
            variants=[{"name": extra, "method": "int8", "delegate": "xnnpack"}],
        )
        evidence = (Evidence("difference", comparison.latency.difference.value, "us", "samples.parquet"),)
        yield Hypothesis(self.name, "left the delegate", "latency", None, evidence, intervention)


@pytest.mark.parametrize(("us", "status"), [(300.0, "confirmed"), (500.0, "refuted"), (None, "hypothesis")])
def test_interventions_are_carried_out_in_the_world(tmp_path: Path, us: float | None, status: str) -> None:
    asked = []

    def respond(section: dict) -> PlantedVariant:
        asked.append(section)
        if us is None:
            raise ModelError("there is no such delegate")
        return PlantedVariant("whatever", [PlantedOp("conv", "CONV_2D", us), PlantedOp("nms", "CUSTOM", 100.0)])

    (finding,) = World([A, B], respond=respond).explain(tmp_path, causes=[Delegated()])
    assert finding.status == status, finding
    assert [(section["name"], section["delegate"]) for section in asked] == [("int8+xnnpack", "xnnpack")]
    assert us is not None or "there is no such delegate" in finding.because
    (untested,) = World([A, B]).explain(tmp_path / "untested", verify=False, causes=[Delegated()])
    assert untested.status == "hypothesis"


class Threads(Delegated):
    """int8 with four threads takes half as long, as float32 does."""

    def hypotheses(self, comparison):
        name = comparison.variant
        intervention = Intervention(
            "runs both with four threads",
            Prediction("latency", comparison.baseline, name, 40.0, 160.0),
            protocol={"threads": 4},
        )
        yield Hypothesis(self.name, "threads", "latency", None, (), intervention)


def test_overrides_are_put_to_the_world_for_every_variant(tmp_path: Path) -> None:
    asked = []

    def respond(section: dict) -> PlantedVariant | None:
        asked.append((section["name"], section["protocol"], section["task"]))
        halved = [PlantedOp(op.name, op.type, op.us / 2.0) for op in B.ops]
        return PlantedVariant("halved", halved) if section["name"] == "int8" else None

    (finding,) = World([A, B], respond=respond).explain(tmp_path, causes=[Threads()])
    assert asked == [("float32", {"threads": 4}, {}), ("int8", {"threads": 4}, {})]
    assert finding.measured.value == pytest.approx(320.0 - 420.0, abs=15.0) and finding.status == "refuted"


def test_what_a_world_cannot_answer_is_an_error_of_the_test(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the world has no respond"):
        World([A, B]).explain(tmp_path, causes=[Delegated()])
    with pytest.raises(AssertionError, match="does not respond to"):
        World([A, B], respond=lambda section: None).explain(tmp_path / "none", causes=[Delegated()])


def test_a_manifest_is_laid_upon_the_runs(tmp_path: Path) -> None:
    manifest = {"machine": {"cpu_model": "other"}, "profile": {"task": {"samples": 3}, "protocol": {"threads": 2}}}
    run = World([A, B], manifest=manifest, rounds=5).record(tmp_path / "run")
    assert run.manifest.machine.cpu_model == "other" and run.manifest.machine.logical_cpus == 4
    assert run.manifest.profile.task["samples"] == 3 and run.manifest.profile.protocol.rounds == 5
    assert run.variant("int8").threads == 2

"""What binds a variant as a whole: arithmetic or memory, and what must then happen."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planted.cases_language import ceilings, linear, model
from planted.world import PlantedOp, PlantedVariant, World, hypotheses
from qprof.findings.binding import binding
from qprof.findings.causes import compute_bound, memory_bound
from qprof.findings.causes.base import Hypothesis
from qprof.findings.comparison import Comparison
from qprof.findings.measured import measured_variant
from qprof.findings.op_costs import WORKERS

COMPUTING = [linear(n, 100.0, macs=4_500_000, weight_bytes=50_000) for n in range(9)]
READING = [linear(n, 1000.0, macs=400_000, weight_bytes=9_000_000) for n in range(6)]
CAUSES = [compute_bound.CAUSE, memory_bound.CAUSE]


def pair(ops: list[PlantedOp], dtype: str = "bfloat16", **changes: Any) -> list[PlantedVariant]:
    return [replace(model(name, ops, dtype), **changes) for name in ("baseline", "variant")]


def found(variants: list[PlantedVariant], folder: Path, runtime: str = "torch_lm") -> list[Hypothesis]:
    run = World(variants, manifest={"ceilings": ceilings(runtime)}).record(folder)
    return [claim.hypothesis for claim in hypotheses(run, CAUSES)]


def compared(variants: list[PlantedVariant], folder: Path, **manifest: Any) -> Comparison:
    run = World(variants, manifest={"ceilings": ceilings(), **manifest}).record(folder)
    return Comparison(run, variants[0].name, variants[1].name, "inference")


def test_shares_are_of_the_clean_latency(tmp_path: Path) -> None:
    ops = [*COMPUTING, PlantedOp("norm", "Norm", 100.0)]
    bound = binding(compared(pair(ops), tmp_path / "run"))
    assert bound is not None and bound.total_us == pytest.approx(1020.0, rel=0.02)
    assert bound.share("compute") == pytest.approx(900.0 / 1020.0, rel=0.02) and bound.share("memory") == 0.0
    assert sum(row.time_us or 0.0 for row in bound.rows) == pytest.approx(1000.0, rel=0.02)


def test_what_instrumentation_adds_is_taken_off_the_ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compared(pair(COMPUTING), tmp_path / "run")
    measured = measured_variant(comparison.run, "variant")
    slowed = replace(measured, profiled_us=2 * measured.profiled_us, op_us=2 * measured.op_us)
    monkeypatch.setattr(comparison, "measured", lambda *_: slowed)
    bound = binding(comparison)
    assert bound is not None and bound.share("compute") == pytest.approx(900.0 / 920.0, rel=0.02)


def test_ceilings_of_other_threads_hold_nothing(tmp_path: Path) -> None:
    variants = pair(COMPUTING)
    variants[1] = replace(variants[1], section={**variants[1].section, "threads": 2})
    assert binding(compared(variants, tmp_path / "threads")) is None
    assert binding(compared(pair(COMPUTING), tmp_path / "none", ceilings={})) is None
    untimed = {"profile": {"protocol": {"profiled": False}}}
    assert binding(compared(pair(COMPUTING), tmp_path / "untimed", **untimed)) is None


def test_twice_the_rows_take_what_the_ceiling_says(tmp_path: Path) -> None:
    (hypothesis,) = found(pair(COMPUTING), tmp_path / "run")
    assert hypothesis.cause == "compute_bound" and "9 ops bound by arithmetic" in hypothesis.claim
    assert {e.what: e.value for e in hypothesis.evidence}["what this machine does at most"] == 50.0
    assert hypothesis.intervention is not None
    (section,) = hypothesis.intervention.variants
    assert (section["name"], section["batch"]) == ("variant+batch2", 2)
    prediction = hypothesis.intervention.prediction
    # Of every 100 us the ceiling asks for 90, 180 with twice the rows; 2 us are the launch, once; the 8 us beyond that
    # stay, or come twice: 194 us in the middle, 4 us to either side. 20 us are outside the ops.
    assert prediction.value == pytest.approx(math.log((20.0 + 9 * 194.0) / 920.0), abs=0.02)
    error = math.hypot(9 * 4.0 / math.sqrt(3.0) / (20.0 + 9 * 194.0), WORKERS)
    assert prediction.high - prediction.low == pytest.approx(2 * 1.96 * error, rel=0.1) and prediction.relative


def test_a_ceiling_that_is_beaten_is_no_evidence(tmp_path: Path) -> None:
    assert len(found(pair([replace(op, macs=5_300_000) for op in COMPUTING]), tmp_path / "within")) == 1
    assert found(pair([replace(op, macs=6_500_000) for op in COMPUTING]), tmp_path / "beaten") == []


def test_a_minority_of_the_time_is_not_said_of_the_variant(tmp_path: Path) -> None:
    ops = [*COMPUTING[:5], PlantedOp("norm", "Norm", 400.0)]
    assert found(pair(ops), tmp_path / "run") == []


CONVS = [PlantedOp(f"c{n}", "CONV_2D", 100.0, macs=4_500_000, weight_bytes=99, activation_bytes=99) for n in range(9)]


def test_more_threads_are_no_test_of_arithmetic(tmp_path: Path) -> None:
    variants = [PlantedVariant(name, CONVS, section={"threads": 1}) for name in ("float32", "float16")]
    (hypothesis,) = found(variants, tmp_path / "run", "litert")
    assert hypothesis.intervention is None and hypothesis.untestable


@pytest.mark.parametrize(
    ("dtype", "other", "middle", "half"),
    # Of every 1000 us memory asks for 900, and a launch takes 2; the 98 beyond stay, or go with the bytes.
    [("bfloat16", "float32", 1949.0, 49.0), ("float16", "float32", 1949.0, 49.0), ("float32", "bfloat16", 525.5, 24.5)],
)
def test_other_bytes_for_the_same_numbers(tmp_path: Path, dtype: str, other: str, middle: float, half: float) -> None:
    (hypothesis,) = found(pair(READING, dtype), tmp_path / "run")
    assert hypothesis.cause == "memory_bound" and "GB/s where memory gives 10.0 GB/s at most" in hypothesis.claim
    assert hypothesis.intervention is not None
    (section,) = hypothesis.intervention.variants
    assert (section["name"], section["method"], section["dtype"]) == (f"variant+{other}", other, "")
    prediction = hypothesis.intervention.prediction
    left_us = 20.0 + 6 * middle
    assert prediction.value == pytest.approx(math.log(left_us / 6020.0), abs=0.02) and prediction.relative
    error = math.hypot(6 * half / math.sqrt(3.0) / left_us, WORKERS)
    assert prediction.high - prediction.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_a_file_is_loaded_in_another_type(tmp_path: Path) -> None:
    (hypothesis,) = found(pair(READING, section={"file": "/some/model"}), tmp_path / "run")
    assert hypothesis.intervention is not None
    (section,) = hypothesis.intervention.variants
    assert (section["file"], section["dtype"]) == ("/some/model", "float32")


def test_bytes_of_packed_weights_are_not_changed(tmp_path: Path) -> None:
    options = {"batch": 1, "dtype": "bfloat16", "kernel": "torch-aten"}
    (hypothesis,) = found(pair(READING, options=options), tmp_path / "run")
    assert hypothesis.intervention is None and "quantized weights" in str(hypothesis.untestable)


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        (80.0, "80.0 GB/s where L3 gives 90.3 GB/s at most"),
        (95.2, "95.2 GB/s, more than the 90.3 GB/s that L3 gives: a part comes from a faster level"),
    ],
)
def test_no_level_is_said_to_give_more_than_it_gives_at_most(rate: float, told: str) -> None:
    assert memory_bound.against(rate, "L3", 90.3) == told

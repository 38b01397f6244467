"""Ops that take longer to be started than to be computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planted.cases_language import ceilings, linear, model
from planted.world import PlantedOp, PlantedVariant, World, hypotheses
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.dispatch_bound import CAUSE
from qprof.findings.op_costs import WORKERS
from qprof.record.manifest import ClockAudit, KernelFacts, Timing
from qprof.record.phases import Phase

PHASES = [Phase("prefill", tokens=64), Phase("decode", tokens=1, steps=8)]


def found(
    ops: list[PlantedOp], folder: Path, manifest: Mapping[str, Any] | None = None, **of_world: Any
) -> list[Hypothesis]:
    variants = [model(name, ops) for name in ("bfloat16", "float16")]
    run = World(variants, manifest=manifest or {}, **of_world).record(folder)
    return [claim.hypothesis for claim in hypotheses(run, [CAUSE])]


def share(hypothesis: Hypothesis) -> float:
    return hypothesis.evidence[0].value / 100


def test_tiny_ops_at_the_cost_of_a_launch(tmp_path: Path) -> None:
    (hypothesis,) = found([linear(n, 2.5) for n in range(60)], tmp_path / "run", {"ceilings": ceilings()})
    # 60 launches of 2 us in 60 ops of 2.5 us and 20 us outside.
    assert share(hypothesis) == pytest.approx(120.0 / 170.0, rel=0.05)
    values = {e.what: e.value for e in hypothesis.evidence}
    assert values["ops"] == 60 and values["what starting one operation costs at least"] == pytest.approx(2.0)
    assert hypothesis.intervention is not None
    (section,) = hypothesis.intervention.variants
    assert (section["name"], section["batch"]) == ("float16+batch2", 2)
    prediction = hypothesis.intervention.prediction
    # Half a microsecond of each op is no launch: it stays, or comes twice.
    assert prediction.value == pytest.approx(math.log(1.0 + 60 * 0.25 / 170.0), rel=0.15)
    half = 60 * 0.25 / math.sqrt(3.0) / 185.0
    assert prediction.relative and prediction.high - prediction.value == pytest.approx(1.96 * half, rel=0.15)


def test_ops_that_compute_are_not_claimed(tmp_path: Path) -> None:
    ops = [linear(n, 100.0, macs=4_500_000) for n in range(10)]
    assert found(ops, tmp_path / "with", {"ceilings": ceilings()}) == []
    assert found(ops, tmp_path / "without") == []


def test_ops_that_move_much_are_not_claimed_without_ceilings(tmp_path: Path) -> None:
    assert found([linear(n, 50.0, weight_bytes=500_000) for n in range(20)], tmp_path / "run") == []


def test_long_ops_are_not_taken_for_launches_without_ceilings(tmp_path: Path) -> None:
    assert found([linear(n, 300.0) for n in range(20)], tmp_path / "run") == []


def both_phases(prefill_us: float, decode_us: float, kind: str = "Norm", weight_bytes: int = 100) -> list[PlantedOp]:
    """Twenty layers in two phases, the first with 64 times the work."""
    return [
        PlantedOp(f"layer{n}", kind, us, phase=phase, weight_bytes=weight_bytes, activation_bytes=size)
        for phase, us, size in (("prefill", prefill_us, 6400), ("decode", decode_us, 100))
        for n in range(20)
    ]


def test_an_op_that_takes_as_long_for_one_token_as_for_many(tmp_path: Path) -> None:
    # One us of the 30 goes with a token: 29 are left at none of them, in 30 us and in 93 us alike.
    (decode,) = found(both_phases(93.0, 30.0), tmp_path / "a", phases=PHASES)
    assert share(decode) == pytest.approx(20 * 29.0 / 620.0, rel=0.05)
    assert len(found(both_phases(33.0, 30.0), tmp_path / "b", phases=PHASES)) == 2
    assert found(both_phases(1900.0, 30.0), tmp_path / "c", phases=PHASES) == []


def test_more_rows_lie_below_the_line_between_two_phases(tmp_path: Path) -> None:
    """30 us for a token and 93 us for 64: no more than 33 us for four, of which 30 us are launched in any case."""
    (decode,) = found(both_phases(93.0, 30.0), tmp_path / "run", phases=PHASES)
    assert decode.intervention is not None and decode.intervention.variants[0]["batch"] == 4
    prediction = decode.intervention.prediction
    assert prediction.value == pytest.approx(math.log(1.0 + 20 * 1.5 / 620.0), rel=0.1)
    error = math.hypot(20 * 1.5 / math.sqrt(3.0) / 650.0, WORKERS)
    assert prediction.high - prediction.value == pytest.approx(1.96 * error, rel=0.1)


def test_more_rows_lie_above_the_line_beyond_two_phases(tmp_path: Path) -> None:
    """30 us for a token and 33 us for 64: 36 us at least for 128, and what is launched comes once."""
    prefill, _ = found(both_phases(33.0, 30.0), tmp_path / "run", phases=PHASES)
    assert prefill.intervention is not None and prefill.intervention.variants[0]["batch"] == 2
    least, most = 20 * (33.0 + 3.0 * 64 / 63) + 20.0, 2 * 680.0 - 20 * (30.0 - 3.0 / 63)
    assert prefill.intervention.prediction.value == pytest.approx(math.log((least + most) / 2.0 / 680.0), rel=0.15)


@pytest.mark.parametrize("op", [{"weight_bytes": 60_000}, {"kind": "dequantize"}])
def test_weights_may_be_what_any_number_of_tokens_waits_for(tmp_path: Path, op: dict[str, Any]) -> None:
    assert found(both_phases(33.0, 30.0, **op), tmp_path / "run", phases=PHASES) == []


def test_a_device_that_waits_for_launches(tmp_path: Path) -> None:
    clocks = ClockAudit(unsynchronized_us=1.0, synchronized_us=1.0, events_us=1.0, asynchronous_error=0.0)
    kernels = KernelFacts(busy_us=100.0, launches=60.0)
    timing = Timing(clocks={"inference": clocks}, kernels={"inference": kernels})
    ops = [linear(n, 100.0, macs=4_500_000) for n in range(10)]
    variants = [replace(model(name, ops), timing=timing) for name in ("bfloat16", "float16")]
    (claim,) = hypotheses(World(variants).record(tmp_path / "run"), [CAUSE])
    assert share(claim.hypothesis) == pytest.approx(1.0 - 100.0 / 1020.0, rel=0.02)


def test_a_batch_of_litert_is_not_changed(tmp_path: Path) -> None:
    ops = [PlantedOp(f"add{n}", "ADD", 3.0, weight_bytes=0, activation_bytes=100, macs=0) for n in range(60)]
    run = World([PlantedVariant(name, ops) for name in ("float32", "int8")]).record(tmp_path / "run")
    (claim,) = hypotheses(run, [CAUSE])
    assert claim.hypothesis.intervention is None and "batch is part of the model" in str(claim.hypothesis.untestable)

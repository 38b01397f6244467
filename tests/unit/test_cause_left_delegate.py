"""Ops that left the delegate: what speaks for it, and what is predicted of the variant that leaves them in float."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from planted.cases_speed import MOBILE, conv, depthwise
from planted.litert_machine import Layer, Machine
from planted.world import World, hypotheses
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.left_delegate import CAUSE
from qprof.findings.op_costs import SURROUNDINGS

DYNAMIC = "int8-dynamic"


def found(world: World, folder: Path) -> list[Hypothesis]:
    return [claim.hypothesis for claim in hypotheses(world.record(folder), [CAUSE])]


def test_what_the_ops_lost_is_the_effect_and_the_prediction(tmp_path: Path) -> None:
    (hypothesis,) = found(MOBILE.world(DYNAMIC), tmp_path / "run")
    assert hypothesis.effect is not None and hypothesis.intervention is not None
    assert hypothesis.effect.value == pytest.approx(3 * (300.0 - 50.0), rel=0.03)
    assert hypothesis.effect.low is not None and hypothesis.effect.low > 700.0
    assert "3 ops (DEPTHWISE_CONV_2D) run outside XNNPACK" in hypothesis.claim
    values = {evidence.what: evidence.value for evidence in hypothesis.evidence}
    assert values["ops that left the delegate"] == 3
    assert values["their time outside of it"] == pytest.approx(900.0, rel=0.03)
    prediction = hypothesis.intervention.prediction
    assert (prediction.a, prediction.b) == (DYNAMIC, "int8-dynamic+float:DEPTHWISE_CONV_2D")
    # Of 1820 us, 750 us are to go.
    assert prediction.relative
    assert prediction.expected == pytest.approx(math.log(1.0 - 750.0 / 1820.0), rel=0.05)
    # Inside, they take 150 us again, which is known to a tenth; the rest is what the rounds scatter by.
    error = (prediction.high - prediction.low) / (2 * 1.96)
    assert SURROUNDINGS * 150.0 / (1820.0 - 750.0) < error < 0.03
    (section,) = hypothesis.intervention.variants
    assert section["method"] == DYNAMIC and section["skip_ops"] == ["DEPTHWISE_CONV_2D"]


def test_ops_that_the_profile_leaves_in_float_stay_so(tmp_path: Path) -> None:
    layers = [*MOBILE.layers, Layer("add", "ADD", {"float": 5.0}, {"float": 5.0})]
    world = Machine(layers).world({"name": "small", "method": DYNAMIC, "skip_ops": ["ADD"]})
    (hypothesis,) = found(world, tmp_path / "run")
    assert hypothesis.intervention is not None
    assert hypothesis.intervention.variants[0]["skip_ops"] == ["ADD", "DEPTHWISE_CONV_2D"]


def test_where_some_of_a_type_stayed_inside_ops_are_named(tmp_path: Path) -> None:
    alone = Layer("dilated", "CONV_2D", {"float": 50.0}, {"float": 330.0, "dynamic": 300.0})
    (hypothesis,) = found(Machine([conv(), alone]).world(DYNAMIC), tmp_path / "run")
    assert hypothesis.intervention is not None
    (section,) = hypothesis.intervention.variants
    assert (section["skip_ops"], section["skip_layers"]) == ([], ["dilated"])


def test_where_nothing_else_differs_the_difference_is_to_go_with_the_delegate(tmp_path: Path) -> None:
    """Left in float, nothing would remain to quantize; without the delegate both run on the same kernels."""
    world = Machine([depthwise("only"), Layer("add", "ADD", {"float": 400.0}, {"float": 400.0})]).world(DYNAMIC)
    (hypothesis,) = found(world, tmp_path / "run")
    assert hypothesis.intervention is not None
    prediction = hypothesis.intervention.prediction
    assert (prediction.a, prediction.b) == ("float32+no-delegate", f"{DYNAMIC}+no-delegate")
    assert prediction.versus == ("float32", DYNAMIC)
    # 250 us of 720 us are lost: all of the difference is to go.
    assert prediction.expected == pytest.approx(math.log(470.0 / 720.0), rel=0.05)


def test_a_finished_file_is_compared_without_the_delegate(tmp_path: Path) -> None:
    file = "/nowhere/finished.tflite"
    machine = Machine([conv(dynamic=100.0), depthwise("dw")], files={file: DYNAMIC})
    (hypothesis,) = found(machine.world({"name": "finished", "file": file}), tmp_path / "run")
    assert hypothesis.intervention is not None
    prediction = hypothesis.intervention.prediction
    assert (prediction.a, prediction.b) == ("float32+no-delegate", "finished+no-delegate")
    assert [section["delegate"] for section in hypothesis.intervention.variants] == ["none", "none"]
    assert hypothesis.intervention.variants[1]["file"] == file and prediction.relative
    # 20 us outside the ops; without what was lost it would take 170 us instead of the baseline's 470 us.
    # The kernels outside may make anything of that: the error is nearly as large.
    gain = math.log(170.0 / 470.0)
    assert prediction.value == pytest.approx(gain, abs=0.05)
    assert prediction.low == pytest.approx(gain * (1.0 + 1.96 / math.sqrt(3.0)), abs=0.1) and prediction.high < 0.0


def test_conversions_alone_are_nothing_to_quantize(tmp_path: Path) -> None:
    """As with int16x8, for which the delegate has next to no kernels: everything left but QUANTIZE and DEQUANTIZE."""
    layers = [Layer("one", "CONV_2D", {"float": 100.0}, {"float": 900.0, "static": 800.0})]
    (hypothesis,) = found(Machine(layers, conversion_us=0.5).world("int8"), tmp_path / "run")
    assert hypothesis.intervention is not None and hypothesis.intervention.prediction.versus == ("float32", "int8")


@pytest.mark.parametrize("us", [50.0, 58.0])
def test_too_little_is_no_cause(tmp_path: Path, us: float) -> None:
    """8 us of 440 us: less than what a verification resolves."""
    dw = replace(depthwise("dw"), outside={"float": 50.0, "dynamic": us})
    assert found(Machine([conv(), dw]).world(DYNAMIC), tmp_path / "run") == []


def test_nothing_left(tmp_path: Path) -> None:
    assert found(Machine([conv()]).world(DYNAMIC), tmp_path / "run") == []


def test_variants_whose_ops_were_not_timed(tmp_path: Path) -> None:
    world = MOBILE.world(DYNAMIC, manifest={"profile": {"protocol": {"profiled": False}}})
    assert found(world, tmp_path / "run") == []


def test_what_cannot_be_tested_is_said_of_what_was_given(tmp_path: Path) -> None:
    """Conversions cost as much as what left, so that without the delegate something would be left: of a variant that
    qprof made of a float model, nobody is told to give one."""
    layers = [Layer("one", "CONV_2D", {"float": 100.0}, {"float": 900.0, "static": 800.0})]
    file = "/nowhere/int8.tflite"
    machine = Machine(layers, conversion_us=300.0, files={file: "int8"})
    (made,) = found(machine.world("int8"), tmp_path / "made")
    (given,) = found(machine.world({"name": "given", "file": file}), tmp_path / "given")
    assert made.intervention is None and given.intervention is None
    assert "these are all of its quantized ops" in str(made.untestable) and "file" not in str(made.untestable)
    assert "ready-made file" in str(given.untestable) and "--variants makes one that can" in str(given.untestable)

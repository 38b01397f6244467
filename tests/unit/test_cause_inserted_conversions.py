"""Conversions that the baseline has not, at the borders and inside."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from planted.cases_speed import conv
from planted.litert_machine import Layer, Machine
from planted.world import World, hypotheses
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.inserted_conversions import CAUSE

ADD = Layer("add", "ADD", {"float": 20.0, "static": 10.0}, {"float": 40.0, "static": 40.0})
SINE = Layer("sine", "SIN", {"float": 20.0}, {"float": 40.0})


def found(world: World, folder: Path) -> list[Hypothesis]:
    return [claim.hypothesis for claim in hypotheses(world.record(folder), [CAUSE])]


def around(layer: Layer, **section: Any) -> World:
    return Machine([conv("first"), layer, conv("second")], conversion_us=45.0).world({"name": "int8", **section})


def test_at_the_borders(tmp_path: Path) -> None:
    (hypothesis,) = found(Machine([conv()], conversion_us=60.0).world("int8"), tmp_path / "run")
    assert hypothesis.effect is not None and hypothesis.intervention is not None
    assert hypothesis.effect.value == pytest.approx(120.0, rel=0.03)
    assert "at its inputs and outputs 2 times (DEQUANTIZE, QUANTIZE)" in hypothesis.claim
    (section,) = hypothesis.intervention.variants
    assert (section["name"], section["method"], section["io"]) == ("int8+int8-io", "int8", "int8")
    # Of 260 us, 120 us are to go.
    prediction = hypothesis.intervention.prediction
    assert prediction.relative
    assert prediction.expected == pytest.approx(math.log(1.0 - 120.0 / 260.0), rel=0.05)


@pytest.mark.parametrize(
    ("selection", "remaining"),
    [
        ({"skip_ops": ["ADD"]}, {"method": "int8", "ops": [], "skip_ops": []}),
        ({"ops": ["CONV_2D"]}, {"method": "int8", "ops": ["ADD", "CONV_2D"], "skip_ops": []}),
        ({"method": "int8:CONV_2D"}, {"method": "int8", "ops": ["ADD", "CONV_2D"], "skip_ops": []}),
        ({"skip_ops": ["ADD", "MUL"]}, {"method": "int8", "ops": [], "skip_ops": ["MUL"]}),
    ],
)
def test_around_ops_that_the_profile_leaves_in_float(
    tmp_path: Path, selection: dict[str, Any], remaining: dict[str, Any]
) -> None:
    border, inside = found(around(ADD, **selection), tmp_path / "run")
    assert "at its inputs" in border.claim and "between its ops" in inside.claim
    assert inside.intervention is not None and inside.effect is not None
    (section,) = inside.intervention.variants
    assert {key: section[key] for key in remaining} == remaining
    # Of 460 us the conversions' 90 us are to go, and of the float op's own 20 us a part that is not known.
    prediction = inside.intervention.prediction
    assert prediction.relative
    assert prediction.expected == pytest.approx(math.log(1.0 - 100.0 / 460.0), rel=0.05)
    assert prediction.low < math.log(1.0 - 110.0 / 460.0) and math.log(1.0 - 90.0 / 460.0) < prediction.high


def test_around_ops_that_have_no_integer_form(tmp_path: Path) -> None:
    _, inside = found(around(SINE), tmp_path / "run")
    assert inside.intervention is None and inside.untestable == "the quantizer has no integer form of SIN"


def test_a_finished_file_keeps_its_conversions(tmp_path: Path) -> None:
    file = "/nowhere/finished.tflite"
    machine = Machine([conv("first"), SINE, conv("second")], 45.0, {file: "int8"})
    for hypothesis in found(machine.world({"name": "finished", "file": file}), tmp_path / "run"):
        assert hypothesis.intervention is None and "cannot be cut" in str(hypothesis.untestable)


def test_conversions_that_take_next_to_nothing(tmp_path: Path) -> None:
    assert found(Machine([conv("first"), conv("second")], 1.0).world("int8"), tmp_path / "run") == []


def test_integer_inputs_and_outputs_need_none(tmp_path: Path) -> None:
    world = Machine([conv()], 60.0).world({"name": "int8", "io": "int8"})
    assert found(world, tmp_path / "run") == []

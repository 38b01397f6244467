"""Run-time quantization of activations, kept apart from the delegate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planted.cases_speed import MOBILE, conv, depthwise
from planted.litert_machine import Machine
from planted.world import World, hypotheses
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.hybrid_kernels import CAUSE, quantizes_at_run_time
from qprof.record.ops import OpMeta

DYNAMIC = "int8-dynamic"
SLOW = Machine([conv("first", dynamic=700.0), conv("second", dynamic=650.0)])


def found(world: World, folder: Path) -> list[Hypothesis]:
    return [claim.hypothesis for claim in hypotheses(world.record(folder), [CAUSE])]


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("Fully Connected (NC, QDU8, F32, QC8W) GEMM", True),
        ("Fully Connected (NC, QD8, F32, QC4W) GEMM", True),
        ("Fully Connected (NC, QP8, F32, QC4W) GEMM", True),
        ("Convert (NC, F32, QDU8) + Convolution (NHWC, QDU8, F32, QC8W) IGEMM", True),
        ("builtin hybrid", True),
        ("builtin", False),
        ("Fully Connected (NC, QS8, QC8W) GEMM", False),
        ("Convolution (NHWC, F32) DWConv", False),
        ("(fused)", False),
        (None, False),
    ],
)
def test_kernels_that_quantize_at_run_time(kernel: str | None, expected: bool) -> None:
    assert quantizes_at_run_time(OpMeta("0", "conv", "CONV_2D", 0, kernel=kernel)) is expected


def test_inside_the_delegate_the_weights_stay_and_the_arithmetic_changes(tmp_path: Path) -> None:
    (hypothesis,) = found(SLOW.world(DYNAMIC), tmp_path / "run")
    assert hypothesis.effect is not None and hypothesis.intervention is not None
    assert hypothesis.effect.value == pytest.approx(550.0, rel=0.05)
    (section,) = hypothesis.intervention.variants
    assert section["method"] == "int8-weight-only" and section["skip_ops"] == []
    assert hypothesis.intervention.prediction.a == DYNAMIC and hypothesis.intervention.prediction.high < 0.0


def test_the_op_types_of_a_method_are_kept(tmp_path: Path) -> None:
    world = SLOW.world({"name": "part", "method": "int8-dynamic:CONV_2D"})
    (hypothesis,) = found(world, tmp_path / "run")
    assert hypothesis.intervention is not None
    assert hypothesis.intervention.variants[0]["method"] == "int8-weight-only:CONV_2D"


def test_what_left_the_delegate_is_in_float_on_both_sides(tmp_path: Path) -> None:
    machine = replace(MOBILE, layers=[conv("first", dynamic=900.0), *MOBILE.layers[1:]])
    inside, outside = found(machine.world(DYNAMIC), tmp_path / "run")
    assert inside.intervention is not None and outside.intervention is not None
    before, after = inside.intervention.variants
    assert before["skip_ops"] == after["skip_ops"] == ["DEPTHWISE_CONV_2D"]
    assert (before["method"], after["method"]) == (DYNAMIC, "int8-weight-only")
    assert (inside.intervention.prediction.a, inside.intervention.prediction.b) == (before["name"], after["name"])
    assert inside.effect is not None and inside.effect.value == pytest.approx(300.0, rel=0.1)
    assert "XNNPACK kernels" in inside.claim and "builtin kernels" in outside.claim
    before, after = outside.intervention.variants
    assert before["delegate"] == after["delegate"] == "none"
    assert (before["skip_ops"], after["skip_ops"]) == ([], ["DEPTHWISE_CONV_2D"])
    assert outside.effect is not None and outside.effect.value == pytest.approx(750.0, rel=0.05)


def test_where_nothing_else_is_quantized_the_baseline_is_the_float_side(tmp_path: Path) -> None:
    (hypothesis,) = found(Machine([depthwise("one"), depthwise("two")]).world(DYNAMIC), tmp_path / "run")
    assert hypothesis.intervention is not None
    assert hypothesis.intervention.prediction.b == "float32+no-delegate"


def test_a_finished_file_that_is_gone_cannot_be_tested(tmp_path: Path) -> None:
    file = "/nowhere/finished.tflite"
    machine = replace(SLOW, files={file: DYNAMIC})
    (hypothesis,) = found(machine.world({"name": "finished", "file": file}), tmp_path / "run")
    assert hypothesis.intervention is None and "cannot be replaced" in str(hypothesis.untestable)


def test_kernels_that_gain_are_no_cause(tmp_path: Path) -> None:
    assert found(Machine([conv("first"), conv("second", dynamic=405.0)]).world(DYNAMIC), tmp_path / "run") == []


def test_static_ranges_are_no_cause(tmp_path: Path) -> None:
    assert found(SLOW.world("int8"), tmp_path / "run") == []

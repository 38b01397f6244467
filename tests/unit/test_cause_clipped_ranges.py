"""Ranges that cut off: claimed where a score was lost, layers cut off, and ranges that do not can be had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planted.cases_layers import LayerError, LayerWorld, clipping
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.clipped_ranges import CAUSE
from qprof.findings.comparison import Comparison


def hypotheses(folder: Path, made: LayerWorld) -> list[Hypothesis]:
    return list(CAUSE.hypotheses(Comparison(made.record(folder / "run"), "float32", "int8", "inference")))


def with_section(made: LayerWorld, **section: str) -> LayerWorld:
    float32, int8 = made.variants
    return replace(made, variants=[float32, replace(int8, section=section)])


def test_the_claim_and_what_must_come_back(tmp_path: Path) -> None:
    (found,) = hypotheses(tmp_path, replace(clipping(0.2, 0.5), errors={3: LayerError(saturated=0.25)}))
    assert "24 of 24 layers cut off numbers that lie outside, most of all block3/conv;block3/bn (25.00%)" in found.claim
    assert found.intervention is not None and found.effect is not None
    (section,) = found.intervention.variants
    assert (section["name"], section["method"], section["ranges"]) == ("int8+min-max", "int8", "min-max")
    lost, prediction = -found.effect.value, found.intervention.prediction
    assert (prediction.a, prediction.b) == ("int8", "int8+min-max")
    assert (prediction.low, prediction.high) == pytest.approx((0.15 * lost, 1.3 * lost))


@pytest.mark.parametrize(
    "section", [{"ranges": "min-max"}, {"file": "/x.tflite"}, {"method": "int8-dynamic"}, {"method": "float16"}]
)
def test_nothing_is_claimed_where_the_ranges_cannot_be_others(tmp_path: Path, section: dict[str, str]) -> None:
    assert hypotheses(tmp_path, with_section(clipping(0.2, 0.5), **section)) == []


def test_nothing_is_claimed_without_a_loss_or_where_nothing_is_cut_off(tmp_path: Path) -> None:
    assert hypotheses(tmp_path / "equal", clipping(0.0, 0.5)) == []
    whole = {number: LayerError(saturated=0.0) for number in range(24)}
    assert hypotheses(tmp_path / "whole", replace(clipping(0.2, 0.5), errors=whole)) == []

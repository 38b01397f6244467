"""Kernels that do the same work at another rate are tested where the test could tell that they do not."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from qprof.findings.causes import other_kernels
from qprof.findings.op_costs import left_over
from qprof.record.ops import OpMeta
from qprof.stats.intervals import Interval

#: What the variant takes, what the conversions around the ops in float would, and the standard error of that.
OF_US, CONVERTED_US, ERROR_US = 1370.0, 205.0, 55.0


def effect(us: float) -> Any:
    return SimpleNamespace(value=us, interval=lambda: Interval(us, us - 2.0, us + 2.0, 0.95))


def intervention(monkeypatch: pytest.MonkeyPatch, claimed_us: float) -> tuple[Any, str | None]:
    monkeypatch.setattr(other_kernels, "in_float", lambda comparison, rows: {"name": "int8+float"})
    monkeypatch.setattr(other_kernels, "around_in_float", lambda comparison, costs, rows: (CONVERTED_US, ERROR_US))
    conv = OpMeta("1", "conv", "DEPTHWISE_CONV_2D", 0, quantization="int8")
    comparison: Any = SimpleNamespace(b=SimpleNamespace(section={"name": "int8"}), variant="int8")
    costs: Any = SimpleNamespace(
        b_us=OF_US,
        difference=lambda rows: effect(claimed_us),
        of_baseline=lambda rows: effect(400.0),
        without=lambda cost, known, of, more=0.0: left_over(cost, more, of),
    )
    return other_kernels._intervention(comparison, costs, [SimpleNamespace(a=conv, b=conv)])  # type: ignore[list-item]


@pytest.mark.parametrize("claimed_us", [-900.0, -500.0, -300.0, -77.0, -20.0, 20.0, 77.0, 300.0, 500.0, 900.0])
def test_a_claim_that_its_conversions_would_bear_out_as_well_is_not_tested(
    monkeypatch: pytest.MonkeyPatch, claimed_us: float
) -> None:
    found, reason = intervention(monkeypatch, claimed_us)
    conversions_alone = math.log((OF_US + CONVERTED_US) / OF_US)
    if found is None:
        assert abs(claimed_us) < 150.0
        assert reason == "what the conversions around these ops would take is as large as what is to be tested"
    else:
        prediction = found.prediction
        assert abs(claimed_us) > 150.0
        assert not prediction.low <= conversions_alone <= prediction.high

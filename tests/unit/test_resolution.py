"""What the clock of an op cannot tell: no interval is narrower, and nothing is concluded from less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planted.world import Noise, PlantedOp, PlantedVariant, World
from qprof.findings.comparison import Comparison
from qprof.findings.decomposition import Settings, Sides, decompose
from qprof.findings.difference_table import MeasuredVariant, difference
from qprof.findings.op_costs import OpCosts
from qprof.findings.resolution import resolution_us, widened
from qprof.findings.roofline import roofline
from qprof.record.ops import OpMeta
from qprof.runtimes.match_ops import OpMatch
from qprof.stats.intervals import Interval


def op(resolution: float | None = None, **more: object) -> OpMeta:
    facts = {"op": "0", "name": "fc", "type": "FULLY_CONNECTED", "index": 0, "kernel": "GEMM", "delegate": "XNNPACK"}
    return OpMeta(**{**facts, **more}, resolution_us=resolution)  # type: ignore[arg-type]


def measured(name: str, us: float, resolution: float | None, kernel: str) -> MeasuredVariant:
    rounds = np.repeat(np.arange(8), 20)
    times = us + 0.01 * np.random.default_rng(len(name)).standard_normal(len(rounds))
    ops = [op(resolution, kernel=kernel)]
    return MeasuredVariant(name, ops, times + 1.0, rounds, times[:, None], times + 1.0, rounds)


def width(interval: Interval) -> float:
    assert interval.low is not None and interval.high is not None
    return interval.high - interval.low


def test_errors_of_one_clock_add_up_and_unknown_ones_count_nothing() -> None:
    assert resolution_us([op(0.03), None, op(None), op(0.5)]) == pytest.approx(0.53)
    assert widened(Interval(1.0, 0.9, 1.1, 0.95), 0.5) == Interval(1.0, pytest.approx(0.4), pytest.approx(1.6), 0.95)
    assert widened(Interval(1.0, None, None, 0.95), 0.5) == Interval(1.0, None, None, 0.95)


def test_rows_and_mechanisms_hold_what_both_clocks_cannot_tell() -> None:
    """0.3 µs apart: sure of a clock in nanoseconds, nothing of one in whole microseconds."""
    for resolution, is_sure in ((None, True), (0.03, True), (0.5, False)):
        a, b = measured("float32", 1.0, resolution, "F32"), measured("int8", 1.3, resolution, "QS8")
        match = OpMatch([(0, 0)], [], [])
        table = difference(a, b, match)
        rate = decompose(table, Sides(a, b, match), "inference", Settings()).row("rate")
        assert rate is not None
        for found in (table.rows[0].delta_us, rate.delta_us):
            assert found.value == pytest.approx(0.3, abs=0.02) and found.low is not None
            assert (found.low > 0.0) is is_sure
            assert width(found) > 2.0 * 2.0 * (resolution or 0.0)


def test_a_cost_that_may_be_an_error_of_the_clock_matters_nothing(tmp_path: Path) -> None:
    ops = [[PlantedOp("fc", "FULLY_CONNECTED", 300.0)], [PlantedOp("fc", "FULLY_CONNECTED", 330.0)]]
    variants = [PlantedVariant(name, each) for name, each in zip(("float32", "int8"), ops, strict=True)]
    comparison = Comparison(World(variants, Noise(0.002)).record(tmp_path / "run"), "float32", "int8", "inference")
    assert comparison.table is not None
    costs, rows = OpCosts(comparison), [row for row in comparison.table.rows if row.a and row.b]
    assert costs.matters(costs.difference(rows))
    coarse = [
        replace(row, a=replace(row.a, resolution_us=20.0), b=replace(row.b, resolution_us=20.0))
        for row in rows
        if row.a and row.b
    ]
    cost = costs.difference(coarse)
    assert cost.value == costs.difference(rows).value and not costs.matters(cost)
    # And a prediction from it is as unsure as that.
    assert costs.without(cost.value, cost, costs.b_us)[1] > 15.0 / costs.b_us
    assert costs.of_variant(coarse).interval().low == pytest.approx(310.0, abs=2.0)


@pytest.mark.parametrize(("resolution", "us", "is_told"), [(0.03, 0.2, True), (0.03, 0.1, False), (None, 1.9, False)])
def test_what_binds_an_op_is_not_told_of_a_time_that_its_clock_does_not_know(
    resolution: float | None, us: float, is_told: bool
) -> None:
    (row,) = roofline([op(resolution, macs=64)], [us], [])
    assert row.reason is not None and ("too short for the clock of XNNPACK" in row.reason) is not is_told

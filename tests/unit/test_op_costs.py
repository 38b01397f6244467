"""What sets of ops take, round by round, and the sections of variants that interventions make."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from planted.cases_speed import MOBILE, conv
from planted.litert_machine import Machine
from planted.world import Noise, PlantedOp, PlantedVariant, World
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.op_costs import WORKERS, OpCosts
from qprof.measure.profile import validate
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import changed
from qprof.runtimes.litert.interventions import LiteRTInterventions
from qprof.stats.intervals import Interval


def compared(world: World, folder: Path, variant: str) -> tuple[OpCosts, list[DifferenceRow]]:
    comparison = Comparison(world.record(folder), "float32", variant, "inference")
    assert comparison.table is not None
    return OpCosts(comparison), [row for row in comparison.table.rows if row.a or row.b]


def test_times_are_those_of_the_clean_latency(tmp_path: Path) -> None:
    costs, rows = compared(MOBILE.world("int8-dynamic"), tmp_path / "run", "int8-dynamic")
    left = [row for row in rows if row.label.startswith("dw")]
    assert costs.of_baseline(left).value == pytest.approx(150.0, rel=0.02)
    assert costs.of_variant(left).value == pytest.approx(900.0, rel=0.02)
    difference = costs.difference(left)
    interval = difference.interval()
    assert interval.low is not None and interval.high is not None and interval.low < 750.0 < interval.high
    assert costs.a_us == pytest.approx(1370.0, rel=0.02) and costs.b_us == pytest.approx(1820.0, rel=0.02)


def test_spoilt_inferences_and_rounds_do_not_carry_a_sum(tmp_path: Path) -> None:
    noise = Noise(0.02, spikes=0.1, spike_factor=20.0, by_round={3: 4.0})
    costs, rows = compared(MOBILE.world("int8-dynamic", noise=noise), tmp_path / "run", "int8-dynamic")
    assert costs.difference(rows).value == pytest.approx(450.0, rel=0.1)


def test_an_op_of_one_variant_alone_counts_for_that(tmp_path: Path) -> None:
    costs, rows = compared(Machine([conv()], 60.0).world("int8"), tmp_path / "run", "int8")
    inserted = [row for row in rows if row.a is None]
    assert len(inserted) == 2 and costs.of_baseline(inserted).value == 0.0
    assert costs.difference(inserted).value == costs.of_variant(inserted).value == pytest.approx(120.0, rel=0.02)


@pytest.mark.parametrize(("us", "matters"), [(300.0, False), (306.0, False), (330.0, True), (250.0, False)])
def test_what_matters(tmp_path: Path, us: float, matters: bool) -> None:
    ops = [[PlantedOp("conv", "CONV_2D", 300.0)], [PlantedOp("conv", "CONV_2D", us)]]
    variants = [PlantedVariant(name, each) for name, each in zip(("float32", "int8"), ops, strict=True)]
    costs, rows = compared(World(variants, Noise(0.002)), tmp_path / "run", "int8")
    assert costs.matters(costs.difference(rows)) is matters


def test_what_is_lost_in_noise_does_not_matter(tmp_path: Path) -> None:
    ops = [[PlantedOp("conv", "CONV_2D", 300.0)], [PlantedOp("conv", "CONV_2D", 330.0)]]
    variants = [PlantedVariant(name, each) for name, each in zip(("float32", "int8"), ops, strict=True)]
    costs, rows = compared(World(variants, Noise(0.3)), tmp_path / "run", "int8")
    cost = costs.difference(rows)
    assert cost.value > 0.05 * costs.b_us and not costs.matters(cost)


def test_what_a_cost_that_goes_away_leaves_and_how_exactly_that_is_known(tmp_path: Path) -> None:
    costs, _ = compared(MOBILE.world("int8-dynamic"), tmp_path / "run", "int8-dynamic")
    costs.unattributed_us = 0.0
    value, error = costs.without(100.0, Interval(100.0, 100.0, 100.0, 0.95), 200.0)
    assert value == pytest.approx(math.log(0.5)) and error == pytest.approx(WORKERS)
    half = 1.96 * 20.0
    _, error = costs.without(100.0, Interval(100.0, 100.0 - half, 100.0 + half, 0.95), 200.0)
    assert error == pytest.approx(math.hypot(20.0 / 100.0, WORKERS), rel=1e-3)
    costs.unattributed_us = 30.0
    _, error = costs.without(100.0, Interval(100.0, None, None, 0.95, "two rounds"), 200.0, 40.0)
    assert error == pytest.approx(math.hypot(50.0 / 100.0, WORKERS), rel=1e-3)


def test_a_cost_that_is_more_than_the_whole_leaves_a_little(tmp_path: Path) -> None:
    costs, _ = compared(MOBILE.world("int8-dynamic"), tmp_path / "run", "int8-dynamic")
    value, _ = costs.without(300.0, Interval(300.0, 290.0, 310.0, 0.95), 200.0)
    assert value == pytest.approx(math.log(0.02))


LITERT = LiteRTInterventions()
SECTION = {"name": "int8-dynamic", "method": "", "file": "", "skip_ops": ["ADD"], "skip_layers": []}


def op(name: str, op_type: str) -> OpMeta:
    return OpMeta(name, name, op_type, 0)


def test_a_changed_section_spells_its_method_out() -> None:
    expected = {**SECTION, "name": "int8-dynamic+x", "method": SECTION["name"], "threads": 2}
    assert changed(SECTION, "x", threads=2) == expected
    file = {**SECTION, "file": "/a.tflite"}
    assert LITERT.without_delegate(file) == {**file, "name": "int8-dynamic+no-delegate", "delegate": "none"}


def test_whole_types_and_single_ops_are_left_in_float() -> None:
    every = [op("a", "CONV_2D"), op("b", "CONV_2D"), op("c", "DEPTHWISE_CONV_2D"), op("d", "MUL")]
    assert LITERT.in_float(SECTION, [], every) == SECTION
    whole = LITERT.in_float(SECTION, [every[2]], every)
    assert (whole["skip_ops"], whole["skip_layers"]) == (["ADD", "DEPTHWISE_CONV_2D"], [])
    assert whole["name"] == "int8-dynamic+float:DEPTHWISE_CONV_2D"
    mixed = LITERT.in_float(SECTION, [every[0], every[2]], every)
    assert (mixed["skip_ops"], mixed["skip_layers"]) == (["ADD", "DEPTHWISE_CONV_2D"], ["a"])
    assert mixed["name"] != LITERT.in_float(SECTION, [every[1], every[2]], every)["name"]


def test_names_are_those_that_a_profile_takes() -> None:
    types = [op(f"op{number}", f"A_RATHER_LONG_OP_TYPE_{number}") for number in range(9)]
    made = [LITERT.in_float(SECTION, types[:count], types) for count in (8, 9)]
    assert made[0]["name"] != made[1]["name"]
    for section in made:
        validate({"name": "p", "model": {"path": "m.tflite"}, "variants": [section]}, source="test")

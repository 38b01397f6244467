"""The closing table: known differences land on their ops, and the rows add up whatever the data."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qprof.findings.difference_table import MeasuredVariant, change_flags, difference
from qprof.record.ops import OpMeta
from qprof.runtimes.match_ops import OpMatch


def op(name: str, op_type: str = "CONV_2D", **facts: str | None) -> OpMeta:
    return OpMeta(op=name, name=name, type=op_type, index=0, **facts)  # type: ignore[arg-type]


def measured(
    name: str,
    ops: list[OpMeta],
    op_us: list[float],
    outside_us: float,
    overhead_us: float,
    seed: int,
    rounds: int = 8,
    profiled_rounds: int = 8,
) -> MeasuredVariant:
    """A variant of known op times; the rounds disturb it by 3 %, the same for every variant, and noise by 1 %."""
    rng = np.random.default_rng(seed)
    disturbed = np.exp(np.random.default_rng(77).normal(0, 0.03, rounds))
    clean_round = np.repeat(np.arange(rounds), 50)
    profiled_round = np.repeat(np.arange(profiled_rounds), 20)
    noise = disturbed[profiled_round, None] * np.exp(rng.normal(0, 0.01, (len(profiled_round), len(op_us))))
    times = np.array(op_us) * noise
    total = sum(op_us) + outside_us
    return MeasuredVariant(
        name=name,
        ops=ops,
        clean_us=total * disturbed[clean_round] * np.exp(rng.normal(0, 0.01, len(clean_round))),
        clean_round=clean_round,
        op_us=times,
        profiled_us=times.sum(axis=1) + (outside_us + overhead_us) * disturbed[profiled_round],
        profiled_round=profiled_round,
    )


A_OPS = [
    op("conv1", delegate="XNNPACK", kernel="IGEMM F32"),
    op("dw", "DEPTHWISE_CONV_2D", delegate="XNNPACK"),
    op("pad", "PAD"),
]
B_OPS = [op("quant", "QUANTIZE"), op("conv1", delegate="XNNPACK", kernel="IGEMM QC8"), op("dw", "DEPTHWISE_CONV_2D")]
MATCH = OpMatch(pairs=[(0, 1), (1, 2)], removed=[2], inserted=[0], stages=["name", "name"])


@pytest.fixture(scope="module")
def table():
    a = measured("float32", A_OPS, [100.0, 50.0, 10.0], outside_us=5.0, overhead_us=2.0, seed=1)
    b = measured("int8", B_OPS, [8.0, 60.0, 200.0], outside_us=25.0, overhead_us=32.0, seed=2)
    return difference(a, b, MATCH, method="expanded")


def test_every_difference_lands_on_its_row(table):
    rows = {(row.kind, row.label): row for row in table.rows}
    expected = {
        ("matched", "conv1"): -40.0,
        ("matched", "dw"): 150.0,
        ("inserted", "quant"): 8.0,
        ("removed", "pad"): -10.0,
        ("outside ops", "outside the ops"): 50.0,  # 20 of its own, 30 of instrumentation
    }
    for key, delta in expected.items():
        found = rows[key].delta_us
        assert found.value == pytest.approx(delta, rel=0.06), key
        assert found.low < found.value < found.high and (found.low > 0) == (delta > 0), key
    rest = rows["instrumentation", "estimator and instrumentation"]
    assert rest.delta_us.low < rest.delta_us.value < rest.delta_us.high < 0.0
    assert rest.delta_us.value == pytest.approx(-30.0, abs=4.0) and rest.a_us == pytest.approx(-2.0, abs=2.5)
    assert len(rows) == len(expected) + 1


def test_top_line_is_the_p50_of_the_clean_blocks(table):
    end = table.end_to_end
    assert end.a.value == pytest.approx(165.0, rel=0.05) and end.b.value == pytest.approx(293.0, rel=0.05)
    assert end.difference.value == pytest.approx(end.a.value * math.expm1(end.log_ratio.value))
    assert end.difference.value == pytest.approx(end.b.value - end.a.value, rel=0.02)
    assert end.difference.low > 100.0 and end.rounds == 8 and table.profiled_rounds == 8
    assert table.verdict == "worse"


def test_the_total_is_what_the_rounds_show_and_not_what_pooled_medians_do():
    """B equals A in every round, but was measured longer in slow ones: its own p50 is far higher."""
    pace = np.array([1.0, 1.01, 0.99, 1.02, 0.98, 2.0, 2.01, 1.99])
    sides = []
    for name, inferences in (("a", [30] * 5 + [5] * 3), ("b", [5] * 5 + [30] * 3)):
        rounds = np.repeat(np.arange(8), inferences)
        times = 100.0 * pace[rounds]
        profiled_round = np.arange(8)
        sides.append(
            MeasuredVariant(
                name, [op("x")], times, rounds, 90.0 * pace[:, None], 100.0 * pace[profiled_round], profiled_round
            )
        )
    table = difference(*sides, OpMatch(pairs=[(0, 0)], removed=[], inserted=[], stages=["name"]))
    end = table.end_to_end
    assert end.b.value - end.a.value > 90.0
    assert end.difference.value == 0.0 and table.verdict == "equivalent"
    assert table.closing_error_us == pytest.approx(0.0, abs=1e-9)
    assert math.fsum(row.a_us or 0.0 for row in table.rows) == pytest.approx(end.a.value)
    assert math.fsum(row.b_us or 0.0 for row in table.rows) == pytest.approx(end.b.value)


def test_all_three_columns_close(table):
    assert table.closing_error_us == pytest.approx(0.0, abs=1e-9)
    assert math.fsum(row.a_us or 0.0 for row in table.rows) == pytest.approx(table.end_to_end.a.value, abs=1e-9)
    assert math.fsum(row.b_us or 0.0 for row in table.rows) == pytest.approx(table.end_to_end.b.value, abs=1e-9)


def test_a_missing_op_is_none_not_zero(table):
    inserted = next(row for row in table.rows if row.kind == "inserted")
    removed = next(row for row in table.rows if row.kind == "removed")
    assert inserted.a is None and inserted.a_us is None and inserted.b is B_OPS[0]
    assert removed.b is None and removed.b_us is None and removed.a is A_OPS[2]


def test_flags_and_kernels_travel_with_the_rows(table):
    rows = {row.label: row for row in table.rows}
    assert rows["conv1"].flags == ("kernel changed",) and rows["conv1"].stage == "name"
    assert (rows["conv1"].a.kernel, rows["conv1"].b.kernel) == ("IGEMM F32", "IGEMM QC8")
    assert rows["dw"].flags == ("left XNNPACK",)


def test_unattributed_is_what_no_op_explains(table):
    ops = math.fsum(row.delta_us.value for row in table.rows if row.kind in ("matched", "inserted", "removed"))
    assert table.unattributed_us.value == pytest.approx(table.end_to_end.difference.value - ops, abs=1e-9)
    split = table.row("outside ops").delta_us.value + table.row("instrumentation").delta_us.value
    assert table.unattributed_us.value == pytest.approx(split, abs=1e-12)
    assert table.unattributed_us.low < table.unattributed_us.value < table.unattributed_us.high


def test_groups_roll_the_op_rows_up(table):
    ops = math.fsum(row.delta_us.value for row in table.rows if row.a or row.b)
    for groups in (table.by_kind, table.by_type):
        assert math.fsum(group.delta_us.value for group in groups) == pytest.approx(ops, abs=1e-9)
        assert all(group.delta_us.low < group.delta_us.value < group.delta_us.high for group in groups)
        sizes = [abs(group.delta_us.value) for group in groups]
        assert sizes == sorted(sizes, reverse=True)
        assert sum(group.a_ops for group in groups) == 3 and sum(group.b_ops for group in groups) == 3
    matched = next(group for group in table.by_kind if group.label == "matched")
    assert (matched.a_ops, matched.b_ops) == (2, 2) and matched.delta_us.value == pytest.approx(110.0, rel=0.06)
    assert [group.label for group in table.by_type] == ["DEPTHWISE_CONV_2D", "CONV_2D", "PAD", "QUANTIZE"]
    pad = next(group for group in table.by_type if group.label == "PAD")
    assert (pad.a_ops, pad.b_ops, pad.b_us) == (1, 0, 0.0)


def test_intervals_of_rows_add_up_to_that_of_their_group_when_there_is_one_row(table):
    group = next(group for group in table.by_type if group.label == "PAD")
    row = next(row for row in table.rows if row.label == "pad")
    assert (group.delta_us.low, group.delta_us.high) == (row.delta_us.low, row.delta_us.high)


def test_a_run_that_was_cut_short_uses_the_rounds_that_hold_both():
    a = measured("a", A_OPS, [100.0, 50.0, 10.0], 5.0, 2.0, seed=1, rounds=8, profiled_rounds=6)
    b = measured("b", B_OPS, [8.0, 60.0, 200.0], 25.0, 2.0, seed=2, rounds=7, profiled_rounds=5)
    table = difference(a, b, MATCH)
    assert table.end_to_end.rounds == 7 and table.end_to_end.left_out == (7,) and table.profiled_rounds == 5
    assert table.closing_error_us == pytest.approx(0.0, abs=1e-9)
    assert table.row("instrumentation").delta_us.low is not None


def test_one_profiled_round_gives_op_values_without_bounds():
    a = measured("a", A_OPS, [100.0, 50.0, 10.0], 5.0, 2.0, seed=1, profiled_rounds=1)
    b = measured("b", B_OPS, [8.0, 60.0, 200.0], 25.0, 2.0, seed=2, profiled_rounds=1)
    table = difference(a, b, MATCH)
    assert all(row.delta_us.low is None and row.delta_us.reason for row in table.rows)
    assert table.end_to_end.difference.low is not None and table.unattributed_us.low is None


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**16), rounds=st.integers(1, 4))
def test_it_closes_for_any_data_and_any_match(data, seed, rounds):
    k_a, k_b = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))
    paired = data.draw(st.integers(0, min(k_a, k_b)))
    rng = np.random.default_rng(seed)
    order_a, order_b = rng.permutation(k_a).tolist(), rng.permutation(k_b).tolist()
    match = OpMatch(
        pairs=list(zip(order_a[:paired], order_b[:paired], strict=True)),
        removed=order_a[paired:],
        inserted=order_b[paired:],
    )

    def side(name: str, count: int) -> MeasuredVariant:
        scale = 10.0 ** rng.uniform(-2, 6)
        rows = rng.integers(rounds, 40)
        return MeasuredVariant(
            name=name,
            ops=[op(f"{name}{k}", rng.choice(["CONV_2D", "ADD"])) for k in range(count)],
            clean_us=scale * rng.lognormal(0, 1, 30),
            clean_round=np.arange(30) % rounds,
            op_us=scale * rng.lognormal(0, 2, (rows, count)),
            profiled_us=scale * rng.lognormal(0, 2, rows),
            profiled_round=np.arange(rows) % rounds,
        )

    a, b = side("a", k_a), side("b", k_b)
    table = difference(a, b, match, resamples=20)
    largest = max(abs(row.delta_us.value) for row in table.rows) + table.end_to_end.a.value + table.end_to_end.b.value
    assert abs(table.closing_error_us) <= 1e-12 * largest * len(table.rows)
    for side_us, column in ((table.end_to_end.a.value, "a_us"), (table.end_to_end.b.value, "b_us")):
        cells = [getattr(row, column) or 0.0 for row in table.rows]
        assert math.fsum(cells) == pytest.approx(side_us, abs=1e-12 * sum(map(abs, cells)) + 1e-12)


@pytest.mark.parametrize(
    ("a", "b", "flags"),
    [
        (op("x", delegate="XNNPACK"), op("x"), ("left XNNPACK",)),
        (op("x"), op("x", delegate="XNNPACK"), ("entered XNNPACK",)),
        (op("x", delegate="XNNPACK"), op("x", delegate="GPU"), ("left XNNPACK", "entered GPU")),
        (op("x", kernel="f32"), op("x", kernel="qs8"), ("kernel changed",)),
        (op("x", kernel="f32"), op("x", kernel=None), ()),
        (op("x", kernel="f32", delegate="XNNPACK"), op("x", kernel="hybrid"), ("left XNNPACK",)),
        (op("x", "AVERAGE_POOL_2D"), op("x", "MEAN"), ("type changed",)),
        (op("x", kernel="f32"), op("x", kernel="f32"), ()),
    ],
)
def test_flags(a, b, flags):
    assert change_flags(a, b) == flags


def test_bad_input_is_refused():
    a = measured("a", A_OPS, [100.0, 50.0, 10.0], 5.0, 2.0, seed=1)
    b = measured("b", B_OPS, [8.0, 60.0, 200.0], 25.0, 2.0, seed=2)
    with pytest.raises(ValueError, match="exactly once"):
        difference(a, b, OpMatch(pairs=[(0, 1)], removed=[2], inserted=[0]))
    with pytest.raises(ValueError, match=r"a: op_us has shape \(160, 2\) for 3 ops"):
        difference(replace(a, op_us=a.op_us[:, :2]), b, MATCH)
    with pytest.raises(ValueError, match="b: op_us, profiled_us and profiled_round"):
        difference(a, replace(b, profiled_us=b.profiled_us[:-1]), MATCH)
    with pytest.raises(ValueError, match="no round holds profiled"):
        difference(a, replace(b, profiled_round=b.profiled_round + 100), MATCH)
    with pytest.raises(ValueError, match="no round holds values"):
        difference(a, replace(b, clean_round=b.clean_round + 100), MATCH)
    with pytest.raises(ValueError, match="not finite"):
        difference(replace(a, op_us=a.op_us * np.nan), b, MATCH)

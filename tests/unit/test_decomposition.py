"""Every microsecond of a difference lands in one row: planted mechanisms in theirs, and the rows add up whatever."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qprof.findings.decomposition import (
    Decomposition,
    Settings,
    Sides,
    decompose,
    elements,
    with_outside,
    work_factor,
)
from qprof.findings.difference_table import MeasuredVariant, difference
from qprof.findings.sentences import with_sentences
from qprof.record.ops import OpMeta
from qprof.runtimes.match_ops import OpMatch
from qprof.stats.intervals import Interval

F32, I8 = "float32[1,8,8,16]", "int8[1,8,8,16]"
INSIDE = {"delegate": "XNNPACK"}


def op(name: str, op_type: str = "CONV_2D", **facts: object) -> OpMeta:
    return OpMeta(op=name, name=name, type=op_type, index=0, **{"inputs": (F32,), "outputs": (F32,), **facts})  # type: ignore[arg-type]


def measured(
    name: str, ops: list[OpMeta], op_us: list[float], seed: int, outside_us: float = 5.0, rounds: int = 8
) -> MeasuredVariant:
    """Known op times; the rounds disturb all variants alike by 3 %, and every inference by 1 %."""
    rng = np.random.default_rng(seed)
    disturbed = np.exp(np.random.default_rng(77).normal(0, 0.03, rounds))
    index = np.repeat(np.arange(rounds), 20)
    times = np.array(op_us) * disturbed[index, None] * np.exp(rng.normal(0, 0.01, (len(index), len(op_us))))
    total = sum(op_us) + outside_us
    return MeasuredVariant(
        name=name,
        ops=ops,
        clean_us=total * disturbed[index] * np.exp(rng.normal(0, 0.01, len(index))),
        clean_round=index,
        op_us=times,
        profiled_us=times.sum(axis=1) + outside_us * disturbed[index],
        profiled_round=index,
    )


def decomposed(
    a: list[tuple[OpMeta, float]],
    b: list[tuple[OpMeta, float]],
    match: OpMatch,
    reset: tuple[list[float], list[float]] | None = None,
    changed: Settings = Settings(),  # noqa: B008
) -> Decomposition:
    first, second = (
        measured(name, [one for one, _ in side], [us for _, us in side], seed)
        for name, side, seed in (("float32", a, 1), ("int8", b, 2))
    )
    resets = [None, None]
    if reset is not None:
        resets = [measured(v.name, list(v.ops), us, 5 + i) for i, (v, us) in enumerate(zip((first, second), reset))]  # noqa: B905
    sides = Sides(first, second, match, resets[0], resets[1], "vector registers" if reset else "")
    table = difference(first, second, match, method="expanded")
    return with_sentences(decompose(table, sides, "inference", changed), changed, same_file=False)


def rows(found: Decomposition) -> dict[str, float]:
    return {row.mechanism: row.delta_us.value for row in found.rows}


def pairs(count: int) -> OpMatch:
    return OpMatch(pairs=[(i, i) for i in range(count)], removed=[], inserted=[], stages=["name"] * count)


def test_one_mechanism_each() -> None:
    a = [
        (op("rate", kernel="F32", macs=1000, **INSIDE), 400.0),
        (op("left", "DEPTHWISE_CONV_2D", kernel="F32", **INSIDE), 100.0),
        (op("wider", kernel="F32", macs=1000, **INSIDE), 200.0),
        (op("same", "ADD", kernel="Add (ND)", **INSIDE), 50.0),
        (op("gone", "PAD"), 30.0),
    ]
    b = [
        (op("quant", "QUANTIZE", outputs=(I8,)), 20.0),
        (op("rate", kernel="QC8", macs=1000, **INSIDE), 200.0),
        (op("left", "DEPTHWISE_CONV_2D", kernel="builtin"), 300.0),
        (op("wider", kernel="F32", macs=4000, outputs=("float32[1,8,8,64]",), **INSIDE), 800.0),
        (op("same", "ADD", kernel="Add (ND)", **INSIDE), 75.0),
        (op("mod", "FLOOR_MOD"), 90.0),
    ]
    match = OpMatch(pairs=[(0, 1), (1, 2), (2, 3), (3, 4)], removed=[4], inserted=[0, 5], stages=["name"] * 4)
    found = decomposed(a, b, match)
    assert found.closing_error_us == pytest.approx(0.0, abs=1e-9)
    # At four times the work in four times the time, nothing is left for the rate of "wider".
    wanted = {"rate": -200.0, "placement": 200.0, "conversions": 20.0, "neighbourhood": 25.0, "work": 660.0}
    for mechanism, us in wanted.items():
        row = found.row(mechanism)  # type: ignore[arg-type]
        assert row is not None and row.delta_us.value == pytest.approx(us, rel=0.06, abs=4.0), mechanism
        assert row.delta_us.low < us < row.delta_us.high or row.delta_us.value == pytest.approx(us, rel=0.05)
    sentences = {row.mechanism: row.sentence for row in found.rows}
    assert sentences["rate"].startswith("2 CONV_2D do their multiplications at 1.5 times the rate (0.0033")
    assert sentences["placement"] == "1 DEPTHWISE_CONV_2D runs outside XNNPACK, in kernels of the interpreter's own"
    assert sentences["conversions"] == "1 QUANTIZE is inserted, which only changes the number format"
    assert sentences["work"] == "1 FLOOR_MOD is inserted and 1 PAD is gone and 1 CONV_2D does 4 times the work"
    assert "in the same kernels on the same shapes" in sentences["neighbourhood"]
    assert found.share_explained is not None and found.share_explained > 0.9


def test_work_and_rate_part_by_the_logarithmic_mean() -> None:
    """Twice the work at twice the rate: no difference, and yet two rows that cancel."""
    a = [(op("conv", kernel="F32", macs=1000), 100.0)]
    b = [(op("conv", kernel="QC8", macs=2000), 100.0)]
    found = rows(decomposed(a, b, pairs(1)))
    assert found["work"] == pytest.approx(100.0 * math.log(2.0), rel=0.03)
    assert found["rate"] == pytest.approx(-100.0 * math.log(2.0), rel=0.03)
    b = [(op("conv", kernel="QC8", macs=2000), 400.0)]
    mean = 300.0 / math.log(4.0)
    found = rows(decomposed(a, b, pairs(1)))
    assert found["work"] == pytest.approx(mean * math.log(2.0), rel=0.05)
    assert found["rate"] == pytest.approx(mean * math.log(2.0), rel=0.05)


def test_what_a_reset_takes_off_an_op_is_its_neighbourhoods_and_no_other_mechanisms() -> None:
    a = [(op("dw", "DEPTHWISE_CONV_2D", kernel="F32", **INSIDE), 100.0), (op("conv", kernel="F32", **INSIDE), 300.0)]
    b = [(op("dw", "DEPTHWISE_CONV_2D", kernel="builtin hybrid"), 900.0), (op("conv", kernel="QDU8", **INSIDE), 400.0)]
    without = rows(decomposed(a, b, pairs(2)))
    assert without["placement"] == pytest.approx(800.0, rel=0.05) and "neighbourhood" not in without
    found = decomposed(a, b, pairs(2), reset=([100.0, 300.0], [300.0, 400.0]))
    assert rows(found)["neighbourhood"] == pytest.approx(600.0, rel=0.05)
    assert rows(found)["placement"] == pytest.approx(200.0, rel=0.08)
    assert rows(found)["rate"] == pytest.approx(100.0, rel=0.15)
    assert found.closing_error_us == pytest.approx(0.0, abs=1e-9) and found.resets == "vector registers"
    (debt,) = found.row("neighbourhood").ops  # type: ignore[union-attr]
    assert debt.name == "dw" and debt.by == "vector registers"
    assert "for vector registers that the ops before them leave in use" in found.row("neighbourhood").sentence  # type: ignore[union-attr]


def test_a_debt_of_the_baseline_makes_the_variant_faster() -> None:
    a = [(op("dw", "DEPTHWISE_CONV_2D", kernel="builtin hybrid"), 900.0)]
    b = [(op("dw", "DEPTHWISE_CONV_2D", kernel="builtin"), 300.0)]
    found = rows(decomposed(a, b, pairs(1), reset=([310.0], [300.0])))
    assert found["neighbourhood"] == pytest.approx(-590.0, rel=0.05) and abs(found["rate"]) < 30.0


def test_resets_that_change_nothing_leave_no_row() -> None:
    a = [(op(f"conv{i}", kernel="F32"), 100.0) for i in range(30)]
    b = [(op(f"conv{i}", kernel="QC8"), 60.0) for i in range(30)]
    found = decomposed(a, b, pairs(30), reset=([100.0] * 30, [60.0] * 30))
    row = found.row("neighbourhood")
    assert row is None or abs(row.delta_us.value) < 3.0
    assert rows(found)["rate"] == pytest.approx(-1200.0, rel=0.03)


def test_other_settings_take_what_would_be_rate_or_placement() -> None:
    a = [(op("conv", kernel="F32", **INSIDE), 400.0), (op("dw", kernel="F32", **INSIDE), 100.0)]
    b = [(op("conv", kernel="F32", **INSIDE), 210.0), (op("dw", kernel="builtin"), 70.0)]
    found = decomposed(a, b, pairs(2), changed=Settings((("threads", "1", "2"),)))
    assert rows(found)["settings"] == pytest.approx(-220.0, rel=0.05)
    assert not {"rate", "placement"} & set(rows(found))
    sentence = found.row("settings").sentence  # type: ignore[union-attr]
    assert "threads 2 instead of 1" in sentence and "only a run that changes one of the two" in sentence


def test_what_the_host_took_is_taken_off_what_is_unattributed() -> None:
    found = decomposed([(op("conv"), 100.0)], [(op("conv", kernel="x"), 200.0)], pairs(1))
    taken = with_outside(found, Interval(30.0, 20.0, 40.0, 0.95))
    assert taken.closing_error_us == pytest.approx(0.0, abs=1e-9)
    assert rows(taken)["outside"] == 30.0
    assert rows(taken)["unattributed"] == pytest.approx(rows(found)["unattributed"] - 30.0)
    assert [row.mechanism for row in taken.rows][-1] == "unattributed"


def test_no_share_is_told_of_a_difference_that_is_none() -> None:
    same = [(op("conv", kernel="F32"), 100.0)]
    assert decomposed(same, same, pairs(1)).share_explained is None


@pytest.mark.parametrize(
    ("a", "b", "factor"),
    [
        (op("x", macs=10), op("x", macs=40), 4.0),
        (op("x", macs=10, outputs=("float32[8]",)), op("x", macs=10, outputs=("int8[8]",)), 1.0),
        (op("x", macs=0, outputs=("float32[2,3]",)), op("x", macs=0, outputs=("int8[2,6]",)), 2.0),
        (op("x", outputs=("float32[2,3]",)), op("x", outputs=()), None),
        (op("x", outputs=("float32",)), op("x", outputs=("float32[3]",)), None),
    ],
)
def test_work_is_counted_in_products_and_else_in_numbers_whatever_their_format(
    a: OpMeta, b: OpMeta, factor: float | None
) -> None:
    assert work_factor(a, b) == factor


def test_shapes_are_read_from_their_texts() -> None:
    assert elements(("float32[1,8,8,16]", "int8[2]")) == 1026
    assert elements(("float32[]",)) == 1
    assert elements(("float32[?]",)) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_add_up_and_every_op_is_whole(data: st.DataObject) -> None:
    """Of any two graphs: the rows close on the difference, and the parts of an op on its own."""
    types = ("CONV_2D", "QUANTIZE", "ADD", "FLOOR_MOD")

    def side(label: str) -> list[tuple[OpMeta, float]]:
        made = []
        for i in range(data.draw(st.integers(1, 5), label=label)):
            facts = {
                "kernel": data.draw(st.sampled_from([None, "k1", "k2"])),
                "delegate": data.draw(st.sampled_from([None, "XNNPACK"])),
                "macs": data.draw(st.sampled_from([None, 0, 100, 400])),
                "outputs": (data.draw(st.sampled_from([F32, I8, "float32[4]"])),),
            }
            made.append((op(f"{label}{i}", data.draw(st.sampled_from(types)), **facts), data.draw(st.floats(0.5, 900))))
        return made

    a, b = side("a"), side("b")
    count = data.draw(st.integers(0, min(len(a), len(b))))
    match = OpMatch(
        pairs=[(i, i) for i in range(count)],
        removed=list(range(count, len(a))),
        inserted=list(range(count, len(b))),
        stages=["name"] * count,
    )
    reset = None
    if data.draw(st.booleans()):
        reset = tuple([us * data.draw(st.floats(0.2, 1.2)) for _, us in one] for one in (a, b))
    changed = data.draw(st.sampled_from([Settings(), Settings((("threads", "1", "2"),))]))
    found = decomposed(a, b, match, reset, changed)  # type: ignore[arg-type]
    scale = max(abs(row.delta_us.value) for row in found.rows) + 1.0
    assert abs(found.closing_error_us) < 1e-9 * scale
    mechanisms = [row.mechanism for row in found.rows]
    assert len(set(mechanisms)) == len(mechanisms)
    first, second = (
        measured(name, [one for one, _ in ops], [us for _, us in ops], seed)
        for name, ops, seed in (("float32", a, 1), ("int8", b, 2))
    )
    table = difference(first, second, match, method="expanded")
    by_op: dict[str, float] = defaultdict(float)
    for row in found.rows:
        assert math.fsum(part.delta_us for part in row.ops) == pytest.approx(row.delta_us.value) or not row.ops
        for part in row.ops:
            by_op[part.name] += part.delta_us
    for line in table.rows:
        if line.kind in ("matched", "inserted", "removed"):
            assert by_op[line.label] == pytest.approx(line.delta_us.value, abs=1e-6 * scale)
    assert replace(found, rows=found.rows[:-1]).closing_error_us == pytest.approx(found.rows[-1].delta_us.value)

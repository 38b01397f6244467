"""What conversions around ops that are left in float take, by who hands what to whom."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from qprof.findings.conversions import around_in_float
from qprof.findings.op_costs import SURROUNDINGS
from qprof.record.ops import OpMeta
from qprof.stats.intervals import Interval

#: stem -> left -> add -> head, and stem -> add: 1000 numbers each but for the head's 100.
SIDES = {
    "0": ([], ["1", "2"]),
    "1": (["0"], ["2"]),
    "2": (["0", "1"], ["3"]),
    "3": (["2"], []),
}
NAMES = ("stem", "left", "add", "head")
NUMBERS = (1000, 1000, 1000, 100)
#: Microseconds per number of the border's conversions, with their standard errors.
INTO, BACK, ERROR = 0.01, 0.03, 0.002


def op(index: int, quantization: str | None = None) -> OpMeta:
    outputs = (f"float32[1,{NUMBERS[index]}]",)
    return OpMeta(str(index), NAMES[index], "CONV_2D", index, outputs=outputs, quantization=quantization)


def row(a: OpMeta | None, b: OpMeta) -> Any:
    return SimpleNamespace(a=a, b=b)


def conversion(kind: str) -> Any:
    return row(None, OpMeta(kind, kind, kind, 9, outputs=("int8[1,500]",)))


def around(chosen: list[int], in_float: tuple[int, ...] = (), sides: Any = SIDES, known: Any = None) -> Any:
    rows = [row(op(n), op(n, None if n in in_float else "int8")) for n in range(4)]
    border = [conversion(kind) for kind in (("QUANTIZE", "DEQUANTIZE") if known is None else known)]
    comparison: Any = SimpleNamespace(
        table=SimpleNamespace(rows=[*rows, *border]),
        a="baseline",
        baseline="float32",
        ops=lambda name: [op(n) for n in range(4)],
        interventions=SimpleNamespace(by_side=lambda entry: sides),
    )

    def of_variant(found: Any) -> Any:
        us = 500.0 * (INTO if found[0].b.type == "QUANTIZE" else BACK)
        half = 1.959964 * 500.0 * ERROR
        return SimpleNamespace(interval=lambda: Interval(us, us - half, us + half, 0.95))

    costs: Any = SimpleNamespace(of_variant=of_variant)
    return around_in_float(comparison, costs, [rows[n] for n in chosen])


@pytest.mark.parametrize(
    ("chosen", "read", "handed"),
    [
        ([1], 1000, 1000),  # from the stem, and to the sum
        ([0], 0, 1000),  # the model's input is float as it is
        ([3], 1000, 0),
        ([1, 2], 1000, 1000),  # nothing between the two, and the stem's output once
        ([0, 1, 2, 3], 0, 0),
    ],
)
def test_a_tensor_that_passes_between_float_and_integers_is_converted_once(
    chosen: list[int], read: int, handed: int
) -> None:
    value, error = around(chosen)
    assert value == pytest.approx(BACK * read + INTO * handed)
    assert error == pytest.approx(math.hypot(ERROR * read, ERROR * handed, SURROUNDINGS * value), rel=1e-4)


def test_what_is_in_float_anyway_needs_no_conversion() -> None:
    assert around([1], in_float=(0,))[0] == pytest.approx(INTO * 1000)
    assert around([1], in_float=(0, 2))[0] == 0.0


def test_without_the_graph_it_lies_between_none_and_all() -> None:
    value, error = around([1, 3], sides={})
    most = (INTO + BACK) * 1100
    assert value == pytest.approx(most / 2.0)
    assert error == pytest.approx(math.hypot(most / math.sqrt(12.0), ERROR * math.sqrt(2.0) * 1100), rel=1e-4)


def test_one_kind_of_conversion_tells_of_the_other_and_none_of_nothing() -> None:
    assert around([1], known=["DEQUANTIZE"])[0] == pytest.approx(2 * BACK * 1000)
    assert around([1], known=[]) is None

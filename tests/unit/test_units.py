"""Figures as text, with known answers."""

# ruff: noqa: RUF001 - the dash of a missing figure

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qprof.report import units


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0 µs"),
        (0.1234, "0.123 µs"),
        (12.345, "12.3 µs"),
        (999.4, "999 µs"),
        (999.7, "1.00 ms"),
        (4560.0, "4.56 ms"),
        (1.234e6, "1.23 s"),
        (4.5e9, "4500 s"),
        (-1500.0, "-1.50 ms"),
    ],
)
def test_duration(us: float | None, text: str) -> None:
    assert units.duration(us) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "–"), (0, "0 B"), (512, "512 B"), (1000, "1.00 kB"), (4185003, "4.19 MB"), (2.5e9, "2.50 GB")],
)
def test_size_is_decimal(count: float | None, text: str) -> None:
    assert units.size(count) == text


def test_single_figures() -> None:
    assert units.macs(300_774_272) == "301 M"
    assert units.macs(3.4e9) == "3.40 G"
    assert units.macs(17) == "17"
    assert units.energy(0.83) == "830 µJ"
    assert units.energy(4100.0) == "4.10 J"
    assert units.flops(1.234e10) == "12.3 GFLOP/s"
    assert units.flops(5e6) == "0.00500 GFLOP/s"
    assert units.duration(1e-300) == "<0.000000001 µs"
    assert units.flops(None) == "–"


@pytest.mark.parametrize(
    ("fraction", "signed", "text"),
    [
        (None, False, "–"),
        (0.1234, False, "12.3 %"),
        (0.1234, True, "+12.3 %"),
        (-0.05, True, "-5.0 %"),
        (0.0, True, "0.0 %"),
        (-0.0, True, "0.0 %"),
        (0.0001, True, "<0.1 %"),
        (-0.0001, True, ">-0.1 %"),
    ],
)
def test_percent(fraction: float | None, signed: bool, text: str) -> None:
    assert units.percent(fraction, signed=signed) == text


def test_a_column_has_one_unit_and_one_number_of_decimals() -> None:
    assert units.scaled_column([1230.0, 450_000.0, None, 98_000.0], "duration_us") == (
        "ms",
        ["1.2", "450.0", None, "98.0"],
    )


def test_the_smallest_figure_of_a_column_is_not_shown_as_zero() -> None:
    assert units.scaled_column([0.02, 0.0, 5000.0, 6000.0, -0.1], "duration_us") == (
        "ms",
        ["<0.001", "0.000", "5.000", "6.000", ">-0.001"],
    )


def test_columns_of_whole_numbers_have_no_decimals() -> None:
    assert units.scaled_column([3, 17, 999], "count") == ("", ["3", "17", "999"])
    assert units.scaled_column([12, 400], "bytes") == ("B", ["12", "400"])
    assert units.scaled_column([4_185_003, 1_000_000], "bytes") == ("MB", ["4.19", "1.00"])


def test_a_column_without_figures() -> None:
    assert units.scaled_column([None, math.nan], "duration_us") == ("µs", [None, None])
    assert units.scaled_column([], "bytes") == ("B", [])
    assert units.scaled_column([0.0], "energy_mj") == ("µJ", ["0"])


@given(st.lists(st.none() | st.floats(0.0, 1e12, allow_subnormal=False), max_size=8))
def test_a_column_shows_no_figure_that_was_not_measured_and_no_zero_that_is_none(values: list[float | None]) -> None:
    _, texts = units.scaled_column(values, "duration_us")
    for value, text in zip(values, texts, strict=True):
        if value is None:
            assert text is None
        else:
            assert text is not None
            assert (not text.strip("0.")) == (value == 0)


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ((12.3456, 12.2, 12.5), "12.35 [12.20, 12.50] ms"),
        ((12.3456, 12.34, 12.35), "12.3456 [12.3400, 12.3500] ms"),
        ((12.3456, 2.0, 40.0), "12.3 [2.0, 40.0] ms"),
        ((1234.56, 1100.0, 1350.0), "1235 [1100, 1350] ms"),
        ((0.0, -0.5, 0.5), "0.00 [-0.50, 0.50] ms"),
        ((5.0, 5.0, 5.0), "5.00 [5.00, 5.00] ms"),
        ((5.0, None, 6.0), "5.00 ms"),
        ((5.0, math.nan, 6.0), "5.00 ms"),
        ((None, 1.0, 2.0), "–"),
        ((-0.322, -0.330, -0.314), "-0.3220 [-0.3300, -0.3140] ms"),
    ],
)
def test_an_interval_sets_the_digits(figures: units.Interval, text: str) -> None:
    assert units.interval(*figures, unit="ms") == text


def test_an_interval_upside_down_is_an_error() -> None:
    with pytest.raises(ValueError, match="low 2"):
        units.interval(1.0, 2.0, 1.0)


def test_a_column_of_intervals_has_one_unit() -> None:
    values: list[units.Interval] = [(1500.0, 1400.0, 1600.0), (None, None, None), (90.0, 80.0, 95.0), (2e3, None, None)]
    assert units.scaled_intervals(values, "duration_us") == (
        "ms",
        ["1.50 [1.40, 1.60]", None, "0.0900 [0.0800, 0.0950]", "2.00"],
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (-3.0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200.0, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (3900.0, "1 h 05 min"),
        (math.inf, "?"),
    ],
)
def test_span(seconds: float | None, text: str) -> None:
    assert units.span(seconds) == text

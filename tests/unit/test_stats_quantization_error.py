"""The error of quantized values: known answers, and the same whatever the pieces they come in."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from qprof.stats.quantization_error import ErrorFigures, QuantizationError


def of(reference: object, value: object, saturated: int | None = None) -> ErrorFigures:
    collected = QuantizationError()
    collected.add(np.asarray(reference), np.asarray(value), saturated)
    figures = collected.figures()
    assert figures is not None
    return figures


def test_figures_worked_out_by_hand() -> None:
    figures = of([3.0, -4.0, 0.0], [3.0, -3.0, 0.0], saturated=1)
    assert figures.sqnr_db == pytest.approx(10 * math.log10(25))
    assert figures.cosine == pytest.approx(21 / (5 * math.sqrt(18)))
    assert figures.max_error == 1.0
    assert figures.max_error_of_range == pytest.approx(1 / 7)
    assert figures.saturated_share == pytest.approx(1 / 3)
    assert (figures.count, figures.nonfinite, figures.identical) == (3, 0, False)


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_uniform_numbers_rounded_to_steps_have_the_analytic_ratio(bits: int) -> None:
    values = np.random.default_rng(1).uniform(-1, 1, 1_000_000).astype(np.float32)
    step = 2 / (2**bits - 1)
    # Signal 1/3, noise step^2/12 (Bennett, "Spectra of quantized signals", BSTJ 27(3), 1948).
    analytic = 10 * math.log10((1 / 3) / (step**2 / 12))
    assert of(values, np.rint(values / step) * step).sqnr_db == pytest.approx(analytic, abs=0.1)


def test_equal_numbers_have_no_ratio_but_are_identical() -> None:
    figures = of([1.0, 2.0], [1.0, 2.0])
    assert figures.sqnr_db is None and figures.identical
    assert figures.cosine == pytest.approx(1.0)
    assert (figures.max_error, figures.max_error_of_range) == (0.0, 0.0)
    assert figures.saturated_share is None


def test_no_signal_has_no_ratio_and_is_not_identical() -> None:
    figures = of(np.zeros(3), np.ones(3))
    assert (figures.sqnr_db, figures.cosine, figures.max_error_of_range) == (None, None, None)
    assert figures.max_error == 1.0 and not figures.identical


def test_numbers_that_are_not_finite_are_counted_and_left_out() -> None:
    figures = of([1.0, np.nan, 5.0, np.inf], [2.0, 1.0, np.inf, np.inf])
    assert (figures.count, figures.nonfinite) == (1, 3)
    assert figures.sqnr_db == pytest.approx(0.0)
    none_left = of([np.inf, np.nan], [np.inf, np.nan])
    assert none_left.identical and none_left.sqnr_db is None and none_left.max_error is None
    json.dumps([asdict(figures), asdict(none_left)], allow_nan=False)


def test_pieces_give_what_the_whole_gives() -> None:
    generator = np.random.default_rng(2)
    reference = generator.normal(size=700_001).astype(np.float32)
    value = reference + generator.normal(scale=0.01, size=reference.size).astype(np.float32)
    pieces = QuantizationError()
    for begin, end in ((0, 10), (10, 400_000), (400_000, reference.size)):
        pieces.add(reference[begin:end], value[begin:end], saturated=2)
    found, whole = pieces.figures(), of(reference, value, saturated=6)
    assert found is not None and asdict(found) == pytest.approx(asdict(whole), rel=1e-12)
    assert whole.sqnr_db == pytest.approx(40, abs=0.1)


def test_large_numbers_lose_nothing_to_the_sum() -> None:
    reference = np.full(1_000_000, 1e4, np.float32)
    assert of(reference, reference + np.float32(1)).sqnr_db == pytest.approx(80, abs=1e-6)


def test_one_array_without_ends_leaves_the_saturated_share_unknown() -> None:
    collected = QuantizationError()
    collected.add(np.ones(2), np.ones(2), 1)
    collected.add(np.ones(2), np.ones(2))
    figures = collected.figures()
    assert figures is not None and figures.saturated_share is None


def test_nothing_collected_is_nothing_known() -> None:
    assert QuantizationError().figures() is None
    with pytest.raises(ValueError, match="3 values for 2"):
        QuantizationError().add(np.ones(2), np.ones(3))

"""Real values to stored ones and back, at the edges of every type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qprof.errors import DataError
from qprof.record.quantization import QUANTIZED_DTYPES, dequantize, is_quantized, quantize, real_range
from qprof.record.tensors import TensorSpec


def spec(dtype: str, scale: float | None = None, zero_point: int | None = None) -> TensorSpec:
    return TensorSpec("x", (1, 4), dtype, scale, zero_point)


def test_halves_round_to_even_and_ends_saturate() -> None:
    values = np.array([0.25, 0.75, 1.25, -0.25, -0.75, 1e9, -1e9, np.inf, -np.inf], dtype=np.float32)
    stored = quantize(values, spec("int8", 0.5, 3))
    assert stored.dtype == np.int8
    assert stored.tolist() == [3, 5, 5, 3, 1, 127, -128, 127, -128]


@pytest.mark.parametrize(("dtype", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255), ("int16", -32768, 32767)])
def test_the_real_range_maps_onto_the_ends_of_the_type(dtype: str, low: int, high: int) -> None:
    tensor = spec(dtype, 0.0078125, 7)
    floor, ceiling = real_range(tensor)
    assert quantize(np.array([floor, ceiling], dtype=np.float32), tensor).tolist() == [low, high]


@given(st.sampled_from(QUANTIZED_DTYPES), st.floats(1e-4, 10), st.integers(-100, 100), st.integers(0, 2**32 - 1))
def test_stored_values_survive_the_way_to_reals_and_back(dtype: str, scale: float, zero_point: int, seed: int) -> None:
    limits = np.iinfo(dtype)
    tensor = spec(dtype, scale, zero_point)
    stored = np.random.default_rng(seed).integers(limits.min, limits.max, size=50, endpoint=True).astype(dtype)
    assert np.array_equal(quantize(dequantize(stored, tensor), tensor), stored)


def test_floats_pass_through_and_cast() -> None:
    values = np.array([0.1, -3.5], dtype=np.float32)
    assert quantize(values, spec("float32")).tolist() == values.tolist()
    assert quantize(values, spec("float16")).dtype == np.float16
    assert dequantize(values.astype(np.float16), spec("float16")).dtype == np.float32


def test_an_unquantized_integer_is_cast_and_not_scaled_on_the_way_out() -> None:
    assert not is_quantized(spec("int32"))
    assert dequantize(np.array([3, -4], dtype=np.int32), spec("int32")).tolist() == [3.0, -4.0]


def test_dequantizing_does_not_wrap_around_in_the_narrow_type() -> None:
    assert dequantize(np.array([-128], dtype=np.int8), spec("int8", 1.0, 127)).tolist() == [-255.0]


def test_nan_and_missing_parameters_are_refused() -> None:
    with pytest.raises(DataError, match="NaN"):
        quantize(np.array([np.nan], dtype=np.float32), spec("int8", 1.0, 0))
    with pytest.raises(DataError, match="without quantization"):
        quantize(np.zeros(1, dtype=np.float32), spec("int8"))
    with pytest.raises(DataError, match="no quantization"):
        real_range(spec("float32"))

"""Affine quantization of a tensor's values at the border of a model: real numbers in, stored numbers out, and back.

real = scale * (stored - zero_point), per tensor (TensorFlow Lite 8-bit quantization specification,
https://ai.google.dev/edge/litert/models/quantization_spec). Rounding is half to even, as in `np.rint`, the
ai-edge-quantizer and the conversion kernels of XNNPACK; the reference kernel of TensorFlow Lite rounds halves away from
zero, which differs by one step on exact halves alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.tensors import TensorSpec

FLOAT_DTYPES = ("float16", "float32", "float64")
QUANTIZED_DTYPES = ("int8", "uint8", "int16", "uint16")


def is_quantized(spec: TensorSpec) -> bool:
    """Whether the tensor stores integers that stand for real numbers."""
    return spec.scale is not None and spec.scale > 0 and spec.dtype not in FLOAT_DTYPES


def real_range(spec: TensorSpec) -> tuple[float, float]:
    """Smallest and largest real number that a quantized tensor can hold; `DataError` if it is not quantized."""
    if not is_quantized(spec) or spec.scale is None:
        raise DataError(f"tensor {spec.name!r} ({spec.dtype}) carries no quantization: its real range is unknown")
    limits = np.iinfo(spec.dtype)
    zero_point = spec.zero_point or 0
    return spec.scale * (int(limits.min) - zero_point), spec.scale * (int(limits.max) - zero_point)


def quantize(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Real values -> the values that the tensor stores, same shape.

    Float tensors: a cast. Quantized tensors: round half to even, saturated at the ends of the type (infinities too).
    Raises `DataError` for NaN, for which no stored value exists, and for an integer tensor without quantization.
    """
    if spec.dtype in FLOAT_DTYPES:
        return array.astype(spec.dtype, copy=False)
    if spec.scale is None or not is_quantized(spec):
        raise DataError(
            f"tensor {spec.name!r} is {spec.dtype} without quantization parameters: real values cannot be stored in "
            "it; "
            "give it values of its own type"
        )
    if np.isnan(array).any():
        raise DataError(f"values for tensor {spec.name!r} hold NaN, which {spec.dtype} cannot store: repair the data")
    limits = np.iinfo(spec.dtype)
    steps = np.rint(array.astype(np.float32, copy=False) / np.float32(spec.scale)) + np.float32(spec.zero_point or 0)
    stored: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(spec.dtype)
    return stored


def dequantize(array: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """Stored values -> float32 real values, same shape; a plain cast where the tensor is not quantized."""
    if spec.scale is None or not is_quantized(spec):
        return array.astype(np.float32, copy=False)
    steps = array.astype(np.int64) - (spec.zero_point or 0)
    real: NDArray[np.float32] = steps.astype(np.float32) * np.float32(spec.scale)
    return real

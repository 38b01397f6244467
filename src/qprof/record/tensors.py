"""Inputs and outputs of a variant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a variant, as its runtime declares it.

    `scale` and `zero_point` are the per-tensor affine quantization (real = scale * (stored - zero_point)), `None`
    where the tensor is not quantized. `shape` is the shape after allocation; `shape_signature` has -1 where the
    model leaves a dimension open.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str  # NumPy name: "float32", "int8", "uint8", "int16", "int32", "int64", "bool", ...
    scale: float | None = None
    zero_point: int | None = None
    shape_signature: tuple[int, ...] | None = None

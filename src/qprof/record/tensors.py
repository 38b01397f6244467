"""Inputs and outputs of a variant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a variant, as its runtime declares it.

    `scale` and `zero_point` are the per-tensor affine quantization (real = scale * (stored - zero_point)), `None`
    where the tensor is not quantized. `shape` is the shape after allocation; `shape_signature` has -1 where the
    model leaves a dimension open. `argument`: what a signature of the model calls an input. `valid_range`: least and
    largest integer that an input may hold, as far as the model shows (it looks up rows of a table with them, or
    divides by them); `None` at an end that it leaves open.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str  # NumPy name: "float32", "int8", "uint8", "int16", "int32", "int64", "bool", ...
    scale: float | None = None
    zero_point: int | None = None
    shape_signature: tuple[int, ...] | None = None
    argument: str | None = None
    valid_range: tuple[int | None, int | None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What a user may call this input: as the file does, as its signature does, and without what TensorFlow's
        converter puts around that ("serving_default_ids:0")."""
        short = self.name.removeprefix("serving_default_").rpartition(":")
        inner = short[0] if short[0] and short[2].isdecimal() else self.name.removeprefix("serving_default_")
        return tuple(dict.fromkeys(name for name in (self.name, self.argument, inner) if name))

    def called(self, key: str, position: int) -> bool:
        """Whether a user means this input, the model's number `position`, by `key`."""
        return key in self.names or key == str(position)

"""How far the numbers of a quantized layer are from those of its reference, collected one array at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Elements that are turned into float64 at once.
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class ErrorFigures:
    """How far values are from their reference.

    `sqnr_db`: signal-to-quantization-noise ratio, 10 log10(sum reference^2 / sum (reference - value)^2); `None` where
    there is no noise (then `identical`) or no signal. `identical`: every element equals its reference, one that is not
    finite included. `cosine`: of the angle between the two as vectors, `None` where either has no length. `max_error`:
    the largest absolute difference; `max_error_of_range`: as a share of the reference's largest less its smallest,
    `None` where that is 0. `saturated_share`: of the elements, `None` where it was not counted. `count`: elements that
    are finite on both sides, which alone the others are about; `nonfinite`: the rest. `offset_share`: the part of the
    noise, as power, that one offset of all values is (mean error^2 / mean of error^2); `None` without noise.
    """

    sqnr_db: float | None
    identical: bool
    cosine: float | None
    max_error: float | None
    max_error_of_range: float | None
    saturated_share: float | None
    count: int
    nonfinite: int
    offset_share: float | None = None


class QuantizationError:
    """Collects arrays in constant memory; sums are of float64."""

    def __init__(self) -> None:
        self._signal = self._noise = self._values = self._product = self._offset = 0.0
        self._max_error, self._low, self._high = 0.0, math.inf, -math.inf
        self._count = self._nonfinite = 0
        self._identical = True
        self._saturated: int | None = 0

    def add(self, reference: NDArray[Any], value: NDArray[Any], saturated: int | None = None) -> None:
        """Add an array of real numbers and its reference, of as many elements.

        `saturated`: how many of them were cut off at an end of the quantized type, `None` where there is no such end.
        Raises ValueError where the two differ in size.
        """
        if reference.size != value.size:
            raise ValueError(f"{value.size} values for {reference.size} of the reference")
        flat_reference, flat_value = reference.reshape(-1), value.reshape(-1)
        for begin in range(0, flat_reference.size, _BLOCK):
            self._add_block(
                flat_reference[begin : begin + _BLOCK].astype(np.float64),
                flat_value[begin : begin + _BLOCK].astype(np.float64),
            )
        if saturated is None or self._saturated is None:
            self._saturated = None
        else:
            self._saturated += saturated

    def _add_block(self, reference: NDArray[np.float64], value: NDArray[np.float64]) -> None:
        self._identical = self._identical and np.array_equal(reference, value, equal_nan=True)
        finite = np.isfinite(reference) & np.isfinite(value)
        if not finite.all():
            self._nonfinite += int(finite.size - np.count_nonzero(finite))
            reference, value = reference[finite], value[finite]
        if not reference.size:
            return
        error = reference - value
        self._signal += float(reference @ reference)
        self._values += float(value @ value)
        self._product += float(reference @ value)
        self._noise += float(error @ error)
        self._offset += float(error.sum())
        self._max_error = max(self._max_error, float(np.abs(error).max()))
        self._low, self._high = min(self._low, float(reference.min())), max(self._high, float(reference.max()))
        self._count += reference.size

    def figures(self) -> ErrorFigures | None:
        """What was collected so far; `None` where no element was."""
        elements = self._count + self._nonfinite
        if not elements:
            return None
        span = self._high - self._low if self._count else 0.0
        lengths = math.sqrt(self._signal) * math.sqrt(self._values)
        return ErrorFigures(
            sqnr_db=10 * math.log10(self._signal / self._noise) if self._signal > 0 and self._noise > 0 else None,
            identical=self._identical,
            cosine=max(-1.0, min(1.0, self._product / lengths)) if lengths > 0 else None,
            max_error=self._max_error if self._count else None,
            max_error_of_range=self._max_error / span if span > 0 else None,
            saturated_share=None if self._saturated is None else self._saturated / elements,
            count=self._count,
            nonfinite=self._nonfinite,
            offset_share=self._offset**2 / (self._count * self._noise) if self._noise > 0 else None,
        )

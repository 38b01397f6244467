"""Numbers of one model's tensor as another model's tensor stores them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.quantization import FLOAT_DTYPES, dequantize, is_quantized, quantize
from qprof.record.tensors import TensorSpec


def is_real(spec: TensorSpec) -> bool:
    """Whether what a tensor stores stands for real numbers."""
    return spec.dtype in FLOAT_DTYPES or is_quantized(spec)


def as_stored(array: NDArray[Any], origin: TensorSpec, spec: TensorSpec) -> NDArray[Any]:
    """Real numbers of a tensor `origin` as another stores them, in its shape; indices and the like as they are."""
    if is_real(spec) and is_real(origin):
        stored = quantize(dequantize(array, origin), spec)
    else:
        stored = array.astype(spec.dtype)
    return stored.reshape(spec.shape)


def refuse_other_inputs(variant: Path, baseline: Sequence[TensorSpec], own: Sequence[TensorSpec]) -> None:
    """Raise `ModelError` where a variant cannot be given the numbers that its baseline is given."""
    same = len(baseline) == len(own) and all(
        a.shape == b.shape and (a.dtype == b.dtype or (is_real(a) and is_real(b)))
        for a, b in zip(baseline, own, strict=True)
    )
    if not same:
        told = [", ".join(f"{spec.dtype}{list(spec.shape)}" for spec in specs) for specs in (own, baseline)]
        raise ModelError(
            f"{variant}: takes {told[0]} and its baseline {told[1]}, which cannot be given the same numbers; "
            "compare variants of one model, with inputs of one shape"
        )

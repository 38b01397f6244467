"""The samples of a task for two variants at once, which are to compute of the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.layouts import transposition
from qprof.record.manifest import PreparedTask
from qprof.record.model import Model
from qprof.record.quantization import FLOAT_DTYPES, dequantize, is_quantized, quantize
from qprof.record.tensors import TensorSpec
from qprof.tasks import registry as tasks

Arrays = list[NDArray[Any]]


class SharedInputs:
    """Inputs that are given are each variant's own, as it takes them; random ones are made the same real numbers.

    `count`: how many there are, at least `at_least` where they are made; `random`: whether they are; `outputs_are`: as
    the task has it.
    """

    def __init__(self, task: PreparedTask, at_least: int, baseline: Model, variant: Model) -> None:
        self._models = baseline, variant
        self._tasks = [tasks.build(task, at_least=at_least) for _ in self._models]
        for bound, model in zip(self._tasks, self._models, strict=True):
            bound.bind(model)
        self.count = min(bound.sample_count() for bound in self._tasks)
        self.random = self._tasks[0].random_inputs
        self.outputs_are: str = self._tasks[0].outputs_are

    def both(self, sample: int) -> tuple[Arrays, Arrays]:
        """The baseline's and the variant's. Raises `DataError` where random ones cannot be the same."""
        own, other = (bound.inputs(sample) for bound in self._tasks)
        if not self.random:
            return own, other
        return same_inputs(self._models[0].loaded.inputs, self._models[1].loaded.inputs, own, other)


def same_inputs(
    a_specs: Sequence[TensorSpec], b_specs: Sequence[TensorSpec], a: Sequence[NDArray[Any]], b: Sequence[NDArray[Any]]
) -> tuple[Arrays, Arrays]:
    """Random inputs of two variants, made the same real numbers: those of the side that stores them quantized, which
    can hold no others; of the first where both or neither do; transposed where the two keep channels at other ends.
    Raises `DataError` where there are no such."""
    partner = _inputs_of(a_specs, b_specs)
    mine, its = list(a), list(b)
    for i, j in enumerate(partner):
        spec, other = a_specs[i], b_specs[j]
        if is_quantized(other) and not is_quantized(spec):
            mine[i] = quantize(_as_laid_out(dequantize(b[j], other), spec), spec)
        elif is_quantized(spec) or (spec.dtype in FLOAT_DTYPES and other.dtype in FLOAT_DTYPES):
            its[j] = quantize(_as_laid_out(dequantize(a[i], spec), other), other)
        elif spec.dtype == other.dtype or (_is_integer(spec) and _is_integer(other)):
            laid_out = _as_laid_out(a[i], other)
            its[j] = laid_out.astype(other.dtype, copy=False)
            if (its[j] != laid_out).any():
                raise DataError(f"input {other.name!r} is {other.dtype}, which cannot hold all of {spec.dtype}")
        else:
            raise DataError(
                f"input {spec.name!r} is {spec.dtype} in the baseline, {other.name!r} is {other.dtype}: no random "
                "number is the same in both; give inputs by files"
            )
    return mine, its


def _as_laid_out(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    axes = transposition(array.shape, spec.shape)
    return array if axes is None else np.ascontiguousarray(array.transpose(axes))


def _is_integer(spec: TensorSpec) -> bool:
    return spec.dtype.startswith(("int", "uint")) and not is_quantized(spec)


def _inputs_of(a_specs: Sequence[TensorSpec], b_specs: Sequence[TensorSpec]) -> list[int]:
    """Which input of the second is each of the first: by name, else by order."""
    shapes = [[list(spec.shape) for spec in specs] for specs in (a_specs, b_specs)]
    names = [[spec.name for spec in specs] for specs in (a_specs, b_specs)]
    if sorted(names[0]) == sorted(names[1]) and len(set(names[0])) == len(names[0]):
        partner = [names[1].index(name) for name in names[0]]
    else:
        partner = list(range(len(a_specs)))
    if len(a_specs) != len(b_specs) or any(
        shapes[0][i] != shapes[1][j] and transposition(shapes[0][i], shapes[1][j]) is None
        for i, j in enumerate(partner)
    ):
        raise DataError(f"the inputs are of shapes {shapes[0]} in the baseline, and {shapes[1]} here: not the same")
    return partner

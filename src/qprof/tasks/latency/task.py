"""Inputs without labels: random ones for any model, or arrays from files; outputs are only digested."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.layouts import transposition
from qprof.record.model import Model
from qprof.record.quantization import dequantize, is_quantized
from qprof.record.tensors import TensorSpec
from qprof.tasks.base import Task
from qprof.tasks.latency.given_inputs import GivenInputs
from qprof.tasks.latency.random_inputs import RandomInputs

#: Random inputs for calibration are numbered from here on: none is ever a sample.
CALIBRATION_FROM = 1 << 30


class LatencyTask(Task):
    """Samples for timing alone.

    Without `files`: `samples` random inputs, reproducible from `seed`, by `recipes` (input -> recipe, see
    `qprof.tasks.latency.random_inputs`) where there are any. Every variant draws the same uniform numbers for a sample
    and stretches them over the range of its input: -1..1 for floats, the whole real range of a quantized input (the
    same real values where that is -1..1), the whole type for 8- and 16-bit integers, what the model's graph allows for
    wider integers, which are indices or shapes, or 0..7 where it does not tell; booleans are fair coins. With `files`:
    `.npz` files, one per sample, keyed by input name; or `.npy` files, one per input in the model's order, which make
    one sample. Float arrays are quantized for quantized inputs; text goes to inputs of strings. `calibration_files`:
    the samples that calibrate, instead of the same ones. `DataError` for files that cannot be read or do not fit, and
    for random inputs of other types (strings).
    """

    name = "latency"

    def __init__(
        self,
        files: Sequence[Path] | None = None,
        *,
        samples: int = 8,
        seed: int = 0,
        recipes: Mapping[str, str] | None = None,
        calibration_files: Sequence[Path] | None = None,
        made_like: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        if samples < 1:
            raise DataError(f"samples = {samples} leaves nothing to run: give at least 1")
        if seed < 0:
            raise DataError(f"seed = {seed} is negative: give 0 or more")
        self._given = None if files is None else GivenInputs(files)
        self._calibrating = self._given if calibration_files is None else GivenInputs(calibration_files)
        self._random = RandomInputs(recipes or {}, seed)
        self.random_inputs = files is None
        self._samples = samples
        self._made_like = {name: tuple(shape) for name, shape in (made_like or {}).items()}
        self._inputs: list[TensorSpec] | None = None
        self._outputs: list[TensorSpec] = []

    def sample_count(self) -> int:
        return self._samples if self._given is None else self._given.samples

    def bind(self, model: Model) -> None:
        inputs, outputs = model.loaded.inputs, model.loaded.outputs
        for spec in inputs:
            if any(size < 0 for size in spec.shape):
                raise DataError(
                    f"input {spec.name!r} leaves its shape open {list(spec.shape)}: give the variant a fixed input "
                    "shape"
                )
        if self._given is None:
            self._random.check(inputs)
        self._inputs, self._outputs = list(inputs), list(outputs)
        if self._given is not None:
            for sample in range(self.sample_count()):
                self.inputs(sample)

    def inputs(self, sample: int) -> list[NDArray[Any]]:
        specs = self._require_bound()
        if not 0 <= sample < self.sample_count():
            raise DataError(f"sample {sample} does not exist: there are {self.sample_count()}")
        if self._given is not None:
            return self._given.stored(sample, specs)
        return [self._drawn(sample, position, spec) for position, spec in enumerate(specs)]

    def inputs_alike(self) -> Hashable:
        return tuple(self._require_bound())

    def _drawn(self, sample: int, position: int, spec: TensorSpec) -> NDArray[Any]:
        """A random input as the baseline's is drawn: for an input that keeps channels at the other end transposed."""
        place, shape = self._like(position, spec)
        axes = transposition(shape, spec.shape) if shape is not None else None
        if axes is None or shape is None:
            return self._random.stored(sample, place, spec)
        return np.ascontiguousarray(self._random.stored(sample, place, replace(spec, shape=shape)).transpose(axes))

    def _like(self, position: int, spec: TensorSpec) -> tuple[int, tuple[int, ...] | None]:
        """Which of the baseline's inputs one is, by its name or else by its place, and the shape of that."""
        names = list(self._made_like)
        if spec.name in names and self._inputs is not None and {one.name for one in self._inputs} == set(names):
            position = names.index(spec.name)
        return position, self._made_like[names[position]] if position < len(names) else None

    def input_advice(self) -> str:
        if self._given is not None:
            return ""
        return "its inputs are random: give ones that it takes (--inputs), or say what they stand for (--random)"

    def decode(self, sample: int, outputs: Sequence[NDArray[Any]]) -> dict[str, Any]:
        """{"outputs": [...]}: name, mean, std, min, max of the finite real values (`None` if there is none), how many
        are not finite, and the first 16 hex digits of the SHA-256 of the stored bytes."""
        return {"outputs": [_digest(array, spec) for array, spec in zip(outputs, self._outputs, strict=True)]}

    def calibration(self, count: int) -> Iterator[list[NDArray[Any]]]:
        """The files that calibrate, or random inputs beyond the samples: enough to make a variant for timing, useless
        for its accuracy."""
        specs = self._require_bound()
        if self._calibrating is not None:
            for sample in range(min(count, self._calibrating.samples)):
                yield self._calibrating.real(sample, specs)
            return
        for n in range(count):
            yield [self._random.real(CALIBRATION_FROM + n, i, spec) for i, spec in enumerate(specs)]

    def notes(self) -> list[str]:
        """Remarks where a quantized input spans another range than float inputs get, and where channels are moved."""
        specs = self._inputs or []
        if self._given is not None:
            arrays = self._given.arrays(0, specs) if specs else []
            given = [None if array is None else array.shape for array in arrays]
            return [_moved(spec) for spec, shape in zip(specs, given, strict=True) if shape and _other_end(shape, spec)]
        moved = [
            _moved(spec)
            for position, spec in enumerate(specs)
            if (shape := self._like(position, spec)[1]) and transposition(shape, spec.shape)
        ]
        return [*self._random.notes(specs), *moved]

    def _require_bound(self) -> list[TensorSpec]:
        if self._inputs is None:
            raise DataError("the latency task is bound to no variant: call bind before inputs and calibration")
        return self._inputs


def _other_end(shape: Sequence[int], spec: TensorSpec) -> bool:
    """Whether an array of that shape is given to an input with its channels moved, a batch of one added or not."""
    return any(transposition(one, spec.shape) for one in (tuple(shape), (1, *shape)))


def _moved(spec: TensorSpec) -> str:
    return (
        f"input {spec.name!r} of {list(spec.shape)} keeps channels at the other end than the samples: it is given the "
        "same numbers, transposed"
    )


def _digest(array: NDArray[Any], spec: TensorSpec) -> dict[str, Any]:
    stored = np.ascontiguousarray(array)
    digest: dict[str, Any] = {"name": spec.name, "mean": None, "std": None, "min": None, "max": None, "nonfinite": 0}
    if stored.dtype.kind in "fiub":
        real = dequantize(stored, spec).astype(np.float64) if is_quantized(spec) else stored.astype(np.float64)
        finite = real[np.isfinite(real)]
        digest["nonfinite"] = int(real.size - finite.size)
        if finite.size:
            digest |= {
                "mean": float(finite.mean()),
                "std": float(finite.std()),
                "min": float(finite.min()),
                "max": float(finite.max()),
            }
        digest["sha256"] = hashlib.sha256(stored.tobytes()).hexdigest()[:16]
    else:
        digest["sha256"] = hashlib.sha256("\0".join(map(repr, stored.ravel().tolist())).encode()).hexdigest()[:16]
    return digest

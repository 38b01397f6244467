"""Inputs without labels: random ones for any model, or arrays from files; outputs are only digested."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.model import Model
from qprof.record.quantization import FLOAT_DTYPES, dequantize, is_quantized, quantize, real_range
from qprof.record.tensors import TensorSpec
from qprof.tasks.base import Task

#: Random integers lie in [0, this): they may be indices or shapes, for which larger values fail or allocate.
INTEGER_LIMIT = 8

#: Random values of float inputs lie in [low, high).
FLOAT_RANGE = (-1.0, 1.0)

INDEX_DTYPES = ("int32", "int64", "uint32", "uint64")
PIXEL_DTYPES = ("int8", "uint8", "int16", "uint16")


class LatencyTask(Task):
    """Samples for timing alone.

    Without `files`: `samples` random inputs, reproducible from `seed`. Every variant draws the same uniform numbers for
    a sample and stretches them over the range of its input: -1..1 for floats, the whole real range of a quantized input
    (the same real values where that is -1..1), the whole type for 8- and 16-bit integers, 0..7 for wider integers,
    which may be indices or shapes; booleans are fair coins. With `files`: `.npz` files, one per sample, keyed by input
    name; or `.npy` files, one per input in the model's order, which make one sample. Float arrays are quantized for
    quantized inputs. `DataError` for files that cannot be read or do not fit, and for inputs of other types (strings).
    """

    name = "latency"

    def __init__(self, files: Sequence[Path] | None = None, *, samples: int = 8, seed: int = 0) -> None:
        if files is not None and not files:
            raise DataError(
                "the list of input files is empty: name .npy or .npz files, or leave the key out for random inputs"
            )
        if samples < 1:
            raise DataError(f"samples = {samples} leaves nothing to run: give at least 1")
        if seed < 0:
            raise DataError(f"seed = {seed} is negative: give 0 or more")
        suffixes = {path.suffix.lower() for path in files or ()}
        if suffixes - {".npy", ".npz"} or len(suffixes) > 1:
            raise DataError(
                f"input files end in {', '.join(sorted(suffixes))}: give .npz files (one per sample) or .npy files "
                "(one per input)"
            )
        self._files = [Path(path) for path in files] if files is not None else None
        self._archives = suffixes == {".npz"}
        self._samples = samples
        self._seed = seed
        self._inputs: list[TensorSpec] | None = None
        self._outputs: list[TensorSpec] = []

    def sample_count(self) -> int:
        if self._files is None:
            return self._samples
        return len(self._files) if self._archives else 1

    def bind(self, model: Model) -> None:
        inputs, outputs = model.loaded.inputs, model.loaded.outputs
        for spec in inputs:
            if any(size < 0 for size in spec.shape):
                raise DataError(
                    f"input {spec.name!r} leaves its shape open {list(spec.shape)}: give the variant a fixed input "
                    "shape"
                )
            if self._files is None and spec.dtype not in (*FLOAT_DTYPES, *PIXEL_DTYPES, *INDEX_DTYPES, "bool"):
                raise DataError(
                    f"input {spec.name!r} is {spec.dtype}, for which no random values are made: give its values by "
                    "files"
                )
        if self._files is not None and not self._archives and len(self._files) != len(inputs):
            names = ", ".join(spec.name for spec in inputs)
            raise DataError(
                f"{len(self._files)} .npy files for a model with {len(inputs)} inputs ({names}): give one per input, "
                "or one .npz per sample"
            )
        self._inputs, self._outputs = list(inputs), list(outputs)
        if self._files is not None:
            for sample in range(self.sample_count()):
                self.inputs(sample)

    def inputs(self, sample: int) -> list[NDArray[Any]]:
        specs = self._require_bound()
        if not 0 <= sample < self.sample_count():
            raise DataError(f"sample {sample} does not exist: there are {self.sample_count()}")
        if self._files is None:
            return [_random(spec, self._uniform(sample, n, spec)) for n, spec in enumerate(specs)]
        if not self._archives:
            return [_fit(_load(path), spec, path) for path, spec in zip(self._files, specs, strict=True)]
        path = self._files[sample]
        arrays = _load_archive(path)
        absent = [spec.name for spec in specs if spec.name not in arrays]
        if absent:
            raise DataError(
                f"{path}: holds {sorted(arrays)}, but not the inputs {absent}: name the arrays as the model names its "
                "inputs"
            )
        return [_fit(arrays[spec.name], spec, path) for spec in specs]

    def decode(self, sample: int, outputs: Sequence[NDArray[Any]]) -> dict[str, Any]:
        """{"outputs": [...]}: name, mean, std, min, max of the finite real values (`None` if there is none), how many
        are not finite, and the first 16 hex digits of the SHA-256 of the stored bytes."""
        return {"outputs": [_digest(array, spec) for array, spec in zip(outputs, self._outputs, strict=True)]}

    def calibration(self, count: int) -> Iterator[list[NDArray[np.float32]]]:
        """Random inputs beyond the samples: enough to make a variant for timing, useless for its accuracy."""
        specs = self._require_bound()
        for n in range(count):
            yield [_calibrating(spec, self._uniform(self._samples + n, i, spec)) for i, spec in enumerate(specs)]

    def notes(self) -> list[str]:
        """A remark where a quantized input spans another range than float inputs get."""
        low, high = FLOAT_RANGE
        notes = []
        for spec in self._inputs or ():
            if self._files is not None or not is_quantized(spec):
                continue
            floor, ceiling = real_range(spec)
            if abs(floor - low) + abs(ceiling - high) > 0.02 * (high - low):
                notes.append(
                    f"random inputs {spec.name!r} span {floor:.4g}..{ceiling:.4g}, those of a float variant "
                    f"{low:g}..{high:g}: to compare outputs "
                    "across variants, give inputs by files"
                )
        return notes

    def _require_bound(self) -> list[TensorSpec]:
        if self._inputs is None:
            raise DataError("the latency task is bound to no variant: call bind before inputs and calibration")
        return self._inputs

    def _uniform(self, sample: int, position: int, spec: TensorSpec) -> NDArray[np.float32]:
        """Numbers in [0, 1) that depend on seed, sample, position and shape alone."""
        return np.random.default_rng([self._seed, sample, position]).random(spec.shape, dtype=np.float32)


def _random(spec: TensorSpec, uniform: NDArray[np.float32]) -> NDArray[Any]:
    if spec.dtype == "bool":
        return uniform < 0.5
    if spec.dtype in INDEX_DTYPES:
        return np.floor(uniform * INTEGER_LIMIT).astype(spec.dtype)
    if spec.dtype in FLOAT_DTYPES or is_quantized(spec):
        return quantize(_stretched(spec, uniform), spec)
    limits = np.iinfo(spec.dtype)
    steps = int(limits.max) - int(limits.min) + 1
    return (np.floor(uniform.astype(np.float64) * steps) + int(limits.min)).astype(spec.dtype)


def _stretched(spec: TensorSpec, uniform: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = real_range(spec) if is_quantized(spec) else FLOAT_RANGE
    return np.float32(low) + np.float32(high - low) * uniform


def _calibrating(spec: TensorSpec, uniform: NDArray[np.float32]) -> NDArray[Any]:
    """Real values for float and quantized inputs; inputs of other types keep theirs, which no calibration touches."""
    if spec.dtype in FLOAT_DTYPES or (is_quantized(spec) and spec.dtype in PIXEL_DTYPES):
        return _stretched(spec, uniform)
    return _random(spec, uniform)


def _load(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:  # numpy.load would leave a damaged file open
            loaded = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as a .npy array ({error}): write it with numpy.save") from error
    if not isinstance(loaded, np.ndarray):
        raise DataError(f"{path}: is an archive named .npy: rename it to .npz")
    return loaded


def _load_archive(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, MemoryError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as a .npz archive ({error}): write it with numpy.savez") from error


def _fit(array: NDArray[Any], spec: TensorSpec, path: Path) -> NDArray[Any]:
    """The array as the input wants it; a missing batch axis of 1 is added."""
    if array.shape == tuple(spec.shape[1:]) and spec.shape[:1] == (1,):
        array = array[np.newaxis]
    if array.shape != tuple(spec.shape):
        open_shape = spec.shape_signature or spec.shape
        fits_open = len(open_shape) == array.ndim and all(
            o in (-1, n) for o, n in zip(open_shape, array.shape, strict=True)
        )
        remedy = "set the variant's input shape to that of the array" if fits_open else "give an array of that shape"
        raise DataError(f"{path}: shape {list(array.shape)} for input {spec.name!r} of {list(spec.shape)}: {remedy}")
    if array.dtype == np.dtype(spec.dtype):
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f" or (spec.dtype not in FLOAT_DTYPES and not is_quantized(spec)):
        raise DataError(
            f"{path}: {array.dtype} values for input {spec.name!r} of {spec.dtype}: give {spec.dtype}, or real values "
            "if it is quantized"
        )
    return np.ascontiguousarray(quantize(array, spec))


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

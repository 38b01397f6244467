"""Inputs from files: .npz archives, one per sample, or .npy arrays, one per input; and which of them calibrate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.layouts import transposition
from qprof.record.quantization import FLOAT_DTYPES, is_quantized, quantize
from qprof.record.tensors import TensorSpec
from qprof.store.damage import ARRAY_ERRORS, arrays_in

#: From so many files on, some calibrate and the others are run.
MANY = 4

#: What a runtime calls a tensor of strings.
STRINGS = "bytes"


class GivenInputs:
    """Files that hold the inputs of one or more samples. Raises `DataError` where they are of no known form."""

    def __init__(self, files: Sequence[Path]) -> None:
        if not files:
            raise DataError(
                "the list of input files is empty: name .npy or .npz files, or leave the key out for random inputs"
            )
        suffixes = {path.suffix.lower() for path in files}
        if suffixes - {".npy", ".npz"} or len(suffixes) > 1:
            raise DataError(
                f"input files end in {', '.join(sorted(suffixes))}: give .npz files (one per sample) or .npy files "
                "(one per input)"
            )
        self.files = [Path(path) for path in files]
        self.archives = suffixes == {".npz"}

    @property
    def samples(self) -> int:
        return len(self.files) if self.archives else 1

    def check(self, specs: Sequence[TensorSpec]) -> None:
        """Raise `DataError` where .npy files are not as many as the inputs."""
        if not self.archives and len(self.files) != len(specs):
            names = ", ".join(spec.name for spec in specs)
            raise DataError(
                f"{len(self.files)} .npy files for a model with {len(specs)} inputs ({names}): give one per input, "
                "or one .npz per sample"
            )

    def arrays(self, sample: int, specs: Sequence[TensorSpec]) -> list[NDArray[Any] | None]:
        """The arrays of a sample as they lie in the files, one per input; `None` for one that is not there."""
        if not self.archives:
            return [load_array(path) for path in self.files]
        found = _load_archive(self.files[sample])
        return [next((found[key] for key in spec.names if key in found), None) for spec in specs]

    def stored(self, sample: int, specs: Sequence[TensorSpec]) -> list[NDArray[Any]]:
        """A sample as the variant stores it. Raises `DataError` where it does not fit."""
        return [fitted(array, spec, path) for array, spec, path in self._placed(sample, specs)]

    def real(self, sample: int, specs: Sequence[TensorSpec]) -> list[NDArray[Any]]:
        """A sample with real numbers where inputs stand for such, to calibrate on."""
        return [
            shaped(array, spec, path).astype(np.float32)
            if array.dtype.kind == "f" and (spec.dtype in FLOAT_DTYPES or is_quantized(spec))
            else fitted(array, spec, path)
            for array, spec, path in self._placed(sample, specs)
        ]

    def _placed(self, sample: int, specs: Sequence[TensorSpec]) -> list[tuple[NDArray[Any], TensorSpec, Path]]:
        self.check(specs)
        arrays = self.arrays(sample, specs)
        absent = [spec.argument or spec.name for spec, array in zip(specs, arrays, strict=True) if array is None]
        if absent:
            path = self.files[sample]
            raise DataError(
                f"{path}: holds {sorted(_load_archive(path))}, but not the inputs {absent}: name the arrays as the "
                "model names its inputs"
            )
        paths = [self.files[sample]] * len(specs) if self.archives else self.files
        return [
            (array, spec, path) for array, spec, path in zip(arrays, specs, paths, strict=True) if array is not None
        ]


@dataclass(frozen=True, slots=True)
class Division:
    """Which files are run and which calibrate; `reused`: they are the same."""

    run: list[Path]
    calibrate: list[Path]
    reused: bool


def divided(files: Sequence[Path], wanted: int) -> Division:
    """Every second of many archives calibrates, up to `wanted` of them; few, or one sample in .npy files, do both."""
    archives = all(path.suffix.lower() == ".npz" for path in files)
    if wanted < 1:
        return Division(list(files), [], False)
    if not archives or len(files) < MANY:
        return Division(list(files), list(files), True)
    chosen = list(range(1, len(files), 2))[:wanted]
    return Division(
        [path for number, path in enumerate(files) if number not in chosen], [files[n] for n in chosen], False
    )


def load_array(path: Path) -> NDArray[Any]:
    """The array of a .npy file. Raises `DataError`; pickled objects are refused."""
    try:
        with path.open("rb") as file:  # numpy.load would leave a damaged file open
            loaded = np.load(file, allow_pickle=False)
    except ARRAY_ERRORS as error:
        raise DataError(f"{path}: cannot be read as a .npy array ({error}): write it with numpy.save") from error
    if not isinstance(loaded, np.ndarray):
        raise DataError(f"{path}: is an archive named .npy: rename it to .npz")
    return loaded


def _load_archive(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
            return arrays_in(loaded)
    except ARRAY_ERRORS as error:
        raise DataError(f"{path}: cannot be read as a .npz archive ({error}): write it with numpy.savez") from error


def shaped(array: NDArray[Any], spec: TensorSpec, path: Path) -> NDArray[Any]:
    """The array in the input's shape; a missing batch axis of 1 is added, and channels are moved to the other end where
    the input has them there. Raises `DataError`."""
    if not _has_shape(array, spec):
        with_batch = array[None] if array.ndim + 1 == len(spec.shape) and spec.shape[:1] == (1,) else array
        axes = transposition(with_batch.shape, spec.shape)
        if axes is not None:
            return np.ascontiguousarray(with_batch.transpose(axes))
        open_shape = spec.shape_signature or spec.shape
        fits_open = len(open_shape) == array.ndim and all(
            o in (-1, n) for o, n in zip(open_shape, array.shape, strict=True)
        )
        asked = f"--shape {spec.argument or spec.name}={'x'.join(map(str, array.shape))}, or model.input_shapes"
        remedy = (
            f"set the variant's input shape to that of the array ({asked})"
            if fits_open
            else "give an array of that shape"
        )
        raise DataError(f"{path}: shape {list(array.shape)} for input {spec.name!r} of {list(spec.shape)}: {remedy}")
    return array.reshape(spec.shape)


def _has_shape(array: NDArray[Any], spec: TensorSpec) -> bool:
    return array.shape == tuple(spec.shape) or (spec.shape[:1] == (1,) and array.shape == tuple(spec.shape[1:]))


def fitted(array: NDArray[Any], spec: TensorSpec, path: Path) -> NDArray[Any]:
    """The array as the input stores it. Raises `DataError` where it does not fit."""
    array = shaped(array, spec, path)
    if spec.dtype == STRINGS and array.dtype.kind in "SU":
        texts = [text.encode() if isinstance(text, str) else text for text in array.ravel().tolist()]
        return np.array([*texts, None], dtype=object)[:-1].reshape(array.shape)  # None keeps them from becoming numbers
    if spec.dtype != STRINGS and array.dtype == np.dtype(spec.dtype):
        return np.ascontiguousarray(array)
    if array.dtype.kind == "f" and (spec.dtype in FLOAT_DTYPES or is_quantized(spec)):
        return np.ascontiguousarray(quantize(array, spec))
    if array.dtype.kind in "iu" and not is_quantized(spec) and spec.dtype not in (*FLOAT_DTYPES, STRINGS, "bool"):
        limits = np.iinfo(spec.dtype)
        if not array.size or (array.min() >= limits.min and array.max() <= limits.max):
            return np.ascontiguousarray(array.astype(spec.dtype))
    wanted = "text" if spec.dtype == STRINGS else spec.dtype
    raise DataError(
        f"{path}: {array.dtype} values for input {spec.name!r} of {wanted}: give {wanted}, or real values "
        "if it is quantized"
    )

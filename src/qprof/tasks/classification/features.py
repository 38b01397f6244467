"""What a classifier of text, or of anything but images, is given: the data's arrays, found by the inputs' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.quantization import FLOAT_DTYPES, is_quantized, quantize
from qprof.record.tensors import TensorSpec
from qprof.tasks.classification.data.arrays import ONLY

#: Words by which inputs of text classifiers are known (TensorFlow Model Maker, BERT, Hugging Face).
_ROLES: Mapping[str, tuple[str, ...]] = {
    "mask": ("mask",),
    "segment": ("segment", "token_type", "type_id", "input_type"),
    "ids": ("ids", "token", "word"),
}


class Features:
    """The arrays of a data set fitted to a model's inputs. `names`: what the data hold of each sample. Raises
    `DataError`."""

    def __init__(self, specs: Sequence[TensorSpec], names: Sequence[str], where: str) -> None:
        self._specs, self._where = list(specs), where
        self.notes: list[str] = []
        self._taken = {spec.name: self._column(spec, names) for spec in specs}
        self._cut: set[str] = set()

    def stored(self, arrays: Mapping[str, NDArray[Any]], place: str) -> list[NDArray[Any]]:
        """One sample as the inputs store it."""
        return [quantize(array, spec) if _is_real(spec) else array for array, spec in self._each(arrays, place)]

    def real(self, arrays: Mapping[str, NDArray[Any]], place: str) -> list[NDArray[Any]]:
        """One sample in real numbers where the inputs store such, to calibrate with."""
        return [array for array, _ in self._each(arrays, place)]

    def remarks(self) -> list[str]:
        """`notes`, and how many samples were too long."""
        if not self._cut:
            return self.notes
        return [*self.notes, f"{len(self._cut)} samples of {self._where} are longer than the model takes and were cut"]

    def _each(self, arrays: Mapping[str, NDArray[Any]], place: str) -> list[tuple[NDArray[Any], TensorSpec]]:
        length = next((len(array) for array in arrays.values() if array.ndim == 1), 0)
        found = []
        for spec in self._specs:
            column = self._taken[spec.name]
            if column is None:
                array: NDArray[Any] = np.zeros(length, np.int64)
                if _role(spec.name) == "mask":
                    array += 1
            else:
                array = arrays[column]
            found.append((self._fitted(array, spec, place), spec))
        return found

    def _fitted(self, array: NDArray[Any], spec: TensorSpec, place: str) -> NDArray[Any]:
        shape = tuple(spec.shape[1:]) if spec.shape[:1] == (1,) else tuple(spec.shape)
        where = f"{self._where}, {place}"
        is_ids = spec.dtype not in FLOAT_DTYPES and not is_quantized(spec)
        if is_ids and len(shape) == 1 and array.ndim == 1 and len(array) != shape[0]:
            if len(array) > shape[0]:
                self._cut.add(place)
            array = np.concatenate([array[: shape[0]], np.zeros(max(0, shape[0] - len(array)), array.dtype)])
        if array.shape == tuple(spec.shape):
            array = array[0] if spec.shape[:1] == (1,) else array
        if array.shape != shape:
            raise DataError(
                f"{where}: shape {list(array.shape)} for input {spec.name!r} of {list(spec.shape)}: give each sample "
                f"an array of {list(shape)}"
            )
        if is_ids:
            if array.dtype.kind not in "iub":
                raise DataError(f"{where}: {array.dtype} values for input {spec.name!r} of {spec.dtype}: give integers")
            limits = np.iinfo(spec.dtype) if spec.dtype != "bool" else None
            if limits is not None and array.size and not limits.min <= array.min() <= array.max() <= limits.max:
                raise DataError(f"{where}: values beyond {spec.dtype} for input {spec.name!r}: correct them")
            return array.astype(spec.dtype).reshape(spec.shape)
        if array.dtype == np.dtype(spec.dtype) and spec.dtype not in FLOAT_DTYPES:
            # The numbers that the input stores, already: quantizing what they stand for gives them back.
            assert spec.scale is not None
            array = (array.astype(np.float32) - np.float32(spec.zero_point or 0)) * np.float32(spec.scale)
        return array.astype(np.float32).reshape(spec.shape)

    def _column(self, spec: TensorSpec, names: Sequence[str]) -> str | None:
        """The data's array for an input: of its name, or of its role, or the only one."""
        plain = {_plain(name): name for name in names}
        if _plain(spec.name) in plain:
            return plain[_plain(spec.name)]
        role = _role(spec.name)
        alike = [name for name in names if role is not None and _role(name) == role]
        if len(alike) == 1:
            return alike[0]
        if len(names) == 1 and (len(self._specs) == 1 or (role in ("ids", None) and names[0] == ONLY)):
            return names[0]
        if role in ("mask", "segment"):
            filled = "1 where there is a token" if role == "mask" else "0"
            self.notes.append(f"{self._where} has nothing for input {spec.name!r}: it is given {filled}")
            return None
        raise DataError(
            f"{self._where}: holds {', '.join(sorted(names)[:6])}, but nothing for input {spec.name!r}: name one so"
        )


def _is_real(spec: TensorSpec) -> bool:
    return spec.dtype in FLOAT_DTYPES or is_quantized(spec)


def _plain(name: str) -> str:
    """A tensor's name without what a converter adds: "serving_default_input_ids:0"."""
    return name.lower().removeprefix("serving_default_").partition(":")[0].rpartition("/")[2]


def _role(name: str) -> str | None:
    plain = _plain(name)
    return next((role for role, words in _ROLES.items() if any(word in plain for word in words)), None)

"""Samples that are arrays: token ids of a text classifier, features of any other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.store.damage import ARRAY_ERRORS, arrays_in
from qprof.tasks.classification.data.examples import MAX_CLASS, Examples, Labels, of_texts
from qprof.tasks.classification.data.folders import text_of

#: What the labels are called beside arrays.
LABELS = ("label", "labels", "y", "target", "targets", "class")
#: The name that a lone .npy array goes by.
ONLY = "ids"


@dataclass(slots=True)
class ArraySamples(Examples):
    """Arrays by name, the samples along their first axis; of JSON lines a list for each sample."""

    columns: Mapping[str, Sequence[NDArray[Any]] | NDArray[Any]] = field(default_factory=dict)
    file: Path = Path()

    def __post_init__(self) -> None:
        self.gives = "arrays"

    def place(self, sample: int) -> str:
        return f"row {sample}"

    def arrays(self, sample: int) -> Mapping[str, NDArray[Any]]:
        return {name: np.asarray(column[sample]) for name, column in self.columns.items()}

    def content(self, sample: int) -> bytes:
        return b"\0".join(array.tobytes() for array in self.arrays(sample).values())

    def stands_for(self) -> Any:
        stat = self.file.stat()
        return [str(self.file), stat.st_size, stat.st_mtime_ns, list(self.labels.numbers)]


def from_archive(path: Path, truth: Path | None) -> ArraySamples:
    """A .npz of one array for each input of the model, by its name, and one of labels. Raises `DataError`."""
    arrays = _loaded(path)
    name = next((name for name in LABELS if name in arrays), None)
    if name is None and truth is None:
        raise DataError(
            f"{path}: holds {', '.join(sorted(arrays)[:6])}, but no labels: add an array {LABELS[0]!r}, or name a file "
            "of labels (truth)"
        )
    labels = _truth(truth) if truth is not None else _labels(path, arrays[name or ""])
    columns = {key: array for key, array in arrays.items() if key != name}
    return _samples(path, columns, labels)


def from_array(path: Path, truth: Path | None) -> ArraySamples:
    """A .npy of one input, samples along its first axis, with `truth`, a file of labels. Raises `DataError`."""
    if truth is None:
        raise DataError(f"{path}: is an array without labels: name a file of labels (truth), or write a .npz with both")
    return _samples(path, {ONLY: _loaded(path)[ONLY]}, _truth(truth))


def from_lines(path: Path) -> ArraySamples:
    """JSON lines: {"ids": [...], "mask": [...], "label": ...}, lists of any length. Raises `DataError`."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: is not JSON ({error}): write an object on each line") from error
        if not isinstance(row, dict) or not any(name in row for name in LABELS):
            raise DataError(f'{path}, line {number}: is no object with a label: write {{"ids": [...], "label": 0}}')
        if rows and row.keys() != rows[0].keys():
            raise DataError(f"{path}, line {number}: has other keys than the first: give all lines the same")
        rows.append(row)
    if not rows:
        raise DataError(f'{path}: is empty: write {{"ids": [...], "label": 0}} on each line')
    name = next(name for name in LABELS if name in rows[0])
    values = [row[name] for row in rows]
    texts = all(isinstance(value, str) for value in values)
    labels = of_texts(values) if texts else _numbers(path, values)
    columns = {
        key: [_list(path, number, key, row[key]) for number, row in enumerate(rows)]
        for key in rows[0]
        if key != name and isinstance(rows[0][key], list)
    }
    return _samples(path, columns, labels)


def _samples(path: Path, columns: Mapping[str, Sequence[NDArray[Any]] | NDArray[Any]], labels: Labels) -> ArraySamples:
    count = len(labels.numbers)
    if not columns or not count:
        raise DataError(f"{path}: holds no samples: give at least one, with an array for each input of the model")
    for key, column in columns.items():
        if (isinstance(column, np.ndarray) and column.ndim == 0) or len(column) != count:
            have = 1 if isinstance(column, np.ndarray) and column.ndim == 0 else len(column)
            raise DataError(f"{path}: {key!r} has {have} samples for {count} labels: give one for each")
    return ArraySamples(str(path), labels, columns=columns, file=path)


def _loaded(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:  # numpy.load would leave a damaged file open
            loaded = np.load(file, allow_pickle=False)
            arrays = {ONLY: loaded} if isinstance(loaded, np.ndarray) else arrays_in(loaded)
    except ARRAY_ERRORS as error:
        raise DataError(
            f"{path}: cannot be read as NumPy's .npy or .npz ({error}): write it with numpy.save"
        ) from error
    return arrays


def _truth(path: Path) -> Labels:
    """A label on each line, or a .npy of numbers."""
    if path.suffix.lower() == ".npy":
        return _labels(path, _loaded(path)[ONLY])
    lines = [line.strip() for line in text_of(path).splitlines()]
    return of_texts([line for line in lines if line])


def _labels(path: Path, array: NDArray[Any]) -> Labels:
    if array.dtype.kind == "U" and array.ndim == 1:
        return of_texts(array.tolist())
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.dtype.kind not in "iu" or flat.ndim != 1:
        raise DataError(
            f"{path}: its labels are {flat.dtype} of shape {list(array.shape)}: give one class number or name for each "
            "sample"
        )
    return _numbers(path, flat.tolist())


def _numbers(path: Path, values: Sequence[Any]) -> Labels:
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_CLASS:
            raise DataError(f"{path}, sample {row}: its label is {str(value)[:40]!r}, not a class number from 0 on")
    return Labels(list(values))


def _list(path: Path, row: int, key: str, values: Any) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{path}, sample {row}: {key} is not a list of numbers ({error})") from error
    if array.dtype.kind not in "iuf" or (array.dtype.kind != "f" and array.size == 0):
        raise DataError(f"{path}, sample {row}: {key} is not a list of numbers, or is empty")
    return array

"""Samples that are texts, which the tokenizer of a model turns into its inputs."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.tensors import TensorSpec
from qprof.tasks.classification.data.examples import Examples, of_texts
from qprof.tasks.classification.data.folders import text_of

#: What the columns are called, the likeliest first.
TEXT_COLUMNS = ("text", "sentence", "review", "content", "comment")
LABEL_COLUMNS = ("label", "labels", "class", "category", "sentiment", "target")


@dataclass(slots=True)
class TextSamples(Examples):
    """Texts with a class each. Until `tokenize_with` a sample is its text alone."""

    texts: Sequence[str] = ()
    file: Path = Path()
    _tokenizer: Any = None
    _length: int = field(default=0)

    def __post_init__(self) -> None:
        self.gives = "arrays"

    def tokenize_with(self, tokenizer: Any, specs: Sequence[TensorSpec]) -> None:
        """Fit them to a model: its tokenizer (a Hugging Face one) and inputs. Raises `DataError`."""
        if tokenizer is None:
            raise DataError(
                f"{self.where}: holds texts, and the model brings no tokenizer: give one that does (a Hugging Face "
                "folder), or token ids (.npz, .jsonl)"
            )
        lengths = {spec.shape[-1] for spec in specs if spec.shape}
        if len(lengths) != 1:
            raise DataError(f"{self.where}: the model's inputs differ in length: it takes no tokens of one text")
        self._tokenizer, self._length = tokenizer, lengths.pop()

    def place(self, sample: int) -> str:
        return f"row {sample}"

    def arrays(self, sample: int) -> Mapping[str, NDArray[Any]]:
        text = self.texts[sample]
        if self._tokenizer is None:
            return {"text": np.array(text)}
        padded = "max_length" if self._tokenizer.pad_token is not None else False
        found = self._tokenizer(text, truncation=True, max_length=self._length, padding=padded)
        return {name: np.asarray(values, np.int64) for name, values in found.items()}

    def content(self, sample: int) -> bytes:
        return self.texts[sample].encode("utf-8", "surrogatepass")

    def stands_for(self) -> Any:
        stat = self.file.stat()
        return [str(self.file), stat.st_size, stat.st_mtime_ns]


def columns_of(path: Path) -> tuple[int, int] | None:
    """Where a table's header names a text and a label; `None` where it does not."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = next(csv.reader([file.readline()], delimiter=_delimiter(path)), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return None  # whoever reads it says what is wrong
    names = [cell.strip().lower() for cell in head]
    text, label = (
        next((names.index(n) for n in wanted if n in names), None) for wanted in (TEXT_COLUMNS, LABEL_COLUMNS)
    )
    return None if text is None or label is None else (text, label)


def from_table(path: Path, columns: tuple[int, int]) -> TextSamples:
    """A CSV or TSV with a header. Raises `DataError`."""
    content = text_of(path)
    try:
        rows = list(csv.reader(content.splitlines(keepends=True), delimiter=_delimiter(path)))[1:]
    except csv.Error as error:
        raise DataError(f"{path}: is not a table ({error}): export it again") from error
    pairs = []
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(columns) or not row[columns[1]].strip():
            raise DataError(f"{path}, row {number}: has no text or no label: write both in every row")
        pairs.append((row[columns[0]], row[columns[1]].strip()))
    return _samples(path, pairs)


def from_lines(path: Path) -> TextSamples | None:
    """JSON lines of {"text": ..., "label": ...}; `None` where the first is none. Raises `DataError`."""
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        keys = row if isinstance(row, dict) else {}
        text = next((keys[name] for name in TEXT_COLUMNS if isinstance(keys.get(name), str)), None)
        label = next((keys[name] for name in LABEL_COLUMNS if isinstance(keys.get(name), (str, int))), None)
        if text is None or label is None or any(isinstance(value, list) for value in keys.values()):
            if not pairs:  # of token ids, which a text may stand beside
                return None
            raise DataError(
                f'{path}, line {number}: has other keys than the first: write {{"text": ..., "label": ...}}'
            )
        pairs.append((text, str(label)))
    return _samples(path, pairs)


def _samples(path: Path, pairs: Sequence[tuple[str, str]]) -> TextSamples:
    if not pairs:
        raise DataError(f"{path}: holds no texts: write a text and its label in every row")
    return TextSamples(str(path), of_texts([label for _, label in pairs]), texts=[text for text, _ in pairs], file=path)


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","

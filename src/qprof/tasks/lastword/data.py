"""Rows of text, from a JSONL or Parquet file, a local folder in a hub's layout, or a data set of the Hugging Face hub.

Published as `EleutherAI/lambada_openai`: one object with a string "text" per row. Code of a data set is never run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.errors import DataError
from qprof.tasks import hub_data
from qprof.tasks.hub_data import HUB
from qprof.tasks.parquet import readable

FIELD = "text"
LINES = (".jsonl", ".json")


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from: a file, a folder, or "hf://datasets/ORG/NAME[@REVISION]".

    `split` and `config` choose a part of a folder or hub data set; a file has neither.
    """

    location: str
    split: str = "test"
    config: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A text and its place in the source: the line of a file, from 1, or the row of a table, from 1."""

    place: int
    text: str


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a source; `unit` is what a row's place counts, "line" or "row"."""

    source: Source
    rows: list[Row]
    unit: str = "line"


def split_last_word(text: str) -> tuple[str, str] | None:
    """The text before its last space, and the word behind it; `None` where either is blank.

    As `lambada_openai` of lm-evaluation-harness splits: at spaces, not at other white space.
    """
    context, _, word = text.rpartition(" ")
    return (context, word) if context.strip() and word.strip() else None


def digest(texts: Iterable[str]) -> str:
    """SHA-256 of the texts in their order."""
    whole = hashlib.sha256()
    for text in texts:
        stored = text.encode("utf-8", "surrogatepass")
        whole.update(len(stored).to_bytes(8, "little") + stored)
    return whole.hexdigest()


def read_rows(source: Source) -> Rows:
    """Read every row. Raises `DataError` that names file and line for what cannot be read, is not JSON, has no string
    "text", or is empty; `MissingExtraError` where a folder or a hub data set needs the package `datasets`."""
    where = source.location
    if where.startswith(HUB):
        return _from_table(source, _loaded(source, where))
    path = Path(where)
    if path.is_dir():
        return _from_table(source, _loaded(source, str(path.resolve())))
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _from_table(source, _parquet_texts(path))
    if suffix not in LINES and path.exists():
        raise DataError(
            f"{path}: ends in {suffix or 'nothing'}; give a .jsonl or .parquet file, a folder, or {HUB}ORG/NAME"
        )
    return _from_lines(source, path)


def _from_lines(source: Source, path: Path) -> Rows:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): correct the path of the text data") from error
    rows = [Row(n, _text_of(path, n, line)) for n, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if not rows:
        raise DataError(f'{path}: is empty: give one {{"{FIELD}": "..."}} per line')
    return Rows(source, rows)


def _text_of(path: Path, number: int, line: bytes) -> str:
    where = f"{path}, line {number}"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f'{where}: is not JSON ({error}): give one {{"{FIELD}": "..."}} per line') from error
    if not isinstance(found, dict) or FIELD not in found:
        has = f"an object with {sorted(found)[:5]}" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise DataError(f'{where}: is {has}, without "{FIELD}": give one {{"{FIELD}": "..."}} per line')
    return _checked(where, found[FIELD])


def _checked(where: str, text: Any) -> str:
    if not isinstance(text, str):
        raise DataError(f'{where}: "{FIELD}" is {type(text).__name__}, not a string: give the text itself')
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f'{where}: "{FIELD}" holds half a character ({error.reason}): repair the text') from error
    return text


def _from_table(source: Source, texts: Sequence[Any]) -> Rows:
    if not len(texts):
        raise DataError(f"{source.location}: has no rows: give another split or file")
    rows = [Row(n, _checked(f"{source.location}, row {n}", text)) for n, text in enumerate(texts, 1)]
    return Rows(source, rows, "row")


def _parquet_texts(path: Path) -> Sequence[Any]:
    from pyarrow import parquet

    with readable(path):
        table = parquet.read_table(path)
    _require_field(str(path), table.column_names)
    with readable(path):
        texts: list[Any] = table.column(FIELD).to_pylist()
    return texts


def _loaded(source: Source, where: str) -> Sequence[Any]:
    """Column "text" of a split of a hub data set, or of a folder."""
    table = hub_data.load(where, source.split, source.config, instead="a .jsonl file")
    _require_field(source.location, table.column_names)
    return list(table[FIELD])


def _require_field(where: str, columns: Sequence[str]) -> None:
    if FIELD not in columns:
        raise DataError(f'{where}: has the columns {sorted(columns)[:5]}, but no "{FIELD}": name the texts so')

"""Reading `ops.parquet`, the largest table of a run, row group by row group: what is not asked for is not read.

A row group whose statistics rule it out is skipped; of the others the columns that are named are read, and those that
the statistics do not settle. Runs whose rows are in the order of their blocks, as earlier versions wrote them, give
the same rows in the same order, and take longer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.store.arrays import as_numpy, one_chunk
from qprof.store.tables import arrow_file, check_columns, damaged, damaged_parquet


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """A column of names: `codes` int[n] are positions in `names`."""

    codes: NDArray[np.integer]
    names: Sequence[str]

    def is_name(self, name: str) -> NDArray[np.bool_]:
        """Which rows have a name: bool[n]."""
        same = np.array([each == name for each in self.names], np.bool_)
        return same[self.codes] if len(same) else np.zeros(len(self.codes), np.bool_)


#: What `scan` reads of a row group: column -> its values, as an array or as `Names`.
Chunk = Mapping[str, Any]


def scan(path: Path, kinds: Mapping[str, str], columns: Sequence[str], equal: Mapping[str, str]) -> Iterator[Chunk]:
    """The named columns of the rows in which columns of names have the values of `equal`, one row group at a time.

    `kinds`: the columns that the file must have, with their types. Raises `StoreError` where it is missing or damaged.
    """
    with opened(path) as file:
        check_columns(path, file.schema_arrow, kinds)
        for group in range(file.num_row_groups):
            open_questions = _left_to_ask(file.metadata.row_group(group), equal)
            if open_questions is not None:
                read = list(dict.fromkeys([*columns, *open_questions]))
                table = file.read_row_group(group, columns=read, use_threads=False)
                yield _chosen(path, table, columns, {name: equal[name] for name in open_questions})


def groups_of(
    path: Path, kinds: Mapping[str, str], equal: Mapping[str, str], gap_in: str | None = None
) -> Iterator[Any]:
    """The row groups, as Arrow tables, that statistics do not say hold no row with the values of `equal`, or no row
    that is empty in the column `gap_in`. `kinds`: the columns that are read, with their types. Raises `StoreError` as
    above."""
    columns = list(kinds)
    with opened(path, names=columns) as file:
        check_columns(path, file.schema_arrow, kinds)
        for group in range(file.num_row_groups):
            facts = file.metadata.row_group(group)
            if _left_to_ask(facts, equal) is not None and (gap_in is None or _has_gap(facts, gap_in)):
                yield file.read_row_group(group, columns=columns, use_threads=False)


@contextlib.contextmanager
def opened(path: Path, names: Sequence[str] = ()) -> Iterator[Any]:
    """A Parquet file, of which text columns among `names` are read as codes; whatever a damaged one raises then becomes
    a `StoreError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with arrow_file(path) as stream:
            schema = pq.read_schema(stream)
            coded = [name for name in names if name in schema.names and pa.types.is_string(schema.field(name).type)]
            stream.seek(0)
            yield pq.ParquetFile(stream, read_dictionary=coded)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing; is this a complete qprof run directory?") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise damaged_parquet(path, error) from error


def _left_to_ask(group: Any, equal: Mapping[str, str]) -> list[str] | None:
    """The columns whose statistics do not say that all rows of a row group have the value; `None` where they say that
    none has."""
    if not equal:
        return []
    known = {(column := group.column(i)).path_in_schema: column.statistics for i in range(group.num_columns)}
    left = []
    for name, value in equal.items():
        found = known.get(name)
        if found is None or not found.has_min_max:
            left.append(name)
        elif not found.min <= value <= found.max:
            return None
        elif not (found.min == found.max and found.has_null_count and found.null_count == 0):
            left.append(name)
    return left


def _has_gap(group: Any, name: str) -> bool:
    found = next((c for i in range(group.num_columns) if (c := group.column(i)).path_in_schema == name), None)
    statistics = None if found is None else found.statistics
    return statistics is None or not statistics.has_null_count or statistics.null_count > 0


def _chosen(path: Path, table: Any, columns: Sequence[str], equal: Mapping[str, str]) -> Chunk:
    for name in table.column_names:
        if table[name].null_count:
            raise damaged(path, f"{table[name].null_count} cells of its column {name} are empty")
    mask: NDArray[np.bool_] | None = None
    for name, value in equal.items():
        own = column_of(table[name]).is_name(value)
        mask = own if mask is None else mask & own
    chunk: dict[str, Any] = {}
    for name in columns:
        column = column_of(table[name])
        if mask is None or mask.all():
            chunk[name] = column
        else:
            chunk[name] = Names(column.codes[mask], column.names) if isinstance(column, Names) else column[mask]
    return chunk


def column_of(column: Any) -> Any:
    """An Arrow column as an array, or as `Names` where it holds names."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    if not pa.types.is_dictionary(column.type):
        return as_numpy(column)
    whole = one_chunk(column)
    return Names(as_numpy(whole.indices), whole.dictionary.to_pylist())

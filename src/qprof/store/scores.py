"""Scores: written variant by variant, read no further than what is asked for. A data set of 100,000 rows has millions
of them, which as objects would take a gigabyte."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from qprof.record.rows import SCORE_COLUMNS, ScoreRow
from qprof.store import tables
from qprof.store.arrays import as_numpy
from qprof.store.files import write_atomic
from qprof.store.op_scan import column_of, groups_of

#: Rows of a row group: some 20 MB of them as objects.
GROUP_ROWS = 2**17
#: Scores by sample that are kept for who asks again, as numbers and as mappings: at most 100 MB and 50 MB.
_KEPT_NUMBERS = 2**23
_KEPT_SAMPLES = 2**19

#: Samples int32[n], each once, in the order of the file, and their values float64[n].
Column = tuple[NDArray[np.int32], NDArray[np.float64]]


def write_scores(path: Path, rows: Iterable[ScoreRow]) -> None:
    """Write `scores.parquet`, atomically; no row group holds two variants. Raises `StoreError`."""
    import pyarrow.parquet as pq

    empty = tables.scores_table([])

    def write(stream: IO[bytes]) -> None:
        with pq.ParquetWriter(stream, empty.schema, compression="zstd") as writer:
            for _, own in itertools.groupby(rows, lambda row: row.variant):
                while held := list(itertools.islice(own, GROUP_ROWS)):
                    writer.write_table(_table(held))

    write_atomic(path, write)


def _table(rows: Sequence[ScoreRow]) -> Any:
    import pyarrow as pa

    schema = tables.scores_table([]).schema
    return pa.table([pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema], schema)


class Scores:
    """`scores.parquet` of a finished run; `None` stands for one that has none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        # What was asked for last stands last in both.
        self._columns: dict[str, dict[str, Column]] = {}
        self._known: dict[tuple[str, str], dict[int, float]] = {}

    def rows(self) -> Iterator[ScoreRow]:
        """All rows, in their order. Raises `StoreError` where the file is missing or damaged."""
        for chunk in self._chunks({}):
            names = [chunk["variant"].names[code] for code in chunk["variant"].codes.tolist()]
            metrics = [chunk["metric"].names[code] for code in chunk["metric"].codes.tolist()]
            for row in zip(names, metrics, chunk["sample"].to_pylist(), chunk["value"].to_pylist(), strict=True):
                yield ScoreRow(*row)

    @cached_property
    def whole(self) -> list[ScoreRow]:
        """The rows that are of the whole data set. Raises `StoreError`."""
        found = []
        for chunk in self._chunks({}, whole=True):
            samples = chunk["sample"]
            for place in as_numpy(samples.is_null()).nonzero()[0].tolist():
                name = chunk["variant"].names[int(chunk["variant"].codes[place])]
                metric = chunk["metric"].names[int(chunk["metric"].codes[place])]
                found.append(ScoreRow(name, metric, None, chunk["value"][place].as_py()))
        return found

    def column(self, variant: str, metric: str) -> Column:
        """The samples of which a score is known, and its values; of several of one sample the last. Raises
        `StoreError`."""
        if variant in self._columns:
            found = self._columns.pop(variant)
        else:
            found = self._read(variant)
            more = sum(len(samples) for samples, _ in found.values())
            _make_room(self._columns, lambda own: sum(len(s) for s, _ in own.values()), _KEPT_NUMBERS - more)
        self._columns[variant] = found
        return found.get(metric, (np.empty(0, np.int32), np.empty(0, np.float64)))

    def by_sample(self, variant: str, metric: str) -> Mapping[int, float]:
        """The same as sample -> value. Raises `StoreError`."""
        place = (variant, metric)
        if place in self._known:
            found = self._known.pop(place)
        else:
            samples, values = self.column(variant, metric)
            found = dict(zip(samples.tolist(), values.tolist(), strict=True))
            _make_room(self._known, len, _KEPT_SAMPLES - len(found))
        self._known[place] = found
        return found

    def _read(self, variant: str) -> dict[str, Column]:
        """All scores by sample of a variant: they lie together."""
        parts: dict[str, list[Column]] = {}
        for chunk in self._chunks({"variant": variant}):
            known = {name: as_numpy(chunk[name].is_valid()) for name in ("sample", "value")}
            own = chunk["variant"].is_name(variant) & known["sample"] & known["value"]
            samples, values = (as_numpy(chunk[name].drop_null())[own[known[name]]] for name in ("sample", "value"))
            codes = chunk["metric"].codes[own]
            for code in np.unique(codes).tolist():
                chosen = codes == code
                parts.setdefault(chunk["metric"].names[code], []).append((samples[chosen], values[chosen]))
        return {metric: _each_once(found) for metric, found in parts.items()}

    def _chunks(self, equal: Mapping[str, str], *, whole: bool = False) -> Iterator[dict[str, Any]]:
        """Row groups that may hold such rows: names as `Names`, samples and values as Arrow arrays, which have gaps.
        `whole`: those that have a row without a sample."""
        if self._path is None:
            return
        for table in groups_of(self._path, SCORE_COLUMNS, equal, gap_in="sample" if whole else None):
            chunk: dict[str, Any] = {}
            for name in ("variant", "metric"):
                if table[name].null_count:
                    raise tables.damaged(self._path, f"{table[name].null_count} cells of its column {name} are empty")
                chunk[name] = column_of(table[name])
            chunk["sample"] = _numbers(self._path, table, "sample", "int32")
            chunk["value"] = _numbers(self._path, table, "value", "double")
            # What is not known is empty: no run writes any of these, and no statistic takes them.
            if wild := int(np.count_nonzero(~np.isfinite(as_numpy(chunk["value"].drop_null())))):
                raise tables.damaged(self._path, f"{wild} cells of its column value are not finite")
            yield chunk


def _each_once(parts: Sequence[Column]) -> Column:
    samples, values = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    if np.any(samples[1:] <= samples[:-1]):
        first = np.unique(samples, return_index=True)[1]
        last = len(samples) - 1 - np.unique(samples[::-1], return_index=True)[1]
        order = np.argsort(first)
        samples, values = samples[first[order]], values[last[order]]
    for array in (samples, values):
        array.setflags(write=False)  # all who ask get the same arrays
    return samples, values


def _make_room(kept: dict[Any, Any], size: Callable[[Any], int], most: int) -> None:
    """Drop of what is kept what was asked for longest ago, until so many numbers are left at most."""
    while kept and sum(map(size, kept.values())) > most:
        del kept[next(iter(kept))]


def _numbers(path: Path, table: Any, name: str, kind: str) -> Any:
    import pyarrow as pa

    found = table[name].type
    if not (pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_null(found)):
        raise tables.damaged(path, f"its column {name} holds {found}, not {kind}")
    try:
        whole = table[name].cast(pa.type_for_alias(kind)).combine_chunks()
    except pa.ArrowException as error:
        raise tables.damaged(path, f"its column {name}: {str(error).splitlines()[0]}") from error
    return whole if not isinstance(whole, pa.ChunkedArray) else pa.concat_arrays(whole.chunks or [pa.array([], kind)])

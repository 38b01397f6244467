"""Scores: written variant by variant, read no further than what is asked for. A data set of 100,000 rows has millions
of them, which as objects would take a gigabyte."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from qprof.record.rows import SCORE_COLUMNS, ScoreRow
from qprof.store import tables
from qprof.store.files import write_atomic
from qprof.store.op_scan import column_of, groups_of

#: Rows of a row group: some 20 MB of them as objects.
GROUP_ROWS = 2**17
#: Scores by sample that are kept for who asks again: some 100 MB.
_KEPT_SAMPLES = 2**20


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
        self._known: dict[tuple[str, str], Mapping[int, float]] = {}

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
            for place in samples.is_null().to_numpy(zero_copy_only=False).nonzero()[0].tolist():
                name = chunk["variant"].names[int(chunk["variant"].codes[place])]
                metric = chunk["metric"].names[int(chunk["metric"].codes[place])]
                found.append(ScoreRow(name, metric, None, chunk["value"][place].as_py()))
        return found

    def by_sample(self, variant: str, metric: str) -> Mapping[int, float]:
        """sample -> value, of the samples of which it is known; of several alike the last. Raises `StoreError`."""
        place = (variant, metric)
        if place not in self._known:
            found: dict[int, float] = {}
            for chunk in self._chunks({"variant": variant, "metric": metric}):
                own = chunk["variant"].is_name(variant) & chunk["metric"].is_name(metric)
                own &= chunk["sample"].is_valid().to_numpy(zero_copy_only=False)
                own &= chunk["value"].is_valid().to_numpy(zero_copy_only=False)
                samples, values = (chunk[name].fill_null(0).to_numpy()[own].tolist() for name in ("sample", "value"))
                found.update(zip(samples, values, strict=True))
            self._keep(place, found)
        return self._known[place]

    def _keep(self, place: tuple[str, str], found: Mapping[int, float]) -> None:
        while self._known and sum(map(len, self._known.values())) + len(found) > _KEPT_SAMPLES:
            del self._known[next(iter(self._known))]
        self._known[place] = found

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
            yield chunk


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

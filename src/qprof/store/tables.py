"""The Parquet tables of a run, put together from blocks; their columns are those of the types in `record.rows`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
import numpy as np

from qprof.errors import StoreError
from qprof.record.blocks import Block
from qprof.record.ops import OpMeta
from qprof.record.readings import Reading, SensorTrace
from qprof.record.rows import (
    IN_BLOCK_COLUMNS,
    LAYER_ERROR_COLUMNS,
    OP_COLUMNS,
    OP_META_COLUMNS,
    OUTPUT_DISTANCE_COLUMNS,
    PLAUSIBILITY_COLUMNS,
    READING_COLUMNS,
    SAMPLE_COLUMNS,
    SCORE_COLUMNS,
    LayerErrorRow,
    OutputDistanceRow,
    PlausibilityRow,
    ScoreRow,
)
from qprof.store.files import open_file, write_atomic

Row = TypeVar("Row")


def samples_table(blocks: Sequence[Block]) -> Any:
    """One `SampleRow` per inference."""
    lengths = [len(block.samples.sample) for block in blocks]
    return _table(
        SAMPLE_COLUMNS,
        {
            **_block_columns(blocks, lengths),
            "inference": _concatenate([np.arange(n, dtype=np.int32) for n in lengths], np.int32),
            "sample": _concatenate([block.samples.sample for block in blocks], np.int32),
            "start_ns": _concatenate([block.samples.start_ns for block in blocks], np.int64),
            "duration_ns": _concatenate([block.samples.duration_ns for block in blocks], np.int64),
        },
    )


def ops_table(blocks: Sequence[Block], op_ids: Mapping[str, Sequence[str]], sources: Sequence[str]) -> Any:
    """One `OpRow` per op event. `op_ids`: variant -> its op ids in the order of its op list; `sources` names the source
    codes."""
    profiled = [(block, block.ops) for block in blocks if block.ops is not None]
    names = sorted({op for block, _ in profiled for op in op_ids[block.variant]})
    position = {name: i for i, name in enumerate(names)}
    codes = {block.variant: np.array([position[op] for op in op_ids[block.variant]], np.int32) for block, _ in profiled}
    return _table(
        OP_COLUMNS,
        {
            **_block_columns([block for block, _ in profiled], [len(ops.op) for _, ops in profiled]),
            "inference": _concatenate([ops.inference for _, ops in profiled], np.int32),
            "sample": _concatenate([block.samples.sample[ops.inference] for block, ops in profiled], np.int32),
            "op": _dictionary(_concatenate([codes[block.variant][ops.op] for block, ops in profiled], np.int32), names),
            "start_ns": _concatenate([ops.start_ns for _, ops in profiled], np.int64),
            "duration_ns": _concatenate([ops.duration_ns for _, ops in profiled], np.int64),
            "source": _dictionary(_concatenate([ops.source for _, ops in profiled], np.int32), sources),
        },
    )


def readings_table(blocks: Sequence[Block]) -> Any:
    """One `ReadingRow` per sensor reading."""
    traces = [[*block.traces, *map(_as_trace, block.readings)] for block in blocks]
    flat = [trace for found in traces for trace in found]
    lengths = [len(trace.t_ns) for trace in flat]
    return _table(
        READING_COLUMNS,
        {
            **_block_columns(blocks, [sum(len(trace.t_ns) for trace in found) for found in traces]),
            "probe": _repeated_names([trace.probe for trace in flat], lengths),
            "t_ns": _concatenate([trace.t_ns for trace in flat], np.int64),
            "value": _concatenate([trace.values for trace in flat], np.float64),
            "unit": _repeated_names([trace.unit for trace in flat], lengths),
            "provenance": _repeated_names([trace.provenance for trace in flat], lengths),
        },
    )


def op_meta_table(ops: Mapping[str, Sequence[OpMeta]]) -> Any:
    """One row per op; `ops`: variant -> its op list."""
    rows = [{"variant": variant, **asdict(op)} for variant, found in ops.items() for op in found]
    return rows_table(rows, OP_META_COLUMNS)


def scores_table(rows: Iterable[ScoreRow]) -> Any:
    """One row per score."""
    return rows_table(map(asdict, rows), SCORE_COLUMNS)


def layer_errors_table(rows: Iterable[LayerErrorRow]) -> Any:
    """One row per op that was compared."""
    return rows_table(map(asdict, rows), LAYER_ERROR_COLUMNS)


def plausibility_table(rows: Iterable[PlausibilityRow]) -> Any:
    """One row per setting that was tried on the baseline, and sample."""
    return rows_table(map(asdict, rows), PLAUSIBILITY_COLUMNS)


def output_distances_table(rows: Iterable[OutputDistanceRow]) -> Any:
    """One row per output that was compared, and input."""
    return rows_table(map(asdict, rows), OUTPUT_DISTANCE_COLUMNS)


def rows_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> Any:
    """A table from row mappings, with the given column types; a missing value is null."""
    import pyarrow as pa

    kept = list(rows)
    return pa.table({name: pa.array([row.get(name) for row in kept], _arrow(kind)) for name, kind in columns.items()})


def write_table(path: Path, table: Any) -> None:
    """Write a table as Parquet, atomically."""
    import pyarrow.parquet as pq

    def write(stream: IO[bytes]) -> None:
        pq.write_table(table, stream, compression="zstd")

    write_atomic(path, write)


@contextlib.contextmanager
def arrow_file(path: Path) -> Iterator[Any]:
    """A file of a run, checked as `open_file` does, opened for Arrow. Raises `OSError`.

    It is one of Arrow's own: of a Python file Arrow's threads read by calling back into Python, whatever `use_threads`
    says, and one that is still at it when the interpreter ends aborts the process, or hangs it ("terminate called
    without an active exception"; apache/arrow issues 34314 and 50482). The name goes by the descriptor, since that of a
    folder may look like an address (s3:x), or be no UTF-8.
    """
    import pyarrow as pa

    with open_file(path) as checked, pa.OSFile(f"/proc/self/fd/{checked.fileno()}") as stream:
        yield stream


def read_table(path: Path) -> Any:
    """Read a Parquet file of the run. Raises `StoreError` where it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with arrow_file(path) as stream:
            table = pq.ParquetFile(stream, pre_buffer=False).read(use_threads=False)
        table.validate(full=True)  # reading does not ask whether a cell's place in a dictionary is in it
        return table
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing; is this a complete qprof run directory?") from error
    except (OSError, pa.ArrowException) as error:
        raise damaged_parquet(path, error) from error


def read_columns(path: Path, columns: Mapping[str, str]) -> Any:
    """A table that has all of `columns`, of their types and without a gap. Raises `StoreError`."""
    table = read_table(path)
    check_columns(path, table.schema, columns)
    for name in columns:
        if missing := table.column(name).null_count:
            raise damaged(path, f"{missing} cells of its column {name} are empty")
    return table


def check_columns(path: Path, schema: Any, columns: Mapping[str, str]) -> None:
    """Whether an Arrow schema has all of `columns`, of their types. Raises `StoreError`."""
    import pyarrow as pa

    for name, kind in columns.items():
        if name not in schema.names:
            raise damaged(path, f"it has no column {name}")
        found = schema.field(name).type
        named = kind == "string" and pa.types.is_dictionary(found)
        if (found.value_type if named else found) != _arrow(kind):
            raise damaged(path, f"its column {name} holds {found}, not {kind}")


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a table as the type that they are; what a row's type has a default for may be missing, as earlier
    versions left it out. Raises `StoreError`."""
    return rows_as(path, read_table(path).to_pylist(), kind)


def rows_as(path: Path, rows: Sequence[Mapping[str, Any]], kind: type[Row]) -> list[Row]:
    """Rows that were read of a table as a type, which may take a part of their columns. Raises `StoreError`."""
    try:
        return msgspec.convert(rows, list[kind])  # type: ignore[valid-type]
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise damaged(path, " ".join(str(error).split())) from error


def damaged_parquet(path: Path, error: Exception) -> StoreError:
    """What Arrow's error about a file means."""
    return StoreError(f"{path}: damaged Parquet file ({(str(error).splitlines() or [type(error).__name__])[0]})")


def damaged(path: Path, what: str) -> StoreError:
    """A table that holds what no run writes."""
    return StoreError(f"{path}: damaged ({what}); restore it or run anew")


def _table(columns: Mapping[str, str], values: Mapping[str, Any]) -> Any:
    """A table with these columns in their order, and nothing else: names that are repeated are codes already."""
    import pyarrow as pa

    if values.keys() != columns.keys():
        raise ValueError(f"columns {sorted(values)} for a table of {sorted(columns)}")
    built = {}
    for name, kind in columns.items():
        coded = isinstance(values[name], pa.DictionaryArray)
        built[name] = values[name] if coded else pa.array(values[name], _arrow(kind))
    return pa.table(built)


def _arrow(kind: str) -> Any:
    import pyarrow as pa

    return pa.list_(pa.string()) if kind == "list<string>" else pa.type_for_alias(kind)


def _as_trace(reading: Reading) -> SensorTrace:
    t_ns, values = np.array([reading.t_ns], np.int64), np.array([reading.value], np.float64)
    return SensorTrace(reading.probe, reading.unit, reading.provenance, t_ns, values)


def _block_columns(blocks: Sequence[Block], lengths: Sequence[int]) -> dict[str, Any]:
    """The columns of `InBlock`: each block's own value as often as its length says."""
    found: dict[str, Any] = {}
    for name, kind in IN_BLOCK_COLUMNS.items():
        values: list[Any] = [block.number if name == "block" else getattr(block, name) for block in blocks]
        named = kind == "string"
        found[name] = _repeated_names(values, lengths) if named else np.repeat(np.array(values, np.int32), lengths)
    return found


def _repeated_names(names: Sequence[str], lengths: Sequence[int]) -> Any:
    """A dictionary column: each name as often as its length says."""
    known = sorted(set(names))
    position = {name: i for i, name in enumerate(known)}
    return _dictionary(np.repeat(np.array([position[name] for name in names], np.int32), lengths), known)


def _dictionary(codes: Any, names: Sequence[str]) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(list(names), pa.string()))


def _concatenate(parts: Sequence[Any], kind: Any) -> Any:
    return np.concatenate(parts).astype(kind, copy=False) if parts else np.empty(0, kind)

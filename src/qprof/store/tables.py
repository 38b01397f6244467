"""The Parquet tables of a run: their columns, and how they are put together from blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from qprof.errors import StoreError
from qprof.store.blocks import Block, Reading, SensorTrace
from qprof.store.files import write_atomic

OP_META_COLUMNS: dict[str, str] = {
    "variant": "string",
    "op": "string",
    "name": "string",
    "type": "string",
    "index": "int32",
    "subgraph": "int32",
    "kernel": "string",
    "delegate": "string",
    "partition": "int32",
    "parent": "string",
    "inputs": "list<string>",
    "outputs": "list<string>",
    "quantization": "string",
    "macs": "int64",
    "weight_bytes": "int64",
    "activation_bytes": "int64",
    "phase": "string",
}
#: One row per op of a variant. Without prefix: the variant runs from its inputs on, as it is in use; `own_`: the op is
#: given the baseline's inputs; `weight_`, `bias_`: what its constants stand for. See `qprof.stats.quantization_error`.
LAYER_ERROR_COLUMNS: dict[str, str] = {
    "variant": "string",
    "op": "string",
    "baseline_op": "string",
    "name": "string",
    "type": "string",
    "sqnr_db": "float64",
    "identical": "bool",
    "cosine": "float64",
    "max_error": "float64",
    "max_error_of_range": "float64",
    "saturated_share": "float64",
    "nonfinite": "int64",
    "own_sqnr_db": "float64",
    "own_identical": "bool",
    "own_cosine": "float64",
    "own_max_error_of_range": "float64",
    "own_saturated_share": "float64",
    "weight_sqnr_db": "float64",
    "weight_identical": "bool",
    "bias_sqnr_db": "float64",
    "bias_identical": "bool",
    "count": "int64",
    "samples": "int32",
}
SCORE_COLUMNS: dict[str, str] = {"variant": "string", "metric": "string", "sample": "int32", "value": "float64"}


def samples_table(blocks: Sequence[Block]) -> Any:
    """variant, block, round, kind, phase, inference, sample, start_ns, duration_ns: one row per inference."""
    import pyarrow as pa

    lengths = [len(block.samples["sample"]) for block in blocks]
    columns = _block_columns(blocks, lengths)
    columns["inference"] = pa.array(_concatenate([np.arange(n, dtype=np.int32) for n in lengths], np.int32))
    for name, kind in (("sample", np.int32), ("start_ns", np.int64), ("duration_ns", np.int64)):
        columns[name] = pa.array(_concatenate([block.samples[name] for block in blocks], kind))
    return pa.table(columns)


def ops_table(blocks: Sequence[Block], op_ids: Mapping[str, Sequence[str]], sources: Sequence[str]) -> Any:
    """variant, block, round, kind, phase, inference, sample, op, start_ns, duration_ns, source: a row per op event.

    `op_ids`: variant -> its op ids in the order of its op list; `sources` names the source codes.
    """
    import pyarrow as pa

    profiled = [block for block in blocks if block.ops is not None]
    ops = [block.ops for block in profiled if block.ops is not None]
    columns = _block_columns(profiled, [len(o["op"]) for o in ops])
    columns["inference"] = pa.array(_concatenate([o["inference"] for o in ops], np.int32))
    sample = [b.samples["sample"][o["inference"]] for b, o in zip(profiled, ops, strict=True)]
    columns["sample"] = pa.array(_concatenate(sample, np.int32))
    names = sorted({op for block in profiled for op in op_ids[block.variant]})
    position = {name: i for i, name in enumerate(names)}
    codes = [
        np.array([position[op] for op in op_ids[b.variant]], np.int32)[o["op"]]
        for b, o in zip(profiled, ops, strict=True)
    ]
    columns["op"] = _dictionary(_concatenate(codes, np.int32), names)
    for name in ("start_ns", "duration_ns"):
        columns[name] = pa.array(_concatenate([o[name] for o in ops], np.int64))
    columns["source"] = _dictionary(_concatenate([o["source"] for o in ops], np.int32), sources)
    return pa.table(columns)


def readings_table(blocks: Sequence[Block]) -> Any:
    """variant, block, round, kind, phase, probe, t_ns, value, unit, provenance: one row per sensor reading."""
    import pyarrow as pa

    traces = [[*block.traces, *map(_as_trace, block.readings)] for block in blocks]
    columns = _block_columns(blocks, [sum(len(trace.t_ns) for trace in found) for found in traces])
    flat = [trace for found in traces for trace in found]
    lengths = [len(trace.t_ns) for trace in flat]
    columns["probe"] = _repeated_names([trace.probe for trace in flat], lengths)
    columns["t_ns"] = pa.array(_concatenate([trace.t_ns for trace in flat], np.int64))
    columns["value"] = pa.array(_concatenate([trace.values for trace in flat], np.float64))
    columns["unit"] = _repeated_names([trace.unit for trace in flat], lengths)
    columns["provenance"] = _repeated_names([trace.provenance for trace in flat], lengths)
    return pa.table(columns)


def _as_trace(reading: Reading) -> SensorTrace:
    t_ns, values = np.array([reading.t_ns], np.int64), np.array([reading.value], np.float64)
    return SensorTrace(reading.probe, reading.unit, reading.provenance, t_ns, values)


def rows_table(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> Any:
    """A table from row mappings, with the given column types; a missing value is null."""
    import pyarrow as pa

    kept = list(rows)
    types = {
        name: pa.list_(pa.string()) if kind == "list<string>" else pa.type_for_alias(kind)
        for name, kind in columns.items()
    }
    return pa.table({name: pa.array([row.get(name) for row in kept], type_) for name, type_ in types.items()})


def write_table(path: Path, table: Any) -> None:
    """Write a table as Parquet, atomically."""
    import pyarrow.parquet as pq

    def write(stream: IO[bytes]) -> None:
        pq.write_table(table, stream, compression="zstd")

    write_atomic(path, write)


def read_table(path: Path) -> Any:
    """Read a Parquet file of the run. Raises `StoreError` where it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path)
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing; is this a complete qprof run directory?") from error
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: damaged Parquet file ({str(error).splitlines()[0]})") from error


def _block_columns(blocks: Sequence[Block], lengths: Sequence[int]) -> dict[str, Any]:
    import pyarrow as pa

    def repeated(values: Sequence[int]) -> Any:
        return pa.array(np.repeat(np.array(values, np.int32), lengths))

    return {
        "variant": _repeated_names([block.variant for block in blocks], lengths),
        "block": repeated([block.number for block in blocks]),
        "round": repeated([block.round for block in blocks]),
        "kind": _repeated_names([block.kind for block in blocks], lengths),
        "phase": _repeated_names([block.phase for block in blocks], lengths),
    }


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

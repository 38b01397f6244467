"""The tables that grow with a run's length, written part by part: what is held in memory is one row group of each.

`samples.parquet` and `readings.parquet` have their rows in the order of the blocks; `ops.parquet` has those of one
variant, phase and kind of block together, so that reading them touches no row group of another (`op_scan`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from qprof.record.blocks import Block, BlockEntry, Samples
from qprof.record.ops import OpMeta
from qprof.store import tables
from qprof.store.blocks import HeldBlocks, StoredBlocks
from qprof.store.files import write_atomic

#: Rows of a row group, at most: some 10 MB of op events in memory. More make reading part of a file dearer, fewer make
#: each row dearer.
GROUP_ROWS = 2**18
#: Columns of times, which grow from row to row or are small: their differences take a third of the bytes that zstd
#: makes of them, and are read in half the time.
_TIMES = ("start_ns", "duration_ns", "t_ns")


def write_block_tables(
    folder: Path, blocks: StoredBlocks | HeldBlocks, ops: Mapping[str, Sequence[OpMeta]], sources: Sequence[str]
) -> list[BlockEntry]:
    """Write `samples.parquet`, `readings.parquet` and `ops.parquet`, atomically; returns what the manifest keeps of
    each block. `ops`: variant -> its op list; `sources` names the source codes. Raises `StoreError`."""
    entries: list[BlockEntry] = []
    timed: dict[tuple[str, str, str], list[int]] = {}

    def write_bare(samples_stream: IO[bytes], readings_stream: IO[bytes]) -> None:
        with (
            TableStream(samples_stream, tables.samples_table) as samples,
            TableStream(readings_stream, tables.readings_table) as readings,
        ):
            for place, (block, has_ops) in enumerate(blocks.bare()):
                # Each holds what it writes, and no more: one of them may fill up far later than the other.
                samples.add(replace(block, readings=[], traces=[]), len(block.samples.sample))
                told = len(block.readings) + sum(len(trace.t_ns) for trace in block.traces)
                readings.add(replace(block, samples=Samples.none()), told)
                entries.append(block.entry())
                if has_ops:
                    timed.setdefault((block.variant, block.phase, block.kind), []).append(place)

    op_ids = {variant: [op.op for op in found] for variant, found in ops.items()}

    def write_ops(stream: IO[bytes]) -> None:
        with TableStream(stream, lambda chosen: tables.ops_table(chosen, op_ids, sources)) as events:
            for places in timed.values():
                for block in map(blocks.whole, places):
                    events.add(block, 0 if block.ops is None else len(block.ops.op))
                events.flush()

    readings_path = folder / "readings.parquet"
    write_atomic(
        folder / "samples.parquet",
        lambda samples: write_atomic(readings_path, lambda readings: write_bare(samples, readings)),
    )
    write_atomic(folder / "ops.parquet", write_ops)
    return entries


class TableStream:
    """A Parquet file that is written while its rows come."""

    def __init__(self, stream: IO[bytes], table_of: Callable[[Sequence[Block]], Any]) -> None:
        self._table_of = table_of
        self._writer = _parquet_writer(stream, table_of(()).schema)
        self._held: list[Block] = []
        self._rows = 0

    def __enter__(self) -> TableStream:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.flush()
        self._writer.close()

    def add(self, block: Block, rows: int) -> None:
        """Take a block that has so many rows of this table."""
        if self._rows and self._rows + rows > GROUP_ROWS:
            self.flush()
        self._held.append(block)
        self._rows += rows

    def flush(self) -> None:
        """Write what is held, as row groups of their own."""
        if self._rows:
            self._writer.write_table(self._table_of(self._held), row_group_size=GROUP_ROWS)
        self._held, self._rows = [], 0


def _parquet_writer(stream: IO[bytes], schema: Any) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(
        stream,
        schema,
        compression="zstd",
        use_dictionary=[name for name in schema.names if name not in (*_TIMES, "value")],
        column_encoding={name: "DELTA_BINARY_PACKED" for name in schema.names if name in _TIMES},
    )

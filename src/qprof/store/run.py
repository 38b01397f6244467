"""Reading a run: what every command, report and explanation draws from, finished or not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.record.blocks import Block, BlockEntry
from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.record.phases import Phase
from qprof.record.rows import (
    OP_COLUMNS,
    READING_COLUMNS,
    SAMPLE_COLUMNS,
    LayerErrorRow,
    OfVariant,
    OutputDistanceRow,
    PlausibilityRow,
    ScoreRow,
)
from qprof.store import tables
from qprof.store.blocks import StoredBlocks, block_files, read_block
from qprof.store.manifests import read_manifest
from qprof.store.op_scan import Chunk, Names, column_of, scan
from qprof.store.readings import Readings
from qprof.store.scores import Column, Scores
from qprof.store.times import OP_TIMES as OP_TIMES
from qprof.store.times import Latencies as Latencies
from qprof.store.times import OpTimes as OpTimes
from qprof.store.writer import PARTS, saved_ops


class Run:
    """One run directory, opened for reading. Raises `StoreError` where it is not one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def complete(self) -> bool:
        return self.manifest.complete

    @property
    def variants(self) -> list[VariantEntry]:
        """The manifest's entries of the variants, baseline first."""
        return self.manifest.variants

    @property
    def baseline(self) -> str:
        """Name of the first variant, which the others are compared with."""
        return self.manifest.baseline.name

    @property
    def metric(self) -> str | None:
        """The score that leads, `None` where nothing was scored."""
        return self.manifest.metric

    def variant(self, name: str) -> VariantEntry:
        """One variant's manifest entry. Raises `StoreError` naming those there are."""
        for entry in self.variants:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.variants)
        raise StoreError(f"{self.folder}: no variant {name!r} in this run; it has {known}")

    @cached_property
    def _blocks(self) -> list[Block]:
        """The blocks of a run that is not finished, without their op events, which are most of them."""
        return [block for block, _ in StoredBlocks(self.folder / PARTS).bare()]

    def blocks(self) -> list[BlockEntry]:
        """Every block: which it was, and what it told of itself."""
        return list(self.manifest.blocks) if self.complete else [block.entry() for block in self._blocks]

    @cached_property
    def samples(self) -> Any:
        """`samples.parquet` as an Arrow table of `SampleRow`."""
        path = self.folder / "samples.parquet"
        return tables.read_columns(path, SAMPLE_COLUMNS) if self.complete else tables.samples_table(self._blocks)

    @cached_property
    def op_meta(self) -> dict[str, list[OpMeta]]:
        """variant -> its op list, all phases together."""
        if not self.complete:
            known = {entry.name: saved_ops(self.folder, entry.name) for entry in self.variants}
            return {name: ops for name, ops in known.items() if ops is not None}
        path = self.folder / "op_meta.parquet"
        rows = tables.read_table(path).to_pylist()
        found: dict[str, list[OpMeta]] = {}
        for of, op in zip(tables.rows_as(path, rows, OfVariant), tables.rows_as(path, rows, OpMeta), strict=True):
            found.setdefault(of.variant, []).append(op)
        return found

    @cached_property
    def op_events(self) -> Any:
        """`ops.parquet` as an Arrow table of `OpRow`: all of it, however large. `op_chunks` reads it in parts."""
        if self.complete:
            return tables.read_columns(self.folder / "ops.parquet", OP_COLUMNS)
        op_ids = {variant: [op.op for op in ops] for variant, ops in self.op_meta.items()}
        whole = [read_block(path, predictions=False) for path in block_files(self.folder / PARTS)]
        return tables.ops_table(whole, op_ids, self.manifest.op_sources)

    @cached_property
    def readings_table(self) -> Any:
        """`readings.parquet` as an Arrow table of `ReadingRow`."""
        path = self.folder / "readings.parquet"
        return tables.read_columns(path, READING_COLUMNS) if self.complete else tables.readings_table(self._blocks)

    @cached_property
    def readings(self) -> Readings:
        """What sensors told, by block and channel."""
        return Readings(self.readings_table)

    @property
    def scores(self) -> list[ScoreRow]:
        """Rows of `scores.parquet`; empty for a run that is not finished or has no labels. There may be millions of
        them: `score_rows` gives one after the other."""
        return list(self.score_rows())

    def score_rows(self) -> Iterator[ScoreRow]:
        """The same one after the other."""
        return self._scores.rows()

    @cached_property
    def _scores(self) -> Scores:
        return Scores(self.folder / "scores.parquet" if self.complete else None)

    @property
    def whole_scores(self) -> list[ScoreRow]:
        """Those rows that are of the whole data set."""
        return self._scores.whole

    @cached_property
    def layer_errors(self) -> list[LayerErrorRow]:
        """Rows of `layer_errors.parquet`: how far each op of a variant is from the baseline's; empty for a run that is
        not finished, or in which layers were not compared."""
        path = self.folder / "layer_errors.parquet"
        if not self.complete or not path.is_file():
            return []
        return tables.read_rows(path, LayerErrorRow)

    @cached_property
    def plausibility(self) -> list[PlausibilityRow]:
        """Rows of `plausibility.parquet`: what the baseline scores under other settings of its task; empty for a run
        that is not finished, or in which none was tried."""
        path = self.folder / "plausibility.parquet"
        if not self.complete or not path.is_file():
            return []
        return tables.read_rows(path, PlausibilityRow)

    @cached_property
    def output_distances(self) -> list[OutputDistanceRow]:
        """Rows of `output_distances.parquet`: how far each output of a variant is from the baseline's on each input;
        empty for a run that is not finished, or in which outputs were not compared."""
        path = self.folder / "output_distances.parquet"
        if not self.complete or not path.is_file():
            return []
        return tables.read_rows(path, OutputDistanceRow)

    @cached_property
    def _whole_scores(self) -> dict[tuple[str, str], float | None]:
        """Only the first of several alike counts."""
        return {(row.variant, row.metric): row.value for row in reversed(self.whole_scores)}

    def score(self, variant: str, metric: str) -> float | None:
        """A variant's score over the whole data set, `None` where it was not scored or is undefined."""
        return self._whole_scores.get((variant, metric))

    def sample_scores(self, variant: str, metric: str) -> Mapping[int, float]:
        """A score by sample, samples of which nothing is known left out: sample -> value, under the name of its rows
        ("correct", "log_likelihood", "first_rank", "tp50")."""
        return self._scores.by_sample(variant, metric)

    def sample_column(self, variant: str, metric: str) -> Column:
        """The same as arrays, only to be read: int32[n] samples, each once, and float64[n] values."""
        return self._scores.column(variant, metric)

    def phases(self) -> list[Phase]:
        """The phases that the run's inferences come in, in order.

        A variant that failed before it was loaded has none; they are those of the first that has.
        """
        return next((list(entry.phases) for entry in self.variants if entry.phases), [Phase()])

    def phase(self, name: str | None = None) -> str:
        """The phase of that name, by default the first. Raises `StoreError` naming those there are."""
        known = [phase.name for phase in self.phases()]
        if name is not None and name not in known:
            raise StoreError(f"{self.folder}: no phase {name!r} in this run; it has {', '.join(known)}")
        return name or known[0]

    def to_arrow(self, table: str = "samples") -> Any:
        """A table of the run as a `pyarrow.Table`; see `qprof.store.frames.arrow` for their names."""
        from qprof.store import frames

        return frames.arrow(self, table)

    def to_pandas(self, table: str = "samples") -> Any:
        """The same as a `pandas.DataFrame`. Raises `MissingExtraError` without pandas."""
        from qprof.store import frames

        return frames.pandas(self, table)

    def to_polars(self, table: str = "samples") -> Any:
        """The same as a `polars.DataFrame`. Raises `MissingExtraError` without polars."""
        from qprof.store import frames

        return frames.polars(self, table)

    def latency(self, variant: str, kind: str = "clean", phase: str | None = None) -> Latencies:
        """Inferences of one variant: "clean" (what latency is quoted from), "profiled", "warmup", or the batches of
        "scored"; of the run's first phase, or of the one that is named (kind "scored" has none of its own)."""
        self.variant(variant)
        place = (variant, kind, None if kind == "scored" else self.phase(phase))
        if place not in self._latencies:
            self._latencies[place] = self._latency(*place)
        return self._latencies[place]

    @cached_property
    def _latencies(self) -> dict[tuple[str, str, str | None], Latencies]:
        return {}

    def _latency(self, variant: str, kind: str, phase: str | None) -> Latencies:
        chosen = self._samples["variant"].is_name(variant) & self._samples["kind"].is_name(kind)
        if phase is not None:
            chosen &= self._samples["phase"].is_name(phase)
        found = {name: self._samples[name][chosen] for name in Latencies.__slots__}
        for column in found.values():
            column.setflags(write=False)  # all who ask get the same arrays
        return Latencies(**found)

    @cached_property
    def _samples(self) -> dict[str, Any]:
        return {name: column_of(self.samples[name]) for name in SAMPLE_COLUMNS}

    def ops_of(self, variant: str, phase: str | None = None) -> list[OpMeta]:
        """The ops of one variant and phase, in the order of the variant's op list; none where they were not timed."""
        wanted = self.phase(phase)
        return [op for op in self.op_meta.get(variant, []) if op.phase == wanted]

    def ops(self, variant: str, phase: str | None = None, kind: str = "profiled") -> OpTimes:
        """Op events of one variant and phase, from its "profiled" blocks or those of kind "reset"."""
        names = OpTimes.__slots__
        chunks = list(self.op_chunks(variant, phase, kind, names))
        empty = {name: np.empty(0, np.int64 if name.endswith("_ns") else np.int32) for name in names}
        return OpTimes(**{name: np.concatenate([chunk[name] for chunk in chunks or [empty]]) for name in names})

    def op_chunks(
        self, variant: str, phase: str | None = None, kind: str = "profiled", columns: Sequence[str] = OP_TIMES
    ) -> Iterator[Chunk]:
        """The same part by part, and only the columns of `OpRow` that are named: none of it need ever be in memory as a
        whole. `op` indexes `ops_of` that variant and phase; `source` are `qprof.store.op_scan.Names`."""
        self.variant(variant)
        wanted = self.phase(phase)
        position = {op.op: i for i, op in enumerate(self.ops_of(variant, wanted))}
        if not self.complete:
            yield from self._unfinished_chunks(variant, wanted, kind, columns, position)
            return
        path = self.folder / "ops.parquet"
        for chunk in scan(path, OP_COLUMNS, columns, {"variant": variant, "kind": kind, "phase": wanted}):
            yield {**chunk, "op": _positions(path, chunk["op"], position)} if "op" in chunk else chunk

    def _unfinished_chunks(
        self, variant: str, phase: str, kind: str, columns: Sequence[str], position: Mapping[str, int]
    ) -> Iterator[Chunk]:
        blocks = StoredBlocks(self.folder / PARTS)
        ids = [op.op for op in self.op_meta.get(variant, [])]
        for place, block in enumerate(self._blocks):
            if (block.variant, block.phase, block.kind) != (variant, phase, kind):
                continue
            ops = blocks.whole(place).ops
            if ops is not None:
                count = len(ops.op)
                known: dict[str, Any] = {
                    "block": np.full(count, block.number, np.int32),
                    "round": np.full(count, block.round, np.int32),
                    "inference": ops.inference,
                    "sample": block.samples.sample[ops.inference],
                    "op": _positions(self.folder / PARTS, Names(ops.op, ids), position),
                    "start_ns": ops.start_ns,
                    "duration_ns": ops.duration_ns,
                    "source": Names(ops.source, self.manifest.op_sources),
                }
                yield {name: known[name] for name in columns}

    def op_totals(self) -> dict[tuple[str, str, str], int]:
        """(variant, phase, op) -> nanoseconds of all its events in the profiled blocks."""
        totals: dict[tuple[str, str, str], int] = {}

        def add(place: tuple[str, str], names: Sequence[str], codes: Any, durations: Any) -> None:
            # Whole numbers below 2^53 add up exactly in float64.
            sums = np.bincount(codes, durations, len(names))
            for code in np.unique(codes).tolist():
                totals[*place, names[code]] = totals.get((*place, names[code]), 0) + int(sums[code])

        columns = ("variant", "phase", "op", "duration_ns")
        if self.complete:
            for chunk in scan(self.folder / "ops.parquet", OP_COLUMNS, columns, {"kind": "profiled"}):
                variants, phases, ops = (chunk[name] for name in columns[:3])
                places = variants.codes.astype(np.int64) * len(phases.names) + phases.codes
                for place in np.unique(places).tolist():
                    variant, phase = divmod(place, len(phases.names))
                    own = places == place
                    where = (variants.names[variant], phases.names[phase])
                    add(where, ops.names, ops.codes[own], chunk["duration_ns"][own])
            return totals
        for entry in self.manifest.living():
            for phase in self.phases():
                names = [op.op for op in self.ops_of(entry.name, phase.name)]
                for chunk in self.op_chunks(entry.name, phase.name):
                    add((entry.name, phase.name), names, chunk["op"], chunk["duration_ns"])
        return totals

    def op_sources(self, variant: str, phase: str | None = None) -> dict[str, str]:
        """How each op of a variant and phase was timed (`qprof.record.ops.SOURCES`), by its id; an op that was timed in
        several ways, or in none, is left out."""
        found: dict[int, set[str]] = {}
        for chunk in self.op_chunks(variant, phase, columns=("op", "source")):
            source = chunk["source"]
            pairs = np.unique(chunk["op"].astype(np.int64) * len(source.names) + source.codes)
            for pair in pairs.tolist():
                op, code = divmod(pair, len(source.names))
                found.setdefault(op, set()).add(source.names[code])
        ids = [op.op for op in self.ops_of(variant, phase)]
        return {ids[op]: next(iter(how)) for op, how in sorted(found.items()) if len(how) == 1}


def _positions(path: Path, ops: Names, position: Mapping[str, int]) -> NDArray[np.int32]:
    """Where ops stand in their variant's list. Raises `StoreError` for one that is not in it."""
    known = np.array([position.get(name, -1) for name in ops.names], np.int32)
    found = known[ops.codes] if len(known) else np.empty(0, np.int32)
    if len(found) and int(found.min()) < 0:
        raise tables.damaged(path, "it has events of an op that its variant does not have")
    return found


def runs_folder() -> Path:
    """Where runs are kept unless --output says otherwise: $QPROF_RUNS, else ./runs."""
    return Path(os.environ.get("QPROF_RUNS") or "runs")


def list_runs(folder: Path | None = None) -> list[Path]:
    """Run directories in the runs folder, newest first."""
    place = folder if folder is not None else runs_folder()
    if not place.is_dir():
        return []
    found = [path.parent for path in place.glob("*/manifest.json")]
    return sorted(found, key=lambda path: (path / "manifest.json").stat().st_mtime, reverse=True)


def find_run(reference: str) -> Path:
    """The run directory that a command line means: a path, a name or its beginning in the runs folder, "latest", or the
    name of a profile for its latest run.

    Raises `StoreError` where there is none, or more than one.
    """
    direct = Path(reference)
    if os.path.isfile(direct / "manifest.json"):  # unlike Path.is_file, false for a name too long to be one
        return direct
    runs = list_runs()
    if reference == "latest":
        if not runs:
            raise StoreError(f"{runs_folder()}: no runs yet; make one with qprof run")
        return runs[0]
    matches = [path for path in runs if path.name == reference] or [p for p in runs if p.name.startswith(reference)]
    if len(matches) == 1:
        return matches[0]
    of_profile = [path for path in runs if path.name.partition("-")[2].partition("-")[2] == reference]
    if of_profile and not matches:
        return of_profile[0]
    if matches:
        raise StoreError(f"{reference}: means {len(matches)} runs ({', '.join(p.name for p in matches[:4])}); say more")
    raise StoreError(f"{reference}: no such run here or in {runs_folder()}; see qprof list")

"""Reading a run: what every command, report and explanation draws from, finished or not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
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
from qprof.store.blocks import block_files, read_block
from qprof.store.manifests import read_manifest
from qprof.store.readings import Readings
from qprof.store.writer import PARTS, saved_ops


@dataclass(frozen=True, slots=True)
class Latencies:
    """Inferences of one variant, kind and phase, as parallel arrays in the order they ran."""

    block: NDArray[np.int32]
    round: NDArray[np.int32]
    inference: NDArray[np.int32]
    sample: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    duration_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class OpTimes:
    """Op events of one variant and phase as parallel arrays; `op` indexes `Run.ops_of` that variant and phase."""

    block: NDArray[np.int32]
    round: NDArray[np.int32]
    inference: NDArray[np.int32]
    op: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    duration_ns: NDArray[np.int64]


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
        """The blocks of a run that is not finished."""
        return [read_block(path, predictions=False) for path in block_files(self.folder / PARTS)]

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
        found: dict[str, list[OpMeta]] = {}
        for variant, op in zip(tables.read_rows(path, OfVariant), tables.read_rows(path, OpMeta), strict=True):
            found.setdefault(variant.variant, []).append(op)
        return found

    @cached_property
    def op_events(self) -> Any:
        """`ops.parquet` as an Arrow table of `OpRow`."""
        if self.complete:
            return tables.read_columns(self.folder / "ops.parquet", OP_COLUMNS)
        op_ids = {variant: [op.op for op in ops] for variant, ops in self.op_meta.items()}
        return tables.ops_table(self._blocks, op_ids, self.manifest.op_sources)

    @cached_property
    def readings_table(self) -> Any:
        """`readings.parquet` as an Arrow table of `ReadingRow`."""
        path = self.folder / "readings.parquet"
        return tables.read_columns(path, READING_COLUMNS) if self.complete else tables.readings_table(self._blocks)

    @cached_property
    def readings(self) -> Readings:
        """What sensors told, by block and channel."""
        return Readings(self.readings_table)

    @cached_property
    def scores(self) -> list[ScoreRow]:
        """Rows of `scores.parquet`; empty for a run that is not finished or has no labels."""
        if not self.complete:
            return []
        return tables.read_rows(self.folder / "scores.parquet", ScoreRow)

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
        return {(row.variant, row.metric): row.value for row in reversed(self.scores) if row.sample is None}

    @cached_property
    def _sample_scores(self) -> dict[tuple[str, str], dict[int, float]]:
        found: dict[tuple[str, str], dict[int, float]] = {}
        for row in self.scores:
            if row.sample is not None and row.value is not None:
                found.setdefault((row.variant, row.metric), {})[row.sample] = row.value
        return found

    def score(self, variant: str, metric: str) -> float | None:
        """A variant's score over the whole data set, `None` where it was not scored or is undefined."""
        return self._whole_scores.get((variant, metric))

    def sample_scores(self, variant: str, metric: str) -> Mapping[int, float]:
        """A score by sample, samples of which nothing is known left out: sample -> value, under the name of its rows
        ("correct", "log_likelihood", "first_rank", "tp50")."""
        return self._sample_scores.get((variant, metric), {})

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
        chosen = {} if kind == "scored" else {"phase": self.phase(phase)}
        columns = _filtered(self.samples, variant=variant, kind=kind, **chosen)
        return Latencies(**{name: columns[name] for name in Latencies.__slots__})

    def ops_of(self, variant: str, phase: str | None = None) -> list[OpMeta]:
        """The ops of one variant and phase, in the order of the variant's op list; none where they were not timed."""
        wanted = self.phase(phase)
        return [op for op in self.op_meta.get(variant, []) if op.phase == wanted]

    def ops(self, variant: str, phase: str | None = None, kind: str = "profiled") -> OpTimes:
        """Op events of one variant and phase, from its "profiled" blocks or those of kind "reset"."""
        self.variant(variant)
        columns = _filtered(self.op_events, variant=variant, kind=kind, phase=self.phase(phase))
        position = {op.op: i for i, op in enumerate(self.ops_of(variant, phase))}
        dictionary = columns.pop("op.names")
        codes = np.array([position.get(name, -1) for name in dictionary], np.int32)
        columns["op"] = codes[columns["op"]] if len(codes) else columns["op"]
        return OpTimes(**{name: columns[name] for name in OpTimes.__slots__})

    def op_sources(self, variant: str, phase: str | None = None) -> dict[str, str]:
        """How each op of a variant and phase was timed (`qprof.record.ops.SOURCES`), by its id; an op that was timed in
        several ways, or in none, is left out."""
        columns = _filtered(self.op_events, variant=variant, kind="profiled", phase=self.phase(phase))
        pairs = np.unique(np.column_stack([columns["op"], columns["source"]]), axis=0)
        ops, counts = np.unique(pairs[:, 0], return_counts=True)
        once = set(ops[counts == 1].tolist())
        names, sources = columns["op.names"], columns["source.names"]
        return {names[op]: sources[source] for op, source in pairs.tolist() if op in once}


def _filtered(table: Any, **equal: str) -> dict[str, Any]:
    """Columns of the rows whose dictionary columns have the given values; dictionary columns stay codes + names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    mask = None
    for name, value in equal.items():
        found = pc.equal(table[name].cast(pa.string()), value)
        mask = found if mask is None else pc.and_(mask, found)
    rows = table.filter(mask)
    columns: dict[str, Any] = {}
    for name in rows.column_names:
        column = rows[name].combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        if pa.types.is_dictionary(column.type):
            columns[name] = column.indices.to_numpy(zero_copy_only=False)
            columns[f"{name}.names"] = column.dictionary.to_pylist()
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return columns


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

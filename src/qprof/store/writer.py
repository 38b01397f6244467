"""Writing a run: manifest, variants, blocks as they come, tables at the end."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from qprof.errors import StoreError
from qprof.store import tables
from qprof.store.blocks import Block, block_files, read_block, read_predictions, write_block
from qprof.store.files import make_folder, read_json, store_error, write_json

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
PARTS = "parts"
PREDICTIONS = "predictions"

#: What every reader of a manifest counts on.
_REQUIRED = ("status", "created", "profile", "machine", "variants")


#: What puts a finished run's tables in place: folder, variants, op sources -> the manifest's facts of each block.
Tabulate = Callable[[Path, Sequence[str], Sequence[str]], list[dict[str, Any]]]


class RunWriter:
    """The one process that writes a run directory; a second one is refused.

    Blocks go to `parts/`, one file each, until `finalize` turns them into the tables of the finished run. Every file
    is written atomically, so that a killed run has lost the block in flight and nothing else.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._lock = _lock(folder)

    @classmethod
    def create(cls, folder: Path, manifest: Mapping[str, Any]) -> RunWriter:
        """Start a new run. Raises `StoreError` where the folder exists already or cannot be written."""
        try:
            occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        except OSError as error:
            raise store_error(folder, error) from error
        if occupied:
            raise StoreError(f"{folder}: exists already; continue it with --resume, or choose another --output")
        make_folder(folder / PARTS)
        writer = cls(folder, {"schema_version": SCHEMA_VERSION, **manifest})
        writer.save_manifest()
        return writer

    @classmethod
    def resume(cls, folder: Path) -> RunWriter:
        """Go on with a run that was interrupted. Raises `StoreError` where there is none."""
        writer = cls(folder, read_manifest(folder))
        writer.manifest = read_manifest(folder)  # again: before it was locked, another qprof may have finished it
        if writer.manifest["status"] != "complete":
            make_folder(folder / PARTS)
        return writer

    def close(self) -> None:
        """Let go of the run directory."""
        self._lock.close()

    def save_manifest(self) -> None:
        """Write the manifest as it stands."""
        write_json(self.folder / MANIFEST, self.manifest)

    def save_ops(self, variant: str, ops: Sequence[Mapping[str, Any]]) -> None:
        """Keep a variant's op list (rows of `op_meta`), whose order its blocks' op numbers refer to."""
        write_json(self.folder / PARTS / f"ops-{variant}.json", list(ops))

    def saved_ops(self, variant: str) -> list[dict[str, Any]] | None:
        """A variant's op list, `None` where none was kept."""
        return _saved_rows(self.folder, "ops", variant)

    def save_block(self, block: Block) -> None:
        """Keep a measured block."""
        write_block(self.folder / PARTS, block)

    def finished_blocks(self) -> set[int]:
        """Numbers of the blocks that are kept."""
        return {int(path.stem.removeprefix("block-")) for path in block_files(self.folder / PARTS)}

    def finalize(self, sources: Sequence[str], tabulate: Tabulate | None = None) -> None:
        """Let `tabulate` (`write_tables`, or something that has it called elsewhere) write the tables of the finished
        run, then drop the parts they were made of. `sources` names the codes of op event sources.
        """
        variants = [entry["name"] for entry in self.manifest["variants"]]
        self.manifest["blocks"] = (tabulate or write_tables)(self.folder, variants, sources)
        # In memory only once it is on the disk: whoever sees "complete" may count on the tables, and not on the parts.
        write_json(self.folder / MANIFEST, {**self.manifest, "status": "complete"})
        self.manifest["status"] = "complete"
        self._drop_parts()

    def _drop_parts(self) -> None:
        parts = self.folder / PARTS
        for path in parts.iterdir():
            path.unlink()
        parts.rmdir()


def save_scores(folder: Path, variant: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep the score rows of a variant of an unfinished run."""
    write_json(folder / PARTS / f"scores-{variant}.json", list(rows), indent=None)


def save_layer_errors(folder: Path, variant: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep how far a variant's layers are from the baseline's, in an unfinished run."""
    write_json(folder / PARTS / f"layers-{variant}.json", list(rows), indent=None)


def layer_errors_saved(folder: Path, variant: str) -> bool:
    """Whether they were compared before the run was interrupted."""
    return _saved_rows(folder, "layers", variant) is not None


def save_predictions(folder: Path, variant: str, value: Any) -> None:
    """Write a variant's results file (a COCO results list, for a detector)."""
    make_folder(folder / PREDICTIONS)
    write_json(folder / PREDICTIONS / f"{variant}.json", value, indent=None)


def saved_predictions(folder: Path, variant: str) -> dict[int, Any]:
    """A variant's predictions by sample, from the blocks of an unfinished run."""
    found: dict[int, Any] = {}
    for path in block_files(folder / PARTS):
        found |= read_predictions(path, variant)
    return found


def write_tables(folder: Path, variants: Sequence[str], sources: Sequence[str]) -> list[dict[str, Any]]:
    """Write the tables of a finished run from its parts; returns what the manifest keeps of each block.

    Belongs to the writer that holds the run's lock, but may be called for it in another process: the parts of a long
    run are large, and so is what reads them.
    """
    blocks = [read_block(path, predictions=False) for path in block_files(folder / PARTS)]
    ops = {variant: rows for variant in variants if (rows := _saved_rows(folder, "ops", variant)) is not None}
    op_ids = {variant: [row["op"] for row in rows] for variant, rows in ops.items()}
    meta = [{"variant": variant, **row} for variant, rows in ops.items() for row in rows]
    scores = [row for variant in variants for row in _saved_rows(folder, "scores", variant) or ()]
    layers = [row for variant in variants for row in _saved_rows(folder, "layers", variant) or ()]
    tables.write_table(folder / "samples.parquet", tables.samples_table(blocks))
    tables.write_table(folder / "ops.parquet", tables.ops_table(blocks, op_ids, sources))
    tables.write_table(folder / "op_meta.parquet", tables.rows_table(meta, tables.OP_META_COLUMNS))
    tables.write_table(folder / "readings.parquet", tables.readings_table(blocks))
    tables.write_table(folder / "scores.parquet", tables.rows_table(scores, tables.SCORE_COLUMNS))
    tables.write_table(folder / "layer_errors.parquet", tables.rows_table(layers, tables.LAYER_ERROR_COLUMNS))
    return [block_entry(block) for block in blocks]


def block_entry(block: Block) -> dict[str, Any]:
    """What the manifest of a finished run keeps of a block."""
    names = ("number", "round", "variant", "kind", "phase")
    return {**{name: getattr(block, name) for name in names}, **block.facts}


def _saved_rows(folder: Path, what: str, variant: str) -> list[dict[str, Any]] | None:
    path = folder / PARTS / f"{what}-{variant}.json"
    rows: list[dict[str, Any]] | None = read_json(path) if path.exists() else None
    return rows


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest. Raises `StoreError` for no run, a damaged one, or one of another schema version."""
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such run directory; see qprof list")
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{folder}: written with schema version {version}, this qprof reads {SCHEMA_VERSION}; use the qprof "
            "that wrote it"
        )
    lacking = [key for key in _REQUIRED if not manifest.get(key)]
    if lacking:
        raise StoreError(f"{folder / MANIFEST}: damaged, it has no {lacking[0]!r}; restore it or run anew")
    return manifest


def _lock(folder: Path) -> IO[str]:
    try:
        stream = open(folder / ".lock", "w")  # noqa: SIM115  (held as long as the writer lives)
    except OSError as error:
        raise store_error(folder / ".lock", error) from error
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise StoreError(f"{folder}: another qprof is writing this run; wait for it, or stop it") from error
    return stream

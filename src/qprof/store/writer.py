"""Writing a run: manifest, variants, blocks as they come, tables at the end."""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from qprof.errors import StoreError
from qprof.record.blocks import Block, BlockEntry
from qprof.record.manifest import Manifest
from qprof.record.ops import OpMeta
from qprof.record.rows import LayerErrorRow, OutputDistanceRow, PlausibilityRow, ScoreRow
from qprof.store import tables
from qprof.store.blocks import (
    HeldBlocks,
    StoredBlocks,
    block_files,
    block_path,
    read_block,
    read_predictions,
    write_block,
)
from qprof.store.files import drop_temporaries, make_folder, read_bytes, store_error, write_atomic, write_json
from qprof.store.manifests import read_manifest, write_manifest
from qprof.store.scores import write_scores
from qprof.store.table_stream import write_block_tables

PARTS = "parts"
PREDICTIONS = "predictions"

_Row = TypeVar("_Row")

#: What puts a finished run's tables in place: folder, variants, op sources -> the manifest's entries of the blocks.
Tabulate = Callable[[Path, Sequence[str], Sequence[str]], list[BlockEntry]]


class RunWriter:
    """The one process that writes a run directory; a second one is refused.

    Blocks go to `parts/`, one file each, until `finalize` turns them into the tables of the finished run. Every file
    is written atomically, so that a killed run has lost the block in flight and nothing else.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._lock = _lock(folder)

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> RunWriter:
        """Start a new run. Raises `StoreError` where the folder exists already or cannot be written."""
        try:
            occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        except OSError as error:
            raise store_error(folder, error) from error
        if occupied:
            raise StoreError(f"{folder}: exists already; continue it with --resume, or choose another --output")
        make_folder(folder / PARTS)
        writer = cls(folder, manifest)
        writer.save_manifest()
        return writer

    @classmethod
    def resume(cls, folder: Path) -> RunWriter:
        """Go on with a run that was interrupted. Raises `StoreError` where there is none."""
        found = read_manifest(folder)
        refuse_links(folder)
        writer = cls(folder, found)
        writer._drop_temporaries()
        writer.manifest = read_manifest(folder)  # again: before it was locked, another qprof may have finished it
        if not writer.manifest.complete:
            make_folder(folder / PARTS)
        elif not writer._has_use_for_parts() and (folder / PARTS).is_dir():
            writer._drop_parts()  # killed between the two last steps of `finalize`
        return writer

    def close(self) -> None:
        """Let go of the run directory."""
        self._lock.close()

    def save_manifest(self) -> None:
        """Write the manifest as it stands."""
        write_manifest(self.folder, self.manifest)

    def save_ops(self, variant: str, ops: Sequence[OpMeta]) -> None:
        """Keep a variant's op list, whose order its blocks' op numbers refer to."""
        write_json(_part(self.folder, "ops", variant), [asdict(op) for op in ops])

    def saved_ops(self, variant: str) -> list[OpMeta] | None:
        """A variant's op list, `None` where none was kept."""
        return saved_ops(self.folder, variant)

    def save_block(self, block: Block) -> None:
        """Keep a measured block."""
        write_block(self.folder / PARTS, block)

    def drop_block(self, number: int) -> None:
        """Forget a block, if it is kept: that of a round which could not be finished."""
        block_path(self.folder / PARTS, number).unlink(missing_ok=True)

    def kept_block(self, number: int) -> Block:
        """A block that is kept, without its predictions. Raises `StoreError` where it is damaged."""
        return read_block(block_path(self.folder / PARTS, number), predictions=False)

    def finished_blocks(self) -> set[int]:
        """Numbers of the blocks that are kept."""
        return {int(path.stem.removeprefix("block-")) for path in block_files(self.folder / PARTS)}

    def finalize(self, sources: Sequence[str], tabulate: Tabulate | None = None) -> None:
        """Let `tabulate` (`write_tables`, or something that has it called elsewhere) write the tables of the finished
        run, then drop the parts they were made of, unless there is something `left` that resuming would try again.
        `sources` names the codes of op event sources.
        """
        variants = [entry.name for entry in self.manifest.variants]
        try:
            self.manifest.blocks = (tabulate or write_tables)(self.folder, variants, sources)
        finally:
            self._drop_temporaries()  # of processes that wrote tables, or scored, and were killed
        # In memory only once it is on the disk: whoever sees "complete" may count on the tables, and not on the parts.
        write_manifest(self.folder, msgspec.structs.replace(self.manifest, status="complete"))
        self.manifest.status = "complete"
        if not self._has_use_for_parts():
            self._drop_parts()

    def _has_use_for_parts(self) -> bool:
        """Whether the blocks of a finished run may be added to."""
        return self._has_left() or self.manifest.can_be_sharpened()

    def can_go_on(self) -> bool:
        """Whether there is something to resume: the run was interrupted, or it is finished and has something left whose
        parts are kept."""
        return not self.manifest.complete or (self._has_left() and self.has_parts())

    def _has_left(self) -> bool:
        """Whether a resumed run would try something again."""
        return bool(self.manifest.left() or self.manifest.untimed())

    def has_parts(self) -> bool:
        """Whether the blocks of the run are kept one by one, so that others can be added."""
        return (self.folder / PARTS).is_dir()

    def _drop_temporaries(self) -> None:
        """What killed processes were writing."""
        for folder in (self.folder, self.folder / PARTS, self.folder / PREDICTIONS):
            drop_temporaries(folder)

    def _drop_parts(self) -> None:
        parts = self.folder / PARTS
        try:
            for path in parts.iterdir():
                path.unlink()
            parts.rmdir()
        except OSError as error:
            raise store_error(parts, error) from error


def saved_ops(folder: Path, variant: str) -> list[OpMeta] | None:
    """A variant's op list from an unfinished run, `None` where none was kept."""
    return _saved_rows(folder, "ops", variant, OpMeta)


def save_scores(folder: Path, variant: str, rows: Sequence[ScoreRow]) -> None:
    """Keep the score rows of a variant of an unfinished run."""
    content = msgspec.json.encode(rows)
    write_atomic(_part(folder, "scores", variant), lambda stream: stream.write(content))


def save_layer_errors(folder: Path, variant: str, rows: Sequence[LayerErrorRow]) -> None:
    """Keep how far a variant's layers are from the baseline's, in an unfinished run."""
    write_json(_part(folder, "layers", variant), [asdict(row) for row in rows], indent=None)


def layer_errors_saved(folder: Path, variant: str) -> bool:
    """Whether they were compared before the run was interrupted."""
    return _part(folder, "layers", variant).exists()


def save_plausibility(folder: Path, variant: str, rows: Sequence[PlausibilityRow]) -> None:
    """Keep what the baseline scores under other settings, in an unfinished run."""
    write_json(_part(folder, "plausibility", variant), [asdict(row) for row in rows], indent=None)


def plausibility_saved(folder: Path, variant: str) -> bool:
    """Whether they were tried before the run was interrupted."""
    return _part(folder, "plausibility", variant).exists()


def save_output_distances(folder: Path, variant: str, rows: Sequence[OutputDistanceRow]) -> None:
    """Keep how far a variant's outputs are from the baseline's, in an unfinished run."""
    write_json(_part(folder, "outputs", variant), [asdict(row) for row in rows], indent=None)


def saved_output_distances(folder: Path, variant: str) -> list[OutputDistanceRow] | None:
    """What `save_output_distances` kept, also before the run was interrupted; `None` where nothing was."""
    return _saved_rows(folder, "outputs", variant, OutputDistanceRow)


def save_distance_scores(folder: Path, variant: str, rows: Sequence[ScoreRow]) -> None:
    """Keep the scores of a variant that need no labels, beside those that its task gave it."""
    write_json(_part(folder, "distances", variant), [asdict(row) for row in rows], indent=None)


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


def write_tables(folder: Path, variants: Sequence[str], sources: Sequence[str]) -> list[BlockEntry]:
    """Write the tables of a finished run from its parts; returns what the manifest keeps of each block.

    Belongs to the writer that holds the run's lock, but may be called for it in another process: the parts of a long
    run are large, and so is what reads them.
    """
    blocks = StoredBlocks(folder / PARTS)
    ops = {variant: found for variant in variants if (found := saved_ops(folder, variant)) is not None}
    # Those of one variant at a time: a large data set has millions of them.
    places = itertools.product(("scores", "distances"), variants)
    scores = (row for what, variant in places for row in _saved_rows(folder, what, variant, ScoreRow) or ())
    layers = [row for variant in variants for row in _saved_rows(folder, "layers", variant, LayerErrorRow) or ()]
    tried = [row for variant in variants for row in _saved_rows(folder, "plausibility", variant, PlausibilityRow) or ()]
    outputs = [row for variant in variants for row in saved_output_distances(folder, variant) or ()]
    return write_run_tables(folder, blocks, ops, scores, layers, sources, tried, outputs)


def write_run_tables(
    folder: Path,
    blocks: Sequence[Block] | StoredBlocks,
    ops: dict[str, list[OpMeta]],
    scores: Iterable[ScoreRow],
    layers: Sequence[LayerErrorRow],
    sources: Sequence[str],
    plausibility: Sequence[PlausibilityRow] = (),
    outputs: Sequence[OutputDistanceRow] = (),
) -> list[BlockEntry]:
    """Write the tables of a run from what is recorded; returns what the manifest keeps of each block."""
    stored = blocks if isinstance(blocks, StoredBlocks) else HeldBlocks(blocks)
    entries = write_block_tables(folder, stored, ops, sources)
    tables.write_table(folder / "op_meta.parquet", tables.op_meta_table(ops))
    write_scores(folder / "scores.parquet", scores)
    tables.write_table(folder / "layer_errors.parquet", tables.layer_errors_table(layers))
    tables.write_table(folder / "plausibility.parquet", tables.plausibility_table(plausibility))
    tables.write_table(folder / "output_distances.parquet", tables.output_distances_table(outputs))
    return entries


def _part(folder: Path, what: str, variant: str) -> Path:
    return folder / PARTS / f"{what}-{variant}.json"


def _saved_rows(folder: Path, what: str, variant: str, kind: type[_Row]) -> list[_Row] | None:
    path = _part(folder, what, variant)
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(read_bytes(path), type=list[kind])  # type: ignore[valid-type]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"{path}: damaged ({error}); remove it and resume the run") from error
    except OSError as error:
        raise store_error(path, error) from error


def refuse_links(folder: Path) -> None:
    """Raise `StoreError` where a part of a run directory is a link: what is written, or dropped, when the run goes on
    would be so wherever that leads."""
    try:
        parts = list(folder.iterdir())
        inside = [path for one in parts if one.is_dir() and not one.is_symlink() for path in one.iterdir()]
        link = next((path for path in (*parts, *inside) if path.is_symlink()), None)
    except OSError as error:
        raise store_error(folder, error) from error
    if link is not None:
        raise StoreError(f"{link}: is a link, which no run directory holds; copy the run with the files it links to")


def is_written(folder: Path) -> bool:
    """Whether a process writes this run now."""
    try:
        _lock(folder).close()
    except StoreError:
        return True
    return False


def _lock(folder: Path) -> IO[str]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # of a stranger's, it may be a link
    try:
        stream = open(os.open(folder / ".lock", flags, 0o666), "w")  # noqa: SIM115  (held as long as the writer lives)
    except OSError as error:
        raise store_error(folder / ".lock", error) from error
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise StoreError(f"{folder}: another qprof is writing this run; wait for it, or stop it") from error
    return stream

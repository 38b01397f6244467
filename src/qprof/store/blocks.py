"""The file of one measured block: what a run that is killed is resumed from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.record.blocks import Block, BlockFacts, Samples
from qprof.record.ops import OpEvents
from qprof.record.readings import Reading, SensorTrace
from qprof.store.damage import ARRAY_ERRORS
from qprof.store.files import open_file, write_atomic

#: Types of the arrays in a file.
_DTYPES: dict[str, Any] = {
    "sample": np.int32,
    "inference": np.int32,
    "op": np.int32,
    "start_ns": np.int64,
    "duration_ns": np.int64,
    "source": np.uint8,
}


def block_path(folder: Path, number: int) -> Path:
    return folder / f"block-{number:06d}.npz"


def write_block(folder: Path, block: Block) -> None:
    """Write a block's file, atomically. Raises `StoreError`."""
    header = {
        "number": block.number,
        "round": block.round,
        "variant": block.variant,
        "kind": block.kind,
        "phase": block.phase,
        "facts": msgspec.to_builtins(block.facts),
        "readings": [[r.probe, r.t_ns, r.value, r.unit, r.provenance] for r in block.readings],
        "traces": [[trace.probe, trace.unit, trace.provenance] for trace in block.traces],
    }
    predictions = {str(sample): value for sample, value in block.predictions.items()}
    arrays = _named("samples", block.samples) | ({} if block.ops is None else _named("ops", block.ops))
    for number, trace in enumerate(block.traces):
        arrays |= {f"trace.{number}.t_ns": trace.t_ns, f"trace.{number}.value": trace.values}

    def write(stream: IO[bytes]) -> None:
        np.savez(stream, header=_as_bytes(header), predictions=_as_bytes(predictions), **arrays)  # type: ignore[arg-type]

    write_atomic(block_path(folder, block.number), write)


def _named(what: str, arrays: Samples | OpEvents) -> dict[str, NDArray[Any]]:
    names = [field.name for field in fields(arrays)]
    return {f"{what}.{name}": getattr(arrays, name).astype(_DTYPES[name]) for name in names}


def _as_bytes(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, allow_nan=False).encode(), np.uint8)


def read_block(path: Path, *, predictions: bool = True, ops: bool = True) -> Block:
    """Read a block's file, without its predictions (a detector's are most of it) or its op events where they are not
    wanted.

    Raises `StoreError` where it is damaged.
    """
    with _opened(path) as arrays:
        return _parsed(arrays, predictions, ops)


def has_ops(path: Path) -> bool:
    """Whether a block's file holds op events. Raises `StoreError` where it is damaged."""
    with _opened(path) as arrays:
        return _OPS in arrays.files


def read_predictions(path: Path, variant: str) -> dict[int, Any]:
    """What a variant predicted in a block, nothing where the block is another's; no other array is read.

    Raises `StoreError` where the file is damaged.
    """
    with _opened(path) as arrays:
        return _predictions(arrays) if _json(arrays, "header")["variant"] == variant else {}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A block's arrays, each read when it is asked for; whatever a damaged file raises then becomes a `StoreError`."""
    try:
        with open_file(path) as stream, np.load(stream, allow_pickle=False) as arrays:
            yield arrays
    except ARRAY_ERRORS as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"{path}: damaged block file ({what}); delete it and resume the run") from error


def _json(arrays: Any, name: str) -> Any:
    return json.loads(arrays[name].tobytes())


def _predictions(arrays: Any) -> dict[int, Any]:
    return {int(sample): value for sample, value in _json(arrays, "predictions").items()}


#: An array that is there where op events are.
_OPS = "ops.op"


def _parsed(arrays: Any, predictions: bool, ops: bool) -> Block:
    header = _json(arrays, "header")
    return Block(
        number=header["number"],
        round=header["round"],
        variant=header["variant"],
        kind=header["kind"],
        samples=Samples(**{field.name: arrays[f"samples.{field.name}"] for field in fields(Samples)}),
        ops=OpEvents(**{field.name: arrays[f"ops.{field.name}"] for field in fields(OpEvents)})
        if ops and _OPS in arrays.files
        else None,
        predictions=_predictions(arrays) if predictions else {},
        readings=[Reading(*values) for values in header["readings"]],
        facts=msgspec.convert(header["facts"], BlockFacts),
        phase=header["phase"],
        traces=[
            SensorTrace(probe, unit, provenance, arrays[f"trace.{number}.t_ns"], arrays[f"trace.{number}.value"])
            for number, (probe, unit, provenance) in enumerate(header["traces"])
        ],
    )


def block_files(folder: Path) -> list[Path]:
    """The block files of a folder, in the order in which the blocks were planned."""
    return sorted(folder.glob("block-*.npz"))


class StoredBlocks:
    """The blocks of a folder, each read when it is asked for: all together may be larger than the memory."""

    def __init__(self, folder: Path) -> None:
        self._paths = block_files(folder)

    def bare(self) -> Iterator[tuple[Block, bool]]:
        """Each block without predictions and op events, and whether it has any of these."""
        for path in self._paths:
            yield read_block(path, predictions=False, ops=False), has_ops(path)

    def whole(self, place: int) -> Block:
        """The block at a place in the order of `bare`, with its op events."""
        return read_block(self._paths[place], predictions=False)


class HeldBlocks:
    """Blocks that are in memory, to be read as those of a folder are."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks

    def bare(self) -> Iterator[tuple[Block, bool]]:
        """Each block, and whether it has op events."""
        for block in self._blocks:
            yield block, block.ops is not None

    def whole(self, place: int) -> Block:
        """The block at a place in the order of `bare`."""
        return self._blocks[place]

"""One measured block, and its file: what a run that is killed is resumed from."""

from __future__ import annotations

import contextlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.store.files import write_atomic

#: Arrays of a block's inferences, one element per inference in the order they ran.
SAMPLE_COLUMNS = {"sample": np.int32, "start_ns": np.int64, "duration_ns": np.int64}
#: Arrays of a profiled block's op events, one element per event.
OP_COLUMNS = {
    "inference": np.int32,
    "op": np.int32,
    "start_ns": np.int64,
    "duration_ns": np.int64,
    "source": np.uint8,
}

#: The phase of models that know no other (see `qprof.runtimes.base.Phase`).
INFERENCE = "inference"

#: The reading that tells how many tokens a "scored" block ran through the model.
SCORED_TOKENS = "task.scored_tokens"

#: What NumPy, zipfile and json raise for a file that is cut short, overwritten or something else altogether.
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One sensor value: `provenance` is "measured", "estimated" or "modelled"."""

    probe: str
    t_ns: int
    value: float
    unit: str
    provenance: str


@dataclass(frozen=True, slots=True, eq=False)
class SensorTrace:
    """Readings of one sensor over some time: `t_ns` int64[n], `values` float64[n]."""

    probe: str
    unit: str
    provenance: str
    t_ns: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(slots=True)
class Block:
    """Consecutive inferences of one phase in one worker.

    `kind`: "warmup", "clean", "profiled", "scored" for a pass that is made for its predictions alone (there an
    inference is a batch, and `samples["sample"]` the first of its samples), "energy" for one that lasts as long as a
    power sensor needs (its samples are thinned), "stacks" for one beside a stack sampler, or "idle", in which the
    loaded variants wait: `variant` and `phase` are "" there. `round` is -1 outside the rounds.
    """

    number: int
    round: int
    variant: str
    kind: str
    samples: dict[str, NDArray[Any]]
    ops: dict[str, NDArray[Any]] | None = None
    predictions: dict[int, Any] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    phase: str = INFERENCE
    traces: list[SensorTrace] = field(default_factory=list)


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
        "facts": block.facts,
        "readings": [[r.probe, r.t_ns, r.value, r.unit, r.provenance] for r in block.readings],
        "traces": [[trace.probe, trace.unit, trace.provenance] for trace in block.traces],
    }
    predictions = {str(sample): value for sample, value in block.predictions.items()}
    arrays = {f"samples.{name}": block.samples[name].astype(kind) for name, kind in SAMPLE_COLUMNS.items()}
    if block.ops is not None:
        arrays |= {f"ops.{name}": block.ops[name].astype(kind) for name, kind in OP_COLUMNS.items()}
    for number, trace in enumerate(block.traces):
        arrays |= {f"trace.{number}.t_ns": trace.t_ns, f"trace.{number}.value": trace.values}

    def write(stream: IO[bytes]) -> None:
        np.savez(stream, header=_as_bytes(header), predictions=_as_bytes(predictions), **arrays)  # type: ignore[arg-type]

    write_atomic(block_path(folder, block.number), write)


def _as_bytes(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, allow_nan=False).encode(), np.uint8)


def read_block(path: Path, *, predictions: bool = True) -> Block:
    """Read a block's file, without its predictions (a detector's are most of it) where they are not wanted.

    Raises `StoreError` where it is damaged.
    """
    with _opened(path) as arrays:
        return _parsed(arrays, predictions)


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
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except _DAMAGE as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"{path}: damaged block file ({what}); delete it and resume the run") from error


def _json(arrays: Any, name: str) -> Any:
    return json.loads(arrays[name].tobytes())


def _predictions(arrays: Any) -> dict[int, Any]:
    return {int(sample): value for sample, value in _json(arrays, "predictions").items()}


def _parsed(arrays: Any, predictions: bool) -> Block:
    header = _json(arrays, "header")
    has_ops = "ops.op" in arrays.files
    return Block(
        number=header["number"],
        round=header["round"],
        variant=header["variant"],
        kind=header["kind"],
        samples={name: arrays[f"samples.{name}"] for name in SAMPLE_COLUMNS},
        ops={name: arrays[f"ops.{name}"] for name in OP_COLUMNS} if has_ops else None,
        predictions=_predictions(arrays) if predictions else {},
        readings=[Reading(*fields) for fields in header["readings"]],
        facts=header["facts"],
        phase=header["phase"],
        traces=[
            SensorTrace(probe, unit, provenance, arrays[f"trace.{number}.t_ns"], arrays[f"trace.{number}.value"])
            for number, (probe, unit, provenance) in enumerate(header["traces"])
        ],
    )


def block_files(folder: Path) -> list[Path]:
    """The block files of a folder, in the order in which the blocks were planned."""
    return sorted(folder.glob("block-*.npz"))

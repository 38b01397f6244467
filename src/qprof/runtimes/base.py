"""What a runtime is to the rest of qprof: tensors in, tensors out, and a list of ops that can report their time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a variant, as its runtime declares it.

    `scale` and `zero_point` are the per-tensor affine quantization (real = scale * (stored - zero_point)), `None`
    where the tensor is not quantized. `shape` is the shape after allocation; `shape_signature` has -1 where the
    model leaves a dimension open.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str  # NumPy name: "float32", "int8", "uint8", "int16", "int32", "int64", "bool", ...
    scale: float | None = None
    zero_point: int | None = None
    shape_signature: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class OpMeta:
    """The static facts of one op of one variant (a row of `op_meta.parquet`).

    `op` is unique within the variant; `name` is the model's own name for it, which is what is aligned across
    variants. `parent` is the `op` of the delegate partition or control-flow op that contains this one, `None` at
    top level. Counts that are unknown are `None`, never 0; `macs` is 0 only for an op that multiplies nothing.
    """

    op: str
    name: str
    type: str  # the runtime's op type: "CONV_2D", "DELEGATE", ...
    index: int  # position in execution order
    subgraph: int = 0
    kernel: str | None = None  # the kernel(s) that ran it, as the runtime names them
    delegate: str | None = None  # "XNNPACK", or None: a builtin kernel of the interpreter
    partition: int | None = None  # number of the delegate partition that holds it
    parent: str | None = None
    inputs: Sequence[str] = ()  # "float32[1,112,112,32]"
    outputs: Sequence[str] = ()
    quantization: str | None = None  # e.g. "int8 per-channel weights, int8 activations"
    macs: int | None = None
    weight_bytes: int | None = None
    activation_bytes: int | None = None  # bytes of all non-constant inputs and outputs


#: `OpMeta.kernel` of an op inside a delegate for which no kernel ran: fused into a neighbour, or folded at load.
FUSED = "(fused)"


@dataclass(slots=True)
class OpEvents:
    """Op timings of one profiled block, as parallel arrays of one length.

    `op` indexes the runtime's op list; `sample` is the position of the inference within the block; times are
    CLOCK_MONOTONIC nanoseconds. `source` says how a duration was obtained (see `SOURCES`).
    """

    inference: NDArray[np.int32]
    op: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    duration_ns: NDArray[np.int64]
    source: NDArray[np.uint8]


#: `OpEvents.source` values. "node": the interpreter's node, timed in ns by qprof. "kernel": a kernel inside a
#: delegate, reported by the delegate in whole microseconds and scaled to its node's ns.
SOURCES = ("node", "kernel")


@dataclass(slots=True)
class Loaded:
    """What a runtime tells of a variant once it is loaded: its tensors, ops and remarks (each with a remedy)."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    op_types: list[str]
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


class Model(Protocol):
    """One variant, loaded and ready to run in this process."""

    loaded: Loaded
    run_once: Callable[[], None]  # the runtime's own call, as bare as it gets: this is what is timed

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Copy one sample's input arrays (one per `loaded.inputs`, matching shape and dtype) into the model."""

    def invoke(self) -> None:
        """Run one inference, to completion; a failure becomes a `ModelError`."""

    def outputs(self) -> list[NDArray[Any]]:
        """Copies of the output tensors, one per `loaded.outputs`."""


class ProfiledModel(Model, Protocol):
    """A loaded variant with its instrumentation; latency is never taken from it."""

    ops: list[OpMeta]

    def discover(self) -> list[OpMeta]:
        """Run one inference on the present inputs and return the op list."""

    def reserve(self, inferences: int) -> None:
        """Make room for the records of that many inferences."""

    def begin(self, inference: int) -> None:
        """Time every op from now on, under that number; the caller then times `run_once` alone."""

    def end(self) -> None:
        """Stop timing ops."""

    def drain(self) -> OpEvents:
        """Op events since the last call; `OpEvents.op` indexes `ops`."""

    def arena_bytes(self) -> int | None:
        """Bytes of the runtime's tensor arena, `None` where it cannot be seen."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a variant is to be run: threads, delegate, and input name -> shape for inputs to be resized."""

    threads: int = 1
    delegate: str = "xnnpack"
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A variant as a file, and where it came from (see `qprof.runtimes.litert.variant`)."""

    path: Path
    sha256: str
    bytes: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


class VariantMaker(Protocol):
    """Makes variants of one model, one after the other, sharing what they share (calibration, imports)."""

    def float_model(self) -> Model:
        """The unquantized model, loaded, to fit a task's calibration samples to."""

    def make(self, variant: Mapping[str, Any], calibration: Calibration) -> Made:
        """Make one variant (a profile's variant section). Raises `QprofError`."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration samples that are produced only where they are needed.

    `samples()` starts a new pass; each sample is one array per input of the float model, in the order of the inputs.
    `digest` stands for their content: the same digest must mean the same samples in the same order.
    """

    samples: Callable[[], Iterable[Sequence[NDArray[Any]]]]
    digest: str


class Runtime(Protocol):
    """What a package of `qprof.runtimes` offers through its module `runtime` as `RUNTIME`."""

    name: str
    packages: Sequence[str]  # distributions whose versions belong to the record

    def accepts(self, path: Path) -> bool:
        """Whether `path` looks like a model that this runtime runs or makes variants of."""

    def preload(self) -> None:
        """Import everything a model needs, so that a variant's memory is counted above it."""

    def load(self, path: Path, options: RunOptions) -> Model:
        """Load a variant without any instrumentation. Raises `ModelError`."""

    def instrument(self, path: Path, options: RunOptions) -> ProfiledModel:
        """Load it again with every op timed. Raises `ModelError`, also where ops cannot be timed."""

    def maker(self, model: Mapping[str, Any]) -> VariantMaker:
        """A maker of variants for a profile's model section."""

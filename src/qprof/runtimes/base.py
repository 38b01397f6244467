"""What a runtime is to the rest of qprof: tensors in, tensors out, and a list of ops that can report their time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qprof.store.blocks import INFERENCE


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
class Phase:
    """A kind of inference that is timed by itself: a detector has one, a language model "prefill" and "decode".

    `tokens`: how many tokens one inference of this phase takes in or puts out, `None` where tokens mean nothing.
    `steps`: inferences of this phase that follow one another on a sample before the next is taken.
    """

    name: str = INFERENCE
    tokens: int | None = None
    steps: int = 1


@dataclass(frozen=True, slots=True)
class OpMeta:
    """The static facts of one op of one variant in one phase (a row of `op_meta.parquet`).

    `op` is unique within the variant; `name` is the model's own name for it, which is what is aligned across
    variants and phases. `parent` is the `op` of the delegate partition, control-flow op or layer that contains this
    one, `None` at top level. Counts that are unknown are `None`, never 0; `macs` is 0 only for an op that multiplies
    nothing.
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
    phase: str = INFERENCE


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
#: delegate, reported by the delegate in whole microseconds and scaled to its node's ns. "layer": a module of a torch
#: model, timed in ns. "own": a module's time less that of the modules inside it. "split": a layer's time divided as a
#: pass of its own found it in place, op by op. "replayed": divided as its parts measured when run alone.
#: "device": a module's span between two events on the accelerator.
SOURCES = ("node", "kernel", "layer", "own", "split", "replayed", "device")


@dataclass(slots=True)
class Loaded:
    """What a runtime tells of a variant once it is loaded: its tensors, ops and remarks (each with a remedy)."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    op_types: list[str]
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    phases: tuple[Phase, ...] = (Phase(),)


class Model(Protocol):
    """One variant, loaded and ready to run in this process."""

    loaded: Loaded
    run_once: Callable[[], None]  # the runtime's own call, as bare as it gets: this is what is timed

    def enter(self, phase: str) -> None:
        """Make `run_once` an inference of that phase of `loaded.phases`; the first is entered from the start."""

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Copy one sample's input arrays (one per `loaded.inputs`, matching shape and dtype) into the model."""

    def invoke(self) -> None:
        """Run one inference, to completion; a failure becomes a `ModelError`."""

    def outputs(self) -> list[NDArray[Any]]:
        """Copies of the output tensors, one per `loaded.outputs`."""

    def memory_bytes(self) -> dict[str, int]:
        """What the runtime itself knows of the variant's memory: "footprint" (its weights and buffers), "device_peak"
        (the most its accelerator's allocator has held since it was loaded). What it does not know is left out."""


class ProfiledModel(Model, Protocol):
    """A loaded variant with its instrumentation; latency is never taken from it."""

    ops: list[OpMeta]

    def discover(self) -> list[OpMeta]:
        """Run one inference of every phase on the present inputs; the op list of all phases, in their order."""

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

    def timing_facts(self) -> dict[str, Any]:
        """What the manifest keeps of the instrumentation, as JSON can hold it."""

    def audit(self) -> dict[str, Any]:
        """What passes of their own tell of the measurement, once all blocks are done; as JSON can hold it."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a variant is to be run; each runtime reads what concerns it.

    `delegate`, `input_shapes` (input name -> shape, for inputs to be resized): LiteRT. `device` ("cpu", "cuda",
    "cuda:1"), `dtype` (of the computation, "" for the runtime's choice), `kernel` (of quantized layers, "" for the
    runtime's choice), `batch`, `prompt_tokens`, `generated_tokens`: language models.
    """

    threads: int = 1
    delegate: str = "xnnpack"
    input_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    device: str = "cpu"
    dtype: str = ""
    kernel: str = ""
    batch: int = 1
    prompt_tokens: int = 64
    generated_tokens: int = 16


class LanguageModel(Model, Protocol):
    """A causal language model: what a task on text needs beside tensors in and out."""

    tokenizer: Any  # a Hugging Face tokenizer
    vocabulary: int  # logits per position
    max_tokens: int | None  # the longest sequence that its positions allow, `None` where there is no limit

    def target_logits(self, tokens: NDArray[np.int64], starts: Sequence[int]) -> Any:
        """Logits that predict the ends of some sequences of one length.

        `tokens`: int64[rows, length]; `starts`: per row the position of its first target, at least 1. Returns a torch
        tensor on the CPU, in the dtype that the model computed: [sum(length - start), vocabulary], row after row; the
        logits of target `tokens[r, p]` are those at position p - 1. Only these are computed where the model allows.
        """


@dataclass(frozen=True, slots=True)
class Made:
    """A variant as a file or folder, and where it came from.

    `bytes`: of the weights' file or files. `runtime`: what runs it, `None` for the runtime that made it.
    `facts["run"]`, where there is such, holds what `RunOptions` it is to be loaded with.
    """

    path: Path
    sha256: str
    bytes: int
    runtime: str | None = field(default=None, kw_only=True)
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

    def require(self) -> None:
        """Raise `MissingExtraError` where a package is not installed that the runtime cannot do without."""

    def preload(self) -> None:
        """Import everything a model needs, so that a variant's memory is counted above it."""

    def load(self, path: Path, options: RunOptions) -> Model:
        """Load a variant without any instrumentation. Raises `ModelError`."""

    def instrument(self, model: Model, path: Path, options: RunOptions) -> ProfiledModel:
        """The loaded variant with every op timed: a second copy, or the same weights with timers that are only in
        place between `begin` and `end`. Raises `ModelError`, also where ops cannot be timed."""

    def maker(self, model: Mapping[str, Any]) -> VariantMaker:
        """A maker of variants for a profile's model section."""

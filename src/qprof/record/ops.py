"""The ops of a variant, and when each of them ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.record.columns import Int32
from qprof.record.phases import INFERENCE


@dataclass(frozen=True, slots=True)
class OpMeta:
    """The static facts of one op of one variant in one phase (a row of `op_meta.parquet`).

    `op` is unique within the variant; `name` is the model's own name for it, which is what is aligned across
    variants and phases. `parent` is the `op` of the delegate partition, control-flow op or layer that contains this
    one, `None` at top level. Counts that are unknown are `None`, never 0; `macs` is 0 only for an op that multiplies
    nothing. They are those of one run of the op: `runs` tells how often it ran in the inference in which the ops were
    discovered (more than once in a loop's body, never in a branch that is not taken), and is `None` where the counts
    are those of a whole inference.
    """

    op: str
    name: str
    type: str  # the runtime's op type: "CONV_2D", "DELEGATE", ...
    index: Int32  # position in execution order
    subgraph: Int32 = 0
    kernel: str | None = None  # the kernel(s) that ran it, as the runtime names them
    delegate: str | None = None  # "XNNPACK", or None: a builtin kernel of the interpreter
    partition: Int32 | None = None  # number of the delegate partition that holds it
    parent: str | None = None
    inputs: Sequence[str] = ()  # "float32[1,112,112,32]"
    outputs: Sequence[str] = ()
    quantization: str | None = None  # e.g. "int8 per-channel weights, int8 activations"
    macs: int | None = None
    weight_bytes: int | None = None
    activation_bytes: int | None = None  # bytes of all non-constant inputs and outputs
    phase: str = INFERENCE
    runs: float | None = None
    # How far its time may be off in every inference alike, by what its clock cannot tell; None: not known.
    resolution_us: float | None = None


#: `OpMeta.kernel` of an op inside a delegate for which no kernel ran: fused into a neighbour, or folded at load.
FUSED = "(fused)"


@dataclass(slots=True)
class OpEvents:
    """Op timings of one profiled block, as parallel arrays of one length.

    `op` indexes the runtime's op list; `inference` is the position of the inference within the block; times are
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
#: "device": a module's span between two events on the accelerator. "clocked": a kernel inside a delegate, in ns by the
#: delegate's own clock, which was read along.
SOURCES = ("node", "kernel", "layer", "own", "split", "replayed", "device", "clocked")

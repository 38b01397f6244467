"""Blocks: consecutive inferences of one phase in one worker, and what is kept of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from qprof.record.ops import OpEvents
from qprof.record.phases import INFERENCE
from qprof.record.readings import Reading, SensorTrace


@dataclass(slots=True)
class Samples:
    """The inferences of a block in the order they ran, as parallel arrays; times are CLOCK_MONOTONIC nanoseconds."""

    sample: NDArray[np.int32]
    start_ns: NDArray[np.int64]
    duration_ns: NDArray[np.int64]

    @classmethod
    def none(cls) -> Samples:
        return cls(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64))


class BlockFacts(Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What a block tells of itself; what does not concern its kind is `None`.

    `window_ns`: start of its first inference, end of the last. `repetitions`: inferences in it, also those of which no
    time was kept. `spent_ns`: the part of the window that inferences took, where predictions were decoded between them;
    `on_cpu_ns`: the part of that in which the thread that calls the runtime had a processor (its CPU time).
    `load_ns`: what it took to load the variant anew for it, elsewhere in memory. `lead_in`: untimed inferences before
    it. `loops`: how often its samples were run. `batches`, `rows`: of a scored block. `when`: of an idle one, "before"
    or "after" all others.
    """

    window_ns: tuple[int, int] | None = None
    repetitions: int | None = None
    spent_ns: int | None = None
    on_cpu_ns: int | None = None
    load_ns: int | None = None
    lead_in: int | None = None
    loops: int | None = None
    batches: int | None = None
    rows: int | None = None
    when: str | None = None


@dataclass(slots=True)
class Block:
    """One measured block.

    `kind`: "warmup", "clean", "profiled", "reset" for a profiled one before whose ops the processor's state is reset
    (`VariantEntry.resets`), "scored" for a pass that is made for its predictions alone (there an
    inference is a batch, and `samples.sample` the first of its samples), "predicted" for one of a variant whose latency
    is decided, "energy" for one that lasts as long as a
    power sensor needs (its samples are thinned), "stacks" for one beside a stack sampler, or "idle", in which the
    loaded variants wait: `variant` and `phase` are "" there. `round` is -1 outside the rounds.
    """

    number: int
    round: int
    variant: str
    kind: str
    samples: Samples
    ops: OpEvents | None = None
    predictions: dict[int, Any] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)
    facts: BlockFacts = field(default_factory=BlockFacts)
    phase: str = INFERENCE
    traces: list[SensorTrace] = field(default_factory=list)

    def entry(self) -> BlockEntry:
        """What the manifest of a finished run keeps of it."""
        return BlockEntry(
            number=self.number,
            round=self.round,
            variant=self.variant,
            kind=self.kind,
            phase=self.phase,
            **msgspec.structs.asdict(self.facts),
        )


class BlockEntry(BlockFacts, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A block in the manifest: which it was, and what it told of itself."""

    number: int
    round: int
    variant: str
    kind: str
    phase: str

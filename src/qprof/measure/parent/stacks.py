"""Blocks in which py-spy samples a worker's stacks, and the ones beside them that tell what that costs."""

from __future__ import annotations

import numpy as np

from qprof.errors import QprofError
from qprof.measure.parent.variants import Crew
from qprof.measure.progress import ProgressDisplay
from qprof.measure.requests import MeasureBlock
from qprof.probes.stacks import StackRecorder, Stacks
from qprof.record.manifest import VariantEntry
from qprof.record.sections import ProtocolSection
from qprof.runtimes import registry
from qprof.store.writer import RunWriter

STACKS = "stacks"


class StackBlocks:
    """Host stacks of every variant: `protocol.stacks_s` seconds of each phase, after everything else was measured."""

    def __init__(self, writer: RunWriter, protocol: ProtocolSection, crew: Crew, progress: ProgressDisplay) -> None:
        self._writer = writer
        self._folder = writer.folder / STACKS
        self._protocol = protocol
        self._crew = crew
        self._progress = progress

    def record(self, phases: list[str]) -> None:
        """Sample every variant that has no stacks yet. What goes wrong is kept beside the others' stacks; nothing that
        was measured is touched."""
        if not self._protocol.stacks_s:
            return
        told: set[str] = set()
        for entry in self._crew.living():
            if (self._folder / f"{entry.name}.json").exists():
                continue
            self._progress.phase("sampling stacks", f"variant {entry.name}")
            try:
                stacks, slowdown = self._of_variant(entry, phases)
            except QprofError as error:
                entry.notes.append(f"its stacks were not sampled: {error}")
                self._progress.note(f"{entry.name}: its stacks were not sampled: {error}")
                continue
            stacks.save(self._folder, entry.name, slowdown)
            if stacks.reason and stacks.reason not in told:
                told.add(stacks.reason)
                self._progress.note(f"{entry.name}: no host stacks: {stacks.reason}: {stacks.remedy}")

    def _of_variant(self, entry: VariantEntry, phases: list[str]) -> tuple[Stacks, float | None]:
        """Stacks of all phases together, each below a frame of its name where there are several, and what sampling
        added to an inference: the mean over the phases."""
        found, slowdowns = [], []
        for phase in phases:
            stacks, slowdown = self._of_phase(entry, phase)
            if stacks.folded is None:
                return stacks, None
            found.append(stacks.below(phase) if len(phases) > 1 else stacks)
            slowdowns.append(slowdown)
        return Stacks.together(found), float(np.mean(slowdowns))

    def _of_phase(self, entry: VariantEntry, phase: str) -> tuple[Stacks, float]:
        out = self._writer.folder / "parts" / f"stacks-{entry.name}.raw"
        # Unwinding through the libraries of torch stops the process for so long that an inference took 400 times as
        # long, and reading their symbols half a minute.
        runtime = registry.get(str(entry.runtime))
        with StackRecorder(self._crew.pid(entry), out, native=runtime.native_stacks) as recorder:
            # A block begins with untimed inferences and may overrun its time: the sampler is ended by hand.
            if not recorder.start(limit_s=2 * self._protocol.stacks_s + 60.0):
                return recorder.stop(), 0.0
            sampled = self._median_ns(entry, phase)
            stacks = recorder.stop()
        return stacks, sampled / self._median_ns(entry, phase) - 1.0

    def _median_ns(self, entry: VariantEntry, phase: str) -> float:
        """The median inference of a block as long as the sampled one: in a shorter one clocks are higher."""
        min_ms = 1e3 * self._protocol.stacks_s
        answer = self._crew.ask(entry, MeasureBlock(kind="stacks", phase=phase, samples=[0], min_ms=min_ms))
        return float(np.median(answer.samples.duration_ns))

"""Blocks in which py-spy samples a worker's stacks, and the ones beside them that tell what that costs."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from qprof.errors import QprofError
from qprof.measure.parent.jobs import at_once
from qprof.measure.parent.variants import Crew
from qprof.measure.progress import ProgressDisplay
from qprof.measure.requests import MeasureBlock
from qprof.probes.machine import available_cores
from qprof.probes.stacks import StackRecorder, Stacks
from qprof.record.manifest import VariantEntry
from qprof.record.sections import ProtocolSection
from qprof.runtimes import registry
from qprof.store.writer import RunWriter

STACKS = "stacks"


@dataclass(slots=True)
class _Sampled:
    """What became of one variant. `failed`: why it has no stacks; `refused`: what the sampler said instead of any."""

    entry: VariantEntry
    stacks: list[Stacks] = field(default_factory=list)
    slowdowns: list[float] = field(default_factory=list)
    refused: Stacks | None = None
    failed: QprofError | None = None

    @property
    def goes_on(self) -> bool:
        return self.refused is None and self.failed is None


class StackBlocks:
    """Host stacks of every variant: `protocol.stacks_s` seconds of each phase, after everything else was measured.

    Stacks are shares of the time, and no times: where each has cores of its own, two variants are sampled at once, and
    run at once without a sampler.
    """

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
        left = [entry for entry in self._crew.living() if not (self._folder / f"{entry.name}.json").exists()]
        for group in self._groups(left):
            self._progress.phase("sampling stacks", f"variant {', '.join(entry.name for entry in group)}")
            for found in self._of_variants(group, phases):
                entry = found.entry
                if found.failed is not None:
                    entry.notes.append(f"its stacks were not sampled: {found.failed}")
                    self._progress.note(f"{entry.name}: its stacks were not sampled: {found.failed}")
                    continue
                stacks, slowdown = found.refused, None
                if stacks is None:
                    parts = zip(phases, found.stacks, strict=True)
                    stacks = Stacks.together([one.below(phase) if len(phases) > 1 else one for phase, one in parts])
                    slowdown = float(np.mean(found.slowdowns))
                stacks.save(self._folder, entry.name, slowdown)
                if stacks.reason and stacks.reason not in told:
                    told.add(stacks.reason)
                    self._progress.note(f"{entry.name}: no host stacks: {stacks.reason}: {stacks.remedy}")

    def _groups(self, entries: Sequence[VariantEntry]) -> Iterator[list[VariantEntry]]:
        """The variants that are sampled at once, one group after the other."""
        threads = max((entry.section.get("threads") or self._protocol.threads for entry in entries), default=1)
        apart = self._protocol.own_process and self._protocol.device == "cpu"
        together = max(1, min(at_once(), available_cores() // threads)) if apart else 1
        for begin in range(0, len(entries), together):
            yield list(entries[begin : begin + together])

    def _of_variants(self, entries: Sequence[VariantEntry], phases: Sequence[str]) -> list[_Sampled]:
        """Stacks of all phases, and what sampling added to an inference in each."""
        found = [_Sampled(entry) for entry in entries]
        for phase in phases:
            self._of_phase([one for one in found if one.goes_on], phase)
        return found

    def _of_phase(self, variants: Sequence[_Sampled], phase: str) -> None:
        with contextlib.ExitStack() as recorders:
            begun: list[tuple[_Sampled, StackRecorder]] = []
            for one in variants:
                try:
                    recorder = recorders.enter_context(self._recorder(one.entry))
                except QprofError as error:
                    one.failed = error
                    continue
                # A block begins with untimed inferences and may overrun its time: the sampler is ended by hand.
                if recorder.start(limit_s=2 * self._protocol.stacks_s + 60.0):
                    begun.append((one, recorder))
                else:
                    one.refused = recorder.stop()
            sampled = self._medians_ns([one for one, _ in begun], phase)
            for one, recorder in begun:
                stacks = recorder.stop()
                if stacks.folded is None:
                    one.refused = stacks
                one.stacks.append(stacks)
        plain = self._medians_ns([one for one, _ in begun if one.goes_on], phase)
        for name, median_ns in plain.items():
            one = next(one for one, _ in begun if one.entry.name == name)
            one.slowdowns.append(sampled[name] / median_ns - 1.0)

    def _recorder(self, entry: VariantEntry) -> StackRecorder:
        # Unwinding through the libraries of torch stops the process for so long that an inference took 400 times as
        # long, and reading their symbols half a minute.
        native = registry.get(str(entry.runtime)).native_stacks
        return StackRecorder(
            self._crew.pid(entry), self._writer.folder / "parts" / f"stacks-{entry.name}.raw", native=native
        )

    def _medians_ns(self, variants: Sequence[_Sampled], phase: str) -> dict[str, float]:
        """The median inference of each, in blocks at once; who fails is left out, and says so."""
        if not variants:
            return {}
        with ThreadPoolExecutor(len(variants)) as threads:
            answers = list(threads.map(self._median_ns, [one.entry for one in variants], itertools.repeat(phase)))
        medians: dict[str, float] = {}
        for one, answer in zip(variants, answers, strict=True):
            if isinstance(answer, QprofError):
                one.failed = answer
            else:
                medians[one.entry.name] = answer
        return medians

    def _median_ns(self, entry: VariantEntry, phase: str) -> float | QprofError:
        """The median inference of a block as long as the sampled one: in a shorter one clocks are higher."""
        min_ms = 1e3 * self._protocol.stacks_s
        try:
            answer = self._crew.ask(entry, MeasureBlock(kind="stacks", phase=phase, samples=[0], min_ms=min_ms))
        except QprofError as error:
            return error
        return float(np.median(answer.samples.duration_ns))

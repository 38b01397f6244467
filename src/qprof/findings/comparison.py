"""One variant against the baseline in one phase of a run: what causes look at, computed when it is first asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.findings.closing import closing_table_of
from qprof.findings.decomposition import Decomposition, Settings, Sides, decompose
from qprof.findings.difference_table import DifferenceTable, MeasuredVariant
from qprof.findings.latency import compared_latency
from qprof.findings.measured import measured_once, op_list
from qprof.findings.sentences import with_sentences
from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.runtimes import registry
from qprof.runtimes.across import ACROSS_RUNTIMES
from qprof.runtimes.interventions import Interventions
from qprof.runtimes.match_ops import match_ops
from qprof.stats.intervals import PairedDifference
from qprof.store.run import Run

#: Options that say how a variant is run, whatever it is.
_SETTINGS = ("threads", "delegate", "device", "batch", "before_ops", "optimization", "provider")


@dataclass
class Comparison:
    """`variant` against `baseline` in `phase`. What the run does not hold is `None` or empty."""

    run: Run
    baseline: str
    variant: str
    phase: str

    @property
    def a(self) -> VariantEntry:
        """The manifest's entry of the baseline."""
        return self.run.variant(self.baseline)

    @property
    def b(self) -> VariantEntry:
        """The manifest's entry of the variant."""
        return self.run.variant(self.variant)

    @property
    def leads(self) -> bool:
        """Whether its phase is the run's first. Scores are of no phase: they are told once, with this one."""
        return self.phase == self.run.phase()

    @property
    def interventions(self) -> Interventions:
        """What can be changed about the variant; of two runtimes, nothing that would tell one from the other."""
        return interventions_of(self.b) if self.a.runtime == self.b.runtime else ACROSS_RUNTIMES

    @cached_property
    def latency(self) -> PairedDifference | None:
        """The p50 of the clean blocks in microseconds and their difference, as every command shows it; `None` where no
        round holds both."""
        return compared_latency(self.run, self.baseline, self.variant, self.phase)

    def measured(self, variant: str, kind: Literal["profiled", "reset"] = "profiled") -> MeasuredVariant:
        """What the run measured of a variant in this phase, loaded once. Raises `StoreError` where it was not timed."""
        return measured_once(self.run, variant, self.phase, kind)

    @cached_property
    def _sides(self) -> Sides | None:
        """Both variants with their ops matched; `None` where the ops of one were not timed."""
        try:
            a, b = self.measured(self.baseline), self.measured(self.variant)
        except StoreError:
            return None
        sides = Sides(a, b, match_ops(a.ops, b.ops))
        resets = self.a.resets and self.b.resets
        try:
            reset = [self.measured(name, "reset") for name in (self.baseline, self.variant) if resets]
        except StoreError:
            return sides
        return replace(sides, reset_a=reset[0], reset_b=reset[1], resets=resets) if reset else sides

    @cached_property
    def table(self) -> DifferenceTable | None:
        """Where the difference went, op by op; `None` where the ops of one were not timed."""
        sides = self._sides
        return None if sides is None else closing_table_of(self.run, sides.a, sides.b, sides.match)

    @cached_property
    def decomposition(self) -> Decomposition | None:
        """Where the difference went, by mechanism; `None` where the ops of one were not timed."""
        if self.table is None or self._sides is None:
            return None
        found = decompose(self.table, self._sides, self.phase, self.settings)
        return with_sentences(found, self.settings, self.same_file)

    @property
    def same_file(self) -> bool:
        """Whether both are one and the same file."""
        return self.a.sha256 is not None and self.a.sha256 == self.b.sha256

    @property
    def settings(self) -> Settings:
        """How the two are run otherwise, be they the same file or not."""
        if self.a.runtime != self.b.runtime:  # of which each has options of its own
            common = ("threads", "device")
            pairs = [("runtime", self.a.runtime, self.b.runtime)]
            pairs += [(key, self.a.options.get(key), self.b.options.get(key)) for key in common]
            return Settings(tuple((key, str(a or "none"), str(b or "none")) for key, a, b in pairs if a != b))
        pairs = [(key, self.a.options.get(key), self.b.options.get(key)) for key in _SETTINGS]
        return Settings(
            tuple((key, str(a or "none"), str(b or "none")) for key, a, b in pairs if a != b), self.same_file
        )

    def ops(self, variant: str) -> list[OpMeta]:
        """Ops of a variant in this phase, containers included; empty where they were not timed."""
        try:
            return op_list(self.run, variant, self.phase)
        except StoreError:
            return []

    @cached_property
    def _clean_blocks(self) -> dict[str, list[int]]:
        """variant -> its clean blocks of this phase, in the order of their numbers."""
        found: dict[str, list[int]] = {}
        for block in self.run.blocks():
            if block.kind == "clean" and block.phase == self.phase:
                found.setdefault(block.variant, []).append(block.number)
        return {variant: sorted(numbers) for variant, numbers in found.items()}

    def reading(self, variant: str, probe: str) -> NDArray[np.float64]:
        """One value per clean block of a variant: float64[blocks]; a counter's growth over the block where it was read
        several times. Empty where the sensor was not there."""
        told = (self.run.readings.series(block, probe) for block in self._clean_blocks.get(variant, []))
        values = [s.values[-1] - s.values[0] if len(s) > 1 else s.values[0] for s in told if s is not None]
        return np.array(values, np.float64)


def interventions_of(entry: VariantEntry) -> Interventions:
    """What can be changed about a variant; nothing where this qprof does not have its runtime."""
    runtime = str(entry.runtime)
    return registry.get(runtime).interventions if runtime in registry.names() else Interventions()

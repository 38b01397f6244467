"""One variant against the baseline in one phase of a run: what causes look at, computed when it is first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.explain.differ import differ
from qprof.explain.difference import DifferenceTable
from qprof.explain.measured import op_list
from qprof.runtimes.base import OpMeta
from qprof.stats.intervals import PairedDifference, paired_block_difference
from qprof.store.run import Run


@dataclass
class Comparison:
    """`variant` against `baseline` in `phase`. What the run does not hold is `None` or empty."""

    run: Run
    baseline: str
    variant: str
    phase: str

    @property
    def a(self) -> dict[str, Any]:
        """The manifest's entry of the baseline."""
        return self.run.variant(self.baseline)

    @property
    def b(self) -> dict[str, Any]:
        """The manifest's entry of the variant."""
        return self.run.variant(self.variant)

    @property
    def runtime(self) -> str:
        """What runs the variant: "litert", "gptq"."""
        return str(self.b["runtime"])

    @cached_property
    def latency(self) -> PairedDifference | None:
        """The p50 of the clean blocks in microseconds, paired by round; `None` where no round holds both."""
        a, b = (self.run.latency(name, phase=self.phase) for name in (self.baseline, self.variant))
        if not np.intersect1d(a.round, b.round).size:
            return None
        return paired_block_difference(a.duration_ns / 1e3, a.round, b.duration_ns / 1e3, b.round, method="expanded")

    @cached_property
    def table(self) -> DifferenceTable | None:
        """Where the difference went, op by op; `None` where the ops of one were not timed."""
        try:
            return differ(self.run, self.baseline, self.variant, self.phase)
        except StoreError:
            return None

    def ops(self, variant: str) -> list[OpMeta]:
        """Ops of a variant in this phase, containers included; empty where they were not timed."""
        try:
            return op_list(self.run, variant, self.phase)
        except StoreError:
            return []

    @cached_property
    def _readings(self) -> dict[tuple[str, str], dict[int, list[float]]]:
        """(variant, probe) -> block -> values, of the clean blocks of this phase."""
        table = self.run.readings
        columns = {name: table[name].to_pylist() for name in ("variant", "kind", "phase", "probe", "block", "value")}
        found: dict[tuple[str, str], dict[int, list[float]]] = {}
        for variant, kind, phase, probe, block, value in zip(*columns.values(), strict=True):
            if kind == "clean" and phase == self.phase:
                found.setdefault((variant, probe), {}).setdefault(block, []).append(value)
        return found

    def reading(self, variant: str, probe: str) -> NDArray[np.float64]:
        """One value per clean block of a variant: float64[blocks]; a counter's growth over the block where it was read
        several times. Empty where the sensor was not there."""
        blocks = self._readings.get((variant, probe), {})
        values = [v[-1] - v[0] if len(v) > 1 else v[0] for v in blocks.values()]
        return np.array(values, np.float64)

"""Do the ops add up to the inferences that they were timed in? More than the whole they cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qprof.findings.once import once_per_run
from qprof.findings.op_runs import is_container, own_times
from qprof.store.run import Run

#: Ops that take so much more than the inferences that they ran in were counted twice, or in others. What was timed
#: inside an inference is over before it, so that no noise brings them there; a layer's time that was divided by a pass
#: of its own is off by less.
MOST_OVER = 0.02


@dataclass(frozen=True, slots=True)
class Closure:
    """The ops' own times together over the time of the profiled inferences: 1 where nothing is left over."""

    variant: str
    phase: str
    share: float

    @property
    def is_over(self) -> bool:
        """Whether the ops are more than the whole."""
        return self.share > 1.0 + MOST_OVER

    @property
    def says(self) -> str:
        return f"its ops add up to {self.share * 100:.1f} % of its inferences, so that some count twice"


@once_per_run
def closures(run: Run) -> Sequence[Closure]:
    """Of every variant and phase whose ops were timed."""
    return list(_closures(run))


def _closures(run: Run) -> Iterator[Closure]:
    timed = {
        (entry.name, phase.name): ops
        for entry in run.manifest.living()
        for phase in run.phases()
        if (ops := run.ops_of(entry.name, phase.name))
    }
    if not timed:
        return
    whole = {place: int(run.latency(place[0], "profiled", place[1]).duration_ns.sum()) for place in timed}
    ops_ns = run.op_totals()
    for place, ops in timed.items():
        if total := whole.get(place):
            times = np.array([[ops_ns.get((*place, op.op), 0) for op in ops]], np.float64)
            own = own_times(ops, times)[:, ~is_container(ops)]
            yield Closure(*place, float(own.sum()) / total)

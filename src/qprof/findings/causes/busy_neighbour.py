"""Rounds in which other processes, or other guests of the host, used the processor beside the worker."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.environment import (
    DISTURBED_CORES,
    LEAST_CALM,
    CleanBlock,
    Contrast,
    clean_blocks,
    effect_on_difference,
    neighbour_contrast,
    percent,
    rounds_text,
    taken_cores,
)

#: What a neighbour that matters does at the least, as a logarithm; less is lost between rounds.
_LEAST_SLOWDOWN = 0.03
#: Threads of one core share its units and caches: at worst each gets half of what it has alone.
_SHARED_CORE = 2.0


class BusyNeighbour:
    """Sorted by the CPU time of all others; predicted from it, measured on the latencies of the same blocks."""

    name = "busy_neighbour"
    title = "another process was busy"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        """About the variant's blocks; about the baseline's where those of the variant were left in peace."""
        for variant in (comparison.variant, comparison.baseline):
            found = neighbour_contrast(comparison, variant)
            if found is not None:
                yield self._hypothesis(comparison, found)
                return
        blocks = clean_blocks(comparison, comparison.variant)
        known = sorted(cores for block in blocks if (cores := taken_cores(block)) is not None)
        if len(known) >= LEAST_CALM and known[LEAST_CALM - 1] >= DISTURBED_CORES:
            yield self._everywhere(comparison.variant, known)

    def _hypothesis(self, comparison: Comparison, found: Contrast) -> Hypothesis:
        cores, others = (_mean_cores(side) for side in (found.disturbed, found.calm))
        more = cores - others
        threads = comparison.run.variant(found.variant).threads or 1
        highest = math.log(_SHARED_CORE * (1.0 + more / threads))
        where = rounds_text(found.rounds)
        change = found.change
        source = _source(found.variant)
        return Hypothesis(
            cause=self.name,
            claim=f"{where} were disturbed by another process ({cores:.1f} cores busy besides the worker, "
            f"{others:.1f} in the others): the p50 of {found.variant} is {percent(change.value)} in them",
            figure="latency",
            effect=effect_on_difference(comparison, found.rounds),
            mechanism="outside",
            evidence=(
                Evidence(f"cores used by others in {where}", cores, "cores", source),
                Evidence("cores used by others else", others, "cores", source),
                *found.latency_evidence(),
                *_pressure(found, where),
            ),
            intervention=Intervention(
                f"compares the blocks of {found.variant} in {where} with its others",
                Prediction("latency", found.variant, found.variant, _LEAST_SLOWDOWN, highest, relative=True),
                rescored=change,
            ),
        )

    def _everywhere(self, variant: str, cores: Sequence[float]) -> Hypothesis:
        return Hypothesis(
            cause=self.name,
            claim=f"other processes were busy nearly all the time: beside {variant} they used {cores[0]:.1f} to "
            f"{cores[-1]:.1f} cores",
            figure="latency",
            effect=None,
            evidence=(Evidence("cores used by others, median", float(np.median(cores)), "cores", _source(variant)),),
            untestable="there is no calm round to compare with; measure again on a machine that does nothing else",
        )


def _source(variant: str) -> str:
    return f"readings.parquet, host.busy and host.steal less host.cpu_s of {variant}"


def _mean_cores(blocks: tuple[CleanBlock, ...]) -> float:
    return float(np.mean([cores for block in blocks if (cores := taken_cores(block)) is not None]))


def _pressure(found: Contrast, where: str) -> Iterator[Evidence]:
    """Time in which a task waited for a processor, where the kernel counts it."""
    rates = [rate for block in found.disturbed if (rate := block.rate("host.pressure.cpu.total")) is not None]
    if rates:
        source = "readings.parquet, host.pressure.cpu.total"
        yield Evidence(f"time in which a task waited for a core in {where}", float(np.mean(rates)) / 1e4, "%", source)


CAUSE = BusyNeighbour()

"""Rounds in which other processes, or other guests of the host, used the processor beside the worker."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from qprof.findings.binding import binding
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
from qprof.findings.op_costs import standard_error


class BusyNeighbour:
    """Sorted by the CPU time of all others, measured on the latencies of the same blocks.

    Predicted from what the same neighbour did to the other variant, which ran in between, scaled by the cores that it
    used beside either. Where it was not seen to slow the other one, from bounds: at the least it does next to nothing;
    at the most it takes its fair share of all that the two can share.
    """

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
                _prediction(comparison, found, cores - others),
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


def _prediction(comparison: Comparison, found: Contrast, more: float) -> Prediction:
    """What so many more cores that others used make of a variant's latency."""
    name = found.variant
    other = comparison.baseline if name == comparison.variant else comparison.variant
    highest = _sharing(comparison, name, other, more) + _slicing(comparison, found, more)
    there = neighbour_contrast(comparison, other)
    if there is not None:
        cores = _mean_cores(there.disturbed) - _mean_cores(there.calm)
        change = there.change
        surely = change.low is not None and change.high is not None and change.low > 0.0 and cores > 0.0
        if surely and change.value * more / cores < highest:
            scale = more / cores
            error = math.hypot(
                scale * standard_error(change), scale * change.value * _cores_error(found, there, more, cores)
            )
            return Prediction.point("latency", name, name, scale * change.value, error, relative=True)
    return Prediction.between("latency", name, name, 0.0, highest, relative=True)


def _sharing(comparison: Comparison, variant: str, other: str, more: float) -> float:
    """ln of the most that sharing units and memory costs: each of the users has its part of them. Where no two threads
    share a core, memory alone is shared: so much of the time as it would take at its ceiling grows."""
    shared = 1.0
    if comparison.run.manifest.machine.smt_active is False:
        bound = binding(Comparison(comparison.run, other, variant, comparison.phase))
        if bound is not None:
            shared = bound.part(bound.rows, lambda row: 1.0 if row.memory_share is None else min(1.0, row.memory_share))
    return math.log1p(min(1.0, shared) * more)


def _slicing(comparison: Comparison, found: Contrast, more: float) -> float:
    """ln of the most that waiting for a processor adds: by the thread's own CPU time where it runs alone, else all
    others on its cores in turn."""
    threads = comparison.run.variant(found.variant).threads or 1
    sides = [[block.waited for block in side] for side in (found.disturbed, found.calm)]
    known = [[waited for waited in side if waited is not None] for side in sides]
    if threads == 1 and all(known):
        on_cpu, alone = (1.0 - float(np.mean(side)) for side in known)
        return max(0.0, math.log(alone / on_cpu)) if on_cpu > 0.0 else math.log1p(more)
    return math.log1p(more / threads)


def _cores_error(found: Contrast, there: Contrast, more: float, cores: float) -> float:
    """Relative standard error of the ratio of two numbers of cores, by how much those of the blocks scatter."""
    errors = []
    for contrast, mean in ((found, more), (there, cores)):
        taken = [
            [c for block in side if (c := taken_cores(block)) is not None]
            for side in (contrast.disturbed, contrast.calm)
        ]
        errors += [float(np.std(side, ddof=1)) / math.sqrt(len(side)) / mean for side in taken]
    return math.hypot(*errors)


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

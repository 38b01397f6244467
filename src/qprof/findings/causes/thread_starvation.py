"""More threads than cores: they wait for one another while some of them do not run."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.record.machine import Machine
from qprof.runtimes.interventions import more_threads

#: Forced context switches per second of running. One thread on a core of its own is interrupted a few times a second;
#: threads that share cores lose them at every slice of the scheduler, some milliseconds long.
_LEAST_SWITCHES_PER_S = 20.0
#: How long the scheduler lets a thread run while others wait: Linux' base slice, 0.75 ms times 1 + log2 of the CPUs, of
#: which it counts 8 at most (`kernel/sched/fair.c`, sysctl_sched_base_slice).
_SLICE_S = 3e-3


class ThreadStarvation:
    """Evidence: threads against cores, and the context switches that were forced on them. The variant must get faster
    with a thread for each core; it is no cause where it does not."""

    name = "thread_starvation"
    title = "more threads than cores"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        cores, threads = usable_cores(comparison.run.manifest.machine), comparison.b.threads
        on_cpu = comparison.b.device == "cpu"
        if not on_cpu or cores is None or threads is None or threads <= cores:
            return
        seconds = _running_s(comparison, comparison.variant)
        forced = comparison.reading(comparison.variant, "host.involuntary_switches")
        cpu = comparison.reading(comparison.variant, "host.cpu_s")
        if not seconds or not len(forced) or forced.sum() / seconds < _LEAST_SWITCHES_PER_S:
            return
        busy = [Evidence("CPU time per second", cpu.sum() / seconds, "s", "host.cpu_s")] if len(cpu) else []
        after = more_threads(comparison.b.section, cores)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{comparison.variant} runs {threads} threads on {cores} cores, which were taken from them "
                f"{forced.sum() / seconds:.0f} times a second"
            ),
            figure=LATENCY,
            effect=None,
            evidence=(
                Evidence("threads", threads, "", "manifest.json: options.threads"),
                Evidence("cores that they may use", cores, "", "manifest.json: machine"),
                Evidence("forced context switches", forced.sum() / seconds, "1/s", "host.involuntary_switches"),
                *busy,
            ),
            intervention=Intervention(
                does=f"run {cores} threads",
                prediction=_prediction(comparison.variant, after["name"], threads / cores, forced.sum() / seconds),
                variants=(after,),
            ),
        )


def _prediction(variant: str, after: str, times: float, forced_per_s: float) -> Prediction:
    """Between nothing, where no thread waits for another, and the `times` that they are too many, together with what
    each of them waits for the others on its core whenever it loses it: at the next op, all wait for it."""
    waited = forced_per_s * _SLICE_S * (times - 1.0)
    return Prediction.between(LATENCY, variant, after, -math.log(times * (1.0 + waited)), 0.0, relative=True)


def usable_cores(machine: Machine) -> int | None:
    """Processors that a run could use: by affinity and quota; `None` where the manifest does not tell."""
    known = len(machine.affinity) if machine.affinity else machine.logical_cpus
    if known is None:
        return None
    return known if machine.cgroup_cpus is None else max(1, min(known, int(machine.cgroup_cpus)))


def _running_s(comparison: Comparison, variant: str) -> float:
    """Seconds that the clean blocks of a variant lasted."""
    windows = [
        block.window_ns
        for block in comparison.run.blocks()
        if (block.variant, block.kind, block.phase) == (variant, "clean", comparison.phase)
        and block.window_ns is not None
    ]
    return math.fsum((end - start) / 1e9 for start, end in windows)


CAUSE = ThreadStarvation()

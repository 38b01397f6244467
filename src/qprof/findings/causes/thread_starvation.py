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
#: What a thread for each core must gain: less does not explain a difference. As ln of the ratio, like what follows.
_LEAST_GAIN = math.log(0.95)
#: Threads that share a core fairly lose the factor by which they are too many. Where each waits for the slowest at
#: every op, and spins meanwhile, many times that is lost.
_SPINNING = 20.0


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
        most = math.log(cores / threads / _SPINNING)
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
                prediction=Prediction(LATENCY, comparison.variant, after["name"], most, _LEAST_GAIN, relative=True),
                variants=(after,),
            ),
        )


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

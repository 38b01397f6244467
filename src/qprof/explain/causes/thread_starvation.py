"""More threads than cores: they wait for one another while some of them do not run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from qprof.explain.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.explain.comparison import Comparison
from qprof.explain.effects import LATENCY
from qprof.explain.sections import changed

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
        cores, threads = usable_cores(comparison.run.manifest.get("machine") or {}), _threads(comparison.b)
        on_cpu = comparison.b.get("options", {}).get("device") == "cpu"
        if not on_cpu or cores is None or threads is None or threads <= cores:
            return
        seconds = _running_s(comparison, comparison.variant)
        forced = comparison.reading(comparison.variant, "host.involuntary_switches")
        cpu = comparison.reading(comparison.variant, "host.cpu_s")
        if not seconds or not len(forced) or forced.sum() / seconds < _LEAST_SWITCHES_PER_S:
            return
        busy = [Evidence("CPU time per second", cpu.sum() / seconds, "s", "host.cpu_s")] if len(cpu) else []
        after = changed(comparison.b["section"], f"{cores}-threads", threads=cores)
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


def usable_cores(machine: dict[str, Any]) -> int | None:
    """Processors that a run could use: by affinity and quota; `None` where the manifest does not tell."""
    affinity = machine.get("affinity")
    known = len(affinity) if affinity else machine.get("logical_cpus")
    quota = machine.get("cgroup_cpus")
    if known is None:
        return None
    return int(known) if quota is None else max(1, min(int(known), int(quota)))


def _threads(entry: dict[str, Any]) -> int | None:
    threads = entry.get("options", {}).get("threads")
    return None if threads is None else int(threads)


def _running_s(comparison: Comparison, variant: str) -> float:
    """Seconds that the clean blocks of a variant lasted."""
    windows = [
        block["window_ns"]
        for block in comparison.run.blocks()
        if (block["variant"], block["kind"], block["phase"]) == (variant, "clean", comparison.phase)
        and "window_ns" in block
    ]
    return math.fsum((end - start) / 1e9 for start, end in windows)


CAUSE = ThreadStarvation()

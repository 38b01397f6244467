"""Most of a variant's time goes into ops that wait for their bytes: weights or activations."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.binding import binding
from qprof.findings.causes.base import Evidence, Hypothesis, Intervention
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.findings.scaled_work import in_other_bytes
from qprof.runtimes.interventions import Impossible


class MemoryBound:
    """Evidence: the roofline. What must be refutable: that the same numbers in twice or half the bytes take
    proportionally longer or shorter."""

    name = "memory_bound"
    title = "memory binds it"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        found = binding(comparison)
        if found is None or not found.most("memory"):
            return
        ops = found.bound("memory")
        gigabytes = math.fsum(row.bytes or 0 for row in ops) / 1e9
        seconds = math.fsum(row.time_us or 0.0 for row in ops) / 1e6
        levels = [level for row in ops for level in (row.weights_level or row.level,) if level is not None]
        slowest = min(levels, key=lambda level: level.value or 0.0)
        intervention, untestable = _intervention(comparison)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{found.share('memory'):.0%} of the time of {comparison.variant} goes into {len(ops)} ops bound by "
                f"memory: {against(gigabytes / seconds, slowest.name, slowest.value or 0.0)}"
            ),
            figure=LATENCY,
            effect=None,
            evidence=(
                Evidence("part of the time bound by memory", 100 * found.share("memory"), "%", "qprof layers"),
                Evidence("what these ops move", gigabytes / seconds, "GB/s", "op_meta.parquet, ops.parquet"),
                Evidence(f"what {slowest.name} gives at most", slowest.value or 0.0, "GB/s", "manifest.json: ceilings"),
            ),
            intervention=intervention,
            untestable=untestable,
        )


def against(rate: float, level: str, ceiling: float) -> str:
    """A rate in GB/s beside what a level of memory gives. Ops may read more than that: a part of what they are counted
    to move stays in a faster level."""
    if rate <= ceiling:
        return f"{rate:.1f} GB/s where {level} gives {ceiling:.1f} GB/s at most"
    return f"{rate:.1f} GB/s, more than the {ceiling:.1f} GB/s that {level} gives: a part comes from a faster level"


def _intervention(comparison: Comparison) -> tuple[Intervention | None, str | None]:
    other = comparison.interventions.other_bytes(comparison.b)
    if isinstance(other, Impossible):
        return None, other.reason
    scaled = in_other_bytes(comparison, other.dtype, other.factor)
    if scaled is None:
        return None, f"nothing tells what the same numbers would take as {other.dtype}"
    return Intervention(
        does=f"keep the weights and activations in {other.dtype}, {other.factor:g} times the bytes",
        prediction=scaled.of(comparison.variant, other.section["name"]),
        variants=(other.section,),
    ), None


CAUSE = MemoryBound()

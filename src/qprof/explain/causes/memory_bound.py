"""Most of a variant's time goes into ops that wait for their bytes: weights or activations."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.explain.binding import Binding, binding
from qprof.explain.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.explain.comparison import Comparison
from qprof.explain.effects import LATENCY
from qprof.explain.measured import fact
from qprof.explain.sections import changed, method

#: The type of half, or of twice the bytes that each is compared with.
_OTHER_TYPE = {"float32": "bfloat16", "bfloat16": "float32", "float16": "float32"}
#: How far the change may lie beyond what the bytes alone make: with twice as many they may leave a cache.
_TOLERANCE = 0.3


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
        intervention, untestable = _intervention(comparison, found)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{found.share('memory'):.0%} of the time of {comparison.variant} goes into {len(ops)} ops bound by "
                f"memory: {gigabytes / seconds:.1f} GB/s where {slowest.name} gives {slowest.value or 0.0:.1f} GB/s "
                "at most"
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


def _intervention(comparison: Comparison, found: Binding) -> tuple[Intervention | None, str | None]:
    section, dtype = comparison.b["section"], fact(comparison.b, "options", "dtype")
    if comparison.runtime == "litert":
        return None, "LiteRT has no form of a model that differs in its bytes and not in its kernels"
    if fact(comparison.b, "options", "kernel") or dtype not in _OTHER_TYPE:
        return None, "the bytes of quantized weights cannot be changed without the kernel that takes them"
    other = _OTHER_TYPE[dtype]
    if not section.get("file") and method(section) != dtype:
        return None, f"method {method(section)} makes no {other}"
    change = {"dtype": other} if section.get("file") else {"method": other, "dtype": ""}
    after = changed(section, other, **change)
    factor = 0.5 if other == "bfloat16" else 2.0
    # What memory takes at least changes with the bytes; at most all of the time does.
    moved = found.part(found.bound("memory"), lambda row: min(1.0, row.memory_share or 0.0))
    least, most = math.log(1.0 + (factor - 1.0) * (1.0 - _TOLERANCE) * moved), math.log(factor)
    most += math.copysign(_TOLERANCE, most)
    return Intervention(
        does=f"keep the weights and activations in {other}, {factor:g} times the bytes",
        prediction=Prediction(
            LATENCY, comparison.variant, after["name"], min(least, most), max(least, most), relative=True
        ),
        variants=(after,),
    ), None


CAUSE = MemoryBound()

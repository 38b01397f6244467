"""Most of a variant's time goes into ops that multiply about as fast as this machine can."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.binding import Binding, binding
from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.runtimes.interventions import Impossible

#: Rows that are computed at once instead of one.
_BATCH = 4
#: Growth that work which is not bound by arithmetic stays below.
_LEAST_GROWTH = 1.3
#: How far it may lie from that: larger products are computed better, and leave the caches.
_TOLERANCE = 0.25


class ComputeBound:
    """Evidence: the roofline. What must be refutable: that more products take proportionally longer, where a runtime
    can compute more rows at once; elsewhere it stays untested."""

    name = "compute_bound"
    title = "arithmetic binds it"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        found = binding(comparison)
        if found is None or not found.most("compute"):
            return
        ops = found.bound("compute")
        gmacs = math.fsum(row.op.macs or 0 for row in ops) / 1e9
        seconds = math.fsum(row.time_us or 0.0 for row in ops) / 1e6
        ceiling = max(row.compute_ceiling.value or 0.0 for row in ops if row.compute_ceiling is not None)
        intervention, untestable = _intervention(comparison, found)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{found.share('compute'):.0%} of the time of {comparison.variant} goes into {len(ops)} ops bound by "
                f"arithmetic: {gmacs / seconds:.1f} GMAC/s where this machine does {ceiling:.1f} GMAC/s at most"
            ),
            figure=LATENCY,
            effect=None,
            evidence=(
                Evidence("part of the time bound by arithmetic", 100 * found.share("compute"), "%", "qprof layers"),
                Evidence("throughput of these ops", gmacs / seconds, "GMAC/s", "op_meta.parquet, ops.parquet"),
                Evidence("what this machine does at most", ceiling, "GMAC/s", "manifest.json: ceilings"),
            ),
            intervention=intervention,
            untestable=untestable,
        )


def _intervention(comparison: Comparison, found: Binding) -> tuple[Intervention | None, str | None]:
    after = comparison.interventions.more_rows(comparison.b, _BATCH)
    if isinstance(after, Impossible):
        # Not by more threads: those speed up whatever can be divided, so that they could not refute it.
        return None, after.reason
    # No kernel beats the ceiling: this much longer these ops take in any case, and the others as long as before.
    grown = found.part(found.bound("compute"), lambda row: max(0.0, _BATCH * min(1.0, row.compute_share or 0.0) - 1.0))
    low = math.log(max(_LEAST_GROWTH, 1.0 + (1.0 - _TOLERANCE) * grown))
    high = math.log((1.0 + _TOLERANCE) * _BATCH)
    return Intervention(
        does=f"compute {_BATCH} times as many rows at once, with the same weights",
        prediction=Prediction(LATENCY, comparison.variant, after["name"], low, high, relative=True),
        variants=(after,),
    ), None


CAUSE = ComputeBound()

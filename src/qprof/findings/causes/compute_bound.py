"""Most of a variant's time goes into ops that multiply about as fast as this machine can."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.binding import binding
from qprof.findings.causes.base import Evidence, Hypothesis
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.findings.scaled_work import with_more_rows


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
        intervention, untestable = with_more_rows(comparison, "with the same weights")
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


CAUSE = ComputeBound()

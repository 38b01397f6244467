"""Weights that are unpacked in every inference though there are kernels that need not: they do not take this form."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, row_refs
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import FASTEST, OpCosts, part_of
from qprof.runtimes.interventions import Impossible

#: Part of the unpacking that must go with the other kernel: it does what is left of it in its own way.
_LEAST_GONE = 1.0 / 3.0


class NoFastKernel:
    """Evidence: the unpacking, and what the runtime's other kernels take. What must be refutable: that the variant, in
    the form that such a kernel takes, is faster by a third of that at least."""

    name = "no_fast_kernel"
    title = "no fast kernel at this width, group or shape"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.table is None:
            return
        rows = [row for row in comparison.table.rows if row.kind == "inserted" and row.b and row.b.type == "dequantize"]
        if not rows:
            return
        costs = OpCosts(comparison)
        cost = costs.of_variant(rows)
        found = comparison.interventions.faster_kernel(comparison.b)
        if not costs.matters(cost) or isinstance(found, Impossible):
            return
        section, untestable = found.section, None
        if isinstance(section, Impossible):
            untestable = section.reason
        high = math.log(1.0 - _LEAST_GONE * min(cost.value / costs.b_us, 0.95))
        takes = f"there is a kernel that need not, {found.kernel}, and it takes this form"
        if found.refuses:
            takes = f"{found.refuses}; with {found.change} it would run on {found.kernel}, which need not"
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{comparison.variant} runs on a kernel that unpacks the weights of {len(rows)} layers in every "
                f"inference, {cost.value:.0f} µs of {costs.b_us:.0f} µs: {takes}"
            ),
            figure=LATENCY,
            effect=part_of(comparison, "conversions", rows) or cost.interval(),
            evidence=(
                Evidence("layers that unpack", len(rows), "layers", "op_meta.parquet: type"),
                Evidence("time of the unpacking", cost.value, "us", _table(comparison), cost.interval()),
            ),
            intervention=None
            if isinstance(section, Impossible)
            else Intervention(
                does=f"run it on the kernel {found.kernel}{f', with {found.change}' if found.change else ''}",
                prediction=Prediction(LATENCY, comparison.variant, str(section["name"]), FASTEST, high, relative=True),
                variants=(section,),
            ),
            untestable=untestable,
            mechanism="conversions",
            ops=row_refs(rows),
        )


def _table(comparison: Comparison) -> str:
    return f"qprof diff {comparison.baseline} {comparison.variant} --phase {comparison.phase}"


CAUSE = NoFastKernel()

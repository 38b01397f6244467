"""Weights that are unpacked in every inference though there are kernels that need not: they do not take this form."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, rectangular_error, row_refs
from qprof.findings.causes.dequantization import gone_with_unpacking, products_us
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import SURROUNDINGS, OpCosts, part_of
from qprof.findings.products_alone import OtherProducts, other_products
from qprof.runtimes.interventions import Impossible
from qprof.stats.rounds import RoundEffect


class NoFastKernel:
    """Evidence: the unpacking, and what the runtime's other kernels take. What must be refutable: that the variant, in
    the form that such a kernel takes, is as fast as with its weights unpacked once, or faster by what it reads less."""

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
        other = other_products(comparison, costs, "b", found.kernel)
        if other is not None and other.gone_us <= 0.0:
            return  # it is none that is faster at these shapes
        value, error = _prediction(comparison, costs, cost, other)
        effect = part_of(comparison, "conversions", rows) or cost.interval()
        if other is not None and other.gone_us < effect.value:
            effect = other.gone()
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
            effect=effect,
            evidence=(
                Evidence("layers that unpack", len(rows), "layers", "op_meta.parquet: type"),
                Evidence("time of the unpacking", cost.value, "us", _table(comparison), cost.interval()),
            ),
            intervention=None
            if isinstance(section, Impossible)
            else Intervention(
                does=f"run it on the kernel {found.kernel}{f', with {found.change}' if found.change else ''}",
                prediction=Prediction.point(
                    LATENCY, comparison.variant, str(section["name"]), value, error, relative=True
                ),
                variants=(section,),
            ),
            untestable=untestable,
            mechanism="conversions",
            ops=row_refs(rows),
        )


def _prediction(
    comparison: Comparison, costs: OpCosts, cost: RoundEffect, other: OtherProducts | None
) -> tuple[float, float]:
    """ln of the ratio and its standard error. The linears take what their products take in the other kernel.

    Where those were not run alone, the unpacking goes, and of the products, which then read packed weights, that part
    of the time may go as well which the bytes that they no longer read are of all; or nothing of it, where it is
    arithmetic that they wait for."""
    assert comparison.table is not None  # the unpacking is of its rows
    if other is not None:
        return other.left(costs, costs.b_us)
    gone = gone_with_unpacking(comparison, costs, cost.value)
    products = [row for row in comparison.table.rows if row.a and row.b and row.a.macs and row.b.macs]
    plain = math.fsum(row.a.weight_bytes or 0 for row in products if row.a)
    packed = math.fsum(op.weight_bytes or 0 for op in comparison.ops(comparison.variant) if op.type == "dequantize")
    less = max(0.0, 1.0 - packed / plain) if plain and packed else 0.0
    most_us = less * costs.of_baseline(products).value if products else 0.0
    more = math.hypot(rectangular_error(0.0, most_us), SURROUNDINGS * products_us(comparison.table))
    return costs.without(gone + most_us / 2.0, cost, costs.b_us, more)


def _table(comparison: Comparison) -> str:
    return f"qprof diff {comparison.baseline} {comparison.variant} --phase {comparison.phase}"


CAUSE = NoFastKernel()

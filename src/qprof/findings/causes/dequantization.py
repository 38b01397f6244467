"""Linears that unpack their weights in every inference before they multiply, by whichever method they were packed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, row_refs
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceTable
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import SURROUNDINGS, OpCosts, part_of
from qprof.findings.products_alone import UNPACKED, other_products
from qprof.record.manifest import SplitFacts
from qprof.runtimes.interventions import Impossible
from qprof.stats.intervals import Interval

#: ATen ops that a claim names.
_NAMED = 3


class Dequantization:
    """Evidence: the unpacking that the baseline has not. What must be refutable: that the same weights, unpacked once
    when they are loaded, are faster by that time."""

    name = "dequantization"
    title = "weights are unpacked in every inference"
    op_type = "dequantize"
    does = "unpack the same weights once, when they are loaded, and time the products alone"
    found = "layers that unpack, which the baseline's do not"
    time = "time of the unpacking"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.table is None:
            return
        rows = [row for row in comparison.table.rows if row.kind == "inserted" and row.b and row.b.type == self.op_type]
        if not rows:
            return
        costs = OpCosts(comparison)
        cost = costs.of_variant(rows)
        if not costs.matters(cost):
            return
        timing = comparison.b.timing
        split = (timing.split.get(comparison.phase) if timing else None) or SplitFacts()
        after = comparison.interventions.unpacked_once(comparison.b)
        if not _alike(comparison) and (other := other_products(comparison, costs, "b", UNPACKED)):
            value, error = other.left(costs, costs.b_us)
        else:
            gone = gone_with_unpacking(comparison, costs, cost.value)
            value, error = costs.without(gone, cost, costs.b_us, SURROUNDINGS * products_us(comparison.table))
        claimed = part_of(comparison, "conversions", rows) or cost.interval()
        yield Hypothesis(
            cause=self.name,
            claim=f"{self.claim(comparison, len(rows), split)}: {cost.value:.0f} µs of {costs.b_us:.0f} µs",
            figure=LATENCY,
            effect=claimed,
            evidence=tuple(self.evidence(comparison, len(rows), cost.interval(), split)),
            intervention=None
            if isinstance(after, Impossible)
            else Intervention(
                does=self.does,
                prediction=Prediction.point(LATENCY, comparison.variant, after["name"], value, error, relative=True),
                variants=(after,),
            ),
            untestable=after.reason if isinstance(after, Impossible) else None,
            mechanism="conversions",
            ops=row_refs(rows),
        )

    def claim(self, comparison: Comparison, layers: int, split: SplitFacts) -> str:
        """What the layers do, in words."""
        ops = largest_ops(split.dequantize_ops)
        return f"{comparison.variant} unpacks the weights of {layers} layers in every inference{ops}"

    def evidence(self, comparison: Comparison, layers: int, cost: Interval, split: SplitFacts) -> Iterator[Evidence]:
        """What of the run says so."""
        table = f"qprof diff {comparison.baseline} {comparison.variant} --phase {comparison.phase}"
        yield Evidence(self.found, layers, "layers", "op_meta.parquet: type")
        yield Evidence(self.time, cost.value, "us", table, cost)
        if split.replayed_ms is not None:
            yield Evidence("the unpacking run alone", split.replayed_ms * 1e3, "us", "manifest.json: timing.split")


def gone_with_unpacking(comparison: Comparison, costs: OpCosts, cost_us: float) -> float:
    """Microseconds that go where the weights are unpacked when they are loaded.

    The model is then the baseline with other numbers, where both compute in one number format, and takes as long as
    that. Else the unpacking goes, and what else the packed layers take beyond the baseline's.
    """
    assert comparison.table is not None  # its rows are what is unpacked
    if _alike(comparison):
        return max(cost_us, costs.b_us - costs.a_us)
    return cost_us + _goes_as_well(comparison.table)


def _alike(comparison: Comparison) -> bool:
    """Whether both compute in one number format."""
    return comparison.a.options.get("dtype") == comparison.b.options.get("dtype")


def products_us(table: DifferenceTable) -> float:
    """Microseconds of the products alone in the baseline."""
    return math.fsum(row.a_us or 0.0 for row in table.rows if row.a and row.b and row.a.macs and row.b.macs)


def _goes_as_well(table: DifferenceTable) -> float:
    """Microseconds that the packed layers take beyond the baseline's besides the unpacking: their kernel's own work and
    a slower product. An unpacked layer is the baseline's with other numbers, so these may go with it."""
    parts = ("Linear", "other in linear")
    rows = [row for row in table.rows if row.b and row.b.parent is not None and row.b.type in parts]
    return max(0.0, math.fsum(row.delta_us.value for row in rows))


def largest_ops(shares: Mapping[str, float] | None) -> str:
    """ " (aten::index 60%, aten::mul 20% of it)", of kernels' shares; "" where they are not known."""
    ranked = sorted((shares or {}).items(), key=lambda item: -item[1])
    if not ranked:
        return ""
    return f" ({', '.join(f'{name} {share:.0%}' for name, share in ranked[:_NAMED])} of it)"


CAUSE = Dequantization()

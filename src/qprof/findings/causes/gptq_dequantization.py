"""Linears of a GPTQ model that unpack their weights in every inference before they multiply."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, row_refs
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceTable
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import SURROUNDINGS, OpCosts, part_of
from qprof.record.manifest import SplitFacts
from qprof.runtimes.interventions import Impossible
from qprof.stats.intervals import Interval

#: ATen ops that a claim names.
_NAMED = 3


class GPTQDequantization:
    """Evidence: the unpacking that the baseline has not. What must be refutable: that the same weights, unpacked once
    when they are loaded, are faster by that time."""

    name = "gptq_dequantization"
    title = "weights are unpacked in every inference"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.table is None:
            return
        rows = [row for row in comparison.table.rows if row.kind == "inserted" and row.b and row.b.type == "dequantize"]
        if not rows:
            return
        costs = OpCosts(comparison)
        cost = costs.of_variant(rows)
        if not costs.matters(cost):
            return
        timing = comparison.b.timing
        split = (timing.split.get(comparison.phase) if timing else None) or SplitFacts()
        after = comparison.interventions.unpacked_once(comparison.b)
        gone = _gone(comparison, costs, cost.value)
        value, error = costs.without(gone, cost, costs.b_us, SURROUNDINGS * _products_us(comparison.table))
        claimed = part_of(comparison, "conversions", rows) or cost.interval()
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{comparison.variant} unpacks the weights of {len(rows)} layers in every inference"
                f"{_largest_ops(split)}: {cost.value:.0f} µs of {costs.b_us:.0f} µs"
            ),
            figure=LATENCY,
            effect=claimed,
            evidence=tuple(_evidence(comparison, len(rows), cost.interval(), split)),
            intervention=None
            if isinstance(after, Impossible)
            else Intervention(
                does="unpack the same weights once, when they are loaded, and time the products alone",
                prediction=Prediction.point(LATENCY, comparison.variant, after["name"], value, error, relative=True),
                variants=(after,),
            ),
            untestable=after.reason if isinstance(after, Impossible) else None,
            mechanism="conversions",
            ops=row_refs(rows),
        )


def _gone(comparison: Comparison, costs: OpCosts, cost_us: float) -> float:
    """Microseconds that go where the weights are unpacked when they are loaded.

    The model is then the baseline with other numbers, where both compute in one number format, and takes as long as
    that. Else the unpacking goes, and what else the packed layers take beyond the baseline's.
    """
    assert comparison.table is not None  # its rows are what is unpacked
    if comparison.a.options.get("dtype") == comparison.b.options.get("dtype"):
        return max(cost_us, costs.b_us - costs.a_us)
    return cost_us + _goes_as_well(comparison.table)


def _products_us(table: DifferenceTable) -> float:
    """Microseconds of the products alone in the baseline."""
    return math.fsum(row.a_us or 0.0 for row in table.rows if row.a and row.b and row.a.macs and row.b.macs)


def _goes_as_well(table: DifferenceTable) -> float:
    """Microseconds that the packed layers take beyond the baseline's besides the unpacking: their kernel's own work and
    a slower product. An unpacked layer is the baseline's with other numbers, so these may go with it."""
    parts = ("Linear", "other in linear")
    rows = [row for row in table.rows if row.b and row.b.parent is not None and row.b.type in parts]
    return max(0.0, math.fsum(row.delta_us.value for row in rows))


def _largest_ops(split: SplitFacts) -> str:
    ranked = sorted((split.dequantize_ops or {}).items(), key=lambda item: -item[1])
    if not ranked:
        return ""
    return f" ({', '.join(f'{name} {share:.0%}' for name, share in ranked[:_NAMED])} of it)"


def _evidence(comparison: Comparison, layers: int, cost: Interval, split: SplitFacts) -> Iterator[Evidence]:
    table = f"qprof diff {comparison.baseline} {comparison.variant} --phase {comparison.phase}"
    yield Evidence("layers that unpack, which the baseline's do not", layers, "layers", "op_meta.parquet: type")
    yield Evidence("time of the unpacking", cost.value, "us", table, cost)
    if split.replayed_ms is not None:
        yield Evidence("the unpacking run alone", split.replayed_ms * 1e3, "us", "manifest.json: timing.split")


CAUSE = GPTQDequantization()

"""Linears of a GPTQ model that unpack their weights in every inference before they multiply."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceTable
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import OpCosts
from qprof.record.manifest import SplitFacts
from qprof.runtimes.interventions import Impossible
from qprof.stats.intervals import Interval

#: How far the latency's fall may lie from the time that the unpacking was seen to take: its share comes from a pass
#: that slows the layers down, and the product then reads weights that are no longer in the caches.
_TOLERANCE = 0.35
#: Something is left in any case.
_LARGEST_FALL = 0.95
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
        low, high = _fall(cost.interval(), _goes_as_well(comparison.table), costs.b_us)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{comparison.variant} unpacks the weights of {len(rows)} layers in every inference"
                f"{_largest_ops(split)}: {cost.value:.0f} µs of {costs.b_us:.0f} µs"
            ),
            figure=LATENCY,
            effect=cost.interval(),
            evidence=tuple(_evidence(comparison, len(rows), cost.interval(), split)),
            intervention=None
            if isinstance(after, Impossible)
            else Intervention(
                does="unpack the same weights once, when they are loaded, and time the products alone",
                prediction=Prediction(LATENCY, comparison.variant, after["name"], low, high, relative=True),
                variants=(after,),
            ),
            untestable=after.reason if isinstance(after, Impossible) else None,
        )


def _goes_as_well(table: DifferenceTable) -> float:
    """Microseconds that the packed layers take beyond the baseline's besides the unpacking: their kernel's own work and
    a slower product. An unpacked layer is the baseline's with other numbers, so these may go with it."""
    parts = ("Linear", "other in linear")
    rows = [row for row in table.rows if row.b and row.b.parent is not None and row.b.type in parts]
    return max(0.0, math.fsum(row.delta_us.value for row in rows))


def _fall(cost: Interval, beside_us: float, of_us: float) -> tuple[float, float]:
    """ln of the ratio of the latencies without and with a cost. As a ratio, it stands where the machine is slower.

    `beside_us` goes with the cost or stays: it widens the prediction towards a larger fall.
    """
    low, high = (cost.value if bound is None else bound for bound in (cost.low, cost.high))
    most = max((1.0 + _TOLERANCE) * (cost.value + beside_us), high)
    least = min((1.0 - _TOLERANCE) * cost.value, low)
    shares = min(_LARGEST_FALL, most / of_us), max(least, 0.1 * cost.value) / of_us
    return math.log(1.0 - shares[0]), math.log(1.0 - shares[1])


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

"""A baseline that unpacks its weights in every inference, against a variant that does not: another kernel for the same
packed weights, or weights that are unpacked when they are loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, row_refs
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import LEAST_SHARE, SURROUNDINGS, OpCosts, part_of
from qprof.findings.products_alone import UNPACKED, other_products
from qprof.runtimes.interventions import Impossible


class UnpacksNoMore:
    """Evidence: the unpacking that the variant has not. What must be refutable: that the baseline's own weights,
    unpacked once when they are loaded, are faster by that time (`dequantization`, in the other direction)."""

    name = "unpacks_no_more"
    title = "weights are no longer unpacked in every inference"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.table is None:
            return
        gone = [row for row in comparison.table.rows if row.a is not None and row.b is None]
        rows = [row for row in gone if row.a and row.a.type == "dequantize"]
        if not rows:
            return
        costs = OpCosts(comparison)
        saved = costs.of_baseline(rows)
        effect = part_of(comparison, "conversions", rows)
        if effect is None or saved.value < LEAST_SHARE * max(costs.a_us, costs.b_us):
            return
        # What a packed layer does beside unpacking and multiplying goes with it.
        beside = math.fsum(row.a_us or 0.0 for row in gone if row.a and row.a.parent is not None and row not in rows)
        products = math.fsum(row.a_us or 0.0 for row in comparison.table.rows if row.a and row.a.macs)
        after = comparison.interventions.unpacked_once(comparison.a)
        if other := other_products(comparison, costs, "a", UNPACKED):
            value, error = other.left(costs, costs.a_us)
        else:
            value, error = costs.without(saved.value + beside, saved, costs.a_us, SURROUNDINGS * products)
        table = f"qprof diff {comparison.baseline} {comparison.variant} --phase {comparison.phase}"
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{comparison.variant} does not unpack the weights of {len(rows)} layers in every inference, as "
                f"{comparison.baseline} does: {effect.value:+.0f} µs"
            ),
            figure=LATENCY,
            effect=effect,
            evidence=(
                Evidence(f"layers of {comparison.baseline} that unpack", len(rows), "layers", "op_meta.parquet: type"),
                Evidence("time of the unpacking", saved.value, "us", table, saved.interval()),
            ),
            intervention=None
            if isinstance(after, Impossible)
            else Intervention(
                does=f"unpack the weights of {comparison.baseline} once, when they are loaded",
                prediction=Prediction.point(LATENCY, comparison.baseline, after["name"], value, error, relative=True),
                variants=(after,),
            ),
            untestable=after.reason if isinstance(after, Impossible) else None,
            mechanism="conversions",
            ops=row_refs(rows),
        )


CAUSE = UnpacksNoMore()

"""Ops that builtin kernels run in the baseline, and the delegate in the variant: what the variant gains by that."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, row_refs
from qprof.findings.causes.left_delegate import REST
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import LEAST_SHARE, WORKERS, OpCosts, part_of, standard_error, types_of
from qprof.runtimes.interventions import Impossible


class EnteredDelegate:
    """Evidence: the ops' partition in both variants, and their time. What must be refutable: that nothing is left of
    the gain where neither hands an op to the delegate. That is tried where the ops compute in one number format: in
    two, they differ outside as well."""

    name = "entered_delegate"
    title = "ops entered the delegate"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.table is None or comparison.settings.changed:
            return
        rows = [row for row in comparison.table.rows if _entered(row)]
        placed = part_of(comparison, "placement", rows) if rows else None
        costs = OpCosts(comparison)
        if placed is None or abs(placed.value) < LEAST_SHARE * max(costs.a_us, costs.b_us):
            return
        inside, outside = costs.of_variant(rows).interval(), costs.of_baseline(rows).interval()
        delegate = next(row.b.delegate for row in rows if row.b is not None)
        types = ", ".join(types_of(row.b for row in rows if row.b is not None))
        intervention, untestable = _intervention(comparison, costs, rows, placed.value)
        table = f"qprof diff {comparison.baseline} {comparison.variant}"
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{len(rows)} op{'s' * (len(rows) > 1)} ({types}) run{'s' * (len(rows) == 1)} inside {delegate} in "
                f"{comparison.variant} and outside of it in {comparison.baseline}: {inside.value:.0f} µs instead of "
                f"{outside.value:.0f} µs"
            ),
            figure=LATENCY,
            effect=placed,
            evidence=(
                Evidence("ops that entered the delegate", len(rows), "ops", "op_meta.parquet: delegate"),
                Evidence("their time outside of it", outside.value, "us", table, outside),
                Evidence("their time inside the delegate", inside.value, "us", table, inside),
            ),
            intervention=intervention,
            untestable=untestable,
            mechanism="placement",
            ops=row_refs(rows),
        )


def _entered(row: DifferenceRow) -> bool:
    return row.kind == "matched" and any(flag.startswith("entered ") for flag in row.flags)


def _intervention(
    comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow], placed_us: float
) -> tuple[Intervention | None, str | None]:
    found = comparison.decomposition
    if any(row.a and row.b and (row.a.inputs, row.a.outputs) != (row.b.inputs, row.b.outputs) for row in rows):
        return None, (
            "they compute in another number format than the baseline's, and what they would take in it outside of the "
            "delegate is not known"
        )
    others = [row for row in found.rows if row.mechanism in ("work", "conversions", "rate")] if found else []
    rest = math.fsum(abs(part.delta_us) for row in others for part in row.ops)
    if rest > REST * abs(placed_us) or comparison.latency is None:
        return None, "too much else differs to tell what would be left of the difference without the delegate"
    a, b = (comparison.interventions.without_delegate(entry.section) for entry in (comparison.a, comparison.b))
    for made in (a, b):
        if isinstance(made, Impossible):
            return None, made.reason
    assert not isinstance(a, Impossible) and not isinstance(b, Impossible)  # returned above
    error_us = math.hypot(standard_error(comparison.latency.difference), rest, costs.unattributed_us)
    prediction = Prediction.point(
        LATENCY,
        a["name"],
        b["name"],
        math.log(costs.a_us / costs.b_us),
        math.hypot(error_us / costs.a_us, WORKERS),
        relative=True,
        versus=(comparison.baseline, comparison.variant),
    )
    return Intervention("run both without the delegate: the difference is to go", prediction, (a, b)), None


CAUSE = EnteredDelegate()

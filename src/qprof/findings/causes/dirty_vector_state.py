"""Ops that pay for what their predecessors leave in the processor: vector registers whose upper halves are in use."""

from __future__ import annotations

import math
from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, part_refs
from qprof.findings.comparison import Comparison
from qprof.findings.decomposition import MechanismRow
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import LEAST_SHARE, OpCosts, part_interval
from qprof.findings.sentences import counted
from qprof.runtimes.interventions import Impossible


class DirtyVectorState:
    """Evidence: profiled blocks against those with a reset before each op. What must be refutable: that clean
    inferences, in which nothing is timed, are faster by as much where the state is reset before each op than where
    nothing is done at the same expense."""

    name = "dirty_vector_state"
    title = "ops pay for the vector state that others leave"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        found = comparison.decomposition
        whole = found.row("neighbourhood") if found else None
        if found is None or whole is None:
            return
        row = _debts(whole)
        if not row.ops:
            return
        costs = OpCosts(comparison)
        # Whose ops pay: the variant's where the row makes it slower, else the baseline's.
        pays = comparison.variant if row.delta_us.value > 0.0 else comparison.baseline
        of_us = costs.b_us if pays == comparison.variant else costs.a_us
        if abs(row.delta_us.value) < LEAST_SHARE * of_us:
            return
        intervention, untestable = _intervention(comparison, costs, row, pays, found.resets)
        yield Hypothesis(
            cause=self.name,
            claim=_claim(row, pays, found.resets, of_us),
            figure=LATENCY,
            effect=row.delta_us,
            evidence=_evidence(row, pays, of_us),
            intervention=intervention,
            untestable=untestable,
            mechanism="neighbourhood",
            ops=part_refs(row.ops),
        )


def _debts(row: MechanismRow) -> MechanismRow:
    """The part of the row that a reset has shown."""
    ops = tuple(part for part in row.ops if part.by)
    return MechanismRow(row.mechanism, part_interval(row, ops), ops)


def _intervention(
    comparison: Comparison, costs: OpCosts, row: MechanismRow, pays: str, resets: str
) -> tuple[Intervention | None, str | None]:
    of_us = costs.b_us if pays == comparison.variant else costs.a_us
    pair = comparison.interventions.state_reset(comparison.run.variant(pays).section)
    if isinstance(pair, Impossible):
        return None, pair.reason
    value, error = costs.without(abs(row.delta_us.value), row.delta_us, of_us)
    return Intervention(
        does=f"reset the {resets} before each op of {pays}, in inferences that are not profiled",
        prediction=Prediction.point(LATENCY, pair[0]["name"], pair[1]["name"], value, error, relative=True),
        variants=pair,
    ), None


def _claim(row: MechanismRow, pays: str, resets: str, of_us: float) -> str:
    builtin = [part for part in row.ops if part.b is None or part.b.delegate is None]
    inside = f", {len(builtin)} of them in kernels of the interpreter's own," if 0 < len(builtin) < len(row.ops) else ""
    return (
        f"{counted(row.ops)} of {pays}{inside} pay {abs(row.delta_us.value):.0f} µs of {of_us:.0f} µs for {resets} "
        "that the ops before them leave in use"
    )


def _evidence(row: MechanismRow, pays: str, of_us: float) -> tuple[Evidence, ...]:
    source = "ops.parquet: profiled blocks against those with resets"
    sides = [part.b or part.a for part in row.ops]
    whole = math.fsum(side.time_us for side in sides if side is not None)
    return (
        Evidence(f"ops of {pays} that are faster after a reset", len(row.ops), "ops", source),
        Evidence("their time as they run", whole, "us", "ops.parquet: profiled blocks"),
        Evidence("what a reset before each of them saves", abs(row.delta_us.value), "us", source),
        Evidence("of the whole", 100.0 * abs(row.delta_us.value) / of_us, "%", source),
    )


CAUSE = DirtyVectorState()

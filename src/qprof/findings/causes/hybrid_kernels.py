"""Kernels that take integer weights and float activations: they quantize the activations in every inference."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, row_refs
from qprof.findings.comparison import Comparison
from qprof.findings.decomposition import Mechanism
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import (
    SURROUNDINGS,
    OpCosts,
    in_float,
    part_of,
    quantized,
    standard_error,
    types_of,
)
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import Impossible, Section
from qprof.stats.intervals import Interval

#: As XNNPACK writes that a kernel's input is quantized at run time: "Fully Connected (NC, QDU8, F32, QC8W) GEMM".
_RUN_TIME = re.compile(r"\bQ[DP]U?8\b")
_BUILTIN = "builtin hybrid"


Tested = tuple[Intervention | None, str | None]
_Intervene = Callable[[Comparison, OpCosts, Sequence[DifferenceRow]], Tested]


class HybridKernels:
    """Evidence: which kernels ran, and what their ops take against the baseline's.

    Inside the delegate and outside of it are two claims, since two things must be kept apart: that a kernel is slow
    because it quantizes at run time, and that it is slow because the delegate does not have it. Inside: the same int8
    weights, used in float ("weight-only"), must take that time away; what left the delegate is in float on both sides.
    Outside: the same must be seen where nothing is in the delegate, the float kernels included.
    """

    name = "hybrid_kernels"
    title = "activations are quantized at run time"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.table is None:
            return
        rows = [row for row in comparison.table.rows if row.a and row.b and quantizes_at_run_time(row.b)]
        if not rows:
            return
        costs = OpCosts(comparison)
        inside = [row for row in rows if row.b and row.b.delegate is not None]
        outside = [row for row in rows if row.b and row.b.delegate is None]
        places: tuple[tuple[list[DifferenceRow], Mechanism, _Intervene], ...] = (
            (inside, "rate", _in_float_arithmetic),
            (outside, "placement", _all_outside),
        )
        for chosen, mechanism, intervene in places:
            own = part_of(comparison, mechanism, chosen)
            if own is not None and costs.matters(costs.difference(chosen)):
                yield _hypothesis(comparison, costs, chosen, mechanism, own, *intervene(comparison, costs, chosen))


def quantizes_at_run_time(op: OpMeta) -> bool:
    """Whether an op's kernel quantizes float activations before it multiplies them."""
    return op.kernel is not None and (op.kernel == _BUILTIN or _RUN_TIME.search(op.kernel) is not None)


def _hypothesis(
    comparison: Comparison,
    costs: OpCosts,
    rows: Sequence[DifferenceRow],
    mechanism: Mechanism,
    own: Interval,
    intervention: Intervention | None,
    untestable: str | None,
) -> Hypothesis:
    before, after = (f(rows).interval() for f in (costs.of_baseline, costs.of_variant))
    table = f"qprof diff {comparison.baseline} {comparison.variant}"
    slower = [row for row in rows if row.delta_us.value > 0.0]
    place = f"{rows[0].b.delegate} kernels" if rows[0].b and rows[0].b.delegate else "builtin kernels"
    return Hypothesis(
        cause=HybridKernels.name,
        claim=(
            f"{len(rows)} ops ({', '.join(types_of(row.b for row in rows if row.b))}) quantize their activations in "
            f"every inference, in {place}: {after.value:.0f} µs instead of {before.value:.0f} µs in float"
        ),
        figure=LATENCY,
        effect=own,
        evidence=(
            Evidence("ops whose kernel quantizes at run time", len(rows), "ops", "op_meta.parquet: kernel"),
            Evidence("of those, slower than in the baseline", len(slower), "ops", table),
            Evidence("their time in the baseline", before.value, "us", table, before),
            Evidence("their time in the variant", after.value, "us", table, after),
        ),
        intervention=intervention,
        untestable=untestable,
        mechanism=mechanism,
        ops=row_refs(rows),
    )


def _in_float_arithmetic(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> Tested:
    """The same weights, computed with in float: weight-only against dynamic range."""
    section, interventions = comparison.b.section, comparison.interventions
    if section.get("file"):
        return _as_in_baseline(comparison, costs, rows)
    possible = interventions.integer_weights_in_float(section)
    if isinstance(possible, Impossible):
        return None, possible.reason
    left, every = _left(comparison)
    before = interventions.in_float(section, [row.a for row in left if row.a], every)
    if isinstance(before, Impossible):
        return None, before.reason
    after = interventions.integer_weights_in_float(before)
    if isinstance(after, Impossible):
        return None, after.reason
    without_left = costs.b_us - (costs.difference(left).value if left else 0.0)
    lost = costs.difference(rows)
    kernels_us = SURROUNDINGS * costs.of_baseline(rows).value
    value, error = costs.without(lost.value, lost, without_left, kernels_us)
    return Intervention(
        does="keep the integer weights and compute in float",
        prediction=Prediction.point(LATENCY, before["name"], after["name"], value, error, relative=True),
        variants=[made for made in (before, after) if made["name"] != section["name"]],
    ), None


def _as_in_baseline(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> Tested:
    """A finished file with the baseline's ops in their place, which take what they take in the baseline."""
    left = _left(comparison)[0]
    before = in_float(comparison, left) if left else comparison.b.section
    if isinstance(before, Impossible):
        return None, before.reason
    after = in_float(comparison, [*left, *rows])
    if isinstance(after, Impossible):
        return None, after.reason
    without_left = costs.b_us - (costs.difference(left).value if left else 0.0)
    lost = costs.difference(rows)
    value, error = costs.without(lost.value, lost, without_left, SURROUNDINGS * costs.of_baseline(rows).value)
    return Intervention(
        does=f"put {comparison.baseline}'s ops in their place",
        prediction=Prediction.point(LATENCY, before["name"], after["name"], value, error, relative=True),
        variants=[made for made in (before, after) if made["name"] != comparison.variant],
    ), None


def _left(comparison: Comparison) -> tuple[list[DifferenceRow], list[OpMeta]]:
    """Rows of the ops that the delegate takes in the baseline alone; and all ops of the baseline."""
    assert comparison.table is not None  # as its callers have seen
    rows = [row for row in comparison.table.rows if row.a is not None]
    left = [row for row in rows if row.a and row.b and row.a.delegate is not None and row.b.delegate is None]
    return left, [row.a for row in rows if row.a]


def _all_outside(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> Tested:
    """These ops in float and not, on builtin kernels alone: the delegate cannot make the difference."""
    section, interventions = comparison.b.section, comparison.interventions
    hybrid = {row.b.op for row in rows if row.b}
    kept: Section | Impossible = comparison.a.section
    if quantized(comparison.ops(comparison.variant)) - hybrid:
        kept = in_float(comparison, rows)
    if isinstance(kept, Impossible):
        return None, kept.reason
    before, after = interventions.without_delegate(section), interventions.without_delegate(kept)
    if isinstance(before, Impossible):
        return None, before.reason
    if isinstance(after, Impossible):
        return None, after.reason
    # Without the delegate, no op leaves vector registers in use: what they owe to their neighbours is not in question.
    lost = part_of(comparison, "placement", rows) or costs.difference(rows).interval()
    error = math.hypot(standard_error(lost), SURROUNDINGS * costs.of_baseline(rows).value)
    return Intervention(
        does=f"leave these ops ({', '.join(types_of(row.a for row in rows if row.a))}) in float, with the delegate off",
        prediction=Prediction.point(LATENCY, before["name"], after["name"], -lost.value, error),
        variants=(before, after),
    ), None


CAUSE = HybridKernels()

"""Kernels that take integer weights and float activations: they quantize the activations in every inference."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from qprof.explain.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.explain.comparison import Comparison
from qprof.explain.difference import DifferenceRow
from qprof.explain.effects import LATENCY
from qprof.explain.op_costs import OpCosts, as_ratio, predicted_fall, quantized, types_of
from qprof.explain.sections import changed, in_float, method, without_delegate
from qprof.runtimes.base import OpMeta

#: As XNNPACK writes that a kernel's input is quantized at run time: "Fully Connected (NC, QDU8, F32, QC8W) GEMM".
_RUN_TIME = re.compile(r"\bQ[DP]U?8\b")
_BUILTIN = "builtin hybrid"
_DYNAMIC, _WEIGHT_ONLY = "-dynamic", "-weight-only"
_NOT_ANEW = "it cannot be quantized anew; give the float model to qprof instead of the finished file"


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
        if comparison.runtime != "litert" or comparison.table is None:
            return
        rows = [row for row in comparison.table.rows if row.a and row.b and quantizes_at_run_time(row.b)]
        if not rows:
            return
        costs = OpCosts(comparison)
        inside = [row for row in rows if row.b and row.b.delegate is not None]
        outside = [row for row in rows if row.b and row.b.delegate is None]
        for chosen, intervene in ((inside, _in_float_arithmetic), (outside, _all_outside)):
            if chosen and costs.matters(costs.difference(chosen)):
                yield _hypothesis(comparison, costs, chosen, *intervene(comparison, costs, chosen))


def quantizes_at_run_time(op: OpMeta) -> bool:
    """Whether an op's kernel quantizes float activations before it multiplies them."""
    return op.kernel is not None and (op.kernel == _BUILTIN or _RUN_TIME.search(op.kernel) is not None)


def _hypothesis(
    comparison: Comparison,
    costs: OpCosts,
    rows: Sequence[DifferenceRow],
    intervention: Intervention | None,
    untestable: str | None,
) -> Hypothesis:
    cost, before, after = (f(rows).interval() for f in (costs.difference, costs.of_baseline, costs.of_variant))
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
        effect=cost,
        evidence=(
            Evidence("ops whose kernel quantizes at run time", len(rows), "ops", "op_meta.parquet: kernel"),
            Evidence("of those, slower than in the baseline", len(slower), "ops", table),
            Evidence("their time in the baseline", before.value, "us", table, before),
            Evidence("their time in the variant", after.value, "us", table, after),
        ),
        intervention=intervention,
        untestable=untestable,
    )


Tested = tuple[Intervention | None, str | None]


def _in_float_arithmetic(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> Tested:
    """The same weights, computed with in float: weight-only against dynamic range."""
    section = comparison.b["section"]
    name, colon, ops = method(section).partition(":")
    if section.get("file") or not name.endswith(_DYNAMIC):
        return None, _NOT_ANEW
    left, every = _left(comparison)
    before = in_float(section, [row.a for row in left if row.a], every)
    after = changed(before, "weight-only", method=name.removesuffix(_DYNAMIC) + _WEIGHT_ONLY + colon + ops)
    without_left = costs.b_us - (costs.difference(left).value if left else 0.0)
    low, high = as_ratio(predicted_fall(costs.difference(rows).interval()), without_left)
    return Intervention(
        does="keep the integer weights and compute in float",
        prediction=Prediction(LATENCY, before["name"], after["name"], low, high, relative=True),
        variants=[made for made in (before, after) if made["name"] != section["name"]],
    ), None


def _left(comparison: Comparison) -> tuple[list[DifferenceRow], list[OpMeta]]:
    """Rows of the ops that the delegate takes in the baseline alone; and all ops of the baseline."""
    assert comparison.table is not None  # as its callers have seen
    rows = [row for row in comparison.table.rows if row.a is not None]
    left = [row for row in rows if row.a and row.b and row.a.delegate is not None and row.b.delegate is None]
    return left, [row.a for row in rows if row.a]


def _all_outside(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> Tested:
    """These ops in float and not, on builtin kernels alone: the delegate cannot make the difference."""
    section = comparison.b["section"]
    hybrid = {row.b.op for row in rows if row.b}
    if not quantized(comparison.ops(comparison.variant)) - hybrid:
        after = without_delegate(comparison.a["section"])
    elif section.get("file"):
        return None, _NOT_ANEW
    else:
        after = without_delegate(in_float(section, [row.a for row in rows if row.a], _left(comparison)[1]))
    before = without_delegate(section)
    low, high = predicted_fall(costs.difference(rows).interval())
    return Intervention(
        does=f"leave these ops ({', '.join(types_of(row.a for row in rows if row.a))}) in float, with the delegate off",
        prediction=Prediction(LATENCY, before["name"], after["name"], low, high),
        variants=(before, after),
    ), None


CAUSE = HybridKernels()

"""Ops that the delegate runs in the baseline and does not take in the variant: builtin kernels run them instead."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, row_refs
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import (
    FASTEST,
    LEAST_SHARE,
    SURROUNDINGS,
    WORKERS,
    OpCosts,
    in_float,
    left_over,
    part_of,
    quantized,
    standard_error,
    types_of,
    with_their_train,
)
from qprof.runtimes.interventions import Impossible, Section
from qprof.stats.intervals import Interval

#: Both without the delegate, a variant of which the ops inside were as fast as this is not told from the baseline.
_CLEARLY_FASTER = math.log1p(-LEAST_SHARE)
#: What else differs between the two may be this part of what the ops lost, to be told from it.
REST = 0.25


class LeftDelegate:
    """Evidence: the ops' partition in both variants, and the time that they lost. What must be refutable: that they
    would be fast again if they were left in float, and so in the delegate."""

    name = "left_delegate"
    title = "ops left the delegate"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.table is None:
            return
        rows = [row for row in comparison.table.rows if _left(row)]
        if not rows:
            return
        costs = OpCosts(comparison)
        lost, placed = costs.difference(rows), part_of(comparison, "placement", rows)
        if not costs.matters(lost) or placed is None:
            return
        intervention, untestable = _intervention(comparison, costs, rows, lost.interval())
        yield Hypothesis(
            cause=self.name,
            claim=_claim(comparison, costs, rows, placed.value),
            figure=LATENCY,
            effect=placed,
            evidence=_evidence(comparison, costs, rows),
            intervention=intervention,
            untestable=untestable,
            mechanism="placement",
            ops=row_refs(rows),
        )


def _left(row: DifferenceRow) -> bool:
    return row.kind == "matched" and any(flag.startswith("left ") for flag in row.flags)


def _delegate(rows: Sequence[DifferenceRow]) -> str:
    return str(next(row.a.delegate for row in rows if row.a is not None))


def _claim(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow], lost_us: float) -> str:
    ops = f"{len(rows)} ops ({', '.join(_types(rows))})"
    return (
        f"{ops} run outside {_delegate(rows)} in {comparison.variant}: {costs.of_variant(rows).value:.0f} µs there "
        f"instead of {costs.of_baseline(rows).value:.0f} µs inside; {lost_us:.0f} µs of that is the kernels' own time"
    )


def _types(rows: Sequence[DifferenceRow]) -> list[str]:
    return types_of(row.a for row in rows if row.a is not None)


def _evidence(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> tuple[Evidence, ...]:
    table = f"qprof diff {comparison.baseline} {comparison.variant}"
    inside, outside = costs.of_baseline(rows).interval(), costs.of_variant(rows).interval()
    return (
        Evidence("ops that left the delegate", len(rows), "ops", "op_meta.parquet: delegate"),
        Evidence("their time inside the delegate", inside.value, "us", table, inside),
        Evidence("their time outside of it", outside.value, "us", table, outside),
        Evidence("partitions of the baseline", _partitions(comparison, comparison.baseline), "", "op_meta.parquet"),
        Evidence("partitions of the variant", _partitions(comparison, comparison.variant), "", "op_meta.parquet"),
    )


def _partitions(comparison: Comparison, variant: str) -> int:
    return len({op.partition for op in comparison.ops(variant) if op.partition is not None})


def _intervention(
    comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow], lost: Interval
) -> tuple[Intervention | None, str | None]:
    left = {row.b.op for row in rows if row.b is not None}
    others = quantized(comparison.ops(comparison.variant)) - left
    finished = bool(comparison.b.section.get("file"))
    if not others and not finished:
        return _all_outside(comparison, costs, lost)
    kept = in_float(comparison, rows)
    if isinstance(kept, Impossible):
        return _all_outside(comparison, costs, lost) if finished else (None, kept.reason)
    types = ", ".join(_types(rows))
    does = f"leave these ops ({types}) in float"
    if finished:
        does = f"put {comparison.baseline}'s ops ({types}) in their place"
    # Inside, they take what they take in the baseline; what they owe to their neighbours outside goes as well.
    gone, error_us = with_their_train(comparison, rows, costs.difference(rows))
    error_us = math.hypot(error_us, SURROUNDINGS * costs.of_baseline(rows).value)
    value, error = left_over(gone, error_us, costs.b_us)
    return Intervention(
        does=f"{does}, which {_delegate(rows)} takes",
        prediction=Prediction.point(LATENCY, comparison.variant, kept["name"], value, error, relative=True),
        variants=(kept,),
    ), None


def _all_outside(comparison: Comparison, costs: OpCosts, lost: Interval) -> tuple[Intervention | None, str | None]:
    """Nothing can be left in float. If it is the delegate that makes the difference, none is left without it."""
    without = costs.b_us - lost.value
    expected = math.log(without / costs.a_us) if without > 0.0 else FASTEST
    a, b = (comparison.interventions.without_delegate(entry.section) for entry in (comparison.a, comparison.b))
    if isinstance(a, Impossible):
        return None, a.reason
    if isinstance(b, Impossible):
        return None, b.reason
    if expected > _CLEARLY_FASTER:
        return _none_left(comparison, costs, lost, (a, b))
    # The kernels outside may make anything of that gain, from nothing to as much again.
    prediction = Prediction.between(LATENCY, a["name"], b["name"], 2.0 * expected, 0.0, WORKERS, relative=True)
    return Intervention("run both without the delegate", prediction, (a, b)), None


def _none_left(
    comparison: Comparison, costs: OpCosts, lost: Interval, without: tuple[Section, Section]
) -> tuple[Intervention | None, str | None]:
    """Where next to nothing else differs, no difference is left where no op of either is in the delegate."""
    found = comparison.decomposition
    others = [row for row in found.rows if row.mechanism in ("work", "conversions", "rate")] if found else []
    rest = math.fsum(abs(part.delta_us) for row in others for part in row.ops)
    if rest > REST * lost.value or comparison.latency is None:
        why = "these are all of its quantized ops, so that nothing is left with them in float"
        if comparison.b.section.get("file"):
            why = "a ready-made file cannot be quantized anew with these ops in float (--variants makes one that can)"
        return None, (
            f"{why}, and too much else differs to tell what would be left of the difference without the delegate"
        )
    value = math.log(costs.a_us / costs.b_us)
    error_us = math.hypot(standard_error(comparison.latency.difference), rest, costs.unattributed_us)
    error = math.hypot(error_us / costs.a_us, WORKERS)
    names = without[0]["name"], without[1]["name"]
    prediction = Prediction.point(
        LATENCY, *names, value, error, relative=True, versus=(comparison.baseline, comparison.variant)
    )
    return Intervention("run both without the delegate: the difference is to go", prediction, without), None


CAUSE = LeftDelegate()

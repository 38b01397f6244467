"""Ops that do the same work in the same place at another rate: other kernels, in another number format."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, row_refs
from qprof.findings.causes.hybrid_kernels import quantizes_at_run_time
from qprof.findings.comparison import Comparison
from qprof.findings.conversions import around_in_float
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import (
    LEAST_SHARE,
    SURROUNDINGS,
    OpCosts,
    in_float,
    named_pairs,
    part_of,
    standard_error,
)
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import Impossible, Section


class OtherKernels:
    """Evidence: the ops' rate before and after. What must be refutable: that the variant with these ops left in float
    takes what the others take as they are, and these what they take in the baseline.

    Kernels that are slower since they quantize at run time have a cause of their own (`hybrid_kernels`)."""

    name = "other_kernels"
    title = "the same work at another rate"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        found = comparison.decomposition
        row = found.row("rate") if found else None
        if found is None or row is None or comparison.table is None or comparison.b.structure != "graph":
            return
        costs = OpCosts(comparison)
        parts = {part.name for part in row.ops}
        left_to_hybrid = _slower_by_quantizing(comparison.table.rows)
        groups: dict[str, list[DifferenceRow]] = {}
        for one in comparison.table.rows:
            if one.label in parts and one.a and one.b and one.label not in left_to_hybrid:
                groups.setdefault(one.a.type, []).append(one)
        for op_type, rows in groups.items():
            effect = part_of(comparison, "rate", rows)
            if effect is None or abs(effect.value) < LEAST_SHARE * max(costs.a_us, costs.b_us):
                continue
            intervention, untestable = _intervention(comparison, costs, rows)
            yield Hypothesis(
                cause=self.name,
                claim=_claim(comparison, op_type, rows, effect.value),
                figure=LATENCY,
                effect=effect,
                evidence=_evidence(comparison, costs, rows),
                intervention=intervention,
                untestable=untestable,
                mechanism="rate",
                ops=row_refs(rows),
            )


def _slower_by_quantizing(rows: Sequence[DifferenceRow]) -> set[str]:
    """Labels of the ops that quantize at run time, where they are slower all together: one claim is made of them."""
    found = [row for row in rows if row.a and row.b and quantizes_at_run_time(row.b)]
    inside = [row for row in found if row.b and row.b.delegate is not None]
    slower = math.fsum((row.b_us or 0.0) - (row.a_us or 0.0) for row in inside) >= 0.0
    return {row.label for row in found if slower or row not in inside}


def _rates(rows: Sequence[DifferenceRow]) -> list[float]:
    """GMAC/s in the baseline and in the variant; 0 where nothing is multiplied."""
    sides: Sequence[list[tuple[OpMeta, float]]] = (
        [(row.a, row.a_us or 0.0) for row in rows if row.a],
        [(row.b, row.b_us or 0.0) for row in rows if row.b],
    )
    times = [math.fsum(us for _, us in side) for side in sides]
    macs = [math.fsum(op.macs or 0 for op, _ in side) for side in sides]
    return [m / t / 1e3 if t > 0.0 else 0.0 for m, t in zip(macs, times, strict=True)]


def _claim(comparison: Comparison, op_type: str, rows: Sequence[DifferenceRow], us: float) -> str:
    before, after = _rates(rows)
    rate = f" ({before:.3g} -> {after:.3g} GMAC/s)" if before and after else ""
    faster = "faster" if us < 0.0 else "slower"
    return (
        f"{len(rows)} {op_type} do the same work {faster} in {comparison.variant}{_kernels(rows)}{rate}: {us:+.0f} µs"
    )


def _kernels(rows: Sequence[DifferenceRow]) -> str:
    """Whose kernels do it, as far as the ops' formats tell. In one format, a neighbour may be fused in one of them."""
    a, b = ({_format(op) for row in rows if (op := getattr(row, side)) is not None} for side in "ab")
    if a == b:
        return ", in the same number format"
    return f", in the kernels of {' and '.join(sorted(b))} instead of {' and '.join(sorted(a))}"


def _format(op: OpMeta) -> str:
    """The number format of what an op computes on: that of its first input, and of its weights where they have
    another."""
    told = [text.partition("[")[0] for text in op.inputs[:1]]
    return op.quantization or (told[0] if told else "float")


def _evidence(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> tuple[Evidence, ...]:
    table = f"qprof diff {comparison.baseline} {comparison.variant}"
    before, after = costs.of_baseline(rows).interval(), costs.of_variant(rows).interval()
    rates = _rates(rows)
    return (
        Evidence("their time in the baseline", before.value, "us", table, before),
        Evidence("their time in the variant", after.value, "us", table, after),
        Evidence("their rate in the baseline", rates[0], "GMAC/s", "op_meta.parquet: macs"),
        Evidence("their rate in the variant", rates[1], "GMAC/s", "op_meta.parquet: macs"),
    )


def _intervention(
    comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]
) -> tuple[Intervention | None, str | None]:
    finished = bool(comparison.b.section.get("file"))
    alike = not any(row.b.quantization for row in rows if row.b)
    if alike and not finished:
        return None, "they are in float in both, so that leaving them in float changes nothing"
    after = in_float(comparison, rows)
    if isinstance(after, Impossible):
        return None, after.reason
    if finished:
        floats = alike or all(row.b is not None and quantizes_at_run_time(row.b) for row in rows)
        return _against_control(comparison, costs, rows, after, converting=not floats)
    gone = costs.difference(rows)
    # Kernels that take float, and quantize at run time, need none.
    hybrid = all(row.b is not None and quantizes_at_run_time(row.b) for row in rows)
    converted = (0.0, 0.0) if hybrid else around_in_float(comparison, costs, rows)
    if converted is None:
        return None, "what the conversions around float ops would take is not known: the variant has none to go by"
    more = math.hypot(SURROUNDINGS * costs.of_baseline(rows).value, converted[1])
    value, error = costs.without(gone.value - converted[0], gone, costs.b_us, more)
    claimed, _ = costs.without(gone.value, gone, costs.b_us)
    if abs(claimed) < 2.0 * error:  # were the claim wrong, the conversions alone would meet the prediction
        return None, "what the conversions around these ops would take is as large as what is to be tested"
    return Intervention(
        does=f"leave these ops ({rows[0].a.type if rows[0].a else ''}) in float",
        prediction=Prediction.point(LATENCY, comparison.variant, after["name"], value, error, relative=True),
        variants=(after,),
    ), None


def _against_control(
    comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow], after: Section, converting: bool
) -> tuple[Intervention | None, str | None]:
    """The baseline's ops in a finished file, against its own ops with as many conversions around them, if any."""
    before: Section | Impossible = comparison.b.section
    if converting:
        before = comparison.interventions.converted_alike(comparison.b, comparison.a, named_pairs(rows))
    if isinstance(before, Impossible):
        return None, before.reason
    gone = costs.difference(rows).interval()
    error = math.hypot(standard_error(gone), SURROUNDINGS * costs.of_baseline(rows).value)
    if abs(gone.value) < 2.0 * error:
        return None, "what these ops take among others is not known as well as what is to be tested"
    return Intervention(
        does=f"put {comparison.baseline}'s ops ({rows[0].a.type if rows[0].a else ''}) in their place"
        + (", against as many conversions around its own" if converting else ""),
        prediction=Prediction.point(LATENCY, before["name"], after["name"], -gone.value, error),
        variants=(before, after) if converting else (after,),
    ), None


CAUSE = OtherKernels()

"""QUANTIZE and DEQUANTIZE ops that the baseline has not: at the model's borders, and around ops left in float."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, rectangular_error, row_refs
from qprof.findings.causes.other_work import without_ops
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.effects import LATENCY
from qprof.findings.measured import leaves
from qprof.findings.op_costs import CONVERSIONS, OpCosts, part_of, types_of
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import Impossible


class InsertedConversions:
    """Evidence: the time of the inserted ops. Those at the borders must vanish with integer inputs and outputs; those
    inside with the float ops that they surround, where it is the profile that left these in float."""

    name = "inserted_conversions"
    title = "conversions were inserted"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.table is None or (comparison.settings.changed and comparison.settings.one_file):
            return  # of one file, the runtime's settings put them in: they are those of another cause
        rows = [r for r in comparison.table.rows if r.kind == "inserted" and r.b and r.b.type in CONVERSIONS]
        if not rows:
            return
        costs = OpCosts(comparison)
        border = _at_border(comparison)
        for place, chosen, intervene in (
            ("at its inputs and outputs", [row for row in rows if row.label in border], _integer_io),
            ("between its ops", [row for row in rows if row.label not in border], _quantize_islands),
        ):
            if chosen and costs.matters(costs.of_variant(chosen)):
                yield _hypothesis(comparison, costs, chosen, place, *intervene(comparison, costs, chosen))


def _at_border(comparison: Comparison) -> set[str]:
    """Names of conversions before any other op, behind all others, or whose output is one of the model's."""
    ops = _leaf_ops(comparison)
    others = [position for position, op in enumerate(ops) if op.type not in CONVERSIONS]
    first, last = (others[0], others[-1]) if others else (len(ops), -1)
    outputs = {tensor.name for tensor in comparison.b.outputs}
    return {
        op.name
        for position, op in enumerate(ops)
        if op.type in CONVERSIONS and (position < first or position > last or op.name in outputs)
    }


def _leaf_ops(comparison: Comparison) -> list[OpMeta]:
    ops = comparison.ops(comparison.variant)
    return [op for op, leaf in zip(ops, leaves(ops), strict=True) if leaf]


def _hypothesis(
    comparison: Comparison,
    costs: OpCosts,
    rows: Sequence[DifferenceRow],
    place: str,
    intervention: Intervention | None,
    untestable: str | None,
) -> Hypothesis:
    cost = costs.of_variant(rows).interval()
    types = types_of(row.b for row in rows if row.b)
    table = f"qprof diff {comparison.baseline} {comparison.variant}"
    return Hypothesis(
        cause=InsertedConversions.name,
        claim=(
            f"{comparison.variant} converts {place} {len(rows)} times ({', '.join(types)}), "
            f"which takes {cost.value:.0f} µs of {costs.b_us:.0f} µs"
        ),
        figure=LATENCY,
        effect=part_of(comparison, "conversions", rows) or cost,
        evidence=(
            Evidence("conversions that the baseline has not", len(rows), "ops", "op_meta.parquet: type"),
            Evidence("their time", cost.value, "us", table, cost),
        ),
        intervention=intervention,
        untestable=untestable,
        mechanism="conversions",
        ops=row_refs(rows),
    )


Tested = tuple[Intervention | None, str | None]


def _integer_io(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> Tested:
    after = comparison.interventions.integer_io(comparison.b.section)
    if isinstance(after, Impossible):
        return None, after.reason
    cost = costs.of_variant(rows)
    value, error = costs.without(cost.value, cost, costs.b_us)
    prediction = Prediction.point(LATENCY, comparison.variant, after["name"], value, error, relative=True)
    return Intervention("give the model int8 inputs and outputs", prediction, (after,)), None


def _quantize_islands(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> Tested:
    """Quantize the float ops between the conversions. Their own time may go with it, so it widens the prediction."""
    assert comparison.table is not None  # rows are of it
    section, interventions = comparison.b.section, comparison.interventions
    if section.get("file"):
        return without_ops(comparison, costs, comparison.variant, rows, "cut the conversions out of the file of")
    types = types_of(op for op in _leaf_ops(comparison) if op.type not in CONVERSIONS and op.quantization is None)
    chosen = [op_type for op_type in types if interventions.deselected(section, op_type)]
    after = interventions.quantized_as_well(section, chosen)
    if isinstance(after, Impossible):
        return None, after.reason
    if not chosen:
        return None, f"the quantizer has no integer form of {', '.join(types) or 'the ops between them'}"
    islands = [row for row in comparison.table.rows if row.b and row.b.type in chosen and row.b.quantization is None]
    conversions, own = costs.of_variant(rows), costs.of_variant(islands)
    # What the islands take as integers is not known: between nothing and what they take in float.
    value, error = costs.without(
        conversions.value + own.value / 2.0, conversions, costs.b_us, rectangular_error(0.0, own.value)
    )
    prediction = Prediction.point(LATENCY, comparison.variant, after["name"], value, error, relative=True)
    return Intervention(f"quantize {', '.join(chosen)} as well", prediction, (after,)), None


CAUSE = InsertedConversions()

"""QUANTIZE and DEQUANTIZE ops that the baseline has not: at the model's borders, and around ops left in float."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qprof.explain.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.explain.comparison import Comparison
from qprof.explain.difference import DifferenceRow
from qprof.explain.effects import LATENCY
from qprof.explain.measured import leaves
from qprof.explain.op_costs import CONVERSIONS, TOLERANCE, OpCosts, as_ratio, predicted_fall, types_of
from qprof.explain.sections import changed, method
from qprof.runtimes.base import OpMeta

#: The method whose inputs and outputs a profile can make integers (`io`).
_INTEGER_IO = "int8"


class InsertedConversions:
    """Evidence: the time of the inserted ops. Those at the borders must vanish with integer inputs and outputs; those
    inside with the float ops that they surround, where it is the profile that left these in float."""

    name = "inserted_conversions"
    title = "conversions were inserted"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.runtime != "litert" or comparison.table is None:
            return
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
    outputs = {tensor["name"] for tensor in comparison.b.get("outputs", ())}
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
        effect=cost,
        evidence=(
            Evidence("conversions that the baseline has not", len(rows), "ops", "op_meta.parquet: type"),
            Evidence("their time", cost.value, "us", table, cost),
        ),
        intervention=intervention,
        untestable=untestable,
    )


Tested = tuple[Intervention | None, str | None]


def _integer_io(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> Tested:
    section = comparison.b["section"]
    if section.get("file"):
        return None, "a finished file keeps its inputs and outputs; give the float model to qprof instead"
    if method(section).partition(":")[0] != _INTEGER_IO:
        return None, f"qprof makes integer inputs and outputs for the method {_INTEGER_IO} alone"
    after = changed(section, "int8-io", io="int8")
    low, high = as_ratio(predicted_fall(costs.of_variant(rows).interval()), costs.b_us)
    prediction = Prediction(LATENCY, comparison.variant, after["name"], low, high, relative=True)
    return Intervention("give the model int8 inputs and outputs", prediction, (after,)), None


def _quantize_islands(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> Tested:
    """Quantize the float ops between the conversions. Their own time may go with it, so it widens the prediction."""
    assert comparison.table is not None  # rows are of it
    section = comparison.b["section"]
    if section.get("file"):
        return None, "a finished file cannot be quantized anew; give the float model to qprof instead"
    types = types_of(op for op in _leaf_ops(comparison) if op.type not in CONVERSIONS and op.quantization is None)
    chosen = [op_type for op_type in types if _deselected(section, op_type)]
    if not chosen:
        return None, f"the quantizer has no integer form of {', '.join(types) or 'the ops between them'}"
    islands = [row for row in comparison.table.rows if row.b and row.b.type in chosen and row.b.quantization is None]
    conversions, own = costs.of_variant(rows), costs.of_variant(islands)
    most, least = predicted_fall(conversions.interval())
    low, high = as_ratio((most - (1.0 + TOLERANCE) * own.value, least), costs.b_us)
    after = changed(section, f"int8:{'.'.join(chosen)}", **_selecting(section, chosen))
    prediction = Prediction(LATENCY, comparison.variant, after["name"], low, high, relative=True)
    return Intervention(f"quantize {', '.join(chosen)} as well", prediction, (after,)), None


def _deselected(section: dict[str, Any], op_type: str) -> bool:
    listed = _listed(section)
    return op_type in section.get("skip_ops", ()) or (bool(listed) and op_type not in listed)


def _listed(section: dict[str, Any]) -> list[str]:
    """Op types that the section limits the quantizer to; empty where it does not."""
    in_method = method(section).partition(":")[2]
    return list(section.get("ops") or [op.strip() for op in in_method.split(",") if op.strip()])


def _selecting(section: dict[str, Any], types: Sequence[str]) -> dict[str, Any]:
    skipped = [op_type for op_type in section.get("skip_ops", ()) if op_type not in types]
    listed = _listed(section)
    ops = sorted({*listed, *types}) if listed else []
    return {"method": method(section).partition(":")[0], "ops": ops, "skip_ops": skipped}


CAUSE = InsertedConversions()

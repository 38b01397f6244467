"""What the conversions take that a quantized model needs around ops which are left in float."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qprof.findings.causes.base import rectangular_error
from qprof.findings.comparison import Comparison
from qprof.findings.decomposition import elements
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.op_costs import SURROUNDINGS, OpCosts, standard_error
from qprof.record.ops import OpMeta

#: Into integers, and back.
_INTO, _BACK = ("QUANTIZE", "QuantizeLinear"), ("DEQUANTIZE", "DequantizeLinear")


def around_in_float(
    comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]
) -> tuple[float, float] | None:
    """Microseconds of converting what these ops, in float, read from quantized ops and hand to them, and the standard
    error of that: at the rates per number of the variant's own conversions, which are other ops in another place
    (`SURROUNDINGS`). Where it is not known who hands what to whom, it lies between nothing and all that they read and
    write. `None` where the variant converts nothing to go by."""
    assert comparison.table is not None  # rows are of it
    into, back = (_rate(comparison, costs, types) for types in (_INTO, _BACK))
    known = into or back
    if known is None:
        return None
    into, back = into or known, back or known
    chosen = [row.a for row in rows if row.a]
    ops = {op.op: op for op in comparison.ops(comparison.baseline)}
    sides = comparison.interventions.by_side(comparison.a)
    if any(op.op not in sides for op in chosen):
        written = _numbers(chosen)
        # As many numbers are read as written, give or take: no op's inputs are known apart from its constants.
        most = (into[0] + back[0]) * written
        error = math.hypot(rectangular_error(0.0, most), written * math.hypot(into[1], back[1]))
        return most / 2.0, error
    in_float = {op.op for op in chosen} | _unquantized(comparison)
    read = {name for op in chosen for name in sides[op.op][0] if name not in in_float}
    handed = [op for op in chosen if any(name not in in_float for name in sides[op.op][1])]
    read_numbers, handed_numbers = _numbers([ops[name] for name in read if name in ops]), _numbers(handed)
    value = back[0] * read_numbers + into[0] * handed_numbers
    own = math.hypot(back[1] * read_numbers, into[1] * handed_numbers)
    return value, math.hypot(own, SURROUNDINGS * value)


def _rate(comparison: Comparison, costs: OpCosts, types: Sequence[str]) -> tuple[float, float] | None:
    """Microseconds per number that the variant's conversions of these types take, and the standard error."""
    assert comparison.table is not None  # as its caller has seen
    found = [row for row in comparison.table.rows if row.b and row.b.type in types and elements(row.b.outputs)]
    if not found:
        return None
    numbers = _numbers([row.b for row in found if row.b])
    cost = costs.of_variant(found).interval()
    return cost.value / numbers, standard_error(cost) / numbers


def _unquantized(comparison: Comparison) -> set[str]:
    """Ids of the baseline's ops that compute in float in the variant as well."""
    assert comparison.table is not None  # as its caller has seen
    return {row.a.op for row in comparison.table.rows if row.a and row.b and row.b.quantization is None}


def _numbers(ops: Sequence[OpMeta]) -> int:
    return sum(elements(op.outputs) or 0 for op in ops)

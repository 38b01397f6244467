"""Products in a number format for which the machine has no fast kernels: float16 on most processors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, row_refs
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import LEAST_SHARE, SURROUNDINGS, OpCosts, part_of
from qprof.record.ceilings import Ceiling
from qprof.runtimes.interventions import Impossible

#: A format whose products reach less than this part of another's has no kernels of its own: those of equal care are
#: as fast as float32's at least, in half its bytes.
_SLOW = 0.5
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class SlowNumberFormat:
    """Evidence: the throughput of products in the variant's format and in another, both measured on this machine. What
    must be refutable: that the same numbers, computed in that other format, are as fast as it."""

    name = "slow_number_format"
    title = "a number format without fast kernels on this machine"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        theirs, dtype = (str(entry.options.get("dtype") or "") for entry in (comparison.a, comparison.b))
        if comparison.table is None or theirs == dtype:  # what both compute in sets them apart in nothing
            return
        rows = [row for row in comparison.table.rows if row.a and row.b and row.a.macs and row.b.macs]
        known = _rates(comparison, rows)
        own = known.get(dtype)
        faster = {name: one for name, one in known.items() if own and _value(own) < _SLOW * _value(one)}
        if own is None or not faster:
            return
        costs = OpCosts(comparison)
        cost = costs.difference(rows)
        low = cost.interval().low
        if not rows or cost.value < LEAST_SHARE * costs.b_us or (low is not None and low <= 0.0):
            return
        other = theirs if theirs in faster else max(faster, key=lambda name: _value(faster[name]))
        after = comparison.interventions.computing_in(comparison.b, other)
        alike = other == theirs and not comparison.a.options.get("kernel") and not comparison.b.options.get("kernel")
        gone = _gone(costs, rows, alike, _value(own) / _value(faster[other]))
        value, error = costs.without(gone, cost, costs.b_us, SURROUNDINGS * costs.of_baseline(rows).value)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{comparison.variant} computes in {dtype}, for which this machine has no fast kernels: it multiplies "
                f"at {_value(own):.3g} {own.unit} in it, and at {_value(faster[other]):.3g} in {other}; "
                f"its {len(rows)} layers that multiply take {cost.value:.0f} µs more than {comparison.baseline}'s, of "
                f"{costs.b_us:.0f} µs"
            ),
            figure=LATENCY,
            effect=part_of(comparison, "rate", rows) or cost.interval(),
            evidence=(
                *(
                    Evidence(f"{name} products at most, here", _value(known[name]), own.unit, "manifest.json: ceilings")
                    for name in (dtype, other)
                ),
                Evidence(
                    "what its layers that multiply take more", cost.value, "us", _table(comparison), cost.interval()
                ),
            ),
            intervention=None
            if isinstance(after, Impossible) or value >= 0.0
            else Intervention(
                does=f"compute with the same numbers in {other}",
                prediction=Prediction.point(LATENCY, comparison.variant, after["name"], value, error, relative=True),
                variants=(after,),
            ),
            untestable=after.reason if isinstance(after, Impossible) else None,
            mechanism="rate",
            ops=row_refs(rows),
        )


def _gone(costs: OpCosts, rows: Sequence[DifferenceRow], alike: bool, ratio: float) -> float:
    """Microseconds that go in the other format: all that the variant takes beyond the baseline, where it is the
    baseline then; or what its products take beyond the part that the ceilings of the two formats leave."""
    if alike:
        return costs.b_us - costs.a_us
    return (1.0 - ratio) * costs.of_variant(rows).value


def _rates(comparison: Comparison, rows: Sequence[DifferenceRow]) -> dict[str, Ceiling]:
    """Float type -> how fast the machine multiplies in it: matrices, or a matrix by the single row of a decoded token,
    told in numbers that it reads in a nanosecond."""
    found = comparison.run.manifest.ceilings.get(str(comparison.b.runtime), [])
    kind, name = ("memory", "weights") if _one_row(rows) else ("compute", "matmul")
    known = [one for one in found if (one.kind, one.name) == (kind, name) and one.value and one.dtype in _BYTES]
    if kind == "compute":
        return {one.dtype: one for one in known}
    return {one.dtype: replace(one, value=_value(one) / _BYTES[one.dtype], unit="numbers/ns") for one in known}


def _one_row(rows: Sequence[DifferenceRow]) -> bool:
    """Whether all of them multiply a single row."""
    shapes = [re.findall(r"\d+", row.b.inputs[0].partition("[")[2]) for row in rows if row.b and row.b.inputs]
    return bool(shapes) and all(math.prod(int(extent) for extent in shape[:-1]) == 1 for shape in shapes)


def _value(ceiling: Ceiling) -> float:
    return ceiling.value or math.nan


def _table(comparison: Comparison) -> str:
    return f"qprof diff {comparison.baseline} {comparison.variant} --phase {comparison.phase}"


CAUSE = SlowNumberFormat()

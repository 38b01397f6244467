"""Ops that quantization does not touch: they take as long in the variant, and bound what the rest can gain (Amdahl)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import FASTEST, LEAST_SHARE, OpCosts, types_of
from qprof.runtimes.interventions import Impossible

#: An op counts as untouched unless its time surely differs by more than this: the same kernels differ by the cache.
_UNCHANGED = 0.2
#: The untouched ops' part of the variant's latency: at a fifth, an infinitely fast rest would be five times faster.
_LEAST_PART = 0.2
#: How much larger, as ln of a ratio, the gain of the rest must be than that of the whole, or they bound nothing.
_LEAST_BOUND = 0.2
#: What remains behind the cut must be this much of the rest, or it does not stand for it.
_LEAST_KEPT = 0.5


@dataclass(frozen=True, slots=True)
class _Gain:
    """Speed-ups as ln(variant / baseline), negative where the variant is faster: of the whole and of the rest."""

    whole: float
    rest: float


class FixedPart:
    """Evidence: op times of both variants. What must be refutable: cut off in both, these ops leave a model on which
    quantization gains as much as the other ops' times say, and not what it gains on the whole."""

    name = "fixed_part"
    title = "a part that quantization does not touch"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.b.structure != "graph" or comparison.table is None:
            return
        candidates = [row for row in comparison.table.rows if _may_be_fixed(row)]
        if not candidates:
            return
        costs = OpCosts(comparison)
        rows = [row for row in candidates if _is_fixed(row, costs)]
        fixed = costs.of_variant(rows).value if rows else 0.0
        if fixed < _LEAST_PART * costs.b_us or not _gains(costs, rows):
            return
        yield _hypothesis(comparison, costs, rows)


def _may_be_fixed(row: DifferenceRow) -> bool:
    return row.a is not None and row.b is not None and row.a.type == row.b.type and row.b.quantization is None


def _is_fixed(row: DifferenceRow, costs: OpCosts) -> bool:
    before, after, change = costs.of_baseline([row]).value, costs.of_variant([row]).value, costs.difference([row])
    interval = change.interval()
    low, high = (change.value if bound is None else bound for bound in (interval.low, interval.high))
    return after >= LEAST_SHARE * costs.b_us and low <= _UNCHANGED * before and high >= -_UNCHANGED * before


def _gains(costs: OpCosts, rows: Sequence[DifferenceRow]) -> bool:
    gain = _gain(costs, rows)
    return gain.whole - gain.rest >= _LEAST_BOUND and gain.rest < 0.0


def _gain(costs: OpCosts, rows: Sequence[DifferenceRow]) -> _Gain:
    rest_a = max(costs.a_us - costs.of_baseline(rows).value, 1e-3)
    rest_b = max(costs.b_us - costs.of_variant(rows).value, 1e-3)
    return _Gain(math.log(costs.b_us / costs.a_us), math.log(rest_b / rest_a))


def _hypothesis(comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]) -> Hypothesis:
    before, after = costs.of_baseline(rows).interval(), costs.of_variant(rows).interval()
    gain = _gain(costs, rows)
    table = f"qprof diff {comparison.baseline} {comparison.variant}"
    intervention, untestable = _intervention(comparison, costs, rows)
    return Hypothesis(
        cause=FixedPart.name,
        claim=(
            f"ops that quantization does not touch ({', '.join(types_of(row.b for row in rows if row.b))}) take "
            f"{after.value:.0f} µs of {costs.b_us:.0f} µs in {comparison.variant}, {before.value:.0f} µs in "
            f"{comparison.baseline}: without them it would be {math.exp(-gain.rest):.2f} times as fast, "
            f"not {math.exp(-gain.whole):.2f} times"
        ),
        figure=LATENCY,
        effect=None,
        evidence=(
            Evidence("ops that take as long in both", len(rows), "ops", table),
            Evidence("their time in the baseline", before.value, "us", table, before),
            Evidence("their time in the variant", after.value, "us", table, after),
            Evidence("speed-up of the whole", math.exp(-gain.whole), "x", "samples.parquet, clean blocks"),
            Evidence("speed-up of the rest", math.exp(-gain.rest), "x", table),
            Evidence("what they would gain as the rest does", _withheld_us(after.value, gain), "us", table),
        ),
        intervention=intervention,
        untestable=untestable,
    )


def _withheld_us(fixed_us: float, gain: _Gain) -> float:
    """Latency that the variant would have less, had these ops gained what the rest did."""
    return (1.0 - math.exp(gain.rest)) * fixed_us


def _intervention(
    comparison: Comparison, costs: OpCosts, rows: Sequence[DifferenceRow]
) -> tuple[Intervention | None, str | None]:
    assert comparison.table is not None  # rows are of it
    interventions = comparison.interventions
    sides = [
        (entry, {op.name for op in ops if op is not None})
        for entry, ops in ((comparison.a, [r.a for r in rows]), (comparison.b, [r.b for r in rows]))
    ]
    gone = []
    for entry, names in sides:
        following = interventions.following(entry, names)
        if isinstance(following, Impossible):
            return None, following.reason
        gone.append(following)
    kept = [
        row
        for row in comparison.table.rows
        if (row.a or row.b) and not (row.a and row.a.name in gone[0]) and not (row.b and row.b.name in gone[1])
    ]
    left_a, left_b = costs.of_baseline(kept).value, costs.of_variant(kept).value
    rest_a = costs.a_us - costs.of_baseline(rows).value
    if left_a < _LEAST_KEPT * rest_a or left_b <= 0.0:
        return None, "they stand in the middle of the model: too little of the rest would remain without them"
    sections = []
    for entry, names in sides:
        section = interventions.cut_off(entry, names)
        if isinstance(section, Impossible):
            return None, section.reason
        sections.append(section)
    expected, whole = math.log(left_b / left_a), _gain(costs, rows).whole
    if expected >= 0.0 or expected >= whole:
        return None, "what would remain of the model gains no more by quantization than the whole"
    # Half the way to the gain of the whole is where the claim ends: what lies beyond says that they bound nothing.
    middle = (expected + whole) / 2.0
    # A rest that gains even more than its ops' times say bears the claim out.
    low, high = min(FASTEST, 2.0 * expected), middle if middle < 0.0 else expected / 2.0
    return Intervention(
        does="cut these ops off in both, with what follows from them",
        prediction=Prediction(LATENCY, sections[0]["name"], sections[1]["name"], low, high, relative=True),
        variants=tuple(sections),
        # Nothing that could be decoded comes out of a model that ends early.
        task={"kind": "latency"},
    ), None


CAUSE = FixedPart()

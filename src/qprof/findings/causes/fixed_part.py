"""Ops that quantization does not touch: they take as long in the variant, and bound what the rest can gain (Amdahl)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import LEAST_SHARE, SURROUNDINGS, WORKERS, OpCosts, standard_error, types_of
from qprof.runtimes.interventions import Impossible
from qprof.stats.intervals import Interval

#: An op counts as untouched unless its time surely differs by more than the same kernel's does in another graph.
_UNCHANGED = NormalDist().inv_cdf(0.975) * SURROUNDINGS
#: What a reader would ask about, not a part of what is predicted: at a fifth of the variant's latency, an infinitely
#: fast rest would be five times faster.
_LEAST_PART = 0.2
#: What remains behind the cut must be this much of the rest, or it does not stand for it.
_LEAST_KEPT = 0.5


@dataclass(frozen=True, slots=True)
class _Gain:
    """Speed-ups as ln(variant / baseline), negative where the variant is faster: of the whole and of the rest, with the
    standard error of that."""

    whole: float
    rest: float
    error: float


class FixedPart:
    """Evidence: op times of both variants. What must be refutable: cut off in both, these ops leave a model on which
    quantization gains as much as the other ops' times say, and not what it gains on the whole."""

    name = "fixed_part"
    title = "a part that quantization does not touch"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if comparison.b.structure != "graph" or comparison.table is None or not _quantizes(comparison):
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


def _quantizes(comparison: Comparison) -> bool:
    """Whether the variant is quantized, and otherwise than the baseline: a model that was pruned gains by that."""
    a, b = ({op.quantization for op in comparison.ops(one)} for one in (comparison.baseline, comparison.variant))
    return b != {None} and a != b


def _may_be_fixed(row: DifferenceRow) -> bool:
    return row.a is not None and row.b is not None and row.a.type == row.b.type and row.b.quantization is None


def _is_fixed(row: DifferenceRow, costs: OpCosts) -> bool:
    before, after, change = costs.of_baseline([row]).value, costs.of_variant([row]).value, costs.difference([row])
    interval = change.interval()
    low, high = (change.value if bound is None else bound for bound in (interval.low, interval.high))
    return after >= LEAST_SHARE * costs.b_us and low <= _UNCHANGED * before and high >= -_UNCHANGED * before


def _gains(costs: OpCosts, rows: Sequence[DifferenceRow]) -> bool:
    """Whether the rest surely gains more than the whole does, or these ops bound nothing."""
    gain = _gain(costs, rows)
    return gain.rest < 0.0 and gain.rest + NormalDist().inv_cdf(0.975) * gain.error < gain.whole


def _gain(costs: OpCosts, rows: Sequence[DifferenceRow]) -> _Gain:
    before, after = costs.of_baseline(rows), costs.of_variant(rows)
    rest_a = max(costs.a_us - before.value, 1e-3)
    rest_b = max(costs.b_us - after.value, 1e-3)
    error = _ratio_error(costs, (rest_a, before.interval()), (rest_b, after.interval()))
    return _Gain(math.log(costs.b_us / costs.a_us), math.log(rest_b / rest_a), error)


def _ratio_error(costs: OpCosts, *sides: tuple[float, Interval]) -> float:
    """Standard error of ln(b / a), of two times in microseconds by the intervals that what they follow from has."""
    errors = [math.hypot(standard_error(known), costs.unattributed_us) / us for us, known in sides]
    return math.hypot(*errors, WORKERS)


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
    remain_a, remain_b = costs.of_baseline(kept), costs.of_variant(kept)
    left_a, left_b = remain_a.value, remain_b.value
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
    error = _ratio_error(costs, (left_a, remain_a.interval()), (left_b, remain_b.interval()))
    prediction = Prediction.point(LATENCY, sections[0]["name"], sections[1]["name"], expected, error, relative=True)
    if expected >= 0.0 or prediction.high >= whole:
        return None, "what would remain of the model gains no more by quantization than the whole"
    return Intervention(
        does="cut these ops off in both, with what follows from them",
        prediction=prediction,
        variants=tuple(sections),
        # Nothing that could be decoded comes out of a model that ends early.
        task={"kind": "latency"},
    ), None


CAUSE = FixedPart()

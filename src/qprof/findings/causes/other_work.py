"""Ops that one of two variants has and the other has not, or that do more or less than their counterparts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction, part_refs
from qprof.findings.comparison import Comparison
from qprof.findings.decomposition import OpPart
from qprof.findings.difference_table import DifferenceRow
from qprof.findings.effects import LATENCY
from qprof.findings.op_costs import (
    LEAST_SHARE,
    OpCosts,
    left_over,
    named_pairs,
    part_interval,
    part_key,
    row_key,
    with_their_train,
)
from qprof.findings.sameness import sameness
from qprof.findings.sentences import counted
from qprof.record.ops import FUSED
from qprof.runtimes.interventions import Impossible

Tested = tuple[Intervention | None, str | None]


class OtherWork:
    """Evidence: the ops' own time. What must be refutable: that the model without the ops that were inserted is faster
    by that time. Work that was changed inside an op cannot be taken back in a finished model, and is told untested."""

    name = "other_work"
    title = "other work is done"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        found = comparison.decomposition
        row = found.row("work") if found else None
        if found is None or row is None or not _may_differ(comparison):
            return
        costs = OpCosts(comparison)
        least_us = LEAST_SHARE * min(costs.a_us, costs.b_us)
        for what, parts, tested in _tested(comparison, costs, list(_groups(row.ops)), least_us):
            effect = part_interval(row, parts)
            if abs(effect.value) < least_us:
                continue
            intervention, untestable = tested
            yield Hypothesis(
                cause=self.name,
                claim=_claim(comparison, what, parts, effect.value),
                figure=LATENCY,
                effect=effect,
                evidence=_evidence(comparison, what, parts, effect.value),
                intervention=intervention,
                untestable=untestable,
                mechanism="work",
                ops=part_refs(parts),
            )


def _may_differ(comparison: Comparison) -> bool:
    """A quantized linear does some work of its own beside its product (`packed_kernels`, `dequantization`): modules are
    other work where the models are not one, or are not one graph."""
    if comparison.b.structure == "graph":
        return True
    found = sameness(comparison)
    return found is not None and not found.same


def _groups(parts: Sequence[OpPart]) -> Iterator[tuple[str, list[OpPart]]]:
    """What is inserted, gone, fused in one alone, changed, and what multiplies on both sides without a counterpart:
    that was replaced."""
    inserted = [part for part in parts if part.a is None]
    gone = [part for part in parts if part.b is None]
    changed = [part for part in parts if part.a is not None and part.b is not None and not part.fused_in]
    for fusing in ("a", "b"):
        yield "apart", [part for part in parts if part.fused_in == fusing]
    multiplying = [p for p in parts if (side := p.a or p.b) is not None and side.macs and not p.fused_in]
    # Products that are gone while others came or grew: a layer was made another, in several ops.
    if any(part.b is None for part in multiplying) and any(part.b is not None for part in multiplying):
        yield "replaced", multiplying
        inserted, gone, changed = (
            [part for part in side if part not in multiplying] for side in (inserted, gone, changed)
        )
    yield "inserted", inserted
    yield "gone", gone
    yield "changed", changed


def _tested(
    comparison: Comparison, costs: OpCosts, groups: Sequence[tuple[str, list[OpPart]]], least_us: float
) -> Iterator[tuple[str, list[OpPart], Tested]]:
    """What is claimed, and how it is tested. A layer that is computed otherwise may have ops of all kinds: where the
    baseline's fit into their place together and not each kind by itself, they are one claim."""
    changed = [part for what, parts in groups if what in ("changed", "replaced") for part in parts]
    together = _touching(comparison, changed, [p for what, parts in groups if what != "apart" for p in parts])
    if math.fsum(abs(part.delta_us) for part in changed) >= least_us and len(together) > len(changed):
        alone = with_baselines_part(comparison, costs, changed)
        of_all = (None, "") if alone[0] is not None else with_baselines_part(comparison, costs, together)
        if of_all[0] is not None:
            yield "replaced", sorted(together, key=lambda part: -abs(part.delta_us)), of_all
            groups = [(what, [part for part in parts if part not in together]) for what, parts in groups]
    if taken_over := _taken_over(comparison, dict(groups)):
        idle = _idle_beside(comparison, rows_of(comparison, taken_over))
        tested = with_baselines_part(comparison, costs, taken_over, idle)
        if tested[0] is not None:
            yield "replaced", sorted(taken_over, key=lambda part: -abs(part.delta_us)), tested
            groups = [(what, [part for part in parts if part not in taken_over]) for what, parts in groups]
    for what, parts in groups:
        if parts and abs(math.fsum(part.delta_us for part in parts)) >= least_us:
            yield what, parts, _intervention(comparison, costs, what, parts)


def _taken_over(comparison: Comparison, groups: Mapping[str, Sequence[OpPart]]) -> list[OpPart]:
    """Ops that are gone whose output an inserted op gives now, and the inserted ones that hang together with these: an
    activation that was written as several ops, say. What went and what came are one change."""
    inserted, gone = groups["inserted"], groups["gone"]
    names = {part.name for part in inserted} & {part.name for part in gone}
    if not names:
        return []
    # A chain of them may lead through ops that take no time of their own.
    inserted_names = {row.b.name for row in _alone(comparison) if row.b is not None}
    found = _connected(comparison, names, inserted_names)
    return [
        *(part for part in inserted if part.name in found),
        *(part for part in gone if part.name in names),
    ]


def _touching(comparison: Comparison, first: Sequence[OpPart], parts: Sequence[OpPart]) -> list[OpPart]:
    """Those of `parts` that hang together with the `first` of them in the variant's graph, and those that are gone."""
    found = _connected(comparison, {p.name for p in first}, {p.name for p in parts if p.b is not None})
    return [part for part in parts if part.b is None or part.name in found]


def _connected(comparison: Comparison, first: AbstractSet[str], among: AbstractSet[str]) -> set[str]:
    """Names of the variant's ops that the `first` are, or reach in its graph through others `among` some."""
    beside = comparison.interventions.beside(comparison.b)
    names = {op.op: op.name for op in comparison.ops(comparison.variant)}
    found, ahead = set[str](), [op for op, name in names.items() if name in first]
    while ahead:
        op = ahead.pop()
        if op not in found:
            found.add(op)
            ahead += [other for other in beside.get(op, ()) if names.get(other) in among]
    return {names[op] for op in found}


def _claim(comparison: Comparison, what: str, parts: Sequence[OpPart], us: float) -> str:
    a, b = comparison.baseline, comparison.variant
    if what == "apart":
        fused, other = (a, b) if parts[0].fused_in == "a" else (b, a)
        return f"{other} runs {counted(parts)} in kernels of their own, which {fused} does within others: {us:+.0f} µs"
    if what == "changed":
        more = "more" if us > 0.0 else "less"
        return f"{counted(parts)} of {b} do {more} work than in {a}: {us:+.0f} µs"
    if what == "replaced":
        here, there = [p for p in parts if p.b is not None], [p for p in parts if p.a is not None]
        return f"{b} has {counted(here)} in the place of {counted(there)} of {a}: {us:+.0f} µs"
    has, lacks = (b, a) if what == "inserted" else (a, b)
    return f"{has} has {counted(parts)} that {lacks} has not: {abs(us):.0f} µs"


def _evidence(comparison: Comparison, what: str, parts: Sequence[OpPart], us: float) -> tuple[Evidence, ...]:
    table = f"qprof diff {comparison.baseline} {comparison.variant}"
    macs = [math.fsum((side.macs or 0) for part in parts if (side := getattr(part, one)) is not None) for one in "ab"]
    return (
        Evidence(f"ops {what}", len(parts), "ops", "op_meta.parquet"),
        Evidence("their part of the difference", us, "us", table),
        Evidence("their multiplications in the baseline", macs[0] / 1e6, "MMAC", "op_meta.parquet: macs"),
        Evidence("their multiplications in the variant", macs[1] / 1e6, "MMAC", "op_meta.parquet: macs"),
    )


def _intervention(comparison: Comparison, costs: OpCosts, what: str, parts: Sequence[OpPart]) -> Tested:
    if what == "apart":
        return None, "what is one kernel is settled by the runtime; give qprof the two models that differ in this alone"
    if what in ("changed", "replaced"):
        return with_baselines_part(comparison, costs, parts)
    rows = rows_of(comparison, parts)
    variant, does = comparison.variant, "cut the inserted ops out of"
    if what == "gone":
        variant, does = comparison.baseline, "cut the ops that are gone out of"
    found = without_ops(comparison, costs, variant, rows, does)
    idle = _idle_beside(comparison, rows)
    if found[0] is not None or not idle:
        return found
    with_idle = without_ops(comparison, costs, variant, [*rows, *idle], does)
    return found if with_idle[0] is None else with_idle


def rows_of(comparison: Comparison, parts: Sequence[OpPart]) -> list[DifferenceRow]:
    """The rows of the table that some parts of a decomposition are of."""
    keys = {part_key(part) for part in parts}
    return [row for row in _alone(comparison) if row_key(row) in keys]


def _idle_beside(comparison: Comparison, rows: Sequence[DifferenceRow]) -> list[DifferenceRow]:
    """Ops that a neighbour's kernel does as well, inserted or gone as `rows` are: they have no time, hence no part, and
    yet may stand in the middle of a chain of those."""
    kinds, keys = {row.kind for row in rows}, {row_key(row) for row in rows}
    others = (row for row in _alone(comparison) if row.kind in kinds and row_key(row) not in keys)
    return [row for row in others if (op := row.a or row.b) is not None and op.kernel == FUSED and not op.macs]


def _alone(comparison: Comparison) -> list[DifferenceRow]:
    assert comparison.table is not None  # what is asked for is of its rows
    return [row for row in comparison.table.rows if row.a is None or row.b is None]


def with_baselines_part(
    comparison: Comparison, costs: OpCosts, parts: Sequence[OpPart], idle: Sequence[DifferenceRow] = ()
) -> Tested:
    """The variant with the baseline's ops in the place of these, and of those among them that are `idle`."""
    assert comparison.table is not None  # parts are of its rows
    keys = {part_key(part) for part in parts} | {row_key(row) for row in idle}
    rows = [row for row in comparison.table.rows if row_key(row) in keys]
    out, into = [row.b.name for row in rows if row.b], [row.a.name for row in rows if row.a]
    around = named_pairs([row for row in comparison.table.rows if row_key(row) not in keys])
    after = comparison.interventions.part_from(comparison.b, comparison.a, out, into, around)
    if isinstance(after, Impossible):
        return None, after.reason
    value, error = left_over(*with_their_train(comparison, rows, costs.difference(rows)), costs.b_us)
    return Intervention(
        does=f"put {comparison.baseline}'s ops in the place of these",
        prediction=Prediction.point(LATENCY, comparison.variant, after["name"], value, error, relative=True),
        variants=(after,),
        task={"kind": "latency"},
    ), None


def without_ops(
    comparison: Comparison, costs: OpCosts, variant: str, rows: Sequence[DifferenceRow], does: str
) -> Tested:
    """The variant without ops in the middle of it: what read their outputs reads their inputs."""
    entry = comparison.run.variant(variant)
    in_variant = variant == comparison.variant
    names = {op.name for row in rows if (op := row.b if in_variant else row.a) is not None}
    after = comparison.interventions.bypassed(entry, names)
    if isinstance(after, Impossible) and comparison.interventions.following(entry, names) == names:
        # Nothing reads what they give: a branch of its own, which can be cut off.
        does = does.replace("cut ", "cut off ").replace(" out of", " of")
        after = comparison.interventions.cut_off(entry, names)
    if isinstance(after, Impossible):
        return None, after.reason
    gone, error_us = with_their_train(comparison, rows, costs.difference(rows))
    if not in_variant:
        gone = -gone
    value, error = left_over(gone, error_us, costs.b_us if in_variant else costs.a_us)
    if value >= 0.0:  # nothing gets slower by doing less: it is the noise of the others that is foretold
        return None, "the ops behind them differ by more than these take, in the other direction"
    return Intervention(
        does=f"{does} {variant}",
        prediction=Prediction.point(LATENCY, variant, after["name"], value, error, relative=True),
        variants=(after,),
        # Without some of its ops a model need not give what its task decodes.
        task={"kind": "latency"},
    ), None


CAUSE = OtherWork()

"""Ops in the place of others that compute another thing, or ops that are set otherwise: what the graph makes of the
same numbers is not the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, OpRef, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.float_layers import BACK, loses, lost_score
from qprof.findings.op_costs import CONVERSIONS
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import Impossible, Section

_NAMED = 3
_ACTIVATION = "fusedActivationFunction"
_INTEGERS = re.compile(r"\bu?int\d+ activations")
_ACTIVATIONS = frozenset(["RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "TANH", "MINIMUM", "MAXIMUM"])
Sides = Mapping[str, tuple[Sequence[str], Sequence[str]]]


@dataclass(frozen=True, slots=True)
class _Replaced:
    """What hands a tensor to one and the same op: `b` in the variant, `a` in the baseline. `set`: how they are set
    otherwise, where they are of one type."""

    a: OpMeta
    b: OpMeta
    set: str = ""

    def __str__(self) -> str:
        return f"{self.b.type} with {self.set}" if self.set else f"{self.b.type} for {self.a.type}"


class OtherFunction:
    """Evidence: an op of both takes a tensor from ops that are no counterparts of each other, or the models of
    counterparts give them another stride, padding, activation and the like. What must be refutable: that with the
    baseline's tensors there the score comes back, and not already with the baseline's tensors before them."""

    name = "other_function"
    title = "ops were put in the place of others"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        lost = lost_score(comparison)
        if lost is None or comparison.table is None or comparison.b.structure != "graph":
            return
        counterpart = {row.b.op: row.a.op for row in comparison.table.rows if row.a and row.b}
        replaced = [*_replaced(comparison, counterpart), *_set_otherwise(comparison)]
        if not replaced:
            return
        metric, change = lost
        intervention, untestable = _intervention(comparison, replaced, counterpart, metric, change.value)
        places = Counter(str(one) for one in replaced).most_common()
        told = [f"{count} {place}" for place, count in places[:_NAMED]]
        told += [f"{len(places) - _NAMED} others"] if len(places) > _NAMED else []
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{loses(comparison)}: {len(replaced)} of its tensors {'is' if len(replaced) == 1 else 'are'} made by "
                f"other ops than {comparison.baseline}'s, or by ops that are set otherwise ({', '.join(told)}); "
                f"{metric} {change.value:+.3f}"
            ),
            figure=metric,
            effect=change,
            evidence=(
                Evidence(f"{metric} lost", change.value, "1", "scores.parquet", change),
                Evidence("tensors that other ops make", float(len(replaced)), "", "op_meta.parquet"),
            ),
            intervention=intervention,
            untestable=untestable,
            ops=tuple(OpRef(one.b.name, one.b.type) for one in replaced),
        )


def _replaced(comparison: Comparison, counterpart: Mapping[str, str]) -> list[_Replaced]:
    """By the ops that both have: of those that each takes tensors from, the one on either side without a counterpart
    on the other."""
    a_ops, b_ops = ({op.op: op for op in comparison.ops(name)} for name in (comparison.baseline, comparison.variant))
    a_sides = comparison.interventions.by_side(comparison.a)
    b_sides = comparison.interventions.by_side(comparison.b)
    found: dict[str, _Replaced] = {}
    for reader, twin in counterpart.items():
        a_from, b_from = a_sides.get(twin, ((), ()))[0], b_sides.get(reader, ((), ()))[0]
        b_rest = [op for op in dict.fromkeys(b_from) if counterpart.get(op) not in a_from and op in b_ops]
        matched = {counterpart.get(op) for op in b_from}
        a_rest = [op for op in dict.fromkeys(a_from) if op not in matched and op in a_ops]
        if len(a_rest) != 1 or len(b_rest) != 1:
            continue
        one = _Replaced(a_ops[a_rest[0]], b_ops[b_rest[0]])
        only_there = len(b_sides.get(one.b.op, ((), ()))[1]) == 1 or one.b.op not in counterpart
        if only_there and one.a.type != one.b.type and not {one.a.type, one.b.type} & set(CONVERSIONS):
            found.setdefault(one.b.op, one)
    return list(found.values())


def _set_otherwise(comparison: Comparison) -> list[_Replaced]:
    """Counterparts of one type whose models set them otherwise."""
    assert comparison.table is not None  # as asked before
    a_set, b_set = (comparison.interventions.settings_of_ops(one) for one in (comparison.a, comparison.b))
    a_sides, b_sides = (comparison.interventions.by_side(one) for one in (comparison.a, comparison.b))
    types = [{op.op: op.type for op in comparison.ops(name)} for name in (comparison.baseline, comparison.variant)]
    found = []
    for a, b in ((row.a, row.b) for row in comparison.table.rows if row.a and row.b):
        mine, its = a_set.get(a.op, {}), b_set.get(b.op, {})
        other = {name for name in mine.keys() & its.keys() if mine[name] != its[name]}
        if a.type != b.type or not other:
            continue
        behind = [types[0].get(op) for op in a_sides.get(a.op, ((), ()))[1]]
        behind += [types[1].get(op) for op in b_sides.get(b.op, ((), ()))[1]]
        if any(_INTEGERS.search(op.quantization or "") for op in (a, b)) or _ACTIVATIONS & set(behind):
            # What an activation cuts off, the range of the tensor may cut off as well, or an op of its own behind it.
            other.discard(_ACTIVATION)
        if _shapes(a.outputs) == _shapes(b.outputs):
            # "VALID" gives as much as "SAME" only where nothing is padded, or where an op of its own has padded.
            other.discard("padding")
        if other:
            told = ", ".join(f"{name} {its[name]} for {mine[name]}" for name in sorted(other))
            found.append(_Replaced(a, b, told))
    return found


def _shapes(tensors: Sequence[str]) -> list[str]:
    """Of "float32[1,8,8,4]": "1,8,8,4"."""
    return [tensor.partition("[")[2] for tensor in tensors]


def _intervention(
    comparison: Comparison, replaced: Sequence[_Replaced], counterpart: Mapping[str, str], metric: str, lost: float
) -> tuple[Intervention | None, str | None]:
    a_names, b_names = (
        {op.op: op.name for op in comparison.ops(name)} for name in (comparison.baseline, comparison.variant)
    )
    sides = comparison.interventions.by_side(comparison.b)
    after = comparison.interventions.patched(comparison.b, comparison.a, [(one.b.name, one.a.name) for one in replaced])
    given = dict.fromkeys(op for one in replaced for op in sides.get(one.b.op, ((), ()))[0] if op in counterpart)
    before: Section | Impossible = comparison.b.section
    if given:
        pairs = [(b_names[op], a_names[counterpart[op]]) for op in given]
        before = comparison.interventions.patched(comparison.b, comparison.a, pairs)
    for made in (after, before):
        if isinstance(made, Impossible):
            return None, made.reason
    assert not isinstance(after, Impossible) and not isinstance(before, Impossible)  # returned above
    low, high = sorted(-lost * share for share in BACK)
    against = ", against the same in place of what these are given" if given else ""
    return Intervention(
        does=f"put {comparison.baseline}'s activations in place of what these ops of {comparison.variant} give"
        f"{against}",
        prediction=Prediction(metric, str(before["name"]), str(after["name"]), low, high),
        variants=(before, after) if given else (after,),
        replaces=len(replaced),
    ), None


CAUSE = OtherFunction()

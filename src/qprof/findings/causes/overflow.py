"""Numbers that leave the range of the type that a variant computes in: infinities, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, OpRef, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.effects import effect
from qprof.findings.float_layers import error_rows
from qprof.record.ops import OpMeta
from qprof.runtimes.interventions import Impossible

#: The score that counts rows whose likelihood is not finite.
_FIGURE = "not_finite"
#: The part of these rows that must be finite again.
_BACK = (0.9, 1.1)
#: Types whose numbers end below float32's.
_NARROW = {"float16": "65504"}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where it begins: the first layer that gives such numbers, and the block from which on a wider type must help."""

    layer: OpMeta
    block: str
    elements: int


class Overflow:
    """Evidence: rows without a finite likelihood, which the baseline does not have, and the first layer whose outputs
    hold such numbers where the baseline's are finite. What must be refutable: that with the wider type from there on
    these rows are finite, though all before it is as it was."""

    name = "overflow"
    title = "numbers beyond the range of the type"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        run, a, b = comparison.run, comparison.baseline, comparison.variant
        before, after = run.score(a, _FIGURE), run.score(b, _FIGURE)
        if not comparison.leads or before is None or not after or before >= after:
            return
        share, dtype = after - before, str(comparison.b.options.get("dtype") or "its type")
        place = _begins(comparison)
        changed = effect(run, _FIGURE, a, b)
        wide = comparison.interventions.wide_from(comparison.b, place.block if place else "")
        if place is None:
            wide = comparison.interventions.computing_in(comparison.b, "bfloat16" if dtype != "bfloat16" else "float32")
        largest = f", whose largest number is {_NARROW[dtype]}" if dtype in _NARROW else ""
        where = ""
        if place is not None:
            inside = f", a part of {place.block}" if place.block != place.layer.name else ""
            where = f"; it begins in {place.layer.name}{inside}: all layers before it give finite numbers"
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{b} computes infinities or NaN in {share:.1%} of the rows, and has no likelihood there: its numbers "
                f"leave the range of {dtype}{largest}{where}"
            ),
            figure=_FIGURE,
            effect=None if changed is None else changed.interval(),
            evidence=(
                Evidence("rows without a finite likelihood", after, "1", f"scores.parquet: {_FIGURE}"),
                *_evidence(place),
            ),
            intervention=None
            if isinstance(wide, Impossible)
            else Intervention(
                does=_does(place, wide.get("wide_from"), str(wide.get("dtype") or wide.get("method"))),
                prediction=Prediction(_FIGURE, b, wide["name"], -min(1.0, _BACK[1] * share), -_BACK[0] * share),
                variants=(wide,),
            ),
            untestable=wide.reason if isinstance(wide, Impossible) else None,
            ops=() if place is None else (OpRef(place.layer.name, place.layer.type),),
        )


def _does(place: _Place | None, wide: str | None, dtype: str) -> str:
    if wide and place is not None:
        return f"compute in float32 from {place.block} on, and in the type as it was before it"
    return f"compute all of it in {dtype}, whose range is float32's"


def _evidence(place: _Place | None) -> Iterator[Evidence]:
    if place is not None:
        yield Evidence(
            f"numbers of {place.layer.name} that are not finite", place.elements, "numbers", "layer_errors.parquet"
        )


def _begins(comparison: Comparison) -> _Place | None:
    """`None` where no layers were compared, or all gave finite numbers then.

    A layer that holds others gives its outputs after all of them: where these are finite and its own are not, the sum
    that it makes of them has left the range, and it must compute wider itself.
    """
    counts = {row.op: row.nonfinite or 0 for row in error_rows(comparison.run, comparison.variant)}
    ops = [op for op in comparison.ops(comparison.variant) if op.op in counts]
    found = []
    for op in ops:
        # The model itself goes by its class, and is called first.
        whole = op is min(ops, key=lambda one: one.index)
        inside = [one for one in ops if one is not op and (whole or one.name.startswith(f"{op.name}."))]
        if counts[op.op] and not any(counts[one.op] for one in inside):
            found.append((max([op.index, *(one.index for one in inside)]), op))
    if not found:
        return None
    _, first = min(found, key=lambda one: one[0])
    return _Place(first, _block(first, ops), counts[first.op])


def _block(first: OpMeta, ops: Sequence[OpMeta]) -> str:
    """The layer that holds a leaf and its like (the attention, the MLP), for what left the range may have been made
    between them; the leaf itself where only a decoder layer or the model holds it."""
    holders = [one for one in ops if one.name and first.name.startswith(f"{one.name}.")]
    holder = max(holders, key=lambda one: len(one.name), default=None)
    if holder is None or holder.name.rpartition(".")[2].isdigit() or "." not in holder.name:
        return first.name
    return holder.name


CAUSE = Overflow()

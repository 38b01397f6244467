"""How near the variants' outputs are to the baseline's, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qprof.findings.distance import OutputFigures, VariantDistance
from qprof.report.scores import score_text
from qprof.stats.intervals import FEWEST_BLOCKS, Interval

#: Outputs of a model that are told one by one: those that are furthest off.
_TOLD = 4


def random_line(distances: Sequence[VariantDistance]) -> str | None:
    """What stands above everything where the inputs were made; `None` where they were given."""
    made = [one for one in distances if one.random]
    if not made:
        return None
    return (
        f"RANDOM INPUTS  outputs were compared on {made[0].inputs} random inputs. A variant that is far from "
        f"{made[0].baseline} on them has changed; one that is near may still be far on yours. Give some of yours "
        "(--inputs) before you rely on it."
    )


def distance_line(one: VariantDistance) -> str:
    """ "same top answer on 97.2 % [95.0, 99.0] of 256 inputs, SQNR 31.0 dB [30.5, 31.4], cosine 0.9996, KL 0.010"."""
    inputs = f"{one.inputs} {'random ' if one.random else ''}input{'s' * (one.inputs != 1)}"
    if one.whole.identical:
        return f"outputs are the same as {one.baseline}'s, bit by bit, on {inputs}"
    if one.whole.same_top is None or one.one_answer:
        return f"on {inputs}: {_figures(one.whole)}"
    of = f"the rows of {inputs}" if one.whole.many_rows else inputs
    return f"same top answer as {one.baseline} on {_percent(one.whole.same_top)} of {of}, {_figures(one.whole)}"


def distance_lines(distances: Sequence[VariantDistance]) -> Iterator[str]:
    """Per variant what is said of it as a whole, and of its outputs where there are several."""
    if not distances:
        return
    yield f"how near the outputs are to those of {distances[0].baseline}"
    for meaning in dict.fromkeys(one.whole.meaning for one in distances if not one.outputs):
        yield f"  ({_TAKEN[meaning]})"
    for one in distances:
        yield f"  {one.variant}: {distance_line(one)}"
        for remark in _remarks(one):
            yield f"    {remark}"
        furthest = sorted(one.outputs, key=lambda output: output.closeness.value if output.closeness else 1.0)
        for output in furthest[:_TOLD]:
            yield f"    {output.output} ({output.meaning}): {_output(output)}"
        if len(furthest) > _TOLD:
            yield f"    {len(furthest) - _TOLD} more, all nearer: qprof export --only outputs"


def _remarks(one: VariantDistance) -> Iterator[str]:
    """What the figures rest on, and what speaks against them."""
    whole = one.whole
    if whole.identical:
        return
    if one.one_answer:
        yield (
            f"{one.baseline} gives the same top answer on all of these inputs, so that agreeing with it says nothing: "
            "give inputs on which it answers differently"
        )
    if one.inputs < FEWEST_BLOCKS:
        yield f"no interval: {one.inputs} input{'s' * (one.inputs != 1)} given, at least {FEWEST_BLOCKS} are needed"
    if whole.tied:
        yield (
            f"the largest element is shared by several on {whole.tied} of {one.inputs} inputs; the first of them is "
            "the top answer, as argmax has it"
        )
    if whole.nonfinite:
        yield f"{whole.nonfinite} elements are not finite numbers on one side or both"


_TAKEN = {
    "probabilities": "taken for probabilities: the rows of the last axis add up to 1",
    "logits": "taken for logits: the softmax of the last axis is compared; task.outputs_are says otherwise",
    "values": "taken for values, without a top answer or KL divergence; task.outputs_are says otherwise",
    "exact": "integers, booleans or texts: closeness is the share of elements that are equal",
}


def _output(output: OutputFigures) -> str:
    if output.identical:
        return "the same, bit by bit"
    top = [] if output.same_top is None else [f"same top answer on {_percent(output.same_top)}"]
    return ", ".join([*top, _figures(output)])


def _figures(figures: OutputFigures) -> str:
    parts = []
    if figures.sqnr_db is not None:
        parts.append(f"SQNR {_bounded(figures.sqnr_db, '.1f', ' dB')}")
    if figures.closeness is not None:
        parts.append(f"error {_percent(_error(figures.closeness))} of the output")
    if figures.cosine is not None:
        parts.append(f"cosine {score_text(figures.cosine.value)}")
    if figures.kl is not None:
        parts.append(f"KL {_bounded(figures.kl, '.3g', ' nats')}")
    return ", ".join(parts)


def _error(closeness: Interval) -> Interval:
    low, high = (None if bound is None else 1.0 - bound for bound in (closeness.high, closeness.low))
    return Interval(1.0 - closeness.value, low, high, closeness.level, closeness.reason)


def _percent(found: Interval) -> str:
    near_the_end = abs(found.value) < 0.1 or 0.9995 <= found.value < 1.0
    digits = ".2f" if near_the_end else ".1f"
    scaled = [None if value is None else 100.0 * value for value in (found.value, found.low, found.high)]
    return _bounded(Interval(scaled[0] or 0.0, scaled[1], scaled[2], found.level), digits, " %")


def _bounded(found: Interval, digits: str, unit: str) -> str:
    text = f"{found.value:{digits}}{unit}"
    if found.low is None or found.high is None or found.low == found.high:
        return text
    return f"{text} [{found.low:{digits}}, {found.high:{digits}}]"

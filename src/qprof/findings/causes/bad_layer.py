"""Bad layers: most of what a variant lost is lost in a few layers, whose own error stands apart from the others'."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np

from qprof.findings.causes.base import Evidence, Hypothesis
from qprof.findings.comparison import Comparison
from qprof.findings.float_layers import (
    FEWEST_LAYERS,
    IDENTICAL_DB,
    LayerError,
    counterparts,
    error_rows,
    hypothesis,
    layer_errors,
    most_layers,
    saturated,
    weights_into,
)
from qprof.findings.loss import Loss, loss_of
from qprof.runtimes.interventions import Impossible, Section

#: Ten times the noise of the layer in the middle: in variants without a fault, layers spread over less than that.
_BELOW_MIDDLE_DB = 10.0
#: How the format of an op's weights is told where one scale serves all channels (`OpMeta.quantization`).
PER_TENSOR = "per-tensor"
#: Twice the noise of the best of them must lie between the bad layers and the next, or they are the end of a row.
_GAP_DB = 3.0
#: As much noise as signal: nothing is left of what the layer should give. How far below it is, is a matter of scale,
#: and no gap between two layers that are both others.
_NOTHING_LEFT_DB = 0.0


class BadLayer:
    """Claims where a score was lost, or a perplexity grew, and a few layers (`most_layers`) stand apart by their own
    error.

    They are cut off at the widest gap among the worst. Layers that saturate, and those beside them, are another
    cause's, and are left out.
    """

    name = "bad_layer"
    title = "a few layers lose the accuracy"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        # Of two float models, the layers that compute alike are what a spoiled one stands apart from.
        known = layer_errors(comparison.run, comparison.variant, all_float=True)
        cut_off = {layer.op for layer in saturated(known)}
        # What reads a tensor that is cut off is given less than the baseline's, and is not to blame for it.
        beside = comparison.interventions.beside(comparison.b)
        cut_off |= {op for one in cut_off for op in beside.get(one, ())}
        layers = [layer for layer in known if layer.op not in cut_off]
        bad = apart(layers)
        if not bad:
            return
        lost = loss_of(comparison)
        if lost is None:
            return
        middle = median(layer.own_sqnr_db for layer in layers)
        noise = sum(layer.noise for layer in bad) / sum(layer.noise for layer in layers)
        differing = _differing(comparison)
        listed = ", ".join(f"{layer.label} ({layer.own_sqnr_db:.1f} dB{differing.get(layer.op, '')})" for layer in bad)
        claim = (
            f"{lost.says} in {len(bad)} of {len(layers)} layers, whose own error stands "
            f"apart from that of the others ({_others(middle)}): {listed}{_coarser(comparison, bad)}"
        )
        evidence = (
            *(
                Evidence(f"own SQNR of {layer.label}", layer.own_sqnr_db, "dB", "layer_errors.parquet: own_sqnr_db")
                for layer in bad
            ),
            _evidence_of_others(layers, middle),
            Evidence("their part of all layers' own noise", noise, "1", "layer_errors.parquet: own_sqnr_db"),
        )
        found = hypothesis(comparison, self.name, bad, claim, evidence)
        yield found if found is not None else _of_perplexity(comparison, lost, bad, claim, evidence)


def _others(middle: float) -> str:
    """How the layer in the middle is told."""
    if middle < IDENTICAL_DB:
        return f"{middle:.1f} dB in the middle"
    return "most of which give the same numbers of the same inputs, bit by bit"


def _evidence_of_others(layers: Sequence[LayerError], middle: float) -> Evidence:
    if middle < IDENTICAL_DB:
        return Evidence("own SQNR of the layer in the middle", middle, "dB", "layer_errors.parquet: own_sqnr_db")
    same = sum(layer.own_sqnr_db >= IDENTICAL_DB for layer in layers)
    return Evidence("layers that give the same, bit by bit", same, "layers", "layer_errors.parquet: own_identical")


def _of_perplexity(
    comparison: Comparison, lost: Loss, bad: Sequence[LayerError], claim: str, evidence: tuple[Evidence, ...]
) -> Hypothesis:
    """No answer is wrong that was right, and yet less sure: the baseline's weights in these layers must mend that."""
    known = counterparts(comparison)
    pairs = [known[layer.op] for layer in bad if layer.op in known]
    after: Section | Impossible = Impossible("the baseline has no layer in the place of one of them")
    if len(pairs) == len(bad):
        after = comparison.interventions.constants_from(comparison.b, comparison.a, pairs)
    does = weights_into(comparison, len(bad))
    return Hypothesis(
        cause=CAUSE.name,
        claim=f"{claim}; {lost.told}",
        figure=lost.metric,
        effect=None,
        evidence=(lost.evidence, *evidence),
        intervention=lost.intervention(does, comparison.variant, after, len(bad)),
        untestable=after.reason if isinstance(after, Impossible) else None,
    )


def _differing(comparison: Comparison) -> dict[str, str]:
    """Op of the variant -> what of it is not the baseline's, behind a comma, where neither is quantized: all constants
    of a quantized op differ."""
    quantized = {op.op for op in comparison.ops(comparison.variant) if op.quantization is not None}
    told = {}
    for row in error_rows(comparison.run, comparison.variant):
        if row.op in quantized:
            continue
        if row.weight_identical is False:
            told[row.op] = ", other weights"
        elif row.bias_identical is False:
            told[row.op] = ", another bias"
        elif row.weight_identical and row.own_identical is False:
            same, other = (
                ("weights and bias", "a setting") if row.bias_identical else ("weights", "its bias or a setting")
            )
            told[row.op] = f", with the same {same}: {other} differs, such as its activation function or padding"
    return told


def _coarser(comparison: Comparison, bad: Sequence[LayerError]) -> str:
    """What their number formats tell of the reason, behind a semicolon; "" where nothing."""
    variant, baseline = (
        {op.name: op.quantization or "" for op in comparison.ops(name)}
        for name in (comparison.variant, comparison.baseline)
    )
    told = []
    one_scale = [
        layer
        for layer in bad
        if PER_TENSOR in variant.get(layer.name, "") and PER_TENSOR not in baseline.get(layer.baseline_name, "")
    ]
    if one_scale:
        told.append(f"the weights of {len(one_scale)} have one scale per tensor, and not one per channel")
    rescaled = [layer for layer in bad if not layer.baseline_name and _same_format(variant.get(layer.name, ""))]
    if rescaled:
        told.append(f"{len(rescaled)} only put numbers on the scale of another tensor, whose range is wider")
    return "".join(f"; {one}" for one in told)


def _same_format(quantization: str) -> bool:
    """Whether this is a conversion from one scale to another, "int8 to int8"."""
    before, to, after = quantization.partition(" to ")
    return bool(to) and before == after


def apart(layers: Sequence[LayerError]) -> list[LayerError]:
    """Of layers, the worst first, those that stand apart; empty where none does."""
    if len(layers) < FEWEST_LAYERS:
        return []
    own = np.array([layer.own_sqnr_db for layer in layers])
    gaps = np.diff(np.maximum(own[: most_layers(len(layers)) + 1], _NOTHING_LEFT_DB))
    count = int(np.argmax(gaps)) + 1
    stands = gaps[count - 1] >= _GAP_DB and own[count - 1] <= np.median(own) - _BELOW_MIDDLE_DB
    return list(layers[:count]) if stands else []


CAUSE = BadLayer()

"""Misread weights: all layers are off by one and the same amount, as a file is whose zero points are read by another
rule than they were stored by."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.effects import PERPLEXITY, effect
from qprof.findings.float_layers import FEWEST_LAYERS, error_rows, lost_score
from qprof.runtimes.interventions import Impossible
from qprof.stats.intervals import Interval
from qprof.stats.verdict import judge

#: Part of the weights' error that is one offset: quantization leaves less than a hundredth (its roundings go either
#: way), and a zero point that is one step off most of it, down to 2 bits.
_ONE_OFFSET = 0.4
#: Part of the loss that must come back when they are read by the other rule; above all of it for the scatter.
_BACK = (0.5, 1.3)


class MisreadWeights:
    """Claims where a score was lost, the file can be read by another rule, and the weights or the zero points speak
    for it."""

    name = "misread_weights"
    title = "quantized weights read by the wrong rule"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        lost = _lost(comparison)
        other = comparison.interventions.read_otherwise(comparison.b)
        if lost is None or isinstance(other, Impossible):
            return
        rows = error_rows(comparison.run, comparison.variant)
        shares = [row.weight_offset_share for row in rows if row.weight_offset_share is not None]
        middle = median(shares) if len(shares) >= FEWEST_LAYERS else 0.0
        if middle < _ONE_OFFSET and not other.told:
            return
        metric, change = lost
        evidence, told = [Evidence(f"{metric} lost", change.value, "1", "scores.parquet", change)], other.told
        if middle >= _ONE_OFFSET:
            off = sum(share >= _ONE_OFFSET for share in shares)
            told = f"the weights of {off} of {len(shares)} layers are off by one and the same amount, which is " + (
                f"{middle:.0%} of their error{f', and {told}' if told else ''}"
            )
            what = "part of the weights' error that is one offset, in the layer in the middle"
            evidence.append(Evidence(what, middle, "1", "layer_errors.parquet: weight_offset_share"))
        low, high = sorted(-change.value * share for share in _BACK)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{comparison.variant} is read as {other.before}, and its file is {other.after}: {told}; "
                f"{metric} {change.value:+.3f}"
            ),
            figure=metric,
            effect=change,
            evidence=tuple(evidence),
            intervention=Intervention(
                does=f"read {comparison.variant} as {other.after}",
                prediction=Prediction(metric, comparison.variant, other.section["name"], low, high),
                variants=(other.section,),
            ),
        )


def _lost(comparison: Comparison) -> tuple[str, Interval] | None:
    """The leading score; where that shows no loss, the perplexity, which a small one is seen in first."""
    lost = lost_score(comparison)
    if lost is not None or not comparison.leads:
        return lost
    found = effect(comparison.run, PERPLEXITY, comparison.baseline, comparison.variant)
    if found is None:
        return None
    verdict = judge(found, lower_is_better=True)
    return (PERPLEXITY, verdict.effect) if verdict.kind == "worse" else None


CAUSE = MisreadWeights()

"""Too few bits: a score is lost in all layers alike, by the steps of their weights, and comes back with more bits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import median, mode

from qprof.findings.causes import all_layers_alike, collapsed_output, misread_weights
from qprof.findings.causes.bad_layer import apart
from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.float_layers import FEWEST_LAYERS, layer_errors, loses, lost_score, saturated
from qprof.runtimes.interventions import Impossible

#: The width of a weight at the beginning of how an op is quantized: "int4 ...", "4-bit ...".
_WIDTH = re.compile(r"\b(?:u?int)?(\d+)(?:-bit|\b)")
#: Eight bits are not few: what loses a score with them is another matter.
_EIGHT = 8
#: Part of the loss that must come back with the next width; above all of it for the scatter.
_BACK = (0.5, 1.2)


class TooFewBits:
    """Claims where a score was lost, and no layer stands apart from the others by its own error. Output that has
    collapsed altogether has a cause of its own."""

    name = "too_few_bits"
    title = "too few bits, in all layers alike"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        lost = lost_score(comparison)
        if lost is None:
            return
        wider = comparison.interventions.next_width(comparison.b)
        known = layer_errors(comparison.run, comparison.variant)
        few = _few_bits(comparison)
        if few is None or len(known) < FEWEST_LAYERS or apart(known) or saturated(known):
            return
        others = (collapsed_output.CAUSE, all_layers_alike.CAUSE, misread_weights.CAUSE)
        if any(True for cause in others for _ in cause.hypotheses(comparison)):
            return
        metric, change = lost
        middle = median(layer.own_sqnr_db for layer in known)
        low, high = (-change.value * share for share in _BACK)
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{loses(comparison)} by its {few} bits, in all of {len(known)} layers "
                f"alike ({middle:.1f} dB in the middle): {metric} {change.value:+.3f}"
            ),
            figure=metric,
            effect=change,
            evidence=(
                Evidence(f"{metric} lost", change.value, "1", "scores.parquet", change),
                Evidence("own SQNR of the layer in the middle", middle, "dB", "layer_errors.parquet: own_sqnr_db"),
                Evidence("own SQNR of the worst", known[0].own_sqnr_db, "dB", "layer_errors.parquet: own_sqnr_db"),
            ),
            intervention=None
            if isinstance(wider, Impossible)
            else Intervention(
                does=f"quantize by the same method to {wider.bits} bits instead of {wider.before}",
                prediction=Prediction(metric, comparison.variant, wider.section["name"], low, high),
                variants=(wider.section,),
                replaces=len(known),
            ),
            untestable=wider.reason if isinstance(wider, Impossible) else None,
        )


def _few_bits(comparison: Comparison) -> int | None:
    """Bits of most of the variant's weights, where they are fewer than eight."""
    known = [op.quantization for op in comparison.ops(comparison.variant) if op.quantization]
    widths = [int(found.group(1)) for text in known if (found := _WIDTH.search(text))]
    if not widths:
        return None
    bits = mode(widths)
    return bits if bits < _EIGHT else None


CAUSE = TooFewBits()

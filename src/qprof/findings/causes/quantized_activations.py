"""Linears that multiply integers, and make such of their activations in every inference."""

from __future__ import annotations

from qprof.findings.causes.dequantization import Dequantization, largest_ops
from qprof.findings.comparison import Comparison
from qprof.record.manifest import SplitFacts


class QuantizedActivations(Dequantization):
    """Evidence: the quantizing that the baseline has not. What must be refutable: that the same weights in float,
    unpacked once when they are loaded, are faster by that time."""

    name = "quantized_activations"
    title = "activations are quantized in every inference"
    op_type = "quantize"
    does = "compute with the same weights in float, unpacked once, when they are loaded"
    found = "layers that quantize their activations, which the baseline's do not"
    time = "time of the quantizing"

    def claim(self, comparison: Comparison, layers: int, split: SplitFacts) -> str:
        """What the layers do, in words."""
        ops = largest_ops(split.quantize_ops)
        return f"{comparison.variant} quantizes the activations of {layers} layers in every inference{ops}"


CAUSE = QuantizedActivations()

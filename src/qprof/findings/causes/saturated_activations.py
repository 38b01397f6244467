"""Saturated activations: the range of a few layers cuts off what they compute; its steps are not to blame."""

from __future__ import annotations

from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis
from qprof.findings.comparison import Comparison
from qprof.findings.float_layers import hypothesis, layer_errors, loses, saturated

#: Layers that a claim names, the worst first.
_NAMED = 3


class SaturatedActivations:
    """Claims where a score was lost and layers with a large error of their own lie at the ends of their range."""

    name = "saturated_activations"
    title = "ranges that cut activations off"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        layers = saturated(layer_errors(comparison.run, comparison.variant))
        if not layers:
            return
        told = [f"{layer.label} ({layer.saturated_share or 0.0:.1%})" for layer in layers[:_NAMED]]
        more = [f"{len(layers) - _NAMED} more"] if len(layers) > _NAMED else []
        listed = ", ".join([*told, *more])
        found = hypothesis(
            comparison,
            self.name,
            layers,
            f"{loses(comparison)} in {len(layers)} layer{'s' * (len(layers) > 1)} whose calibrated range cuts off a "
            f"part of {'their' if len(layers) > 1 else 'its'} numbers: {listed}",
            tuple(
                Evidence(f"{what} of {layer.label}", value, unit, f"layer_errors.parquet: {column}")
                for layer in layers[:_NAMED]
                for what, value, unit, column in (
                    ("numbers cut off", layer.saturated_share or 0.0, "1", "own_saturated_share"),
                    ("own SQNR", layer.own_sqnr_db, "dB", "own_sqnr_db"),
                )
            ),
        )
        if found is not None:
            yield found


CAUSE = SaturatedActivations()

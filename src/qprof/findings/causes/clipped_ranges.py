"""Clipped ranges: the calibrated ranges leave out what is rare among the samples, and the score needs it."""

from __future__ import annotations

from collections.abc import Iterator

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.float_layers import FEWEST_LAYERS, layer_errors, loses, lost_score
from qprof.runtimes.interventions import Impossible

#: A layer whose range holds all that it was calibrated on cuts off next to nothing of other data of the same kind.
_CUTS_OFF = 1e-4
#: Part of the loss that must come back; wider ranges have coarser steps, which cost something again.
_BACK = (0.15, 1.3)
#: Layers that are named, those that cut off most first.
_NAMED = 3


class ClippedRanges:
    """Claims where a score was lost, layers cut off a part of what they compute, and the ranges were found in a way
    that cuts off."""

    name = "clipped_ranges"
    title = "ranges that cut off what is rare"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        lost = lost_score(comparison)
        wider = comparison.interventions.widest_ranges(comparison.b)
        if lost is None or isinstance(wider, Impossible):
            return
        known = layer_errors(comparison.run, comparison.variant)
        cutting = [layer for layer in known if (layer.saturated_share or 0.0) >= _CUTS_OFF]
        if len(known) < FEWEST_LAYERS or not cutting:
            return
        cutting.sort(key=lambda layer: -(layer.saturated_share or 0.0))
        metric, change = lost
        low, high = (-change.value * share for share in _BACK)
        named = ", ".join(f"{layer.label} ({layer.saturated_share or 0.0:.2%})" for layer in cutting[:_NAMED])
        many = len(cutting) > 1
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{loses(comparison)} by its calibration, which does not keep the extremes of its samples: "
                f"{len(cutting)} of {len(known)} layers cut{'' if many else 's'} off numbers that lie outside"
                f"{', most of all' if len(cutting) > _NAMED else ':'} {named}; {metric} {change.value:+.3f}"
            ),
            figure=metric,
            effect=change,
            evidence=(
                Evidence(f"{metric} lost", change.value, "1", "scores.parquet", change),
                Evidence(
                    "layers that cut off", float(len(cutting)), "layers", "layer_errors.parquet: own_saturated_share"
                ),
                *(
                    Evidence(
                        f"numbers cut off of {layer.label}",
                        layer.saturated_share or 0.0,
                        "1",
                        "layer_errors.parquet: own_saturated_share",
                    )
                    for layer in cutting[:_NAMED]
                ),
            ),
            intervention=Intervention(
                does=f"make {comparison.variant} again with ranges that hold the extremes of all calibration samples "
                f'(ranges = "{wider["ranges"]}")',
                prediction=Prediction(metric, comparison.variant, str(wider["name"]), low, high),
                variants=(wider,),
            ),
        )


CAUSE = ClippedRanges()

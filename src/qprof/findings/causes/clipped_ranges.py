"""Clipped ranges: the calibrated ranges leave out what is rare among the samples, and the score needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.float_layers import (
    BACK,
    FEWEST_LAYERS,
    SATURATED_SHARE,
    LayerError,
    counterparts,
    error_rows,
    layer_errors,
    loses,
    lost_score,
    most_layers,
)
from qprof.record.rows import INPUT
from qprof.runtimes.interventions import Impossible
from qprof.stats.intervals import Interval

#: A layer whose range holds all that it was calibrated on cuts off next to nothing of other data of the same kind.
_CUTS_OFF = 1e-4
#: Part of the loss that must come back; wider ranges have coarser steps, which cost something again.
_BACK = (0.15, 1.3)
#: Layers that are named, those that cut off most first.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class _Test:
    """`way`: what the claim says of how the ranges were found."""

    way: str
    intervention: Intervention


class ClippedRanges:
    """Claims where a score was lost, layers cut off a part of what they compute, and the ranges were found in a way
    that cuts off; of a finished file, where more than a few layers cut off a part that counts, or the input as well.

    A variant that can be made again must win back a part with ranges that hold all. Of a finished file the reverse is
    tried: the baseline, in float, must lose as much when its own numbers are cut off at the file's ranges.
    """

    name = "clipped_ranges"
    title = "ranges that cut off what is rare"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        lost = lost_score(comparison)
        if lost is None:
            return
        known = layer_errors(comparison.run, comparison.variant)
        cutting = [layer for layer in known if (layer.saturated_share or 0.0) >= _CUTS_OFF]
        if len(known) < FEWEST_LAYERS or not cutting:
            return
        cutting.sort(key=lambda layer: -(layer.saturated_share or 0.0))
        metric, change = lost
        test = _made_again(comparison, lost, cutting) or _of_finished(comparison, lost, cutting, len(known))
        if test is None:
            return
        named = ", ".join(f"{layer.label} ({layer.saturated_share or 0.0:.2%})" for layer in cutting[:_NAMED])
        many = len(cutting) > 1
        yield Hypothesis(
            cause=self.name,
            claim=(
                f"{loses(comparison)} by its {test.way}: "
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
            intervention=test.intervention,
        )


def _made_again(comparison: Comparison, lost: tuple[str, Interval], cutting: Sequence[LayerError]) -> _Test | None:
    wider = comparison.interventions.widest_ranges(comparison.b)
    if isinstance(wider, Impossible):
        return None
    metric, change = lost
    low, high = (-change.value * share for share in _BACK)
    return _Test(
        "calibration, which does not keep the extremes of its samples",
        Intervention(
            does=f"make {comparison.variant} again with ranges that hold the extremes of all calibration samples "
            f'(ranges = "{wider["ranges"]}")',
            prediction=Prediction(metric, comparison.variant, str(wider["name"]), low, high),
            variants=(wider,),
            replaces=len(cutting),
        ),
    )


def _of_finished(
    comparison: Comparison, lost: tuple[str, Interval], cutting: Sequence[LayerError], compared: int
) -> _Test | None:
    saturated = sum((layer.saturated_share or 0.0) >= SATURATED_SHARE for layer in cutting)
    # A few are a cause of their own, and so is the input; together, no one of them is to blame.
    if saturated <= (0 if _input_cut_off(comparison) else most_layers(compared)):
        return None
    known = counterparts(comparison)
    pairs = [(baseline, own) for layer in cutting if layer.op in known for own, baseline in [known[layer.op]]]
    cut = comparison.interventions.within_ranges(comparison.a, comparison.b, pairs)
    if not pairs or isinstance(cut, Impossible):
        return None
    metric, change = lost
    low, high = sorted(change.value * share for share in BACK)
    return _Test(
        "ranges, which do not hold what it computes",
        Intervention(
            does=f"cut {comparison.baseline}'s own numbers off where {comparison.variant}'s ranges end, in float",
            prediction=Prediction(metric, comparison.baseline, str(cut["name"]), low, high),
            variants=(cut,),
            replaces=len(pairs),
        ),
    )


def _input_cut_off(comparison: Comparison) -> bool:
    rows = (row for row in error_rows(comparison.run, comparison.variant) if row.type == INPUT)
    return any((row.own_saturated_share or 0.0) >= SATURATED_SHARE for row in rows)


CAUSE = ClippedRanges()

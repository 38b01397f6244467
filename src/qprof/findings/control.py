"""Is the machine of an intervention's run the one of the run in question? The difference itself says so.

Every run of an intervention measures baseline and variant again. Only where their difference came out as before, by an
equivalence test on the ratio of their latencies (Schuirmann's two one-sided tests), can what the intervention changed
be laid to the intervention. A ratio is what is compared, since a machine that is slower for both alike is no other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.findings.latency import latency_ratio
from qprof.findings.margins import LATENCY_MARGIN, SCORE_MARGIN
from qprof.stats.sequential import look_level
from qprof.store.run import Run

if TYPE_CHECKING:
    from qprof.findings.causes.base import Prediction

_LEVEL = 0.95
#: A shift of less than this part of what was predicted cannot be taken for it.
_PART_OF_PREDICTED = 0.5
#: What an intervention is held against may score less than the variant itself by this part of what was predicted: more
#: would be laid to the intervention as if it were given back.
_PART_SPOILED = 0.1


@dataclass(frozen=True, slots=True)
class Control:
    """`outcome`: "reproduced" where the difference came out as before, "changed" where it surely did not, "unclear"
    where neither can be told. `shift`: by how much, ln of the ratios' ratio or in units of the score; `margin`: by how
    much it may. `says`: in words, with the figures."""

    outcome: Literal["reproduced", "changed", "unclear"]
    shift: float | None
    margin: float
    says: str


def control(comparison: Comparison, again: Run, prediction: Prediction) -> Control:
    """Whether a run of an intervention reproduced the difference between the variants of a comparison."""
    if prediction.figure != LATENCY:
        return _of_score(comparison, again, prediction)
    margin = max(math.log1p(LATENCY_MARGIN), _PART_OF_PREDICTED * abs(_log(prediction, comparison)))
    a, b, phase = comparison.baseline, comparison.variant, comparison.phase
    before, after = (latency_ratio(run, a, b, phase) for run in (comparison.run, again))
    if before is None or after is None:
        return Control("unclear", None, margin, f"{a} and {b} were not both measured again")
    if before.standard_error is None or after.standard_error is None:
        reason = before.reason or after.reason
        return Control("unclear", None, margin, f"whether the difference came out as before is not known: {reason}")
    shift = after.value - before.value
    within = NormalDist().inv_cdf(_one_sided(again)) * math.hypot(before.standard_error, after.standard_error)
    figures = ", ".join(_moved(comparison.run, again, name, phase) for name in (a, b))
    if abs(shift) + within <= margin:
        return Control("reproduced", shift, margin, f"the difference came out as before ({figures})")
    if abs(shift) - within > margin:
        return Control("changed", shift, margin, f"the machine changed: {figures}")
    return Control("unclear", shift, margin, f"whether the machine changed cannot be told: {figures}")


def _one_sided(again: Run) -> float:
    """Level of each of the two tests; of a run that was looked at while it went on, over all looks."""
    if again.manifest.stopping is None:
        return _LEVEL
    both = look_level(again.manifest.stopping.looks, again.manifest.stopping.rounds, 2.0 * _LEVEL - 1.0)
    return (1.0 + both) / 2.0


def _log(prediction: Prediction, comparison: Comparison) -> float:
    """The predicted effect as ln of a ratio."""
    if prediction.relative:
        return prediction.expected
    of_us = _median_us(comparison.run, comparison.variant, comparison.phase)
    return math.log(max(of_us + prediction.expected, 0.01 * of_us) / of_us)


def _moved(run: Run, again: Run, name: str, phase: str) -> str:
    before, after = (_median_us(one, name, phase) for one in (run, again))
    return f"{name} {_duration(before)} -> {_duration(after)}"


def _median_us(run: Run, name: str, phase: str) -> float:
    return float(np.median(run.latency(name, phase=phase).duration_ns)) / 1e3


def _duration(us: float) -> str:
    return f"{us / 1e3:.3g} ms" if us >= 1e3 else f"{us:.3g} µs"


def _of_score(comparison: Comparison, again: Run, prediction: Prediction) -> Control:
    """Scores are the same wherever the same files predict; other threads and kernels round otherwise."""
    a, b, metric = comparison.baseline, comparison.variant, prediction.figure
    margin = max(SCORE_MARGIN, _PART_OF_PREDICTED * abs(prediction.expected))
    scores = [(run.score(a, metric), run.score(b, metric)) for run in (comparison.run, again)]
    known = [second - first for first, second in scores if first is not None and second is not None]
    if len(known) < 2:
        return Control("unclear", None, margin, f"{a} and {b} were not both scored again")
    shift = known[1] - known[0]
    figures = f"{metric} of {b} less that of {a}: {known[0]:+.4f} -> {known[1]:+.4f}"
    if abs(shift) > margin:
        return Control("changed", shift, margin, f"the scores changed ({figures})")
    spoiled = _spoiled(comparison, again, prediction)
    return spoiled or Control("reproduced", shift, margin, f"the difference came out as before ({figures})")


def _spoiled(comparison: Comparison, again: Run, prediction: Prediction) -> Control | None:
    """That what the intervention is held against is itself worse than the variant, as where the baseline's activations
    are put between layers that make up for one another: one with small weights, the next with large ones."""
    a, b, metric = prediction.a, comparison.variant, prediction.figure
    if a in (comparison.baseline, b) or prediction.relative or prediction.versus is not None:
        return None
    before, after = again.score(b, metric), again.score(a, metric)
    if before is None or after is None:
        return None
    margin = max(SCORE_MARGIN, _PART_SPOILED * abs(prediction.expected))
    shift = after - before
    if math.copysign(shift, shift * prediction.expected) > -margin:
        return None
    says = (
        f"what it is held against is worse than {b} itself ({metric} {before:.4f} -> {after:.4f}): its layers make up "
        "for one another, and the baseline's activations fit none of them alone"
    )
    return Control("unclear", shift, margin, says)

"""What the run of an intervention makes of a hypothesis.

Confirmed: the run reproduced the difference in question, and the intervention's effect is as predicted and not zero.
Partial: it is there, and smaller than predicted. Refuted: it is not there, or goes the other way. Consistent: nothing
was run; what was recorded by one part of the run bears out what was predicted from another. Of confirmed hypotheses
about the same part of a difference one counts (`competing`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from qprof.errors import QprofError
from qprof.findings.causes.base import Finding, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.competing import competed
from qprof.findings.control import Control, control
from qprof.findings.doubts import Doubt, doubts
from qprof.findings.effects import LATENCY, effect
from qprof.findings.latency import latency_ratio_change, median_us
from qprof.findings.op_costs import standard_error
from qprof.findings.verify import Claim
from qprof.record.looks import Stopping
from qprof.stats.intervals import Interval
from qprof.stats.multiplicity import holm
from qprof.stats.rounds import RoundDifference
from qprof.stats.sequential import look_level, look_p
from qprof.stats.verdict import Effect
from qprof.store.run import Run

_LEVEL = 0.95
#: A baseline whose latency moved by more than this was measured on a machine in another state; ratios may stand.
_LEVEL_MOVED = 0.1


def findings(claims: Sequence[Claim], runs: Mapping[int, Run | QprofError]) -> list[Finding]:
    """What became of each claim. `runs`: position of a claim -> the run of its intervention, or why there is none.

    Whatever was compared with zero, run or rescored, is corrected for its number (Holm).
    """
    tested = [_tested(claim, runs.get(position)) for position, claim in enumerate(claims)]
    adjusted = iter(holm([one.p_value for one in tested if one.p_value is not None]).tolist())
    corrected = [None if one.p_value is None else next(adjusted) for one in tested]
    judged = [_judged(one, p) for one, p in zip(tested, corrected, strict=True)]
    return competed(claims, judged)


@dataclass(frozen=True, slots=True)
class _Tested:
    """`measured`: the effect's interval; `control` where something was run; `reason`: why there is no effect."""

    claim: Claim
    measured: Interval | None
    p_value: float | None = None
    control: Control | None = None
    reason: str | None = None
    effect: Effect | None = None


def _tested(claim: Claim, run: Run | QprofError | None) -> _Tested:
    hypothesis = claim.hypothesis
    intervention = hypothesis.intervention
    if intervention is None:
        return _Tested(claim, None, reason=hypothesis.untestable or "no intervention can be made for it here")
    if intervention.rescored is not None:
        return _Tested(claim, intervention.rescored, _p_of_interval(intervention.rescored))
    if isinstance(run, QprofError):
        return _Tested(claim, None, reason=f"its intervention failed: {run}")
    if run is None:
        return _Tested(claim, None, reason="it was not tested; qprof explain --verify does")
    prediction = intervention.prediction
    for name in (prediction.a, prediction.b):
        entry = run.variant(name)
        if entry.failed or entry.unscored:
            return _Tested(claim, None, reason=f"its intervention failed: {name}: {entry.reason or entry.unscored}")
    phase = claim.comparison.phase if prediction.figure == LATENCY else None
    found: Effect | None
    if prediction.versus is None:
        found = effect(run, prediction.figure, prediction.a, prediction.b, phase, prediction.relative)
    else:
        found = latency_ratio_change(run, (prediction.a, prediction.b), prediction.versus, phase)
    if found is None:
        return _Tested(claim, None, reason=f"its intervention gave no {prediction.figure} to compare")
    if prediction.figure == LATENCY and not prediction.relative:
        found = _on_scale(found, claim.comparison, run)
    stopping = run.manifest.stopping
    level = _LEVEL if stopping is None else look_level(stopping.looks, stopping.rounds, _LEVEL)
    p_value = _p_of_no_effect(found, stopping)
    return _Tested(claim, found.interval(level), p_value, checked(claim, run), effect=found)


def decided(claim: Claim, again: Run, family: int) -> bool:
    """Whether the run of a claim's intervention, which is not over, tells already what it would tell at its end, if so
    many claims as a `family` are corrected for.

    The word must be "confirmed", "partial" or "refuted" by intervals that hold at all looks together, in a run that
    reproduced the difference. "Confirmed" rests on where the effect itself lies, which goes on to move: it must be as
    far within the prediction as it will move by the end, by 95 %. That is the interval that the rest of the rounds
    leave open: the variance of (effect by then - effect now) is that of now, times the share of rounds to come.
    """
    if disturbed(claim):
        return True  # the run in question was not left alone: nothing that this one tells will be a word
    tested, stopping = _tested(claim, again), again.manifest.stopping
    if stopping is None or tested.effect is None or tested.measured is None or tested.p_value is None:
        return False
    found = _judged(tested, min(1.0, family * tested.p_value))
    if found.status != "confirmed":
        return found.status in ("partial", "refuted")
    assert claim.hypothesis.intervention is not None  # it was tested
    prediction, now = claim.hypothesis.intervention.prediction, tested.effect.interval(_LEVEL)
    if now.low is None or now.high is None:
        return False
    moves = math.sqrt(1.0 - stopping.looks[-1] / stopping.rounds)
    low, high = now.value - moves * (now.value - now.low), now.value + moves * (now.high - now.value)
    return prediction.low <= low and high <= prediction.high


def checked(claim: Claim, again: Run) -> Control | None:
    """Whether the run of a claim's intervention was made on the machine of the run in question, left alone as that;
    `None` where nothing is to be held against it: a protocol of its own is another machine on purpose."""
    intervention = claim.hypothesis.intervention
    if intervention is None or intervention.protocol:
        return None
    prediction, comparison = intervention.prediction, claim.comparison
    found = control(comparison, again, prediction)
    if prediction.figure != LATENCY:
        return found
    for which, run, names in (
        ("the run", comparison.run, (comparison.baseline, comparison.variant)),
        ("the run of the intervention", again, (prediction.a, prediction.b)),
    ):
        doubt = _disturbance(run, names, comparison.phase)
        if doubt is not None:
            says = f"the machine was not left alone in {which}: {doubt.variant}: {doubt.says}"
            return Control("changed", found.shift, found.margin, says)
    return found


def disturbed(claim: Claim) -> bool:
    """Whether the machine was not left alone in the run in question itself: no other run of the claim's intervention
    can show the difference to be what it was then."""
    comparison, intervention = claim.comparison, claim.hypothesis.intervention
    if intervention is None or intervention.protocol or intervention.prediction.figure != LATENCY:
        return False
    return _disturbance(comparison.run, (comparison.baseline, comparison.variant), comparison.phase) is not None


def _disturbance(run: Run, names: Sequence[str], phase: str) -> Doubt | None:
    """What withholds the verdicts on one of these variants in a phase."""
    of = (one for one in doubts(run) if one.withholds and one.variant in names and one.phase == phase)
    return next(of, None)


def machine_notes(run: Run, again: Run) -> list[str]:
    """What was another machine in the run of an intervention, in words; nothing where it was as before."""
    found = [doubt for doubt in doubts(again) if doubt.withholds]
    notes = [f"{again.name}: {doubt.variant}: {doubt.says}" for doubt in found[:1]]
    if len(found) > 1:
        notes[0] += f" (and {len(found) - 1} more that were not left alone)"
    for phase in run.phases():
        before, after = (median_us(one, run.baseline, phase.name) for one in (run, again))
        if before is None or after is None:
            continue
        if not 1.0 - _LEVEL_MOVED < after / before < 1.0 + _LEVEL_MOVED:
            notes.append(
                f"{again.name}: the machine changed between the run and this verification: {run.baseline} "
                f"{before:.0f} -> {after:.0f} µs"
            )
    return notes


def _on_scale(found: Effect, comparison: Comparison, again: Run) -> Effect:
    """A difference in microseconds on the scale of the run in question: a machine that is slower by then for all alike
    has changed no ratio."""
    before, after = (median_us(run, comparison.baseline, comparison.phase) for run in (comparison.run, again))
    if not isinstance(found, RoundDifference) or before is None or after is None:
        return found
    return RoundDifference(found.ratio, before / after * found.baseline)


def _p_of_no_effect(evidence: Effect, stopping: Stopping | None = None) -> float | None:
    """Over all looks that were had at it."""
    one_sided = evidence.p_above(0.0) if evidence.value > 0.0 else evidence.p_below(0.0)
    if one_sided is None or stopping is None:
        return None if one_sided is None else min(1.0, 2.0 * one_sided)
    return look_p(min(1.0, 2.0 * one_sided), stopping.looks, stopping.rounds)


def _p_of_interval(measured: Interval) -> float | None:
    """Two-sided p-value against zero of a normal estimate with this interval; `None` where it has no bounds."""
    if measured.low is None or measured.high is None:
        return None
    error = standard_error(measured)
    if error == 0.0:
        return 0.0 if measured.value else 1.0
    return 2.0 * (1.0 - NormalDist().cdf(abs(measured.value) / error))


def _judged(tested: _Tested, p_value: float | None) -> Finding:
    hypothesis = tested.claim.hypothesis
    if tested.measured is None:
        return Finding(hypothesis, "hypothesis", tested.reason or "it was not tested")
    assert hypothesis.intervention is not None  # there is an effect
    found = Finding(hypothesis, "inconclusive", "", tested.measured, p_value, tested.control)
    found = _against(found, hypothesis.intervention.prediction, tested.measured, p_value)
    if hypothesis.intervention.rescored is not None and found.status == "confirmed":
        because = f"{found.because}; rescored from what was recorded, nothing was run"
        return replace(found, status="consistent", because=because)
    checked = tested.control
    if checked is not None and checked.outcome != "reproduced":
        return replace(found, status="inconclusive", because=checked.says)
    return found


def _against(found: Finding, prediction: Prediction, measured: Interval, p_value: float | None) -> Finding:
    """The effect against its prediction; one that only reaches into its range says too little: a wide interval would
    meet any prediction."""
    if measured.low is None or measured.high is None:
        return replace(found, because=measured.reason or "the effect has no interval")
    apart_from_zero = measured.low > 0.0 or measured.high < 0.0
    surely = apart_from_zero and (p_value is None or p_value <= 1.0 - _LEVEL)
    if prediction.low <= measured.value <= prediction.high:
        if surely:
            return replace(found, status="confirmed", because="the effect is as predicted, and it is not zero")
        if apart_from_zero:
            return replace(
                found, because="the effect is as predicted, but not beyond what so many tests find by chance"
            )
        return replace(
            found, because="the effect's interval holds the prediction and zero alike; more rounds would decide"
        )
    if measured.low <= prediction.high and measured.high >= prediction.low:
        return replace(found, because="the effect's interval reaches into the prediction, the effect itself does not")
    ran = found.hypothesis.intervention is not None and found.hypothesis.intervention.rescored is None
    if ran and surely and (measured.value > 0.0) == (prediction.expected > 0.0):
        if abs(measured.value) < abs(prediction.expected):
            return replace(found, status="partial", because="the effect is there, but smaller than predicted")
        return replace(
            found, because="the effect is larger than predicted: the intervention changes something else too"
        )
    return replace(found, status="refuted", because="the effect is not as predicted")

"""Interventions carried out: which runs they need, and what their outcome makes of each hypothesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from qprof.errors import QprofError
from qprof.findings.causes.base import Finding, Hypothesis, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY, effect
from qprof.measure.parent.execution import start
from qprof.measure.profile import resolved, validate
from qprof.measure.profile_file import merged
from qprof.measure.progress import ProgressDisplay
from qprof.stats.intervals import Interval
from qprof.stats.multiplicity import holm
from qprof.stats.verdict import Effect
from qprof.store.files import read_json, write_json
from qprof.store.run import Run
from qprof.store.upgrade import profile_from_3

#: Folder of a run directory that holds the runs of its interventions.
VERIFY = "verify"
#: Rounds of such a run, where the run itself had fewer: enough for an interval (`stats.intervals.FEWEST_BLOCKS`).
_LEAST_ROUNDS = 8
_LEVEL = 0.95
#: What a verification does not measure again.
_LATENCY_ALONE = {"profiled": False, "energy": "off", "stacks_s": 0.0, "layer_errors": 0, "ceilings": False}


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A hypothesis and what it is about."""

    comparison: Comparison
    hypothesis: Hypothesis


@dataclass(frozen=True, slots=True)
class Verification:
    """One run for all interventions that share their changes to protocol and task."""

    name: str
    profile: Mapping[str, Any]
    claims: tuple[Claim, ...]


def plan_verification(run: Run, claims: Sequence[Claim]) -> list[Verification]:
    """The runs that the claims' interventions need; claims that were rescored, or have none, need no run.

    Interventions share a run if their overrides are equal and they mean the same by a variant's name.
    """
    groups: dict[str, list[list[Claim]]] = {}
    for claim in claims:
        intervention = claim.hypothesis.intervention
        if intervention is None or intervention.rescored is not None:
            continue
        key = repr((sorted(intervention.protocol.items()), sorted(intervention.task.items())))
        groups.setdefault(key, [])
        fitting = (group for group in groups[key] if _agree(group, claim))
        group = next(fitting, None)
        if group is None:
            groups[key].append([claim])
        else:
            group.append(claim)
    members = [group for alike in groups.values() for group in alike]
    return [Verification(f"{number}", _profile(run, group), tuple(group)) for number, group in enumerate(members, 1)]


def measured_again(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol of a run inside another: enough rounds for an interval, and nothing that the other has already."""
    return {**protocol, **_LATENCY_ALONE, "rounds": max(_LEAST_ROUNDS, protocol["rounds"])}


def _agree(group: Sequence[Claim], claim: Claim) -> bool:
    known = {section["name"]: section for member in group for section in _sections(member)}
    return all(known.get(section["name"], section) == section for section in _sections(claim))


def _sections(claim: Claim) -> Sequence[Mapping[str, Any]]:
    intervention = claim.hypothesis.intervention
    return intervention.variants if intervention else ()


def _profile(run: Run, claims: Sequence[Claim]) -> dict[str, Any]:
    """The run's own profile with the variants that the claims compare and those that they add."""
    data = profile_again(run)
    own = {section["name"]: section for section in data["variants"]}
    wanted: dict[str, Mapping[str, Any]] = {}
    figures = set()
    for claim in claims:
        intervention = claim.hypothesis.intervention
        assert intervention is not None  # as planned
        figures.add(intervention.prediction.figure)
        for name in (claim.comparison.baseline, claim.comparison.variant):
            wanted.setdefault(name, own[name])
        for section in intervention.variants:
            wanted.setdefault(section["name"], section)
    first = claims[0].hypothesis.intervention
    assert first is not None
    data["variants"] = [dict(section) for section in wanted.values()]
    data["name"] = f"{data['name']}-verify"
    data["protocol"] = {**measured_again(data["protocol"]), **first.protocol}
    data["task"] = merged({"task": data["task"]}, {"task": first.task})["task"]
    data["protocol"]["scored"] = figures != {LATENCY}
    return data


def profile_again(run: Run) -> dict[str, Any]:
    """The run's own profile as plain data, to be changed and run inside its folder."""
    plain: dict[str, Any] = msgspec.to_builtins(run.manifest.profile)
    return plain


def kept(run: Run, verification: Verification) -> Run | None:
    """The run of this very verification that was made before, `None` where there is none."""
    for path in sorted((run.folder / VERIFY).glob("*/verification.json")):
        if _same(read_json(path), verification.profile):
            found = Run(path.parent)
            if found.complete:
                return found
    return None


def _same(known: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether two profiles mean the same, as it was written by whatever version; one that is none is another."""
    if not isinstance(known, dict):
        return False
    if known == wanted:
        return True
    try:
        before, after = (resolved(validate(data, "verification")) for data in (profile_from_3(known), wanted))
    except (QprofError, LookupError, TypeError, AttributeError):
        return False
    return before == after


def carry_out(run: Run, verification: Verification, progress: ProgressDisplay) -> Run:
    """Run a verification into the run's own folder, or take the one that is kept. Raises what `qprof run` raises."""
    known = kept(run, verification)
    if known is not None:
        return known
    folder = _free(run.folder / VERIFY / verification.name)
    start(validate(verification.profile, source=f"verification {verification.name} of {run.folder}"), folder, progress)
    write_json(folder / "verification.json", verification.profile)
    return Run(folder)


def _free(folder: Path) -> Path:
    """The folder, or the first name beside it that is not taken: nothing that was recorded is overwritten."""
    found, number = folder, 2
    while found.exists():
        found, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return found


@dataclass(frozen=True, slots=True)
class _Tested:
    claim: Claim
    evidence: Effect | None
    reason: str | None


def findings(claims: Sequence[Claim], runs: Mapping[int, Run | QprofError]) -> list[Finding]:
    """What became of each claim. `runs`: position of a claim -> the run of its intervention, or why there is none."""
    tested = [_outcome(claim, runs.get(position)) for position, claim in enumerate(claims)]
    p_values = [None if t.evidence is None else _p_of_no_effect(t.evidence) for t in tested]
    adjusted = iter(holm([p for p in p_values if p is not None]).tolist())
    corrected = [None if p is None else next(adjusted) for p in p_values]
    return [_judged(one, p) for one, p in zip(tested, corrected, strict=True)]


def _outcome(claim: Claim, run: Run | QprofError | None) -> _Tested:
    hypothesis = claim.hypothesis
    intervention = hypothesis.intervention
    if intervention is None:
        return _Tested(claim, None, hypothesis.untestable or "no intervention can be made for it here")
    if isinstance(run, QprofError):
        return _Tested(claim, None, f"its intervention failed: {run}")
    if run is None:
        return _Tested(claim, None, "it was not tested; qprof explain --verify does")
    prediction = intervention.prediction
    for name in (prediction.a, prediction.b):
        entry = run.variant(name)
        if entry.failed:
            return _Tested(claim, None, f"its intervention failed: {name}: {entry.reason}")
    phase = claim.comparison.phase if prediction.figure == LATENCY else None
    found = effect(run, prediction.figure, prediction.a, prediction.b, phase, prediction.relative)
    return _Tested(claim, found, None if found else f"its intervention gave no {prediction.figure} to compare")


def _p_of_no_effect(evidence: Effect) -> float | None:
    one_sided = evidence.p_above(0.0) if evidence.value > 0.0 else evidence.p_below(0.0)
    return None if one_sided is None else min(1.0, 2.0 * one_sided)


def _judged(tested: _Tested, p_value: float | None) -> Finding:
    hypothesis = tested.claim.hypothesis
    intervention = hypothesis.intervention
    if intervention is not None and intervention.rescored is not None:
        return _against(hypothesis, intervention.prediction, intervention.rescored, None)
    if tested.evidence is None:
        return Finding(hypothesis, "hypothesis", tested.reason or "it was not tested")
    assert intervention is not None  # there is evidence
    return _against(hypothesis, intervention.prediction, tested.evidence.interval(_LEVEL), p_value)


def _against(hypothesis: Hypothesis, prediction: Prediction, measured: Interval, p_value: float | None) -> Finding:
    """Confirmed: the effect is in the predicted range, and its interval excludes zero; refuted: the interval does not
    meet the range. One that only reaches into it says too little: a wide interval would meet any prediction."""
    found = Finding(hypothesis, "inconclusive", "", measured, p_value)
    if measured.low is None or measured.high is None:
        return replace(found, because=measured.reason or "the effect has no interval")
    meets = measured.low <= prediction.high and measured.high >= prediction.low
    excludes_zero = measured.low > 0.0 or measured.high < 0.0
    if p_value is not None:
        excludes_zero = excludes_zero and p_value <= 1.0 - _LEVEL
    inside = prediction.low <= measured.value <= prediction.high
    if inside and excludes_zero:
        return replace(found, status="confirmed", because="the effect is as predicted, and it is not zero")
    if not meets:
        return replace(found, status="refuted", because="the effect is not as predicted")
    if not inside:
        return replace(found, because="the effect's interval reaches into the prediction, the effect itself does not")
    if measured.low > 0.0 or measured.high < 0.0:
        return replace(found, because="the effect is as predicted, but not beyond what so many tests find by chance")
    return replace(found, because="the effect's interval holds the prediction and zero alike; more rounds would decide")

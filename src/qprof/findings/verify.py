"""Interventions carried out: which runs they need, and where those are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from qprof.errors import QprofError, StoreError
from qprof.findings.causes.base import Hypothesis
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.measure.parent.execution import resume, start
from qprof.measure.parent.looks import Decided
from qprof.measure.parent.spare import SpareWorkers
from qprof.measure.profile import Profile, resolved, validate
from qprof.measure.profile_file import merged
from qprof.measure.progress import ProgressDisplay
from qprof.measure.surroundings import changes_since
from qprof.record.sections import ProtocolSection
from qprof.store.files import read_json, write_json
from qprof.store.manifests import read_manifest
from qprof.store.run import Run
from qprof.store.upgrade import profile_from_3
from qprof.store.writer import is_written

#: Folder of a run directory that holds the runs of its interventions.
VERIFY = "verify"
#: Rounds of such a run, where the run itself had fewer: enough for an interval (`stats.intervals.FEWEST_BLOCKS`).
_LEAST_ROUNDS = 8
#: What a verification does not measure again. The host is watched all the same: see `measure.parent.sensors`.
_LATENCY_ALONE = {
    "profiled": False,
    "energy": "off",
    "stacks_s": 0.0,
    "layer_errors": 0,
    "ceilings": False,
    "plausibility": 0,
}
#: What most verifications would take longest for is importing, in each process, what their variants are run with.
_IN_ONE_PROCESS = {"own_process": False}
#: Keys that say how it was measured, not what.
_HOW = ("own_process", "block_ms", "block_samples", "timed")
#: What an intervention does to a latency is told by the rounds, not by how long each block of them lasts.
_TIMED_BLOCK_MS = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """A hypothesis and what it is about."""

    comparison: Comparison
    hypothesis: Hypothesis


@dataclass(frozen=True, slots=True)
class Verification:
    """One run for all interventions that share their changes to protocol and task, and are all about time or all about
    scores: what is timed alone needs neither all samples nor scoring, and what is scored alone no repetition."""

    name: str
    profile: Mapping[str, Any]
    claims: tuple[Claim, ...]

    @property
    def timed(self) -> bool:
        """Whether it is about time, not about scores."""
        return not self.profile["protocol"]["scored"]


def plan_verification(run: Run, claims: Sequence[Claim]) -> list[Verification]:
    """The runs that the claims' interventions need; claims that were rescored, or have none, need no run.

    Interventions share a run if their overrides are equal, they are about time alike, and they mean the same by a
    variant's name.
    """
    groups: dict[str, list[list[Claim]]] = {}
    for claim in claims:
        intervention = claim.hypothesis.intervention
        if intervention is None or intervention.rescored is not None:
            continue
        about_time = intervention.prediction.figure == LATENCY
        key = repr((about_time, sorted(intervention.protocol.items()), sorted(intervention.task.items())))
        groups.setdefault(key, [])
        fitting = (group for group in groups[key] if _agree(group, claim))
        group = next(fitting, None)
        if group is None:
            groups[key].append([claim])
        else:
            group.append(claim)
    members = [group for alike in groups.values() for group in alike]
    return [Verification(f"{number}", _profile(run, group), tuple(group)) for number, group in enumerate(members, 1)]


def narrowed(run: Run, verification: Verification, claims: Sequence[Claim]) -> Verification:
    """The run for some of a verification's claims alone, without the variants that no claim among them needs."""
    return Verification(verification.name, _profile(run, claims), tuple(claims))


def measured_again(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol of a run inside another: enough rounds for an interval, and nothing that the other has already."""
    rounds = max(_LEAST_ROUNDS, _fixed(protocol)["rounds"])
    return {**_fixed(protocol), **_LATENCY_ALONE, "rounds": rounds}


def scores_alone(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol of a run inside another whose times are of no use: one short round, and the scores."""
    short = {"rounds": 1, "block_ms": 0.0, "warmup_max_s": 0.0}
    return {**_fixed(protocol), **_LATENCY_ALONE, **_IN_ONE_PROCESS, **short, "scored": True}


def _fixed(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol with a fixed number of rounds: what an intervention does is predicted, and compared once."""
    fixed = {**protocol, "budget_s": None, "margin": None}
    if protocol.get("budget_s") is None and protocol.get("margin") is None:
        return fixed
    return {**fixed, "rounds": min(protocol["rounds"], ProtocolSection().rounds)}


def scored_again(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol of a run that predicts every sample once, in blocks as long as those of the run that it is inside
    of."""
    short = {"block_ms": 0.0, "warmup_max_s": 0.0, "timed": False}
    return {**protocol, **_LATENCY_ALONE, **_IN_ONE_PROCESS, **short, "scored": True}


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
    for claim in claims:
        intervention = claim.hypothesis.intervention
        assert intervention is not None  # as planned
        for name in (claim.comparison.baseline, claim.comparison.variant):
            if name not in own:
                damage = f"damaged (its profile has no variant {name!r}); restore it or run anew"
                raise StoreError(f"{run.folder / 'manifest.json'}: {damage}")
            wanted.setdefault(name, own[name])
        for section in intervention.variants:
            wanted.setdefault(section["name"], section)
    first = claims[0].hypothesis.intervention
    assert first is not None
    data["variants"] = [dict(section) for section in wanted.values()]
    data["name"] = f"{data['name']}-verify"
    timed = first.prediction.figure == LATENCY
    again = _timed_again(run, data["protocol"]) if timed else scored_again(data["protocol"])
    data["protocol"] = {**again, **first.protocol}
    data["task"] = merged({"task": data["task"]}, {"task": first.task})["task"]
    return data


def _timed_again(run: Run, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol of a run that times what the run itself timed, in one process, in blocks as short as they can be:
    over all rounds each sample is run, and in each round all variants run the same ones."""
    again = measured_again(protocol)
    samples = min(run.manifest.samples or 1, again["rounds"] * ProtocolSection().block_samples)
    short = {"block_ms": min(again["block_ms"], _TIMED_BLOCK_MS), "block_samples": -(-samples // again["rounds"])}
    return {**again, **short, **_IN_ONE_PROCESS, "scored": False}


def profile_again(run: Run) -> dict[str, Any]:
    """The run's own profile as plain data, to be changed and run inside its folder."""
    plain: dict[str, Any] = msgspec.to_builtins(run.manifest.profile)
    return plain


def kept(run: Run, verification: Verification) -> list[Run]:
    """The finished runs that hold all of this verification, and perhaps more, the oldest first."""
    return [one for profile, one in recorded(run) if holds(profile, verification.profile)]


def recorded(run: Run) -> list[tuple[Any, Run]]:
    """Every finished verification of a run with the profile that it was made by, the oldest first."""
    found = [(read_json(path), Run(path.parent)) for path in sorted((run.folder / VERIFY).glob("*/verification.json"))]
    return sorted((one for one in found if one[1].complete), key=lambda one: one[1].manifest.created)


def holds(known: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a profile, as it was written by whatever version, measures all that another one does, with the same
    baseline; one that is none does not."""
    if not isinstance(known, dict):
        return False
    if _covers(known, wanted):
        return True
    try:
        before, after = (
            msgspec.to_builtins(resolved(validate(data, "verification"))) for data in (profile_from_3(known), wanted)
        )
    except (QprofError, LookupError, TypeError, AttributeError):
        return False
    return _covers(before, after)


def _covers(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    own, needed = known.get("variants"), wanted["variants"]
    if _but_variants(known) != _but_variants(wanted) or not isinstance(own, list) or not own:
        return False
    return bool(own[0] == needed[0]) and all(section in own for section in needed)


def _but_variants(profile: Mapping[str, Any]) -> dict[str, Any]:
    protocol = profile.get("protocol")
    kept = {key: value for key, value in protocol.items() if key not in _HOW} if isinstance(protocol, dict) else None
    return {**profile, "variants": None, "protocol": kept}


def carry_out(
    run: Run,
    verification: Verification,
    progress: ProgressDisplay,
    again: bool = False,
    spare: SpareWorkers | None = None,
    until: Decided | None = None,
) -> Run:
    """Run a verification into the run's own folder, go on with one that was interrupted, or take the last that is kept
    unless it is to be made `again`. `spare`: workers of earlier runs; `until`: asked at some rounds
    whether the others are needed.

    Raises what `qprof run` raises.
    """
    known = kept(run, verification)
    if known and not again:
        return known[-1]
    if (run.folder / VERIFY).is_symlink():
        raise StoreError(f"{run.folder / VERIFY}: is a link, which no run directory holds; copy what it links to here")
    profile = validate(verification.profile, source=f"verification {verification.name} of {run.folder}")
    folder = _interrupted(run, profile)
    if folder is not None:
        resume(folder, progress, spare=spare, until=until)
    else:
        folder = _free(run.folder / VERIFY / verification.name)
        start(profile, folder, progress, spare=spare, until=until)
    write_json(folder / "verification.json", verification.profile)
    return Run(folder)


def _interrupted(run: Run, profile: Profile) -> Path | None:
    """The folder of this very verification, begun before on this machine and not finished."""
    for path in sorted((run.folder / VERIFY).glob("*/manifest.json")):
        manifest = read_manifest(path.parent)
        begun = manifest.status == "interrupted" or (manifest.status == "running" and not is_written(path.parent))
        if begun and manifest.profile == resolved(profile) and not changes_since(manifest):
            return path.parent
    return None


def _free(folder: Path) -> Path:
    """The folder, or the first name beside it that is not taken: nothing that was recorded is overwritten."""
    found, number = folder, 2
    while found.exists():
        found, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return found

"""The gate for CI: does a run keep its limits, and is it no worse than a run that is kept as the standard?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.findings.choice import ROUNDING, Candidate, Limits
from qprof.findings.effects import score_difference_between
from qprof.findings.explanation import candidates_of
from qprof.findings.verdicts import verdicts
from qprof.measure.surroundings import machine_changes, version_changes, versions_of
from qprof.record.perplexities import LOWER_IS_BETTER
from qprof.stats.unpaired import UnpairedEffect
from qprof.stats.verdict import Effect
from qprof.store.run import Latencies, Run

Outcome = Literal["passed", "failed", "doubtful"]

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was asked of one variant. "doubtful": kept by the value, not by the bound of its interval, or
    kept on random inputs alone, or compared with a latency of another machine."""

    variant: str
    name: str
    outcome: Outcome
    says: str


def check_limits(run: Run, limits: Limits, variants: list[str]) -> list[Check]:
    """Each limit against each of the variants. Raises `StoreError` for a variant that there is not."""
    known = {candidate.variant: candidate for candidate in candidates_of(run, verdicts(run))}
    found = []
    for name in variants:
        entry = run.variant(name)
        if name not in known:
            found.append(Check(name, "runs", "failed", str(entry.reason)))
            continue
        found += _of_limits(known[name], limits)
    return found


def _of_limits(one: Candidate, limits: Limits) -> Iterator[Check]:
    drop = f"{one.score_name} drop"
    asked = (
        (drop, one.score_drop, one.most_drop, limits.score_drop),
        ("p50", one.latency_us, one.most_latency_us, limits.latency_us),
        ("size", one.size_bytes, one.size_bytes, limits.size_bytes),
        ("energy", one.energy_j, one.energy_j, limits.energy_j),
    )
    units = {drop: (100.0, "points"), "p50": (1e-3, "ms"), "size": (1e-6, "MB"), "energy": (1e3, "mJ")}
    for name, value, most, limit in asked:
        if limit is None:
            continue
        factor, unit = units[name]
        if value is None:
            yield Check(one.variant, name, "failed", "is not known")
            continue
        says = f"{value * factor:.4g} {unit}, limit {limit * factor:.4g} {unit}"
        if value > limit + ROUNDING:
            yield Check(one.variant, name, "failed", says)
        elif most is not None and most > limit + ROUNDING:
            yield Check(one.variant, name, "doubtful", f"{says}, interval up to {most * factor:.4g} {unit}")
        elif name == drop and one.random_inputs:
            yield Check(one.variant, name, "doubtful", f"{says}, on random inputs, which bound nothing on yours")
        else:
            yield Check(one.variant, name, "passed", says)


def check_against(
    run: Run, standard: Run, variants: list[str], latency_margin: float, score_margin: float
) -> list[Check]:
    """Each variant against the same one in another run: no slower, and no less accurate, than the margins allow.

    A figure fails where it is surely worse than by its margin, and is doubtful where it looks so, or where machine or
    settings are not those of the standard. Raises `StoreError` where the runs have nothing in common.
    """
    theirs = {entry.name for entry in standard.variants if not entry.failed}
    common = [name for name in variants if name in theirs]
    if not common:
        raise StoreError(f"{standard.folder}: has none of the variants {', '.join(variants)}; name one with --variant")
    machines, _ = unlike(run, standard, common)
    found = []
    for name in common:
        if run.variant(name).failed:
            found.append(Check(name, "runs", "failed", str(run.variant(name).reason)))
            continue
        for phase in run.phases():
            one = _latency_check(run, standard, name, phase.name, math.log1p(latency_margin))
            # Another machine is faster or slower by itself: neither passed nor failed.
            found.append(replace(one, outcome="doubtful", says=f"{one.says}; {machines[0]}") if machines else one)
        found += _score_checks(run, standard, name, score_margin)
    return found


def unlike(run: Run, standard: Run, variants: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is not alike between two runs: of machines and settings, whose latencies say nothing of each other, and of
    versions, which may be what is to be checked."""
    machines = list(machine_changes(standard.manifest.machine, run.manifest.machine))
    for name in variants:
        theirs, ours = (next((e for e in one.variants if e.name == name), None) for one in (standard, run))
        for key in ("threads", "delegate", "device"):
            then, now = (entry.options.get(key) if entry else None for entry in (theirs, ours))
            if then is not None and now is not None and then != now:
                machines.append(f"{key} of {name}: {then} then, {now} now")
    return machines, list(version_changes(versions_of(standard.manifest), versions_of(run.manifest)))


def _latency_check(run: Run, standard: Run, variant: str, phase: str, margin: float) -> Check:
    name = f"p50 of {phase} against {standard.name}"
    before, after = standard.latency(variant, phase=phase), run.latency(variant, phase=phase)
    if not len(before.duration_ns) or not len(after.duration_ns):
        return Check(variant, name, "failed", "one of the runs has no clean blocks")
    evidence = UnpairedEffect(_log_medians(before), _log_medians(after))
    return _judged(variant, name, evidence, margin, relative=True, lower_is_better=True)


def _log_medians(latencies: Latencies) -> NDArray[np.float64]:
    """ln of the median latency of each block."""
    blocks = np.unique(latencies.block)
    return np.log([np.median(latencies.duration_ns[latencies.block == block]) for block in blocks])


def _score_checks(run: Run, standard: Run, variant: str, margin: float) -> Iterator[Check]:
    """Of the metric that leads the run's table."""
    metric = run.metric
    if metric is None:
        return
    name = f"{metric} against {standard.name}"
    evidence = score_difference_between(standard, run, variant, metric)
    if evidence is None:
        if standard.score(variant, metric) is None and run.score(variant, metric) is None:
            return
        yield Check(variant, name, "failed", "is not known of both runs")
        return
    yield _judged(variant, name, evidence, margin, relative=False, lower_is_better=metric in LOWER_IS_BETTER)


def _judged(
    variant: str, name: str, evidence: Effect, margin: float, *, relative: bool, lower_is_better: bool
) -> Check:
    """Failed where the whole interval is worse than the margin: one-sided, so that of checks on equal figures at most
    one in forty fails by chance."""
    interval = evidence.interval(_LEVEL)
    points = not relative and not lower_is_better

    def text(value: float) -> str:
        if relative:
            return f"{math.expm1(value) * 100:+.2f} %"
        return f"{value * 100:+.2f} points" if points else f"{value:+.3g}"

    sign = 1.0 if lower_is_better else -1.0
    says = text(interval.value)
    if interval.low is not None and interval.high is not None:
        says += f" [{text(interval.low)}, {text(interval.high)}]"
    says += f", margin {text(sign * margin)}"
    if sign * interval.value <= margin:
        return Check(variant, name, "passed", says)
    least = interval.low if lower_is_better else interval.high
    if least is not None and sign * least > margin:
        return Check(variant, name, "failed", says)
    return Check(variant, name, "doubtful", says)

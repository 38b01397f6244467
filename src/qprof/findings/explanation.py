"""`qprof explain`: verdicts, causes with what became of their tests, and the answer to the three questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qprof.errors import QprofError
from qprof.findings.accuracy import AccuracyChange, accuracy_change
from qprof.findings.audits import Audit, audits
from qprof.findings.causes import all_causes
from qprof.findings.causes.base import Finding
from qprof.findings.choice import Candidate, Choice, Limits, choose, dominated
from qprof.findings.comparison import Comparison
from qprof.findings.effects import LATENCY
from qprof.findings.energy import EnergyRow, EnergyTable, energy_table
from qprof.findings.summary import VariantSummary, summarize
from qprof.findings.verdicts import FigureVerdict, verdicts
from qprof.findings.verify import Claim, Verification, carry_out, findings, kept, plan_verification
from qprof.measure.progress import ProgressDisplay, SilentProgress
from qprof.stats.intervals import Interval
from qprof.store.files import write_json
from qprof.store.run import Run

#: Where nothing is asked for, a variant may lose this much of the leading score.
DEFAULT_SCORE_DROP = 0.01
#: A figure of energy that was measured counts for a choice before one that was estimated.
_BETTER_SOURCES = ("measured", "estimated")


@dataclass(frozen=True, slots=True)
class ComparisonFindings:
    """What was found of one variant in one phase. `difference_us`: of its p50 to the baseline's; `unexplained_us`: what
    no confirmed cause accounts for, `None` where there is no difference to explain."""

    baseline: str
    variant: str
    phase: str
    difference_us: Interval | None
    unexplained_us: float | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that a run says, with its evidence. `dominated`: variant -> one that is no worse in anything and better in
    something; the others are the Pareto front."""

    run: str
    baseline: str
    metric: str | None
    verdicts: tuple[FigureVerdict, ...]
    comparisons: tuple[ComparisonFindings, ...]
    accuracy: tuple[AccuracyChange, ...]
    audits: tuple[Audit, ...]
    candidates: tuple[Candidate, ...]
    dominated: dict[str, str]
    limits: Limits
    choice: Choice
    notes: tuple[str, ...] = ()


def explain(
    run: Run, *, verify: bool = False, limits: Limits | None = None, progress: ProgressDisplay | None = None
) -> Explanation:
    """Explain a run. With `verify` the interventions that its causes propose are carried out, in runs of their own
    inside the run's folder; those that were carried out before are taken from there in any case.

    Raises `StoreError` for a run that cannot be read. A verification that fails leaves its claims untested.
    """
    claims = _claims(run)
    plans = plan_verification(run, claims)
    outcomes: dict[int, Run | QprofError] = {}
    notes = []
    for plan in plans:
        outcome = _outcome(run, plan, verify, progress or SilentProgress())
        if isinstance(outcome, QprofError):
            notes.append(f"verification {plan.name} failed: {outcome}")
        if outcome is not None:
            outcomes |= {position: outcome for position, claim in enumerate(claims) if claim in plan.claims}
    found = findings(claims, outcomes)
    limits = limits or Limits(score_drop=DEFAULT_SCORE_DROP)
    judged = verdicts(run)
    summaries, energy = summarize(run), energy_table(run)
    candidates = candidates_of(run, judged, summaries, energy)
    return Explanation(
        run=run.name,
        baseline=run.baseline,
        metric=run.metric,
        verdicts=tuple(judged),
        comparisons=tuple(_by_comparison(claims, found)),
        accuracy=tuple(_accuracy(run, judged)),
        audits=tuple(audits(run, summaries, energy)),
        candidates=tuple(candidates),
        dominated=dominated(candidates),
        limits=limits,
        choice=choose(candidates, limits),
        notes=tuple(notes),
    )


def save(run: Run, explanation: Explanation) -> None:
    """Keep an explanation beside the run as `findings.json`. Raises `StoreError`."""
    write_json(run.folder / "findings.json", asdict(explanation))


def _accuracy(run: Run, judged: Sequence[FigureVerdict]) -> list[AccuracyChange]:
    """One level below every loss of the leading score that is sure."""
    metric = run.metric
    lost = [one.variant for one in judged if one.figure == metric and one.kind == "worse"]
    return [accuracy_change(run, run.baseline, name) for name in lost]


def _claims(run: Run) -> list[Claim]:
    """Of every variant and phase; what several comparisons say alike, of the baseline for one, is claimed once."""
    baseline = run.baseline
    claims: dict[tuple[str, str], Claim] = {}
    for entry in run.variants[1:]:
        if entry.failed or run.manifest.baseline.failed:
            continue
        for phase in run.phases():
            comparison = Comparison(run, baseline, entry.name, phase.name)
            for cause in all_causes():
                for hypothesis in cause.hypotheses(comparison):
                    claims.setdefault((cause.name, hypothesis.claim), Claim(comparison, hypothesis))
    return list(claims.values())


def _outcome(run: Run, plan: Verification, verify: bool, progress: ProgressDisplay) -> Run | QprofError | None:
    known = kept(run, plan)
    if known is not None or not verify:
        return known
    try:
        return carry_out(run, plan, progress)
    except QprofError as error:
        return error


def _by_comparison(claims: Sequence[Claim], found: Sequence[Finding]) -> list[ComparisonFindings]:
    """In the order of the claims, the confirmed first, then by the size of what they account for."""
    rank = {"confirmed": 0, "inconclusive": 1, "hypothesis": 2, "refuted": 3}
    groups: dict[int, list[Finding]] = {}
    comparisons: dict[int, Comparison] = {}
    for claim, finding in zip(claims, found, strict=True):
        comparisons[id(claim.comparison)] = claim.comparison
        groups.setdefault(id(claim.comparison), []).append(finding)

    def order(finding: Finding) -> tuple[int, float]:
        effect = finding.hypothesis.effect
        return rank[finding.status], -abs(effect.value) if effect else 0.0

    return [_comparison(comparisons[key], tuple(sorted(members, key=order))) for key, members in groups.items()]


def _comparison(comparison: Comparison, members: tuple[Finding, ...]) -> ComparisonFindings:
    difference = comparison.latency.difference if comparison.latency else None
    confirmed = [
        f.hypothesis.effect.value
        for f in members
        if f.status == "confirmed" and f.hypothesis.figure == LATENCY and f.hypothesis.effect is not None
    ]
    unexplained = None if difference is None else difference.value - sum(confirmed)
    return ComparisonFindings(
        comparison.baseline, comparison.variant, comparison.phase, difference, unexplained, members
    )


def candidates_of(
    run: Run,
    judged: Sequence[FigureVerdict],
    summaries: Sequence[VariantSummary] | None = None,
    energy: EnergyTable | None = None,
) -> list[Candidate]:
    """What a choice among the variants of a run is made by; `judged` are its verdicts. `summaries` and `energy` are the
    run's own, where the caller has them already."""
    living = [summary for summary in summaries or summarize(run) if summary.status == "ok"]
    energies = _energies(run, energy or energy_table(run))
    metric = run.metric
    drops = {verdict.variant: verdict for verdict in judged if verdict.figure == metric}
    base = run.score(run.baseline, metric) if metric else None
    return [_candidate(run, summary, metric, base, drops.get(summary.name), energies) for summary in living]


def _candidate(
    run: Run,
    summary: VariantSummary,
    metric: str | None,
    base: float | None,
    drop: FigureVerdict | None,
    energies: dict[str, tuple[float, str]],
) -> Candidate:
    score = run.score(summary.name, metric) if metric else None
    energy = energies.get(summary.name)
    steps = [phase.steps for phase in run.phases()]
    times = [phase.latency_us for phase in summary.phases]
    known = [(time, count) for time, count in zip(times, steps, strict=True) if time is not None]
    whole = len(known) == len(times)
    upper = [(time.high, count) for time, count in known]
    return Candidate(
        variant=summary.name,
        score=score,
        score_drop=None if score is None or base is None else base - score,
        most_drop=-drop.change.low if drop and drop.change and drop.change.low is not None else None,
        latency_us=sum(time.value * count for time, count in known) if whole else None,
        most_latency_us=sum(high * count for high, count in upper if high is not None)
        if whole and all(high is not None for high, _ in upper)
        else None,
        size_bytes=summary.file_bytes,
        energy_j=energy[0] if energy else None,
        energy_source=energy[1] if energy else None,
    )


def _energies(run: Run, table: EnergyTable) -> dict[str, tuple[float, str]]:
    """variant -> joules of a request and their provenance, from the best source that knows every phase; a model of
    what is drawn at all times tells nothing that the latency does not."""
    rows = table.rows
    phases = {phase.name: phase.steps for phase in run.phases()}
    found: dict[str, tuple[float, str]] = {}
    for provenance in _BETTER_SOURCES:
        for name in {row.variant for row in rows}:
            ours = [row for row in rows if (row.variant, row.provenance) == (name, provenance)]
            joules = _request_j(ours, phases)
            if joules is not None:
                found.setdefault(name, (joules, provenance))
    return found


def _request_j(rows: Sequence[EnergyRow], phases: dict[str, int]) -> float | None:
    """Sum over the sensors of one kind (packages, GPUs), every one of which must know every phase."""
    if not rows or {row.phase for row in rows} != set(phases):
        return None
    values: list[Any] = [row.gross.value for row in rows]
    if None in values:
        return None
    return float(sum(value * phases[row.phase] for value, row in zip(values, rows, strict=True)))

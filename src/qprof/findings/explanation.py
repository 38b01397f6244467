"""`qprof explain`: verdicts, causes with what became of their tests, and the answer to the three questions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qprof.errors import QprofError
from qprof.findings.accuracy import AccuracyChange, accuracy_change
from qprof.findings.along import Along, along, divides, plan_along
from qprof.findings.audits import Audit, audits
from qprof.findings.calibration import Uncovered, uncovered
from qprof.findings.carried_out import runs_that_test
from qprof.findings.causes import all_causes
from qprof.findings.causes.base import Finding
from qprof.findings.choice import Candidate, Choice, Dominance, Limits, choose, dominated
from qprof.findings.comparison import Comparison
from qprof.findings.decomposition import Decomposition, with_outside
from qprof.findings.distance import VariantDistance, on_random_inputs, output_distances
from qprof.findings.doubts import NO_SCORE, Doubt, doubts, withheld
from qprof.findings.effects import LATENCY
from qprof.findings.energy import COMPARED_SOURCES, EnergyRow, EnergyTable, energy_table
from qprof.findings.judgement import findings, machine_notes
from qprof.findings.margins import DISTANCE_DROPS
from qprof.findings.pairs import RunPairs
from qprof.findings.plausibility import Mend, plausibility
from qprof.findings.rolling import most_drop, score_drop
from qprof.findings.sameness import Sameness, sameness
from qprof.findings.sensitivity import sensitivities
from qprof.findings.sentences import with_sentences
from qprof.findings.size import MemoryDifference, SizeDifference, memory_differences, size_differences
from qprof.findings.summary import VariantSummary, summarize
from qprof.findings.unshrunk import unshrunk_variants
from qprof.findings.verdicts import FigureVerdict, verdicts
from qprof.findings.verify import Claim, carry_out, kept, plan_verification, recorded
from qprof.measure.parent.spare import SpareWorkers
from qprof.measure.progress import ProgressDisplay, SilentProgress
from qprof.record.distances import DECIDING
from qprof.record.perplexities import LOWER_IS_BETTER
from qprof.runtimes.interventions import Impossible
from qprof.stats.intervals import Interval
from qprof.store.files import write_json
from qprof.store.run import Run

#: Where nothing is asked for, a variant may lose this much of the leading score.
DEFAULT_SCORE_DROP = 0.01


@dataclass(frozen=True, slots=True)
class Unexplained:
    """What no confirmed finding accounts for of a figure's difference, in the figure's unit ("us", "1").

    `claimed`: what the confirmed ones account for, each op and mechanism counted once, or, of a score, what came back.
    """

    figure: str
    unit: str
    difference: float
    claimed: float

    @property
    def left(self) -> float:
        """The rest, never beyond the whole."""
        rest = self.difference - self.claimed
        return 0.0 if rest * self.difference < 0.0 else rest


@dataclass(frozen=True, slots=True)
class ComparisonFindings:
    """What was found of one variant in one phase. `difference_us`: of its p50 to the baseline's. `decomposition`: where
    it went, `None` where the ops of one were not timed. `sameness`: whether the two are one model."""

    baseline: str
    variant: str
    phase: str
    difference_us: Interval | None
    findings: tuple[Finding, ...]
    unexplained: tuple[Unexplained, ...] = ()
    decomposition: Decomposition | None = None
    sameness: Sameness | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that a run says, with its evidence. `dominated`: variant -> one that is better in something and equal in the
    rest, by the verdicts; the others are the Pareto front. `doubts`: why the latencies may be those of another machine.
    `remarks`: what would be seen by older metrics, or without a warm-up; they explain no difference. `plausibility`:
    what mends a baseline that is broken itself, on which nothing is recommended; `calibration`: variants that were
    calibrated on other data than they are scored on. `distances`: how near the outputs are to the baseline's."""

    run: str
    baseline: str
    metric: str | None
    doubts: tuple[Doubt, ...]
    verdicts: tuple[FigureVerdict, ...]
    comparisons: tuple[ComparisonFindings, ...]
    accuracy: tuple[AccuracyChange, ...]
    audits: tuple[Audit, ...]
    candidates: tuple[Candidate, ...]
    dominated: dict[str, Dominance]
    limits: Limits
    choice: Choice
    remarks: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    plausibility: tuple[Mend, ...] = ()
    calibration: tuple[Uncovered, ...] = ()
    along: tuple[Along, ...] = ()
    distances: tuple[VariantDistance, ...] = ()
    sizes: tuple[SizeDifference, ...] = ()
    memory: tuple[MemoryDifference, ...] = ()


def explain(
    run: Run,
    *,
    verify: bool = False,
    divide: bool = False,
    limits: Limits | None = None,
    progress: ProgressDisplay | None = None,
    spare: SpareWorkers | None = None,
) -> Explanation:
    """Explain a run. With `verify` the interventions that its causes propose are carried out, in runs of their own
    inside the run's folder. With `divide` a lost score is divided over the stages of the model, by such runs as well.
    Those that were carried out before are taken from there in any case. `spare`: workers of earlier
    runs, for these; they are ended with them.

    Raises `StoreError` for a run that cannot be read. A verification that fails leaves its claims untested.
    """
    comparisons = _comparisons(run)
    claims = _claims(comparisons)
    outcomes: dict[int, Run | QprofError] = {}
    notes = []
    with spare or SpareWorkers() as workers:
        for plan in plan_verification(run, claims):
            tested = runs_that_test(run, plan, verify, progress or SilentProgress(), workers, len(claims))
            if isinstance(tested, QprofError):
                notes.append(f"verification {plan.name} failed: {tested}")
                outcomes |= {position: tested for position, claim in enumerate(claims) if claim in plan.claims}
                continue
            if plan.timed:
                notes += [note for one in dict.fromkeys(tested.values()) for note in machine_notes(run, one)]
            outcomes |= {position: tested[claim] for position, claim in enumerate(claims) if claim in tested}
    divided, reasons = _along(run, comparisons, divide, progress or SilentProgress())
    found = list(zip(claims, findings(claims, outcomes), strict=True))
    doubted = doubts(run)
    judged = withheld(verdicts(run), doubted, run.baseline)
    broken = plausibility(run)
    summaries, energy = summarize(run), energy_table(run)
    candidates = candidates_of(run, judged, summaries, energy)
    limits, pairs = limits or default_limits(candidates), RunPairs(run, judged)
    return Explanation(
        run=run.name,
        baseline=run.baseline,
        metric=run.metric,
        doubts=tuple(doubted),
        verdicts=tuple(judged),
        comparisons=tuple(_explained(comparison, found) for comparison in comparisons),
        accuracy=tuple(_accuracy(run, judged)),
        audits=tuple(audits(run, summaries, energy)),
        candidates=tuple(candidates),
        dominated=dominated(candidates, pairs),
        limits=limits,
        choice=Choice(None)
        if broken or any(one.what == NO_SCORE for one in doubted)
        else choose(candidates, limits, pairs),
        remarks=tuple(finding for _, finding in found if finding.hypothesis.remark),
        notes=(
            *notes,
            *reasons,
            *sensitivities(run),
            *(f"{name}: {found.sentence}" for name, found in unshrunk_variants(run.variants)),
        ),
        plausibility=tuple(broken),
        calibration=tuple(uncovered(run)),
        along=tuple(divided),
        distances=tuple(output_distances(run)),
        sizes=tuple(size_differences(run)),
        memory=tuple(memory_differences(run)),
    )


def save(run: Run, explanation: Explanation) -> None:
    """Keep an explanation beside the run as `findings.json`. Raises `StoreError`."""
    write_json(run.folder / "findings.json", asdict(explanation))


def _accuracy(run: Run, judged: Sequence[FigureVerdict]) -> list[AccuracyChange]:
    """One level below every loss of the leading score that is sure."""
    metric = run.metric
    if metric in DECIDING:
        return []  # it has no labels to go by: `distances` says all that there is
    lost = [one.variant for one in judged if one.figure == metric and one.kind == "worse"]
    return [accuracy_change(run, run.baseline, name) for name in lost]


def _along(
    run: Run, comparisons: Sequence[Comparison], divide: bool, progress: ProgressDisplay
) -> tuple[list[Along], list[str]]:
    """Lost scores by the stages of the model, and why some are not divided that were asked for."""
    divided, reasons = [], []
    if not divide and not any(divides(profile) for profile, _ in recorded(run)):
        return [], []  # to plan it is to write files
    for number, comparison in enumerate(comparisons, 1):
        plan = plan_along(comparison, number)
        if plan is None:
            continue
        try:
            if isinstance(plan, Impossible):
                raise QprofError(plan.reason)
            known = kept(run, plan.verification)
            measured = carry_out(run, plan.verification, progress) if divide else known[-1] if known else None
            rows = None if measured is None else along(plan, measured)
        except QprofError as error:
            reasons += [f"what {comparison.variant} lost is not divided along the model: {error}"] * divide
            continue
        if rows is not None:
            divided.append(rows)
    return divided, reasons


def _comparisons(run: Run) -> list[Comparison]:
    """Every variant that was measured against the baseline, in every phase."""
    if run.manifest.baseline.failed:
        return []
    entries = [entry for entry in run.variants[1:] if not entry.failed]
    return [Comparison(run, run.baseline, entry.name, phase.name) for entry in entries for phase in run.phases()]


def _claims(comparisons: Sequence[Comparison]) -> list[Claim]:
    """What several comparisons say alike, of the baseline for one, is claimed once."""
    claims: dict[tuple[str, str], Claim] = {}
    for comparison in comparisons:
        for cause in all_causes():
            for hypothesis in cause.hypotheses(comparison):
                claims.setdefault((cause.name, hypothesis.claim), Claim(comparison, hypothesis))
    return list(claims.values())


#: Findings in the order in which they are told.
_RANK = {"confirmed": 0, "partial": 1, "consistent": 2, "inconclusive": 3, "hypothesis": 4, "refuted": 5}


def _explained(comparison: Comparison, found: Sequence[tuple[Claim, Finding]]) -> ComparisonFindings:
    """All of one comparison: the confirmed first, then by the size of what they account for."""

    def order(finding: Finding) -> tuple[int, float]:
        effect = finding.hypothesis.effect
        return _RANK[finding.status], -abs(effect.value) if effect else 0.0

    own = [finding for claim, finding in found if claim.comparison is comparison and not finding.hypothesis.remark]
    return ComparisonFindings(
        baseline=comparison.baseline,
        variant=comparison.variant,
        phase=comparison.phase,
        difference_us=comparison.latency.difference if comparison.latency else None,
        findings=tuple(sorted(own, key=order)),
        unexplained=tuple(_unexplained(comparison, own)),
        decomposition=_decomposed(comparison, own),
        sameness=sameness(comparison),
    )


def _decomposed(comparison: Comparison, own: Sequence[Finding]) -> Decomposition | None:
    """With what the host is known to have taken: of several findings that say so, the largest."""
    found = comparison.decomposition
    taken = [
        finding.hypothesis.effect
        for finding in own
        if finding.hypothesis.mechanism == "outside" and finding.status == "consistent" and finding.hypothesis.effect
    ]
    if found is None or not taken:
        return found
    parted = with_outside(found, max(taken, key=lambda effect: abs(effect.value)))
    return with_sentences(parted, comparison.settings, comparison.same_file)


def _unexplained(comparison: Comparison, own: Sequence[Finding]) -> Iterator[Unexplained]:
    """Of the latency, and of the score that was lost; competing claims are settled before (`judgement`)."""
    confirmed = [finding for finding in own if finding.status == "confirmed" and finding.hypothesis.effect is not None]
    if comparison.latency is not None:
        parts = [f.hypothesis.effect.value for f in confirmed if f.hypothesis.figure == LATENCY and f.hypothesis.effect]
        yield Unexplained(LATENCY, "us", comparison.latency.difference.value, math.fsum(parts))
    scores: dict[str, list[Finding]] = {}
    for finding in own:
        if finding.hypothesis.figure != LATENCY and finding.hypothesis.effect is not None:
            scores.setdefault(finding.hypothesis.figure, []).append(finding)
    for figure, about in scores.items():
        back = [f.measured.value for f in about if f.status in ("confirmed", "partial") and f.measured is not None]
        effect = about[0].hypothesis.effect
        assert effect is not None  # as chosen above
        # What several interventions give back may be the same points: the largest counts, not their sum.
        yield Unexplained(figure, "1", effect.value, -max(back, default=0.0))


def default_limits(candidates: Sequence[Candidate]) -> Limits:
    """Where nothing is asked for: a little of the leading score, and nothing where no variant has one."""
    scored = [candidate.score_name for candidate in candidates if candidate.score_drop is not None]
    return Limits(score_drop=DISTANCE_DROPS.get(scored[0], DEFAULT_SCORE_DROP) if scored else None)


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
        score_name=metric if metric in DECIDING or metric in LOWER_IS_BETTER else "accuracy",
        random_inputs=metric in DECIDING and on_random_inputs(run.variant(summary.name)),
        score_drop=score_drop(metric, base, score),
        most_drop=most_drop(metric, drop.change) if drop and drop.change else None,
        latency_us=sum(time.value * count for time, count in known) if whole else None,
        most_latency_us=sum(high * count for high, count in upper if high is not None)
        if whole and all(high is not None for high, _ in upper)
        else None,
        size_bytes=summary.file_bytes,
        energy_j=energy[0] if energy else None,
        energy_source=energy[1] if energy else None,
        peak_memory_bytes=summary.peak_memory_bytes,
    )


def _energies(run: Run, table: EnergyTable) -> dict[str, tuple[float, str]]:
    """variant -> joules of a request and their provenance, from the best source that knows every phase; a model of
    what is drawn at all times tells nothing that the latency does not."""
    rows = table.rows
    phases = {phase.name: phase.steps for phase in run.phases()}
    found: dict[str, tuple[float, str]] = {}
    for provenance in COMPARED_SOURCES:
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

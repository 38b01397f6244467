"""The figures of every variant, and the tables of them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from qprof.findings.choice import Candidate
from qprof.findings.energy import EnergyTable
from qprof.findings.explanation import Explanation
from qprof.findings.summary import VariantSummary
from qprof.record.distances import DECIDING
from qprof.report.energy import energy_report
from qprof.report.explain import beaten_text, verdict_table
from qprof.report.page.data import Variant
from qprof.report.page.data_tables import Amount, Grid
from qprof.report.page.sections.amounts import amount, finite, with_bounds
from qprof.report.page.sections.commands import Commands
from qprof.report.page.sections.grids import grid
from qprof.report.ratio import change_text
from qprof.report.scores import scores_table
from qprof.report.summary import summary_table
from qprof.report.units import duration
from qprof.report.units import energy as energy_text
from qprof.store.run import Run


def variants(
    run: Run, explanation: Explanation, summaries: Sequence[VariantSummary], energy: EnergyTable
) -> Iterator[Variant]:
    """In the run's order, those that failed too."""
    candidates = {one.variant: one for one in explanation.candidates}
    for summary in summaries:
        yield _variant(run, explanation, summary, candidates.get(summary.name), energy)


def _variant(
    run: Run, explanation: Explanation, summary: VariantSummary, candidate: Candidate | None, energy: EnergyTable
) -> Variant:
    name = summary.name
    changes = [one for one in explanation.verdicts if one.variant == name and one.figure == run.metric]
    beaten = explanation.dominated.get(name)
    times = {phase.name: amount(phase.latency_us, with_bounds(duration)) for phase in summary.phases}
    known = {phase: time for phase, time in times.items() if time is not None}
    scored = {row.metric: row.value for row in run.scores if row.sample is None and row.variant == name}
    return Variant(
        name=name,
        failed=summary.reasons.get("status"),
        score=None if candidate is None else finite(candidate.score),
        score_change=amount(changes[0].change, lambda found: change_text(found, changes[0].relative) or "")
        if changes
        else None,
        latency_us=next(iter(known.values()), None) if len(known) < 2 else _request(candidate),
        phases_us=known,
        size_bytes=summary.file_bytes,
        memory_bytes=summary.peak_memory_bytes,
        energy_j=_energy(name, candidate, energy),
        energy_source=candidate.energy_source if candidate else None,
        on_front=candidate is not None and beaten is None,
        beaten=None if beaten is None else beaten_text(beaten),
        scores={metric: value for metric, value in scored.items() if value is not None and finite(value) is not None},
    )


def _request(candidate: Candidate | None) -> Amount | None:
    """A whole request, which several phases make up; its bounds are not known."""
    if candidate is None or candidate.latency_us is None:
        return None
    return Amount(value=candidate.latency_us, text=f"{duration(candidate.latency_us)} a request")


def _energy(name: str, candidate: Candidate | None, energy: EnergyTable) -> Amount | None:
    if candidate is None or candidate.energy_j is None:
        return None
    rows = [row for row in energy.rows if (row.variant, row.provenance) == (name, candidate.energy_source)]
    low = rows[0].gross.low if len(rows) == 1 else None
    high = rows[0].gross.high if len(rows) == 1 else None
    return Amount(value=candidate.energy_j, low=low, high=high, text=energy_text(candidate.energy_j * 1e3))


def score_name(run: Run) -> str:
    """What the leading score is called on an axis."""
    metric = run.metric
    return "" if metric is None else DECIDING.get(metric, metric) if isinstance(DECIDING, dict) else metric


#: Scores that a table shows at once, where there are times of several phases beside them.
_SCORES = 2


def _narrow(found: Grid, phases: int) -> Grid:
    """With several phases, scores beyond the first ones and speeds, which say what times say, are folded away."""
    if phases < 2:
        return found
    scores = [column.key for column in found.columns if column.key.startswith("score.")]
    folded = {*scores[_SCORES:], *(f"speed.{n}" for n in range(phases))}
    columns = [replace(one, minor=True) if one.key in folded else one for one in found.columns]
    return replace(found, columns=columns)


def tables(
    run: Run,
    explanation: Explanation,
    summaries: Sequence[VariantSummary],
    energy: EnergyTable,
    commands: Commands,
) -> dict[str, Grid]:
    """What `show`, `explain` and `energy` print above everything."""
    found = {
        "summary": _narrow(grid(summary_table(run, summaries), commands.of("show")), len(run.phases())),
        "verdicts": grid(verdict_table(explanation), commands.of("explain")),
        "energy": grid(energy_report(run, energy), commands.of("energy")),
    }
    if run.scores:
        found["scores"] = grid(scores_table(run), commands.of("show", "--scores"))
    return found

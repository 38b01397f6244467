"""From a run and its findings to the data of its report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

import qprof
from qprof.findings.energy import COMPARED_SOURCES, EnergyTable, energy_table
from qprof.findings.explanation import Explanation, explain
from qprof.findings.summary import summarize
from qprof.report.page.data import REPORT_VERSION, Audit, Report, RunReport
from qprof.report.page.sections.about import about
from qprof.report.page.sections.across import across
from qprof.report.page.sections.answer import alarms, answer
from qprof.report.page.sections.causes import cause_card
from qprof.report.page.sections.commands import Commands
from qprof.report.page.sections.examples import curves, examples
from qprof.report.page.sections.flames import flames
from qprof.report.page.sections.latencies import distributions
from qprof.report.page.sections.lost import lost
from qprof.report.page.sections.machine import layer_costs, rooflines
from qprof.report.page.sections.pairs import pairs
from qprof.report.page.sections.power import power
from qprof.report.page.sections.variants import score_name, tables, variants
from qprof.report.terminal import printable
from qprof.store.run import Run


def build(run: Run, explanation: Explanation | None = None, reference: str | None = None) -> Report:
    """The report of one run. `explanation`: its own, where the caller has it already; `reference`: how commands are
    to name the run. Raises `StoreError` for a run that cannot be read.
    """
    found = run_report(run, explanation or explain(run), reference or run.name)
    return clean(Report(report_version=REPORT_VERSION, qprof=qprof.__version__, title=run.name, runs=[found]))


def build_across(runs: Sequence[Run], references: Sequence[str]) -> Report:
    """The report of several runs, each later one beside the first. `references`: as in `build`, one for each. Raises
    `StoreError` for a run that cannot be read."""
    found = [run_report(run, explain(run), reference) for run, reference in zip(runs, references, strict=True)]
    title = " · ".join(run.name for run in runs)
    beside = across(runs, found)
    return clean(Report(report_version=REPORT_VERSION, qprof=qprof.__version__, title=title, runs=found, across=beside))


def run_report(run: Run, explanation: Explanation, reference: str) -> RunReport:
    """All that is shown of one run."""
    summaries, energy = summarize(run), energy_table(run)
    commands = Commands(reference)
    manifest = run.manifest
    machine, versions, protocol = about(run)
    samples, why_no_samples = examples(run)
    return RunReport(
        name=run.name,
        reference=reference,
        created=manifest.created,
        status=manifest.status,
        description=manifest.description,
        baseline=run.baseline,
        metric=run.metric,
        score_name=score_name(run),
        phases=[phase.name for phase in run.phases()],
        answer=answer(explanation, commands),
        alarms=list(alarms(run, explanation)),
        variants=list(variants(run, explanation, summaries, energy)),
        tables=tables(run, explanation, summaries, energy, commands),
        pairs=list(pairs(run, explanation, _watts(energy), commands)),
        lost=list(lost(explanation)),
        distributions=list(distributions(run)),
        rooflines=list(rooflines(run, commands)),
        layers=list(layer_costs(run, commands)),
        power=list(power(run)),
        flames=list(flames(run, commands)),
        curves=list(curves(run)),
        examples=samples,
        examples_note=why_no_samples,
        remarks=[cause_card(one, commands) for one in explanation.remarks],
        audits=[Audit(name=one.name, passed=one.passed, says=one.says) for one in explanation.audits],
        machine=machine,
        versions=versions,
        protocol=protocol,
        notes=[*manifest.notes, *explanation.notes],
    )


def _watts(energy: EnergyTable) -> dict[str, float]:
    """What each variant draws, by the best sensor that tells variants apart."""
    found: dict[str, float] = {}
    for provenance in COMPARED_SOURCES:
        for row in energy.rows:
            if row.provenance == provenance and row.power.value is not None:
                found.setdefault(row.variant, row.power.value)
    return found


def clean(report: Report) -> Report:
    """Names come from models and data sets: what could move, hide or reorder text is shown escaped."""
    return msgspec.convert(_cleaned(msgspec.to_builtins(report)), Report)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.startswith("data:image/") else "\n".join(printable(line) for line in value.split("\n"))
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return value

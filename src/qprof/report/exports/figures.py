"""The tables that Markdown and LaTeX show, and the figures of a run under names that trackers take."""

from __future__ import annotations

from collections.abc import Iterator

from qprof.errors import StoreError
from qprof.findings.difference import differ
from qprof.findings.summary import VariantSummary, summarize
from qprof.report.difference import difference_table
from qprof.report.exports.base import Wanted, chosen
from qprof.report.summary import summary_table
from qprof.report.table import Table
from qprof.store.run import Run


def tables(run: Run, wanted: Wanted) -> Iterator[tuple[str, Table]]:
    """Name and table: the summary of the variants, and for each against the first where its latency went by op."""
    names = chosen(run, wanted)
    yield "summary", summary_table(run, [one for one in summarize(run) if one.name in names or not wanted.variants])
    for name in names[1:]:
        try:
            table = differ(run, names[0], name, wanted.phase)
        except StoreError:
            if wanted.variants:
                raise
            continue  # its ops were not timed: the summary's notes say why
        yield f"difference-{names[0]}-{name}", difference_table(table, phase=run.phase(wanted.phase))


def flat_figures(summary: VariantSummary) -> dict[str, float]:
    """Name with its unit -> value: scores, latencies with bounds, speeds, sizes; what is not known is left out."""
    found: dict[str, float | None] = {f"score/{name}": value for name, value in summary.scores.items()}
    for phase in summary.phases:
        where = f"{phase.name}/" if len(summary.phases) > 1 else ""
        if phase.latency_us is not None:
            found[f"{where}latency_p50_us"] = phase.latency_us.value
            found[f"{where}latency_p50_us_low"] = phase.latency_us.low
            found[f"{where}latency_p50_us_high"] = phase.latency_us.high
        if phase.tokens_per_s is not None:
            found[f"{where}tokens_per_s"] = phase.tokens_per_s.value
    found["file_bytes"] = summary.file_bytes
    found["peak_memory_bytes"] = summary.peak_memory_bytes
    return {name: float(value) for name, value in found.items() if value is not None}

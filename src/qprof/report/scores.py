"""The table of everything that a run's variants were scored on: metrics down, variants across."""

from __future__ import annotations

from qprof.report.table import Column, Table
from qprof.store.run import Run

#: From here on a score is shown in powers of ten: a collapsed model's perplexity has no use for decimals.
_LARGE = 10_000


def score_text(value: float | None) -> str | None:
    """A score as tables show it; `None` where it is undefined."""
    if value is None:
        return None
    return f"{value:.3f}" if abs(value) < _LARGE else f"{value:.2e}"


def scores_table(run: Run) -> Table:
    """One row per metric, those that lead the run's table first; a dash where a metric is undefined."""
    names = [entry.name for entry in run.variants]
    whole = {(row.metric, row.variant): row.value for row in run.scores if row.sample is None}
    metrics = list(dict.fromkeys([*run.manifest.score_columns, *(metric for metric, _ in whole)]))
    rows = [
        {"metric": metric, **{f"v{i}": score_text(whole.get((metric, name))) for i, name in enumerate(names)}}
        for metric in metrics
    ]
    columns = [Column("metric", "metric", align="left"), *(Column(name, f"v{i}") for i, name in enumerate(names))]
    notes = [] if rows else ["nothing was scored: the run's task has no labels, or the run is not finished"]
    return Table(columns, rows, title=f"{run.name}: scores", notes=notes)

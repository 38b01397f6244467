"""The table of everything that a run's variants were scored on: metrics down, variants across."""

from __future__ import annotations

from collections.abc import Mapping

from qprof.record.distances import CLOSENESS, SQNR
from qprof.report.table import Column, Table
from qprof.store.run import Run

#: From here on a score is shown in powers of ten: a collapsed model's perplexity has no use for decimals.
_LARGE = 10_000
#: Digits behind the point, at most: what is less than 1 does not look like 1.
_MOST_DIGITS = 6


def score_text(value: float | None) -> str | None:
    """A score as tables show it; `None` where it is undefined."""
    if value is None:
        return None
    if 0.9 < value < 1.0:
        fitting = (text for digits in range(3, _MOST_DIGITS) if float(text := f"{value:.{digits}f}") < 1.0)
        return next(fitting, ">0.99999")
    return f"{value:.3f}" if abs(value) < _LARGE else f"{value:.2e}"


def cell_text(metric: str, scores: Mapping[str, float | None]) -> str | None:
    """One of a variant's scores: a signal-to-noise ratio in dB with one digit, "exact" where there is no noise."""
    value = scores.get(metric)
    if metric != SQNR:
        return score_text(value)
    if value is None:
        return "exact" if scores.get(CLOSENESS) == 1.0 else None
    return f"{value:.1f}"


def scores_table(run: Run) -> Table:
    """One row per metric, those that lead the run's table first; a dash where a metric is undefined."""
    names = [entry.name for entry in run.variants]
    whole = {(row.metric, row.variant): row.value for row in run.whole_scores}
    metrics = list(dict.fromkeys([*run.manifest.score_columns, *(metric for metric, _ in whole)]))
    by_variant = [{metric: whole.get((metric, name)) for metric in metrics} for name in names]
    rows = [
        {"metric": metric, **{f"v{i}": cell_text(metric, found) for i, found in enumerate(by_variant)}}
        for metric in metrics
    ]
    columns = [Column("metric", "metric", align="left"), *(Column(name, f"v{i}") for i, name in enumerate(names))]
    notes = [] if rows else ["nothing was scored: the run is not finished, or protocol.scored is off"]
    return Table(columns, rows, title=f"{run.name}: scores", notes=notes)

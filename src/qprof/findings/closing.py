"""`difference_table.difference` for two variants of a run: match their ops, build the table that closes."""

from __future__ import annotations

import math
from dataclasses import replace

from qprof.findings.difference_table import DifferenceTable, MeasuredVariant, difference
from qprof.findings.latency import figure_level, latency_margin
from qprof.findings.measured import measured_variant
from qprof.runtimes.match_ops import OpMatch, match_ops
from qprof.runtimes.op_families import family
from qprof.store.run import Run


def closing_table(run: Run, a: str, b: str, phase: str | None = None) -> DifferenceTable:
    """Where the latency difference from `a` to `b` went, in a phase (by default the run's first).

    Raises `StoreError` where the ops of one were not timed.
    """
    first, second = measured_variant(run, a, phase), measured_variant(run, b, phase)
    return closing_table_of(run, first, second, match_ops(first.ops, second.ops))


def closing_table_of(run: Run, first: MeasuredVariant, second: MeasuredVariant, match: OpMatch) -> DifferenceTable:
    """The same of two variants of the run that are loaded and matched already.

    Of two runtimes, what a delegate, a type or a kernel is called is another word and no change.
    """
    runtimes = (str(run.variant(first.name).runtime), str(run.variant(second.name).runtime))
    level, margin = figure_level(run, first.name, second.name), math.log1p(latency_margin(run))
    if runtimes[0] == runtimes[1]:
        return difference(first, second, match, method="expanded", end_level=level, margin=margin)
    table = difference(first, second, match, method="expanded", end_level=level, margin=margin, type_of=family)
    rows = tuple(replace(row, flags=("another runtime",) if row.kind == "matched" else ()) for row in table.rows)
    return replace(table, rows=rows, across=runtimes)

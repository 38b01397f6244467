"""Where the latency difference between two variants of a run went, and what is to be said of it."""

from __future__ import annotations

from dataclasses import replace

from qprof.findings.closing import closing_table
from qprof.findings.difference_table import DifferenceTable
from qprof.findings.doubts import withholding
from qprof.store.run import Run


def differ(run: Run, a: str, b: str, phase: str | None = None) -> DifferenceTable:
    """Where the latency difference from `a` to `b` went, in a phase (by default the run's first).

    Its verdict is that of every command: withheld where the machine was disturbed too much for any. Raises
    `StoreError` where the ops of one were not timed.
    """
    table = closing_table(run, a, b, phase)
    return replace(table, verdict="withheld") if withholding(run, a, b) else table

"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qprof.findings.summary import VariantSummary
    from qprof.store.run import Run

RUN_HELP = "run directory, the beginning of its name, a profile's name for its latest run, or 'latest' (the default)"


def count(text: str) -> int:
    """The argument of --top: 1 or more."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def add_phase_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--phase", help="of a language model: prefill (the default) or decode")


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="RUN", nargs="?", default="latest", help=RUN_HELP)


def print_summary(run: Run, summaries: Sequence[VariantSummary]) -> None:
    """A run's table; above it what breaks its scores, and what speaks against its latencies."""
    import sys

    from qprof.findings.plausibility import plausibility
    from qprof.report.plausibility import plausibility_lines
    from qprof.report.summary import summary_table
    from qprof.report.table import print_table
    from qprof.report.terminal import print_lines

    # Scores of a broken baseline say nothing of quantization: they are not shown without what mends them.
    print_lines(plausibility_lines(run.baseline, plausibility(run)), sys.stdout)
    print_doubts(run)
    print_table(summary_table(run, summaries), sys.stdout)


def print_doubts(run: Run) -> None:
    """What speaks against a run's latencies, and against how near the outputs of its variants are."""
    import sys

    from qprof.findings.distance import output_distances
    from qprof.findings.doubts import doubts
    from qprof.report.distance import random_line
    from qprof.report.doubts import doubt_lines
    from qprof.report.terminal import print_lines

    random = random_line(output_distances(run))
    doubtful = [*doubt_lines(doubts(run)), *([random] if random else [])]
    print_lines([*doubtful, ""] if doubtful else [], sys.stdout)

"""show a run: accuracy, latency, size and memory of every variant"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qprof.cli.common import add_run_argument, print_summary

if TYPE_CHECKING:
    from qprof.store.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument("--scores", action="store_true", help="everything that the variants were scored on")
    parser.add_argument("--confusion", metavar="VARIANT", help="what a variant of a classifier takes for what")
    parser.add_argument("--flips", metavar="VARIANT", help="samples that a variant answers otherwise than the baseline")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.findings.summary import summarize
    from qprof.report.export import write_json
    from qprof.report.scores import scores_table
    from qprof.report.table import print_table
    from qprof.store.run import Run, find_run

    found = Run(find_run(options.reference))
    if options.confusion:
        return _confusion(found, options.confusion, options.json)
    if options.flips:
        return _flips(found, options.flips, options.json)
    if options.scores:
        write_json(sys.stdout, found.scores) if options.json else print_table(scores_table(found), sys.stdout)
        return 0
    summaries = summarize(found)
    if options.json:
        write_json(sys.stdout, summaries)
    else:
        print_summary(found, summaries)
    return 0


def _confusion(run: Run, variant: str, as_json: bool) -> int:
    import sys

    from qprof.findings.confusion import confusion
    from qprof.report.confusion import confusion_table
    from qprof.report.export import write_json
    from qprof.report.table import print_table

    found = confusion(run, variant)
    write_json(sys.stdout, found) if as_json else print_table(confusion_table(run, variant, found), sys.stdout)
    return 0


def _flips(run: Run, variant: str, as_json: bool) -> int:
    import sys

    from qprof.findings.confusion import flips
    from qprof.report.confusion import flips_table
    from qprof.report.export import write_json
    from qprof.report.table import print_table

    change = flips(run, variant)
    write_json(sys.stdout, change) if as_json else print_table(flips_table(run, change), sys.stdout)
    return 0

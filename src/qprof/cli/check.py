"""fail where a run breaks its limits, or is worse than another run

For CI. With limits: every variant but the baseline (or --variant) must keep them. With --against: it must be no slower
and no less accurate than the same variant of that run, by more than the margins. Exit code 1 where a check fails.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qprof.cli.common import add_run_argument
from qprof.cli.quantity import add_limit_arguments, limits_of, quantity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument("-v", "--variant", action="append", default=[], help="variant to check (may be repeated)")
    parser.add_argument("--against", metavar="RUN", help="the run that is the standard")
    parser.add_argument("--latency-margin", default="5%", metavar="N", help="of --against (default: 5%%)")
    parser.add_argument("--accuracy-margin", default="0.5pt", metavar="N", help="of --against (default: 0.5pt)")
    add_limit_arguments(parser)
    parser.add_argument("--strict", action="store_true", help="fail also where the interval passes a limit")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the checks as JUnit XML")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the checks as a Markdown table")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.errors import QprofError
    from qprof.findings.check import check_against, check_limits, unlike
    from qprof.report.check import check_table, junit_xml, markdown, unlike_lines
    from qprof.report.table import print_table
    from qprof.report.terminal import print_lines
    from qprof.store.files import write_text
    from qprof.store.run import Run, find_run

    found = Run(find_run(options.reference))
    limits = limits_of(options)
    if limits is None and not options.against:
        raise QprofError("nothing to check: give a limit, such as --max-p50 5ms, or a run with --against")
    names = options.variant or [entry.name for entry in found.variants[1:]] or [found.baseline]
    checks = check_limits(found, limits, names) if limits else []
    if options.against:
        latency = quantity(options.latency_margin, {"%": 0.01}, "5%")
        score = quantity(options.accuracy_margin, {"pt": 0.01, "": 1.0}, "0.5pt")
        standard = Run(find_run(options.against))
        checks += check_against(found, standard, names, latency, score)
        print_lines(unlike_lines(*unlike(found, standard, names)), sys.stdout)
    if options.junit:
        write_text(options.junit, junit_xml(checks, found.name))
    if options.markdown:
        write_text(options.markdown, markdown(checks))
    print_table(check_table(checks), sys.stdout)
    failing = ("failed", "doubtful") if options.strict else ("failed",)
    return int(any(check.outcome in failing for check in checks))

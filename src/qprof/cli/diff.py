"""show where the latency difference between two variants went

The table closes: the ops that both have, the inserted, the removed and what no op accounts for add up to the
difference end to end.
"""

from __future__ import annotations

import argparse

from qprof.cli.common import RUN_HELP, add_phase_argument, count, print_doubts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="+", metavar="[RUN] A B", help=f"{RUN_HELP}; then two variants")
    add_phase_argument(parser)
    parser.add_argument("--by", choices=["op", "type"], default="op", help="one row per op, or per op type")
    parser.add_argument("--top", type=count, metavar="N", help="only the N largest differences; the others in one row")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.errors import QprofError
    from qprof.findings.difference import differ
    from qprof.findings.distance import output_distances
    from qprof.report.difference import difference_table
    from qprof.report.distance import distance_lines
    from qprof.report.export import write_json
    from qprof.report.table import print_table
    from qprof.report.terminal import print_lines
    from qprof.store.run import Run, find_run

    if len(options.words) not in (2, 3):
        raise QprofError("qprof diff takes [RUN] and two variants, such as: qprof diff latest float32 int8")
    reference = options.words[0] if len(options.words) == 3 else "latest"
    found = Run(find_run(reference))
    a, b = options.words[-2:]
    table = differ(found, a, b, options.phase)
    if options.json:
        write_json(sys.stdout, table)
    else:
        print_doubts(found)
        print_table(difference_table(table, options.by, options.top, found.phase(options.phase)), sys.stdout)
        of_b = [one for one in output_distances(found) if (one.baseline, one.variant) in ((a, b), (b, a))]
        print_lines(["", *distance_lines(of_b)] if of_b else [], sys.stdout)
    return 0

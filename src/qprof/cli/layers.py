"""show the time of every op of one variant

Times are medians of the profiled blocks with 95 % intervals; the share is of the profiled end-to-end time.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qprof.cli.common import add_phase_argument, add_run_argument, count

if TYPE_CHECKING:
    from qprof.store.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument("-v", "--variant", help="variant to show (default: the baseline)")
    add_phase_argument(parser)
    parser.add_argument("--by", choices=["op", "type", "delegate", "kernel"], default="op", help="one row per ...")
    parser.add_argument(
        "--sort",
        choices=["order", "time", "share", "macs", "gflops", "bytes"],
        help="default: order, or time with --by",
    )
    parser.add_argument("--filter", metavar="TEXT", help="only rows whose op, type, kernel or delegate contain TEXT")
    parser.add_argument("--top", type=count, metavar="N", help="only the first N rows")
    parser.add_argument(
        "--errors",
        action="store_true",
        help="what quantization costs each op beside its time: its error, what binds it, bytes, energy",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.findings.layers import layers
    from qprof.report.export import write_json
    from qprof.report.layers import layers_table, selected
    from qprof.report.table import print_table
    from qprof.store.run import Run, find_run

    found = Run(find_run(options.reference))
    variant = options.variant or found.baseline
    if options.errors:
        return _errors(found, variant, options)
    table = layers(found, variant, options.by, options.phase)
    sort = options.sort or ("order" if options.by == "op" else "time")
    rows = selected(table, sort=sort, text=options.filter, top=options.top)
    if options.json:
        write_json(sys.stdout, rows)
    else:
        print_table(layers_table(table, rows, options.by), sys.stdout)
    return 0


def _errors(run: Run, variant: str, options: argparse.Namespace) -> int:
    import sys
    from dataclasses import asdict

    from qprof.errors import QprofError
    from qprof.findings.binding import binding
    from qprof.findings.comparison import Comparison
    from qprof.findings.mixed_precision import layer_rows
    from qprof.report.export import write_json
    from qprof.report.layer_costs import layer_costs_table
    from qprof.report.table import print_table

    if options.by != "op" or options.sort or options.filter or options.phase not in (None, run.phase()):
        raise QprofError(
            "--errors goes with --top and --json alone: one row per op of the first phase, the worst first"
        )
    rows = layer_rows(run, variant)
    bound = binding(Comparison(run, run.baseline, variant, run.phase()))
    bounds = {} if bound is None else {row.op.op: row for row in bound.rows}
    if options.json:
        write_json(
            sys.stdout, [{**asdict(row), "bound": bounds[row.op].bound if row.op in bounds else None} for row in rows]
        )
    else:
        print_table(layer_costs_table(rows, bounds, variant, options.top), sys.stdout)
    return 0

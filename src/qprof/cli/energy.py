"""show the energy of every variant: joules per inference, by which sensor, and against the baseline

Measured, estimated and modelled figures are never added. A figure that the readings do not bear is refused, and a note
says why. --trace draws what a variant's energy blocks drew over time.
"""

from __future__ import annotations

import argparse

from qprof.cli.common import add_run_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument("--trace", metavar="VARIANT", help="power over time in each of this variant's energy blocks")
    parser.add_argument("--phase", help="of a language model: prefill or decode (default: both)")
    parser.add_argument("--json", action="store_true", help="print the figures, or with --trace the points, as JSON")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.findings.energy import energy_table, power_traces
    from qprof.report.energy import energy_report
    from qprof.report.export import write_json
    from qprof.report.power import power_charts
    from qprof.report.table import output_width, print_table
    from qprof.report.terminal import ascii_only
    from qprof.store.run import Run, find_run

    found = Run(find_run(options.reference))
    if options.trace is not None:
        traces = power_traces(found, options.trace, options.phase)
        if options.json:
            write_json(sys.stdout, traces)
        else:
            print(power_charts(traces, output_width(sys.stdout), ascii_only(sys.stdout)))
        return 0
    table = energy_table(found, options.phase)
    if options.json:
        write_json(sys.stdout, table)
    else:
        print_table(energy_report(found, table), sys.stdout)
    return 0

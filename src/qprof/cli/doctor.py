"""show which sensors, runtimes and kernels this machine has, and what would enable the others"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.measure.doctor import diagnose
    from qprof.report.doctor import doctor_table
    from qprof.report.export import write_json
    from qprof.report.table import print_table

    findings = diagnose()
    if options.json:
        write_json(sys.stdout, findings)
    else:
        print_table(doctor_table(findings), sys.stdout)
    return 0

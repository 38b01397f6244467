"""export a run to CSV or JSON files

Writes summary, layers (one row per op and variant), samples (one per inference), scores, outputs (one per output and
input) and readings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qprof.cli.common import add_run_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument("--format", choices=["csv", "json"], default="csv")
    parser.add_argument("-o", "--output", type=Path, help="folder to write into (default: RUN/export)")
    parser.add_argument("--only", help="comma-separated: summary,layers,samples,scores,outputs,readings")


def run(options: argparse.Namespace) -> int:
    from qprof.report.run_export import export_run
    from qprof.store.run import Run, find_run

    found = Run(find_run(options.reference))
    folder = options.output or found.folder / "export"
    wanted = options.only.split(",") if options.only else None
    for path in export_run(found, folder, options.format, wanted):
        print(path)
    return 0

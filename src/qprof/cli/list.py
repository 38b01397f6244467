"""list the runs in the runs folder, newest first"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=Path, help="runs folder (default: $QPROF_RUNS, else ./runs)")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.report.runs import runs_table
    from qprof.report.table import print_table
    from qprof.store.run import list_runs, runs_folder

    folder = options.folder or runs_folder()
    print_table(runs_table(folder, list_runs(folder)), sys.stdout)
    return 0

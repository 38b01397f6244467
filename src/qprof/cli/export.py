"""export a run to files that other tools open

csv and json write the run's tables: summary, layers (one row per op and variant), samples (one per inference), scores,
outputs (one per output and input) and readings. The other forms are those of the tools that open them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qprof.cli.common import add_phase_argument, add_run_argument, count

_TABLES = ("csv", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from qprof.report.exports.base import names

    add_run_argument(parser)
    forms = [*_TABLES, *names()]
    parser.add_argument(
        "--format", choices=forms, default="csv", metavar="FORM", help=f"{', '.join(forms)} (default: csv)"
    )
    parser.add_argument("-o", "--output", type=Path, help="folder to write into (default: RUN/export)")
    parser.add_argument(
        "--only", help="of csv and json, comma-separated: summary,layers,samples,scores,outputs,readings"
    )
    parser.add_argument("-v", "--variants", nargs="+", metavar="V", help="of other forms: these variants, A before B")
    parser.add_argument("--rounds", type=count, metavar="N", help="of traces: so many rounds (default: what fits)")
    add_phase_argument(parser)


def run(options: argparse.Namespace) -> int:
    from qprof.errors import QprofError
    from qprof.report.exports.base import Wanted, get
    from qprof.report.run_export import export_run
    from qprof.store.files import make_folder
    from qprof.store.run import Run, find_run

    found = Run(find_run(options.reference))
    folder = options.output or found.folder / "export"
    if options.format in _TABLES:
        if options.variants or options.rounds or options.phase:
            raise QprofError(
                f"--format {options.format} writes whole tables: leave out --variants, --rounds and --phase"
            )
        paths = export_run(found, folder, options.format, options.only.split(",") if options.only else None)
    else:
        if options.only:
            raise QprofError(f"--only names tables of csv and json; --format {options.format} has none")
        form = get(options.format)
        make_folder(folder)
        paths = form.write(found, folder, Wanted(options.variants or (), options.phase, options.rounds))
    for path in paths:
        print(path)
    return 0

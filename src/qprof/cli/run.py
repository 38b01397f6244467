"""measure variants of a model side by side

With no argument: the quickstart, on a model and data that come with qprof. With a profile (a .toml file, or the name of
one that qprof ships): that experiment. With model files: their latency, op by op, with no profile at all; a single
file with --variants is quantized into these first.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", nargs="*", metavar="PROFILE|MODEL", help="one profile, or model files to compare")
    parser.add_argument("--variants", default="", help="variants to make of one model file: float32,int8-dynamic,int8")
    parser.add_argument("--inputs", nargs="+", default=[], metavar="FILE", help=".npy or .npz inputs for model files")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key: protocol.rounds=20"
    )
    parser.add_argument("-o", "--output", type=Path, help="run directory to create (default: a new one in runs/)")
    parser.add_argument("--resume", metavar="RUN", help="go on with an interrupted run")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.errors import QprofError
    from qprof.explain.summary import summarize
    from qprof.probes.clock import MonotonicClock
    from qprof.report.progress import make_progress
    from qprof.report.summary import summary_table
    from qprof.report.table import print_table
    from qprof.run.adhoc import profile_for
    from qprof.run.execute import new_run_folder, resume, start
    from qprof.store.run import Run, find_run

    if options.resume and (options.targets or options.variants or options.inputs or options.set or options.output):
        raise QprofError("--resume goes on with a run as it was begun; it takes no model, profile or other option")
    with make_progress(sys.stderr, MonotonicClock(), options.quiet) as progress:
        if options.resume:
            folder = find_run(options.resume)
            resume(folder, progress)
        else:
            names = [name for name in options.variants.split(",") if name]
            profile = profile_for(options.targets, variants=names, inputs=options.inputs, overrides=options.set)
            folder = options.output or new_run_folder(profile)
            start(profile, folder, progress)
    finished = Run(folder)
    print_table(summary_table(finished, summarize(finished)), sys.stdout)
    return 1 if any(entry["status"] != "ok" for entry in finished.variants) else 0

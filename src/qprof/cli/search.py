"""find which layers of a quantized variant are worth leaving in float

Every trial leaves other layers in float, makes the model, and measures it: accuracy on one half of the samples, and
latency or size. The best of them are told of by the other half. Each trial is kept as it ends; Ctrl-C loses only the
one in flight, and --resume goes on. What is chosen is written as a profile for `qprof run`, and as a recipe for the
tool that makes such variants.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qprof.findings.search.search import Point, Search
    from qprof.findings.search.trials import SearchFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="PROFILE|MODEL", help="a profile, or a float model")
    parser.add_argument(
        "--method", default="int8", metavar="NAME", help="the variant of the profile, or a method (default: int8)"
    )
    parser.add_argument("--budget", default="5m", metavar="TIME", help="begin no trial beyond this (default: 5m)")
    parser.add_argument(
        "--figure", choices=("latency", "size"), default="latency", help="what layers in float cost (default: latency)"
    )
    parser.add_argument(
        "--max-accuracy-drop", metavar="N", help="good enough: 0.5pt below the baseline (default: a tenth of the loss)"
    )
    parser.add_argument("--score", default="", metavar="NAME", help="score to go by (default: the one that leads)")
    parser.add_argument("--inputs", nargs="+", default=[], metavar="FILE", help="as of qprof run, for a model")
    parser.add_argument("--images", default="", metavar="DATA", help="as of qprof run, for a model")
    parser.add_argument("--labels", default="", metavar="FILE", help="as of qprof run, for a model")
    parser.add_argument("--truth", default="", metavar="FILE", help="as of qprof run, for a model")
    parser.add_argument("--data", default="", metavar="FILE", help="as of qprof run, for a language model")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key: protocol.rounds=20"
    )
    parser.add_argument("-o", "--output", type=Path, help="folder of the search (default: a new one in runs/)")
    parser.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with a search")
    parser.add_argument("--json", action="store_true", help="the outcome, as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(options: argparse.Namespace) -> int:
    import sys
    import time
    from dataclasses import asdict

    from qprof.cli.quantity import quantity
    from qprof.findings.search.outcome import outcome
    from qprof.findings.search.search import Search
    from qprof.probes.clock import MonotonicClock
    from qprof.report.export import write_json
    from qprof.report.progress import make_progress
    from qprof.report.search import outcome_lines, outcome_table, trial_line
    from qprof.report.table import print_table
    from qprof.report.terminal import print_lines

    budget_s = quantity(options.budget, {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}, "5m")
    kept = _kept(options)
    with make_progress(sys.stderr, MonotonicClock(), options.quiet) as progress:

        def tell(search: Search, point: Point) -> None:
            progress.note(trial_line(search, point))

        search = Search(kept, progress, time.monotonic, tell)
        try:
            search.go(budget_s)
        except KeyboardInterrupt:
            progress.note(f"what was tried is kept; go on with qprof search --resume {kept.folder}")
            raise
        found = outcome(search)
    if options.json:
        write_json(sys.stdout, asdict(found))
        return 0
    print_table(outcome_table(found), sys.stdout)
    print_lines(["", *outcome_lines(found)], sys.stdout)
    return 0


def _kept(options: argparse.Namespace) -> SearchFolder:
    """The search that is gone on with, or a new one."""
    from qprof.cli.quantity import quantity
    from qprof.errors import QprofError
    from qprof.findings.search.trials import Asked, SearchFolder, plain
    from qprof.measure.parent.execution import new_run_folder
    from qprof.measure.search_profile import search_profile

    given = (options.target, options.inputs, options.images, options.labels, options.truth, options.data, options.set)
    if options.resume:
        if any((*given, options.output, options.score, options.max_accuracy_drop)):
            raise QprofError("--resume goes on with a search as it was begun; it takes --budget and no other option")
        return SearchFolder.open(options.resume)
    drop = options.max_accuracy_drop
    profile = search_profile(
        options.target or "quickstart",
        options.method,
        inputs=options.inputs,
        images=options.images,
        labels=options.labels,
        truth=options.truth,
        data=options.data,
        overrides=options.set,
    )
    asked = Asked(
        profile=plain(profile),
        variant=profile.variants[1].name,
        figure=options.figure,
        tolerance=None if drop is None else quantity(drop, {"pt": 0.01, "": 1.0}, "1pt"),
        metric=options.score,
    )
    folder = options.output or new_run_folder(profile).with_name(f"{new_run_folder(profile).name}-search")
    return SearchFolder.create(folder, asked)

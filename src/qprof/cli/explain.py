"""say why the variants of a run differ, with evidence, and which one to deploy

Verdicts against the baseline, causes with the interventions that tested them, and the answers: when the trade-off makes
sense, which level is optimal, what to deploy. --verify carries the interventions out, inside the run's folder; they are
kept, and taken from there the next time.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from qprof.cli.common import add_run_argument, count
from qprof.cli.quantity import add_limit_arguments, limits_of

if TYPE_CHECKING:
    from qprof.findings.choice import Limits
    from qprof.findings.explanation import Explanation
    from qprof.measure.parent.spare import SpareWorkers
    from qprof.store.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument("--verify", action="store_true", help="carry out the interventions that test the causes")
    parser.add_argument(
        "--along",
        action="store_true",
        help="also measure in which stages of the model a score is lost, with the baseline's activations up to each",
    )
    parser.add_argument(
        "--float-layers",
        metavar="VARIANT",
        help="instead: leave its 1, 2, 4, ... worst layers in float, and measure each of these models",
    )
    parser.add_argument(
        "--most", type=count, default=8, metavar="N", help="of --float-layers: up to N layers (default: 8)"
    )
    add_limit_arguments(parser)
    parser.add_argument(
        "--remarks", action="store_true", help="also what older metrics, or a timing without warm-up, would show"
    )
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(options: argparse.Namespace) -> int:
    from qprof.store.run import Run, find_run

    limits = limits_of(options)
    found = Run(find_run(options.reference))
    if options.float_layers:
        return _float_layers(found, options)
    print_explanation(
        found,
        verify=options.verify,
        divide=options.along,
        quiet=options.quiet,
        limits=limits,
        as_json=options.json,
        remarks=options.remarks,
    )
    return 0


def _float_layers(run: Run, options: argparse.Namespace) -> int:
    import sys
    from dataclasses import asdict

    from qprof.findings.mixed_precision import float_layer_pareto
    from qprof.probes.clock import MonotonicClock
    from qprof.report.export import write_json
    from qprof.report.layer_costs import float_layers_table
    from qprof.report.progress import make_progress
    from qprof.report.table import print_table

    with make_progress(sys.stderr, MonotonicClock(), options.quiet) as progress:
        rows = float_layer_pareto(run, options.float_layers, progress, options.most)
    if options.json:
        write_json(sys.stdout, [asdict(row) for row in rows])
    else:
        metric = run.metric or "score"
        print_table(float_layers_table(rows, metric), sys.stdout)
    return 0


def _save(run: Run, explanation: Explanation) -> None:
    """Keep an explanation beside its run; where that cannot be written, say so, and print it all the same."""
    import sys

    from qprof.errors import StoreError
    from qprof.findings.explanation import save
    from qprof.report.terminal import printable

    try:
        save(run, explanation)
    except StoreError as error:
        print(printable(f"qprof: the explanation is printed, and not kept: {error}"), file=sys.stderr)


def print_explanation(
    run: Run,
    *,
    verify: bool,
    quiet: bool,
    divide: bool = False,
    limits: Limits | None = None,
    as_json: bool = False,
    remarks: bool = False,
    spare: SpareWorkers | None = None,
) -> Explanation:
    """Explain a run, keep that beside it where the run is finished, print it and return it. `spare`: workers of earlier
    runs."""
    import sys
    from dataclasses import asdict

    from qprof.findings.explanation import explain
    from qprof.probes.clock import MonotonicClock
    from qprof.report.distance import random_line
    from qprof.report.doubts import doubt_lines
    from qprof.report.explain import explanation_lines, verdict_table
    from qprof.report.export import write_json
    from qprof.report.looks import looks_lines
    from qprof.report.plausibility import calibration_lines, plausibility_lines
    from qprof.report.progress import make_progress
    from qprof.report.table import print_table
    from qprof.report.terminal import print_lines

    with make_progress(sys.stderr, MonotonicClock(), quiet) as progress:
        explanation = explain(run, verify=verify, divide=divide, limits=limits, progress=progress, spare=spare)
    if run.complete:
        _save(run, explanation)
    if as_json:
        write_json(sys.stdout, asdict(explanation))
        return explanation
    if not run.complete:
        state = run.manifest.status
        unfinished = f"THIS RUN IS NOT FINISHED ({state}): what follows rests on the part that is measured."
        print_lines([unfinished, f"  go on with qprof run --resume {run.name}", ""], sys.stdout)
    print_lines(plausibility_lines(explanation.baseline, explanation.plausibility), sys.stdout)
    print_lines(calibration_lines(explanation.calibration), sys.stdout)
    random = random_line(explanation.distances)
    doubtful = [*doubt_lines(explanation.doubts), *([random] if random else [])]
    print_lines([*doubtful, ""] if doubtful else [], sys.stdout)
    print_table(verdict_table(explanation), sys.stdout)
    print_lines(looks_lines(run), sys.stdout)
    print_lines(["", *explanation_lines(explanation, remarks=remarks)], sys.stdout)
    return explanation

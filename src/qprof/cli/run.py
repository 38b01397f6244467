"""measure variants of a model side by side

With no argument: the quickstart, on a detector, a language model and data that come with qprof. With a profile (a .toml
file, or the name of one that qprof ships): that experiment. With model files: their latency, op by op, with no profile
at all, and with --images also their accuracy; a single file with --variants is quantized into these first. With the
folder or hub id of a causal language model: unquantized and quantized with GPTQ, from its last-word accuracy down to
dequantization and matmul.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qprof.findings.explanation import Explanation
    from qprof.measure.parent.spare import SpareWorkers

from qprof.cli.common import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("targets", nargs="*", metavar="PROFILE|MODEL", help="one profile, or models to compare")
    parser.add_argument("--variants", default="", help="variants to make of one model: float32,int8-dynamic,int8")
    parser.add_argument("--inputs", nargs="+", default=[], metavar="FILE", help=".npy or .npz inputs for model files")
    parser.add_argument(
        "--calibration-inputs", nargs="+", default=[], metavar="FILE", help="the like, to calibrate int8 variants on"
    )
    parser.add_argument(
        "--random",
        action="append",
        default=[],
        metavar="INPUT=RECIPE",
        help="what made inputs stand for: ids=tokens:30522,mask=mask, or pixels (qprof.tasks.latency, profiles page)",
    )
    parser.add_argument(
        "--shape", action="append", default=[], metavar="INPUT=SHAPE", help="shape of an open input: ids=1x128"
    )
    parser.add_argument("--signature", default="", metavar="NAME", help="which signature of the model files to run")
    parser.add_argument("--bits", default="", help="widths to quantize a language model to (default: 8,4,2)")
    parser.add_argument(
        "--group-size",
        type=int,
        metavar="N",
        help="weights per scale (-1: a whole row; default: 64, 32 or -1, the first that divides all layers)",
    )
    parser.add_argument(
        "--data",
        default="",
        metavar="FILE",
        help="texts to score a language model on: JSONL, or hf://datasets/ORG/NAME",
    )
    parser.add_argument(
        "--images",
        default="",
        metavar="DATA",
        help="labelled images (or arrays) to score model files on: a folder with a folder for each class, a CSV of "
        "FILE,LABEL, .bin of CIFAR, .parquet, .npz, .jsonl, or hf://datasets/ORG/NAME",
    )
    parser.add_argument("--labels", default="", metavar="FILE", help="names of the model's outputs, one a line")
    parser.add_argument("--truth", default="", metavar="FILE", help="labels of --images, where they stand in a file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key: protocol.rounds=20"
    )
    parser.add_argument(
        "--budget",
        metavar="TIME",
        help="measure until each verdict on latency is decided, for 60s or 5min at most; with --resume: in all",
    )
    parser.add_argument("--margin", metavar="SHARE", help="the same, with what counts as no difference, such as 1%%")
    parser.add_argument(
        "--samples",
        type=count,
        metavar="N",
        help="score a random N of the data's samples; a run that has few goes on with --resume RUN --samples 5000",
    )
    parser.add_argument(
        "--memory-limit", metavar="SIZE", help="of each worker, such as 8GB (default: most of the free)"
    )
    parser.add_argument("-o", "--output", type=Path, help="run directory to create (default: a new one in runs/)")
    parser.add_argument("--resume", metavar="RUN", help="go on with an interrupted run, or sharpen one that had little")
    parser.add_argument(
        "--changed", action="store_true", help="with --resume: although the machine or the versions are others now"
    )
    parser.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        help="explain the run, and carry out the interventions that test the causes (default: in the quickstart)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.cli.quantity import seconds, share, size_bytes
    from qprof.errors import QprofError
    from qprof.measure.command_line import is_profile, profile_for
    from qprof.measure.input_options import InputOptions, recipes, shapes
    from qprof.measure.parent.execution import new_run_folder, resume, start
    from qprof.measure.parent.spare import spare_workers
    from qprof.probes.clock import MonotonicClock
    from qprof.report.progress import make_progress
    from qprof.store.run import find_run

    inputs = InputOptions(
        files=options.inputs,
        calibration=options.calibration_inputs,
        random=recipes(options.random),
        shapes=shapes(options.shape),
        signature=options.signature,
    )
    models = (options.targets, options.variants, inputs, options.bits, options.group_size, options.data)
    images = (options.images, options.labels, options.truth)
    if options.memory_limit is not None:
        options.set.append(f"protocol.memory_limit_bytes={size_bytes(options.memory_limit)}")
    budget_s = None if options.budget is None else seconds(options.budget)
    if not options.resume:
        more = {"budget_s": budget_s, "samples": options.samples}
        options.set += [f"protocol.{key}={value}" for key, value in more.items() if value is not None]
    if options.margin is not None:
        options.set.append(f"protocol.margin={share(options.margin)}")
    if options.resume and (any((*models, *images)) or options.set or options.output):
        raise QprofError("--resume goes on with a run as it was begun; it takes no model, profile or other option")
    if not options.resume and not any((*models, *images)):
        return _quickstart(options)
    chosen = True
    with spare_workers(bool(options.verify)) as spare:
        with make_progress(sys.stderr, MonotonicClock(), options.quiet) as progress:
            if options.resume:
                folder = find_run(options.resume)
                resume(
                    folder,
                    progress,
                    changed=options.changed,
                    budget_s=budget_s,
                    samples=options.samples,
                    spare=spare,
                )
            else:
                profile = profile_for(
                    options.targets,
                    variants=[name for name in options.variants.split(",") if name],
                    inputs=inputs,
                    bits=[_width(text) for text in options.bits.split(",") if text],
                    group_size=options.group_size,
                    data=options.data,
                    images=options.images,
                    labels=options.labels,
                    truth=options.truth,
                    overrides=options.set,
                )
                folder = options.output or new_run_folder(profile)
                start(profile, folder, progress, spare=spare)
                asked = options.variants or options.bits or options.group_size is not None
                chosen = bool(asked) or is_profile(options.targets[0])
        code = _shown(folder, chosen)
        explanation = _explained(folder, options.quiet, spare) if options.verify else None
    _reported(folder, explanation)
    return code


def _quickstart(options: argparse.Namespace) -> int:
    """Run both parts, the second where its packages are installed; with --output, into folders inside that one."""
    import sys

    from qprof.errors import MissingExtraError
    from qprof.measure.command_line import QUICKSTART, profile_for
    from qprof.measure.parent.execution import new_run_folder, require_runtime, start
    from qprof.measure.parent.spare import spare_workers
    from qprof.probes.clock import MonotonicClock
    from qprof.report.progress import make_progress

    codes, reports = [], []
    verify = options.verify is not False
    for name in QUICKSTART:
        profile = profile_for([name], overrides=options.set)
        with spare_workers(verify) as spare:
            with make_progress(sys.stderr, MonotonicClock(), options.quiet) as progress:
                try:
                    require_runtime(profile)
                except MissingExtraError as error:
                    progress.note(f"{name} is left out: {error}")
                    continue
                folder = options.output / name if options.output else new_run_folder(profile)
                start(profile, folder, progress, spare=spare)
            codes.append(_shown(folder))
            reports.append((folder, _explained(folder, options.quiet, spare) if verify else None))
    for folder, explanation in reports:
        _reported(folder, explanation)
    return max(codes)


def _shown(folder: Path, chosen: bool = True) -> int:
    """Print a finished run's table, and what is left to try again; returns the exit code. `chosen`: somebody named the
    variants; of those that qprof takes by itself, one that cannot be made of this model is no failure of the run."""
    import sys

    from qprof.cli.common import print_summary
    from qprof.findings.summary import summarize
    from qprof.report.looks import more_lines
    from qprof.store.run import Run

    finished = Run(folder)
    print_summary(finished, summarize(finished))
    left = finished.manifest.left()
    for entry in finished.variants[1:]:
        if not chosen and entry.failed and entry.path is None and not entry.section.get("file"):
            left.remove(entry.name)
            print(f"{entry.name} is left out: {entry.reason}", file=sys.stderr)
    if left:
        print(f"qprof run --resume {folder} tries {', '.join(left)} again", file=sys.stderr)
    if untimed := finished.manifest.untimed():
        print(f"qprof run --resume {folder} tries the per-op timing of {', '.join(untimed)} again", file=sys.stderr)
    for line in more_lines(finished):
        print(line, file=sys.stderr)
    return 1 if left else 0


def _explained(folder: Path, quiet: bool, spare: SpareWorkers | None) -> Explanation:
    """Verify, print and keep the explanation of a finished run; returns it. `spare`: workers of that run."""
    from qprof.cli.explain import print_explanation
    from qprof.store.run import Run

    print()
    return print_explanation(Run(folder), verify=True, quiet=quiet, spare=spare)


def _reported(folder: Path, explanation: Explanation | None) -> None:
    """Write the report of a finished run, and print its path last. A page that cannot be written takes nothing from the
    run, so it is told and no error."""
    import sys

    from qprof.cli.report import write_report
    from qprof.errors import QprofError
    from qprof.store.run import Run

    try:
        print(write_report(Run(folder), explanation=explanation))
    except QprofError as error:
        print(f"qprof: no report: {error}", file=sys.stderr)


def _width(text: str) -> int:
    from qprof.errors import ProfileError

    if not text.strip().isdecimal():
        raise ProfileError(f"--bits {text}: give widths such as 8,4,2")
    return int(text)

"""write a run's report: one HTML file to look at and to send

RUN/report.html opens from disk in any browser, with no network; RUN/report.json holds its data (a JSON Schema ships as
qprof/report/page/report.schema.json). Given a report.json instead of a run, the page is drawn again from that alone.
Several runs (machines, versions or models) come side by side, each later one against the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qprof.cli.common import RUN_HELP

if TYPE_CHECKING:
    from qprof.findings.explanation import Explanation
    from qprof.store.run import Run

#: Side by side; more than that no one can look at.
MOST_RUNS = 8
#: Characters of a file's name, which file systems limit to 255 bytes.
_LONGEST = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "references",
        metavar="RUN",
        nargs="*",
        default=["latest"],
        help=f"{RUN_HELP}; or a report.json, to draw it again; or several runs, to see them side by side",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: RUN/report.html, of several RUN1/report-with-RUN2.html)",
    )


def run(options: argparse.Namespace) -> int:
    from qprof.report.page.files import DATA, read_data, write_page
    from qprof.store.run import Run, find_run

    if len(options.references) > 1:
        print(_write_across(options.references, options.output))
        return 0
    (reference,) = options.references
    given = Path(reference)
    data = given / DATA if given.is_dir() and not (given / "manifest.json").exists() else given
    if data.is_file():
        target = options.output or data.with_suffix(".html")
        write_page(target, read_data(data), follow=options.output is not None)
        print(target)
        return 0
    print(write_report(Run(find_run(reference)), reference, options.output))
    return 0


def _write_across(references: Sequence[str], output: Path | None) -> Path:
    """Write the data and the page of several runs; returns the page's place."""
    from qprof.errors import QprofError
    from qprof.report.page.build import build_across
    from qprof.report.page.files import write_data, write_page
    from qprof.store.run import Run, find_run

    if len(references) > MOST_RUNS:
        raise QprofError(f"{len(references)} runs: a page holds {MOST_RUNS} side by side at most; name fewer")
    runs = [Run(find_run(reference)) for reference in references]
    places = [run.folder.resolve() for run in runs]
    twice = next((run.name for n, run in enumerate(runs) if places[n] in places[:n]), None)
    if twice is not None:
        raise QprofError(f"{twice} is named twice; name each run once")
    named = [run.name if word == "latest" else word for run, word in zip(runs, references, strict=True)]
    report = build_across(runs, named)
    data = runs[0].folder / f"report-with-{'-'.join(run.name for run in runs[1:])}"[:_LONGEST]
    target = output or data.with_name(f"{data.name}.html")
    write_data(data.with_name(f"{data.name}.json"), report)
    write_page(target, report, follow=output is not None)
    return target


def write_report(
    run: Run, reference: str | None = None, output: Path | None = None, explanation: Explanation | None = None
) -> Path:
    """Write the data of a run's report and the page; returns the page's place. `reference`: how the commands on the
    page name the run; `explanation`: the run's own, where it is known already."""
    from qprof.report.page.build import build
    from qprof.report.page.files import DATA, PAGE, write_data, write_page

    report = build(run, explanation, run.name if reference in (None, "latest") else reference)
    target = output or run.folder / PAGE
    write_data(run.folder / DATA, report)
    write_page(target, report, follow=output is not None)
    return target

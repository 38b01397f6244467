"""write a run's report: one HTML file to look at and to send

RUN/report.html opens from disk in any browser, with no network; RUN/report.json holds its data (a JSON Schema ships as
qprof/report/page/report.schema.json). Given a report.json instead of a run, the page is drawn again from that alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from qprof.cli.common import RUN_HELP

if TYPE_CHECKING:
    from qprof.findings.explanation import Explanation
    from qprof.store.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "reference", metavar="RUN", nargs="?", default="latest", help=f"{RUN_HELP}; or a report.json, to draw it again"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page (default: RUN/report.html)")


def run(options: argparse.Namespace) -> int:
    from qprof.report.page.files import DATA, PAGE, read_data, write_page
    from qprof.store.run import Run, find_run

    given = Path(options.reference)
    data = given / DATA if given.is_dir() and not (given / "manifest.json").exists() else given
    if data.is_file():
        target = options.output or data.with_name(PAGE)
        write_page(target, read_data(data))
        print(target)
        return 0
    print(write_report(Run(find_run(options.reference)), options.reference, options.output))
    return 0


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
    write_page(target, report)
    return target

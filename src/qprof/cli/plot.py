"""draw one figure of a run into a file, fit for a paper: PDF, SVG or PNG

The same figures as in the page of `qprof report`. --list names them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qprof.cli.common import RUN_HELP, add_phase_argument, count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="[RUN] KIND", help=f"{RUN_HELP}; then what is drawn")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: KIND.svg, here")
    parser.add_argument("-v", "--variant", help="of which variant (waterfall, roofline, error-cost)")
    add_phase_argument(parser)
    parser.add_argument(
        "--width", type=count, default=420, metavar="PX", help="of the plot, in 1/72 inch (default: 420)"
    )
    parser.add_argument("--list", action="store_true", help="name the kinds of figure")


def run(options: argparse.Namespace) -> int:
    from qprof.errors import QprofError
    from qprof.record.nearest import nearest
    from qprof.report.page.build import build
    from qprof.report.page.files import DATA, read_data
    from qprof.report.page.plot import KINDS, Wanted, figure, kinds, write_figure
    from qprof.store.run import Run, find_run

    if options.list:
        print("\n".join(kinds()))
        return 0
    if len(options.words) not in (1, 2):
        raise QprofError("qprof plot takes [RUN] and a kind of figure, such as: qprof plot latest latency-accuracy")
    reference, kind = options.words if len(options.words) == 2 else ("latest", options.words[0])
    if kind not in KINDS:
        raise QprofError(f"no figure is called {kind!r}; {nearest(kind, list(KINDS))}")
    found = Run(find_run(reference))
    if options.variant is not None:
        found.variant(options.variant)
    wanted = Wanted(options.variant, found.phase(options.phase), options.width)
    target = options.output or Path(f"{kind}.svg")
    data = found.folder / DATA
    report = read_data(data) if data.is_file() else build(found)
    write_figure(target, figure(report.runs[0], kind, wanted))
    print(target)
    return 0

"""show where the latency difference between two variants went

The table closes: the ops that both have, the inserted, the removed and what no op accounts for add up to the
difference end to end. RUN:VARIANT twice compares across runs (machines, versions, models), which nothing pairs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qprof.cli.common import RUN_HELP, add_phase_argument, count, print_doubts

if TYPE_CHECKING:
    from qprof.store.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="+", metavar="[RUN] A B", help=f"{RUN_HELP}; then two variants; or RUN1:A RUN2:B"
    )
    add_phase_argument(parser)
    parser.add_argument("--by", choices=["op", "type"], default="op", help="one row per op, or per op type")
    parser.add_argument("--top", type=count, metavar="N", help="only the N largest differences; the others in one row")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.errors import QprofError
    from qprof.findings.difference import differ
    from qprof.findings.distance import output_distances
    from qprof.report.difference import difference_table
    from qprof.report.distance import distance_lines
    from qprof.report.export import write_json
    from qprof.report.table import print_table
    from qprof.report.terminal import print_lines
    from qprof.store.run import Run, find_run

    across = _across(options.words)
    if across is not None:
        return _print_across(options, *across)
    if len(options.words) not in (2, 3):
        raise QprofError("qprof diff takes [RUN] and two variants, such as: qprof diff latest float32 int8")
    reference = options.words[0] if len(options.words) == 3 else "latest"
    found = Run(find_run(reference))
    a, b = options.words[-2:]
    table = differ(found, a, b, options.phase)
    if options.json:
        write_json(sys.stdout, table)
    else:
        print_doubts(found)
        print_table(difference_table(table, options.by, options.top, found.phase(options.phase)), sys.stdout)
        of_b = [one for one in output_distances(found) if (one.baseline, one.variant) in ((a, b), (b, a))]
        print_lines(["", *distance_lines(of_b)] if of_b else [], sys.stdout)
    return 0


def _across(words: Sequence[str]) -> tuple[tuple[Run, str], tuple[Run, str]] | None:
    """Both sides of RUN1:A RUN2:B; `None` for other words. A colon may also be part of a variant's name."""
    from qprof.store.run import Run, list_runs

    if len(words) != 2 or not all(":" in word for word in words):
        return None
    newest = list_runs()[:1]
    if newest and set(words) <= {entry.name for entry in Run(newest[0]).variants}:
        return None
    return _side(words[0]), _side(words[1])


def _side(word: str) -> tuple[Run, str]:
    """The run and the variant of RUN:VARIANT. Raises `StoreError` where there is none."""
    from qprof.errors import StoreError
    from qprof.store.run import Run, find_run

    refused = None
    for place in (i for i, char in enumerate(word) if char == ":"):
        try:
            found = Run(find_run(word[:place]))
            return found, found.variant(word[place + 1 :]).name
        except StoreError as error:
            refused = refused or error
    assert refused is not None  # there is a colon
    raise refused


def _print_across(options: argparse.Namespace, first: tuple[Run, str], second: tuple[Run, str]) -> int:
    import sys

    from qprof.errors import QprofError
    from qprof.findings.across_runs import differ_across
    from qprof.report.across_runs import across_lines, across_table
    from qprof.report.export import write_json
    from qprof.report.table import print_table
    from qprof.report.terminal import print_lines

    if first[0].folder.resolve() == second[0].folder.resolve():
        raise QprofError(f"both are of {first[0].name}, whose rounds pair them: qprof diff RUN {first[1]} {second[1]}")
    if options.by != "op":
        raise QprofError("--by goes with two variants of one run; across runs there is a row for each op")
    found = differ_across(*first, *second, options.phase)
    if options.json:
        write_json(sys.stdout, found)
        return 0
    print_lines([*across_lines(found), ""], sys.stdout)
    for run, _ in (first, second):
        print_doubts(run)
    print_table(across_table(found, options.top), sys.stdout)
    return 0

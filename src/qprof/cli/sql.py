"""query a run's tables with SQL

    qprof sql latest "select variant, median(duration_ns) / 1e3 as us from samples where kind = 'clean' group by 1"

Without a query it lists the tables. A query sees this run alone: it reads no file, and reaches no network.
"""

from __future__ import annotations

import argparse

from qprof.cli.common import RUN_HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="[RUN] [QUERY]", help=f"{RUN_HELP}; then a query of DuckDB's SQL")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the rows as JSON")
    form.add_argument("--csv", action="store_true", help="print the rows as CSV")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.errors import QprofError
    from qprof.report.export import write_csv, write_json
    from qprof.report.sql import described, query, result_table
    from qprof.report.table import print_table
    from qprof.store.run import Run, find_run

    words = list(options.words)
    if len(words) > 2:
        raise QprofError(
            "qprof sql takes [RUN] and a query in quotes, such as: qprof sql latest 'select * from blocks'"
        )
    # A query holds blanks; a run does not, unless it is a path that is there.
    alone = len(words) == 1 and " " in words[0].strip()
    found = Run(find_run("latest" if not words or alone else words[0]))
    if len(words) < 2 and not alone:
        print_table(described(found), sys.stdout)
        return 0
    rows = query(found, words[-1])
    if options.json:
        write_json(sys.stdout, rows.to_pylist())
    elif options.csv:
        write_csv(sys.stdout, rows.column_names, rows.to_pylist())
    else:
        print_table(result_table(rows), sys.stdout)
    return 0

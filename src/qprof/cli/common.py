"""Arguments that several commands share."""

from __future__ import annotations

import argparse

RUN_HELP = "run directory, the beginning of its name in the runs folder, or 'latest' (the default)"


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="RUN", nargs="?", default="latest", help=RUN_HELP)

"""Arguments that several commands share."""

from __future__ import annotations

import argparse

RUN_HELP = "run directory, the beginning of its name, a profile's name for its latest run, or 'latest' (the default)"


def count(text: str) -> int:
    """The argument of --top: 1 or more."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def add_phase_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--phase", help="of a language model: prefill (the default) or decode")


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="RUN", nargs="?", default="latest", help=RUN_HELP)

"""Quantities with units on the command line: limits of accuracy, latency, size and energy."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qprof.findings.choice import Limits

_POINTS = {"pt": 0.01, "": 1.0}
_TIMES_US = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}
_BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_JOULES = {"uJ": 1e-6, "µJ": 1e-6, "mJ": 1e-3, "J": 1.0, "kJ": 1e3}


def quantity(text: str, units: Mapping[str, float], example: str) -> float:
    """The number that "5ms" means, in the unit whose factor is 1. Raises `QprofError` naming what is understood."""
    from qprof.errors import QprofError

    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµ%]*)\s*", text)
    if match is None or match[2] not in units:
        known = ", ".join(unit or "no unit" for unit in units)
        raise QprofError(f"{text!r}: write a number and a unit ({known}), such as {example}")
    return float(match[1]) * units[match[2]]


def size_bytes(text: str) -> int:
    """The bytes that "8GB" means. Raises `QprofError`."""
    return int(quantity(text, _BYTES, "8GB"))


def seconds(text: str) -> float:
    """The seconds that "60s" or "5min" means. Raises `QprofError`."""
    return quantity(text, {"s": 1.0, "min": 60.0, "h": 3600.0}, "60s")


def share(text: str) -> float:
    """The share of 1 that "2%" means. Raises `QprofError`."""
    return quantity(text, {"%": 0.01}, "2%")


def add_limit_arguments(parser: argparse.ArgumentParser) -> None:
    """What the variant to deploy must keep to."""
    parser.add_argument("--max-accuracy-drop", metavar="N", help="of the leading score, such as 1pt (default: 1pt)")
    parser.add_argument("--max-p50", metavar="TIME", help="latency of one request, such as 5ms")
    parser.add_argument("--max-size", metavar="SIZE", help="of the model file, such as 4MB")
    parser.add_argument("--max-energy", metavar="ENERGY", help="of one request, such as 10mJ")


def limits_of(options: argparse.Namespace) -> Limits | None:
    """The limits that a command line sets, `None` for none. Raises `QprofError` for one that cannot be read."""
    from qprof.findings.choice import Limits

    texts = (options.max_accuracy_drop, options.max_p50, options.max_size, options.max_energy)
    if all(text is None for text in texts):
        return None
    units = ((_POINTS, "1pt"), (_TIMES_US, "5ms"), (_BYTES, "4MB"), (_JOULES, "10mJ"))
    values = [
        None if t is None else quantity(t, known, example) for t, (known, example) in zip(texts, units, strict=True)
    ]
    return Limits(*values)

"""Quantities with units, as limits are given on the command line."""

from __future__ import annotations

import argparse

import pytest

from qprof.cli.quantity import add_limit_arguments, limits_of
from qprof.errors import QprofError
from qprof.findings.choice import Limits


def limits(*words: str) -> Limits | None:
    parser = argparse.ArgumentParser()
    add_limit_arguments(parser)
    return limits_of(parser.parse_args(words))


def test_no_limits() -> None:
    assert limits() is None


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--max-p50", "5ms"), Limits(latency_us=5000.0)),
        (("--max-p50", "0.5 s"), Limits(latency_us=5e5)),
        (("--max-p50", "120us"), Limits(latency_us=120.0)),
        (("--max-accuracy-drop", "1pt"), Limits(score_drop=0.01)),
        (("--max-accuracy-drop", "0.02"), Limits(score_drop=0.02)),
        (("--max-size", "4MB", "--max-energy", "10mJ"), Limits(size_bytes=4e6, energy_j=0.01)),
        (("--max-size", "2KiB"), Limits(size_bytes=2048.0)),
    ],
)
def test_units(words: tuple[str, ...], found: Limits) -> None:
    got = limits(*words)
    assert got is not None
    for name in ("score_drop", "latency_us", "size_bytes", "energy_j"):
        assert getattr(got, name) == pytest.approx(getattr(found, name))


@pytest.mark.parametrize("text", ["5", "ms", "-5ms", "5 parsecs", "1e3ms", "inf ms", "", "5ms5"])
def test_what_is_not_understood_is_told(text: str) -> None:
    with pytest.raises(QprofError, match="such as 5ms"):
        limits(f"--max-p50={text}")

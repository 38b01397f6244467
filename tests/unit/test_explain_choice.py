"""Which variant is chosen, and why the others are not."""

from __future__ import annotations

from typing import Any

import pytest

from qprof.findings.choice import Candidate, Limits, choose, dominated


def candidate(name: str, **changes: Any) -> Candidate:
    figures: dict[str, Any] = {
        "score": 0.70,
        "score_drop": 0.0,
        "most_drop": 0.002,
        "latency_us": 10_000.0,
        "most_latency_us": 10_100.0,
        "size_bytes": 4_000_000,
    }
    return Candidate(name, **{**figures, **changes})


FLOAT = candidate("float")
FAST = candidate("fast", latency_us=5_000.0, most_latency_us=5_200.0, score=0.68, score_drop=0.02, most_drop=0.025)
SMALL = candidate("small", size_bytes=1_000_000, latency_us=10_050.0)


def test_the_fastest_that_keeps_the_limits() -> None:
    assert choose([FLOAT, FAST, SMALL], Limits(score_drop=0.03)).variant == "fast"
    chosen = choose([FLOAT, FAST, SMALL], Limits(score_drop=0.01))
    assert chosen.variant == "small"  # within 2 % of the fastest that is left, and the smaller of the two
    assert chosen.misses == {"fast": ["loses 2.00 points, the limit is 1.00 points"]}


def test_a_limit_that_the_interval_passes_is_a_doubt() -> None:
    chosen = choose([FLOAT, FAST], Limits(score_drop=0.022, latency_us=5_100.0))
    assert chosen.variant == "fast"
    assert chosen.doubts == [
        "its accuracy may be 2.50 points lower: the interval passes the limit",
        "its p50 may be 5.2 ms: the interval passes the limit",
    ]


def test_none_fits_and_each_says_why() -> None:
    chosen = choose([FLOAT, SMALL], Limits(latency_us=1_000.0, size_bytes=500_000.0, energy_j=0.001))
    assert chosen.variant is None
    assert chosen.misses["small"] == [
        "p50 10.05 ms, the limit is 1 ms",
        "size 1 MB, the limit is 0.5 MB",
        "its energy is not known",
    ]
    assert set(chosen.misses) == {"float", "small"}


def test_energy_limits() -> None:
    frugal = candidate("frugal", energy_j=0.004)
    hungry = candidate("hungry", energy_j=0.006, latency_us=1_000.0)
    assert choose([frugal, hungry], Limits(energy_j=0.005)).variant == "frugal"


def test_variants_without_latency_are_chosen_by_size() -> None:
    untimed = [candidate(n, latency_us=None, most_latency_us=None, size_bytes=s) for n, s in (("a", 9), ("b", 5))]
    assert choose(untimed, Limits()).variant == "b"


def test_who_is_dominated() -> None:
    worse = candidate("worse", latency_us=20_000.0, size_bytes=8_000_000)
    assert dominated([FLOAT, FAST, SMALL, worse]) == {"float": "small", "worse": "float"}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"latency_us": 10_150.0}, {}),  # inside the margin: no difference
        ({"latency_us": 10_500.0}, {"other": "float"}),
        ({"score": 0.697}, {}),
        ({"score": 0.690}, {"other": "float"}),
        ({"size_bytes": 4_000_001}, {"other": "float"}),  # bytes are counted: any difference is one
        ({"score": None, "size_bytes": None, "latency_us": 9_000.0}, {"float": "other"}),
        ({"latency_us": 20_000.0, "size_bytes": 1}, {}),  # each is better in something
    ],
)
def test_margins(changes: dict[str, Any], found: dict[str, str]) -> None:
    assert dominated([FLOAT, candidate("other", **changes)]) == found

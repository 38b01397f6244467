"""Which variant is chosen, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from qprof.findings.choice import Candidate, Choice, Dominance, Limits, choose, dominated
from qprof.findings.verdicts import FigureVerdict
from qprof.stats.verdict import Kind


def candidate(name: str, **changes: Any) -> Candidate:
    figures: dict[str, Any] = {
        "score": 0.70,
        "score_drop": 0.0,
        "most_drop": 0.002,
        "latency_us": 10_000.0,
        "most_latency_us": 10_100.0,
        "size_bytes": 4_000_000,
        "peak_memory_bytes": 10_000_000,
    }
    return Candidate(name, **{**figures, **changes})


class Known:
    """Pairs whose verdicts follow from the figures and the margins, but for those that are not sure."""

    def __init__(self, candidates: Sequence[Candidate], unsure: Sequence[str] = ()) -> None:
        self.by_name = {one.variant: one for one in candidates}
        self.unsure = unsure
        self.asked: list[str] = []

    def figures(self, a: str, b: str) -> Iterator[FigureVerdict]:
        first, second = self.by_name[a], self.by_name[b]
        for name, x, y, margin in (
            ("size", first.size_bytes, second.size_bytes, 0.0),
            ("peak memory", first.peak_memory_bytes, second.peak_memory_bytes, 0.01),
            ("latency", first.latency_us, second.latency_us, 0.02),
            ("energy", first.energy_j, second.energy_j, 0.02),
            ("AP", first.score, second.score, 0.005),
        ):
            self.asked.append(name)
            yield FigureVerdict(b, name, "", x, y, None, self._kind(name, x, y, margin), name != "AP")

    def request(self, a: str, b: str) -> Kind | None:
        times = self.by_name[a].latency_us, self.by_name[b].latency_us
        return None if None in times else self._kind("latency", *times, 0.02)

    def _kind(self, name: str, x: float | None, y: float | None, margin: float) -> Kind:
        if x is None or y is None or name in self.unsure:
            return "inconclusive"
        less = y < x - (margin if name == "AP" else margin * x)
        more = y > x + (margin if name == "AP" else margin * x)
        if not less and not more:
            return "equivalent"
        return "better" if less == (name != "AP") else "worse"


def chosen_of(candidates: Sequence[Candidate], limits: Limits, unsure: Sequence[str] = ()) -> Choice:
    return choose(candidates, limits, Known(candidates, unsure))


def beaten(candidates: Sequence[Candidate], unsure: Sequence[str] = ()) -> dict[str, str]:
    found = dominated(candidates, Known(candidates, unsure))
    return {name: by.variant for name, by in found.items()}


FLOAT = candidate("float")
FAST = candidate("fast", latency_us=5_000.0, most_latency_us=5_200.0, score=0.68, score_drop=0.02, most_drop=0.025)
SMALL = candidate("small", size_bytes=1_000_000, latency_us=10_050.0)


def test_the_fastest_that_keeps_the_limits() -> None:
    assert chosen_of([FLOAT, FAST, SMALL], Limits(score_drop=0.03)).variant == "fast"
    chosen = chosen_of([FLOAT, FAST, SMALL], Limits(score_drop=0.01))
    assert chosen.variant == "small"  # within 2 % of the fastest that is left, and the smaller of the two
    assert chosen.misses == {"fast": ["loses 2.00 points, the limit is 1.00 points"]}


def test_a_limit_that_the_interval_passes_is_a_doubt() -> None:
    chosen = chosen_of([FLOAT, FAST], Limits(score_drop=0.022, latency_us=5_100.0))
    assert chosen.variant == "fast"
    assert chosen.doubts == [
        "its accuracy may be 2.50 points lower: the interval passes the limit",
        "its p50 may be 5.2 ms: the interval passes the limit",
    ]


def test_none_fits_and_each_says_why() -> None:
    chosen = chosen_of([FLOAT, SMALL], Limits(latency_us=1_000.0, size_bytes=500_000.0, energy_j=0.001))
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
    assert chosen_of([frugal, hungry], Limits(energy_j=0.005)).variant == "frugal"


def test_variants_without_latency_are_chosen_by_size() -> None:
    untimed = [candidate(n, latency_us=None, most_latency_us=None, size_bytes=s) for n, s in (("a", 9), ("b", 5))]
    assert chosen_of(untimed, Limits()).variant == "b"


def test_who_is_dominated() -> None:
    worse = candidate("worse", latency_us=20_000.0, size_bytes=8_000_000)
    assert beaten([FLOAT, FAST, SMALL, worse]) == {"float": "small", "worse": "small"}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"latency_us": 10_150.0}, {}),  # inside the margin: no difference
        ({"latency_us": 10_500.0}, {"other": "float"}),
        ({"score": 0.697}, {}),
        ({"score": 0.690}, {"other": "float"}),
        ({"size_bytes": 4_000_001}, {"other": "float"}),  # bytes are counted: any difference is one
        ({"score": None, "size_bytes": None, "latency_us": 9_000.0}, {"float": "other"}),
        ({"peak_memory_bytes": 10_016_000}, {}),
        ({"peak_memory_bytes": 10_400_000}, {"other": "float"}),
        ({"latency_us": 20_000.0, "size_bytes": 1}, {}),  # each is better in something
    ],
)
def test_margins(changes: dict[str, Any], found: dict[str, str]) -> None:
    assert beaten([FLOAT, candidate("other", **changes)]) == found


def test_three_identical_files_dominate_nothing() -> None:
    """They differ a little in what is measured of them, as any two runs of one thing do."""
    noise = ((10_000.0, 10_000_000), (10_090.0, 10_016_384), (9_950.0, 9_991_000))
    same = [candidate(n, latency_us=us, peak_memory_bytes=m) for n, (us, m) in zip("abc", noise, strict=True)]
    assert beaten(same) == {}
    assert beaten(same, unsure=["latency"]) == {}


def test_what_is_not_decided_dominates_nothing() -> None:
    small = candidate("small", size_bytes=1_000_000)
    assert beaten([FLOAT, small]) == {"float": "small"}
    assert beaten([FLOAT, small], unsure=["latency"]) == {}
    assert beaten([FLOAT, small], unsure=["AP"]) == {}


def test_what_dominates_says_in_what() -> None:
    small = candidate("small", size_bytes=1_000_000, score=None)
    found = dominated([FLOAT, small], Known([FLOAT, small]))
    assert found == {"float": Dominance("small", ("size",), ("peak memory", "latency"), ("energy", "AP"))}


def test_a_dominator_on_the_front_is_named_first() -> None:
    three = [candidate(name, size_bytes=size) for name, size in (("a", 3), ("b", 2), ("c", 1))]
    assert beaten(three) == {"a": "c", "b": "c"}


def test_scores_are_not_asked_for_where_a_file_is_larger() -> None:
    pairs = Known([FLOAT, candidate("other", size_bytes=5_000_000)])
    assert dominated([FLOAT], pairs) == {}
    assert dominated([pairs.by_name["float"], pairs.by_name["other"]], pairs)["other"].variant == "float"
    assert pairs.asked.count("AP") == 1


@pytest.mark.parametrize(
    ("changes", "chosen", "by"),
    [
        ({"latency_us": 9_000.0}, "other", ["latency"]),
        ({"latency_us": 9_900.0}, "first", []),  # inside the margin, and alike in all else
        ({"latency_us": 9_900.0, "size_bytes": 3_999_999}, "other", ["size"]),
        ({"latency_us": 10_100.0, "peak_memory_bytes": 9_950_000}, "first", []),
        ({"latency_us": 10_100.0, "peak_memory_bytes": 9_000_000}, "other", ["peak memory"]),
        ({"energy_j": 0.9}, "other", ["energy"]),
        ({"energy_j": 0.99}, "first", []),
        ({"size_bytes": None}, "first", ["size"]),
    ],
)
def test_without_accuracy_it_goes_by_latency_size_memory_and_energy(
    changes: dict[str, Any], chosen: str, by: list[str]
) -> None:
    plain = {"score": None, "score_drop": None, "most_drop": None, "energy_j": 1.0}
    found = chosen_of([candidate("first", **plain), candidate("other", **{**plain, **changes})], Limits())
    assert (found.variant, found.by, found.misses) == (chosen, by, {})


def test_a_choice_among_latencies_that_are_not_told_apart_is_a_doubt() -> None:
    two = [FLOAT, candidate("small", latency_us=11_000.0, size_bytes=1_000_000)]
    found = chosen_of(two, Limits(), unsure=["latency"])
    assert (found.variant, found.by) == ("small", ["size"])
    assert found.doubts == ["it may be slower than float, by less than this run can tell"]
    far = [FLOAT, candidate("small", latency_us=13_000.0, size_bytes=1_000_000)]
    found = chosen_of(far, Limits(), unsure=["latency"])
    assert (found.variant, found.by) == ("float", ["latency"])
    assert found.doubts == [
        "that small takes longer is by the estimates alone, on which there is no verdict; measure again"
    ]
    assert chosen_of(two, Limits()).variant == "float"

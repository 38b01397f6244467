"""Looks at a growing run: published bounds, and error rates on simulated machines over all looks together."""

from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from qprof.stats import sequential
from qprof.stats.rounds import RoundEffect
from qprof.stats.sequential import (
    MOST_ROUNDS,
    halved_level,
    look_level,
    look_p,
    look_rounds,
    nominal_alphas,
    spent,
)
from qprof.stats.verdict import word
from simulated_rounds import MACHINES, log_ratios, simulate

RUNS = 150
LOOKS = look_rounds(MOST_ROUNDS)
MARGIN = math.log1p(0.02)


def test_bounds_are_the_published_ones() -> None:
    # Five equal steps, 5 %, Pocock's type of spending: 2.438, 2.427, 2.410, 2.397, 2.386 (R's gsDesign and ldbounds).
    found = nominal_alphas(tuple(k / 5 for k in range(1, 6)), 0.05)
    z = [2.438, 2.427, 2.410, 2.397, 2.386]
    assert found == pytest.approx([math.erfc(value / math.sqrt(2.0)) for value in z], rel=0.004)


def test_one_look_at_the_end_is_the_interval_itself() -> None:
    assert look_level([48], 48) == pytest.approx(0.95, abs=1e-9)
    assert spent(1.0, 0.05) == pytest.approx(0.05)
    assert spent(0.0, 0.05) == 0.0


def test_a_motion_without_drift_crosses_a_bound_with_the_chance_that_was_spent() -> None:
    rng = np.random.default_rng(1)
    fractions = np.array([0.125, 0.2, 0.5, 0.6, 1.0])
    alphas = nominal_alphas(tuple(fractions.tolist()), 0.05)
    steps = rng.normal(0.0, np.sqrt(np.diff(fractions, prepend=0.0)), (200_000, 5))
    scores = np.abs(np.cumsum(steps, axis=1)) / np.sqrt(fractions)
    p_values = np.vectorize(math.erfc)(scores / math.sqrt(2.0))
    crossed = np.maximum.accumulate(p_values < np.array(alphas), axis=1).mean(axis=0)
    assert crossed == pytest.approx([spent(fraction, 0.05) for fraction in fractions], abs=0.0015)


def test_looks_are_at_even_rounds_and_end_with_the_last() -> None:
    assert look_rounds(48) == [6, 8, 12, 16, 24, 32, 48]
    for most in range(1, 400):
        looks = look_rounds(most)
        assert looks[-1] == most
        assert all(a < b for a, b in itertools.pairwise(looks))
        assert all(count % 2 == 0 for count in looks[:-1])


@pytest.mark.parametrize("looks", [[], [8, 6], [6, 6], [0, 6], [6, 50]])
def test_looks_that_cannot_be_are_refused(looks: list[int]) -> None:
    with pytest.raises(ValueError, match="looks must ascend"):
        look_level(looks, 48)


def test_looks_that_nobody_planned_spend_no_more_than_there_is() -> None:
    for looks in (1, 2, 5, 30):
        spent_so_far = sum(1.0 - halved_level(k, last=False) for k in range(1, looks))
        assert spent_so_far + 1.0 - halved_level(looks, last=True) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="at least one look"):
        halved_level(0, last=False)


@cache
def missed(machine: str, naive: bool) -> int:
    """Runs in which an interval of some look misses the truth, "equal"."""
    levels = [0.95 if naive else look_level(LOOKS[: i + 1], MOST_ROUNDS) for i in range(len(LOOKS))]
    count = 0
    for row in _ratios(machine):
        found = [RoundEffect(row[:n]).interval(level) for n, level in zip(LOOKS, levels, strict=True)]
        count += any(not one.low <= 0.0 <= one.high for one in found)
    return count


@cache
def _ratios(machine: str) -> np.ndarray:
    rng = np.random.default_rng([5, MACHINES.index(machine)])
    return log_ratios(*simulate(rng, machine, RUNS, MOST_ROUNDS))


@pytest.mark.parametrize("machine", MACHINES)
def test_equals_differ_at_any_look_in_5_percent_at_most(machine: str) -> None:
    # 5 % of 150 are 7.5; more than 14 has a chance of 1 % where the rate is 5 %.
    assert missed(machine, naive=False) <= 14


def test_equals_differ_at_any_look_in_5_percent_at_most_over_all() -> None:
    assert sum(missed(machine, naive=False) for machine in MACHINES) <= 0.05 * RUNS * len(MACHINES)


def test_the_interval_of_a_single_look_fails_the_same_test() -> None:
    naive = sum(missed(machine, naive=True) for machine in MACHINES)
    assert naive > 2 * 0.05 * RUNS * len(MACHINES)
    assert all(missed(machine, naive=True) > 14 for machine in ("quiet", "ar 0.5", "ar 0.9"))


def stopped(machine: str, effect: float) -> list[tuple[int, str]]:
    """When each simulated run is decided, and how."""
    levels = [look_level(LOOKS[: i + 1], MOST_ROUNDS) for i in range(len(LOOKS))]
    found = []
    for row in _ratios(machine) + effect:
        for n, level in zip(LOOKS, levels, strict=True):
            kind = word(RoundEffect(row[:n]).interval(level), MARGIN)
            if kind != "inconclusive":
                break
        found.append((n, kind))
    return found


@pytest.mark.parametrize("machine", ["quiet", "ar 0.5", "walk"])
def test_a_difference_of_the_margin_is_called_equivalent_in_5_percent_at_most(machine: str) -> None:
    kinds = [kind for _, kind in stopped(machine, MARGIN)]
    assert kinds.count("equivalent") <= 14
    assert kinds.count("better") <= 4


def test_a_clear_difference_ends_a_run_at_the_first_look_and_none_takes_longer() -> None:
    clear, equal = stopped("quiet", 0.5), stopped("quiet", 0.0)
    assert {n for n, _ in clear} == {LOOKS[0]}
    assert {kind for _, kind in clear} == {"worse"}
    assert np.median([n for n, _ in equal]) > 2 * LOOKS[0]


@pytest.mark.parametrize("looks", [[6], [6, 8], [6, 8, 12], [6, 8, 12, 16, 24, 32, 48]])
@pytest.mark.parametrize("level", [0.4, 0.85, 0.95, 0.97, 0.999, 1.0 - 1e-7])
def test_a_p_value_over_all_looks_is_the_level_at_which_its_look_decides(looks: list[int], level: float) -> None:
    most = max(8, looks[-1])
    p_value = 1.0 - look_level(looks, most, level)
    assert look_p(p_value, looks, most) == pytest.approx(1.0 - level, rel=0.01)


def test_p_values_over_all_looks_keep_their_order_and_are_never_smaller() -> None:
    p_values = [0.0, 1e-300, 1e-14, 1e-8, 1e-4, 0.01, 0.05, 0.3, 0.9, 0.999, 1.0]
    for looks in ([6], [6, 8], [4, 6, 8]):
        found = [look_p(p_value, looks, 8) for p_value in p_values]
        assert found == sorted(found) and found[0] == 0.0 and found[-1] == 1.0
        assert all(over_all >= p_value for over_all, p_value in zip(found, p_values, strict=True))
    assert [look_p(p_value, [8], 8) for p_value in p_values] == p_values, "one look at the end is no look"
    with pytest.raises(ValueError, match="looks must ascend"):
        look_p(0.5, [8, 6], 8)


def test_nodes_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    leggauss = np.polynomial.legendre.leggauss

    def counted(count: int) -> Any:
        found.append(count)
        return leggauss(count)

    monkeypatch.setattr(np.polynomial.legendre, "leggauss", counted)
    sequential._rule.cache_clear()
    for most in (47, 46, 45):
        look_level([6, 9], most, 0.93)
    assert len(found) == 1

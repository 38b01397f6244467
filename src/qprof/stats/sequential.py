"""Looking at a difference again and again while it is measured, with an interval that holds at all looks together.

A 95 % interval that is looked at after every few rounds, until it says what one wants, misses the truth in far more
than 5 % of all runs (Armitage, McPherson & Rowe, "Repeated Significance Tests on Accumulating Data", J. R. Statist.
Soc. A 132(2), 1969). Here every look spends a part of the 5 %, so much of it by each point of the way as an
alpha-spending function says (Lan & DeMets, "Discrete Sequential Boundaries for Clinical Trials", Biometrika 70(3),
1983). The interval of each look is a repeated confidence interval (Jennison & Turnbull, "Interim Analyses: The Repeated
Confidence Interval Approach", J. R. Statist. Soc. B 51(3), 1989): all of them hold together with the probability asked
for, whatever makes the run stop or go on, and looks need not be planned. So a word that is read from one of them, be it
that the interval excludes 0 or that it lies inside the margin (two one-sided tests at each look: Jennison & Turnbull,
"Sequential Equivalence Testing and Repeated Confidence Intervals", Biometrics 49(1), 1993), is wrong no more often.

The spending function is that of Pocock's type, alpha ln(1 + (e - 1) t) (Lan & DeMets 1983), which lets a clear
difference end a run at the first looks; that of O'Brien and Fleming's type spends next to nothing there. Bounds are
those of a Brownian motion, by recursive numerical integration (Armitage, McPherson & Rowe 1969; Jennison & Turnbull,
"Group Sequential Methods with Applications to Clinical Trials", 2000, chapter 19), and are used as levels of
significance for Student's t (section 3.8 there), which costs or gains next to nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

#: What the manifest calls the rule of this module.
RULE = "repeated confidence intervals, alpha spending of Pocock's type"

#: Looks are at even numbers of rounds, where every variant has run as often before every other as behind it
#: (`qprof.stats.schedule`). The first: with fewer rounds Student's t has too few degrees of freedom to decide anything.
FIRST_LOOK = 6
#: Rounds of a run that goes on until it is decided, unless its profile says how many: the more there may be, the less
#: may be spent on the first looks. These see half of what 12 rounds see.
MOST_ROUNDS = 48
#: A last look but one that is so near the last would tell the same.
_NEAR = 0.9
#: Nodes of the Gauss-Legendre rule over what has not crossed a bound yet.
_NODES = 240
#: No look is given less than this, which is beyond what floats can tell from 1.
_LEAST = 1e-12
#: Overall levels of significance between which `look_p` interpolates, in logarithms.
_GRID = (*(float(alpha) for alpha in np.geomspace(1e-8, 0.05, 13)), 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)


def look_rounds(most: int) -> list[int]:
    """After how many rounds of `most` there are looks: 6, 8, 12, 16, 24, 32 and so on by turns 4/3 and 3/2, and `most`.

    Fewer looks cost less width, and one that is a third later than the last tells something new.
    """
    found, step = [], FIRST_LOOK
    while step < _NEAR * most:
        found.append(step)
        step = step * 4 // 3 if len(found) % 2 else step * 3 // 2
        step += step % 2
    return [*found, most]


def spent(fraction: float, alpha: float) -> float:
    """Of `alpha`, what is spent by a fraction (0..1) of all rounds: Pocock's type. Raises `ValueError` out of range."""
    if not 0.0 <= fraction <= 1.0 or not 0.0 < alpha < 1.0:
        raise ValueError(f"need a fraction of 0 to 1 and an alpha between, got {fraction} and {alpha}")
    return alpha * math.log1p((math.e - 1.0) * fraction)


def look_level(rounds: Sequence[int], most: int, level: float = 0.95) -> float:
    """Level at which the interval of the last of these looks is to be computed.

    `rounds`: after how many rounds of at most `most` there were looks, ascending; with all looks at such levels, their
    intervals hold together with `level`. Raises `ValueError` where they are not ascending, or beyond `most`.
    """
    looks = _ascending(rounds, most)
    return 1.0 - nominal_alphas(tuple(count / most for count in looks), 1.0 - level)[-1]


def look_p(p_value: float, rounds: Sequence[int], most: int) -> float:
    """What a p-value of the last of these looks counts for, over all looks: the least level of significance at which
    this look would have decided (a repeated p-value, Jennison & Turnbull 2000, chapter 9).

    `rounds`, `most`: as for `look_level`. A p-value of less than `_GRID[0]` is raised as that one is. Raises
    `ValueError` as `look_level` does.
    """
    looks = _ascending(rounds, most)
    if looks == (most,) or p_value >= 1.0:
        return min(p_value, 1.0)
    nominal = _nominal_on_grid(tuple(count / most for count in looks))
    if p_value <= nominal[0]:
        return p_value * _GRID[0] / nominal[0]
    return float(np.exp(np.interp(math.log(p_value), [*np.log(nominal), 0.0], [*np.log(_GRID), 0.0])))


@lru_cache(maxsize=64)
def _nominal_on_grid(fractions: tuple[float, ...]) -> tuple[float, ...]:
    """Level at the last look for each overall level of `_GRID`."""
    return tuple(nominal_alphas(fractions, alpha)[-1] for alpha in _GRID)


def _ascending(rounds: Sequence[int], most: int) -> tuple[int, ...]:
    looks = tuple(rounds)
    if not looks or looks[0] < 1 or looks[-1] > most or any(b <= a for a, b in itertools.pairwise(looks)):
        raise ValueError(f"looks must ascend from 1 to {most} at most, got {list(looks)}")
    return looks


@lru_cache(maxsize=1)
def _rule() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights. They are found by LAPACK, and products by BLAS, whose threads wait for each other spinning:
    beside a busy neighbour they took seconds, and so there are none here."""
    return np.polynomial.legendre.leggauss(_NODES)


@lru_cache(maxsize=256)
def nominal_alphas(fractions: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """Two-sided level of significance at each look, at fractions (0..1] of the information, so that a Brownian motion
    without drift crosses a bound by each look with the probability `spent`."""
    found: list[float] = []
    nodes, weights = _rule()
    # Where the motion is at the last look, if it has crossed no bound yet: places and the mass at each.
    places: NDArray[np.float64] = np.zeros(1)
    mass: NDArray[np.float64] = np.ones(1)
    before, gone = 0.0, 0.0
    for fraction in fractions:
        wanted = max(spent(fraction, alpha) - gone, _LEAST)
        deviation = math.sqrt(fraction - before)
        bound = _bound(places, mass, deviation, math.sqrt(fraction), wanted)
        found.append(max(2.0 * NormalDist().cdf(-bound), _LEAST))
        reach = bound * math.sqrt(fraction)
        to = reach * nodes
        steps = np.exp(-(((to[:, None] - places[None, :]) / deviation) ** 2) / 2.0) / (deviation * math.sqrt(math.tau))
        places, mass = to, (steps * mass).sum(axis=1) * reach * weights
        before, gone = fraction, spent(fraction, alpha)
    return tuple(found)


def _bound(
    places: NDArray[np.float64], mass: NDArray[np.float64], deviation: float, scale: float, wanted: float
) -> float:
    """The bound, in standard deviations, that the motion crosses in this step with the probability `wanted`."""
    low, high = 0.0, 8.0
    for _ in range(50):
        middle = (low + high) / 2.0
        beyond = (middle * scale - places) / deviation, (middle * scale + places) / deviation
        crossed = float(mass @ (_upper(beyond[0]) + _upper(beyond[1])))
        low, high = (middle, high) if crossed > wanted else (low, middle)
    return high


_erfc = np.frompyfunc(math.erfc, 1, 1)


def _upper(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a standard normal distribution above x."""
    return np.asarray(_erfc(x / math.sqrt(2.0)), np.float64) / 2.0


def halved_level(looks: int, last: bool, level: float = 0.95) -> float:
    """Level of the interval at the last of so many looks, where nobody knows how many there will be: each takes half of
    what its predecessors have left of 1 - `level`, and the one after which there can be none takes all of it.

    Valid by the union bound whatever comes between the looks. Raises `ValueError` without a look.
    """
    if looks < 1:
        raise ValueError(f"need at least one look, got {looks}")
    return 1.0 - (1.0 - level) * 0.5 ** (looks - 1 if last else looks)

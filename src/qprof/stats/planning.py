"""What a measurement could have seen, and how much more of it would decide: from the scatter that was observed.

Student-t formulas for the mean of n observations (Kalibera & Jones, "Rigorous Benchmarking in Reasonable Time", ISMM
2013; for equivalence Julious, "Sample sizes for clinical trials with Normal data", Statist. Med. 23(12), 2004). The
scatter is not the standard deviation, which one disturbed round would spoil, but what the interval implies: it holds
what the method costs that the verdict is made with. Everything here assumes that more of the same is to come and that
the effect is as large as it looks; it is a plan, not a finding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from qprof.stats.intervals import FEWEST_BLOCKS, Interval, student_t_cdf, student_t_quantile
from qprof.stats.paired_outcomes import PairedOutcomes

#: From here on Student's t is taken for normal: the quantiles differ by less than 0.3 %.
_NORMAL_DEGREES = 1000


def implied_scatter(effect: Interval, observations: int) -> float | None:
    """Standard deviation of one observation (a round) that an interval over `observations` implies.

    In the unit of the effect; `None` where it has no bounds.
    """
    if effect.low is None or effect.high is None:
        return None
    half = (effect.high - effect.low) / 2.0
    return half * math.sqrt(observations) / _t_quantile((1.0 + effect.level) / 2.0, observations - 1)


def detectable_effect(scatter: float, observations: int, level: float = 0.95, power: float = 0.8) -> float:
    """Smallest true effect that `observations` of this scatter tell from 0 with probability `power`.

    In the unit of the scatter. Raises `ValueError` for a power that is not in [0.5, 1) or fewer than 2 observations.
    """
    _check(scatter, level, power)
    if observations < 2:
        raise ValueError(f"an effect needs at least 2 observations, got {observations}")
    degrees = observations - 1
    reach = _t_quantile((1.0 + level) / 2.0, degrees) + _t_quantile(power, degrees)
    return reach * scatter / math.sqrt(observations)


def blocks_to_decide(
    effect: Interval, rounds: int, margin: float | None = None, power: float = 0.8, most: int = 10_000
) -> int | None:
    """How many more rounds would make an inconclusive effect conclusive with probability `power`.

    Conclusive: different from 0, or inside the margin. `None` where the interval has no bounds, or where more than
    `most` rounds in all would be needed: an effect of nothing without a margin never becomes conclusive.
    """
    scatter = implied_scatter(effect, rounds)
    return None if scatter is None else _more(effect.value, scatter, rounds, margin, effect.level, power, most)


def samples_to_decide(
    outcomes: PairedOutcomes,
    margin: float | None = None,
    level: float = 0.95,
    power: float = 0.8,
    most: int = 10_000_000,
) -> int | None:
    """How many more samples would decide between two accuracies; as `blocks_to_decide`, `margin` as a share (0..1)."""
    return _more(outcomes.value, outcome_scatter(outcomes), outcomes.samples, margin, level, power, most)


def outcome_scatter(outcomes: PairedOutcomes) -> float:
    """Standard deviation of the difference (-1, 0, 1) on one sample, from the shares of discordant samples.

    Half a sample is added to both counts (Agresti & Min, "Simple improved confidence intervals for comparing matched
    proportions", Statist. Med. 24(5), 2005), so that none discordant does not mean that none ever will be.
    """
    a, b = outcomes.a_only + 0.5, outcomes.b_only + 0.5
    n = outcomes.samples + 2.0
    return math.sqrt((a + b) / n - ((a - b) / n) ** 2)


def _more(
    value: float, scatter: float, observed: int, margin: float | None, level: float, power: float, most: int
) -> int | None:
    _check(scatter, level, power)
    if margin is not None and margin <= 0.0:
        raise ValueError(f"a margin must be positive, got {margin}: leave it out where there is none")

    def different(n: int) -> bool:
        error = scatter / math.sqrt(n)
        reach = _t_quantile((1.0 + level) / 2.0, n - 1) + _t_quantile(power, n - 1)
        return abs(value) > reach * error

    def equivalent(n: int) -> bool:
        if margin is None:
            return False
        if scatter == 0.0:
            return abs(value) < margin
        error, needed = scatter / math.sqrt(n), _t_quantile((1.0 + level) / 2.0, n - 1)
        chances = [_t_cdf((margin + side) / error - needed, n - 1) for side in (value, -value)]
        return sum(chances) - 1.0 >= power

    first = max(observed + 1, FEWEST_BLOCKS)
    found = [n for n in (_least(rule, first, most) for rule in (different, equivalent)) if n is not None]
    return min(found) - observed if found else None


def _least(rule: Callable[[int], bool], first: int, most: int) -> int | None:
    """Smallest n in first .. most that satisfies a rule which, once it holds, holds for all larger n."""
    if first > most or not rule(most):
        return None
    low, high = first - 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rule(middle) else (middle, high)
    return high


def _t_quantile(p: float, degrees: int) -> float:
    return NormalDist().inv_cdf(p) if degrees >= _NORMAL_DEGREES else student_t_quantile(p, degrees)


def _t_cdf(t: float, degrees: int) -> float:
    return NormalDist().cdf(t) if degrees >= _NORMAL_DEGREES else student_t_cdf(t, degrees)


def _check(scatter: float, level: float, power: float) -> None:
    if not 0.0 <= scatter < math.inf:
        raise ValueError(f"the scatter must not be negative, got {scatter}")
    if not 0.5 < level < 1.0 or not 0.5 <= power < 1.0:
        raise ValueError(f"need 0.5 < level < 1 and 0.5 <= power < 1, got {level} and {power}")

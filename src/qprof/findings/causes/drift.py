"""A machine that gets slower, or faster, from round to round, for a reason that no sensor tells.

A machine that wanders far is one, too, as far as one run can show. Of 1000 simulated runs of 10 rounds without a trend
of their own, 0 to 8 confirmed it where blocks are independent or correlate by 0.5, 47 where they correlate by 0.9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.environment import (
    LEVEL,
    clean_blocks,
    clock_contrast,
    effect_on_difference,
    log_change,
    neighbour_contrast,
    percent,
)
from qprof.findings.op_costs import standard_error
from qprof.stats.intervals import Interval
from qprof.stats.steady import mann_kendall_p

#: Change from the first half of the rounds to the second that is worth a word, as a logarithm. Machines that are left
#: alone wander by some 2 % between halves of ten rounds.
_LEAST_CHANGE = 0.03
#: With fewer, not even a strictly monotone sequence is a trend at `LEVEL`.
_LEAST_ROUNDS = 6
#: A trend over more points takes work by the third power; neighbours are averaged into as many.
_MOST_POINTS = 20


class Drift:
    """The baseline is the sensor: its drift foretells the variant's, which runs between its blocks."""

    name = "drift"
    title = "the machine drifted"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        """Where the baseline has a trend."""
        rounds, baseline, variant = _by_round(comparison)
        if len(rounds) < _LEAST_ROUNDS:
            return
        half = len(rounds) // 2
        change = _change(baseline, half)
        points = np.array([part.mean() for part in np.array_split(baseline, min(_MOST_POINTS, len(baseline)))])
        p_value = mann_kendall_p(points.tolist())
        if p_value > 1.0 - LEVEL or abs(change) < _LEAST_CHANGE:
            return
        yield self._hypothesis(comparison, rounds, p_value, _halves(variant, half), _halves(baseline, half))

    def _hypothesis(
        self,
        comparison: Comparison,
        rounds: NDArray[np.int64],
        p_value: float,
        measured: Interval,
        foretold: Interval,
    ) -> Hypothesis:
        a, b = comparison.baseline, comparison.variant
        later = rounds[len(rounds) // 2 :].tolist()
        return Hypothesis(
            cause=self.name,
            claim=f"the machine drifted: in the second half of the rounds the p50 of {a} is {percent(foretold.value)} "
            f"than in the first, that of {b} {percent(measured.value)}; rounds are compared within themselves, so this "
            "cancels from the difference, but not from either latency",
            figure="latency",
            effect=effect_on_difference(comparison, later),
            evidence=(
                Evidence(f"change of {a} between halves, ln", foretold.value, "1", f"samples.parquet, {a}", foretold),
                Evidence(f"p-value of a trend in {a} (Mann-Kendall)", p_value, "1", f"samples.parquet, {a}"),
                Evidence(f"change of {b} between halves, ln", measured.value, "1", f"samples.parquet, {b}", measured),
            ),
            intervention=Intervention(
                f"repeats the measurement of {b} by halves of the rounds: they differ as those of {a} do",
                Prediction.point("latency", b, b, foretold.value, standard_error(foretold), relative=True),
                rescored=measured,
            ),
        )


def _by_round(comparison: Comparison) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Rounds that hold both variants and that no sensor explains, and ln of their p50."""
    names = (comparison.baseline, comparison.variant)
    seen = [sort(comparison, name) for sort in (neighbour_contrast, clock_contrast) for name in names]
    explained = {round_ for found in seen if found is not None for round_ in found.rounds}
    sides = [{block.round: math.log(block.p50_us) for block in clean_blocks(comparison, name)} for name in names]
    rounds = sorted((sides[0].keys() & sides[1].keys()) - explained)
    a, b = (np.array([side[r] for r in rounds], np.float64) for side in sides)
    return np.array(rounds, np.int64), a, b


def _change(logs: NDArray[np.float64], half: int) -> float:
    return float(logs[half:].mean() - logs[:half].mean())


def _halves(logs: NDArray[np.float64], half: int) -> Interval:
    return log_change(np.exp(logs[half:]), np.exp(logs[:half]))


CAUSE = Drift()

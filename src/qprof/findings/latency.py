"""What a run says of two variants' latencies: the one estimator that every command shows.

The ratio is that of the rounds (`qprof.stats.rounds`), whose verdicts hold their level on simulated machines
(`tests/benchmarks/verdict_calibration.py`). The difference follows from it, and the word from its interval.
"""

from __future__ import annotations

from functools import reduce
from weakref import WeakKeyDictionary

import numpy as np

from qprof.findings.margins import LATENCY_MARGIN
from qprof.stats.intervals import Interval, PairedDifference, quantile_interval
from qprof.stats.multiplicity import simultaneous_level
from qprof.stats.rounds import RoundDifference, RoundEffect, paired_medians, round_log_ratios
from qprof.stats.sequential import halved_level, look_level
from qprof.store.run import Latencies, Run

_LEVEL = 0.95

#: Medians of the latencies that they are of: a run of twenty variants has 380 pairs, and each is asked for often.
_MEDIANS: WeakKeyDictionary[Run, dict[tuple[str, str | None], tuple[Latencies, Interval]]] = WeakKeyDictionary()


def figure_level(run: Run, a: str, b: str) -> float:
    """Level of the interval of a figure of two variants, so that those of all variants against the baseline hold
    together at 95 %; where the run was looked at while it went on, over all these looks."""
    looks = run.manifest.looks
    if looks is None:
        return _family_level(run)
    family = simultaneous_level(_LEVEL, looks.comparisons)
    had = [look.rounds for look in looks.looks]
    ended = min(
        (looks.decided.get(name, looks.rounds) for name in (a, b) if name != run.baseline), default=looks.rounds
    )
    had = [rounds for rounds in had if rounds <= ended]
    if not run.complete and ended == looks.rounds:  # who reads a run that goes on has a look of his own
        rounds = len(np.intersect1d(run.latency(a).round, run.latency(b).round))
        had = [rounds_ for rounds_ in had if rounds_ < rounds] + [rounds] * (rounds > 0)
    return look_level(had, looks.rounds, family) if had else family


def score_level(run: Run) -> float:
    """The same of a score: over the looks at it, where the run went on with more samples, or may."""
    sampling = run.manifest.sampling
    family = _family_level(run)
    if sampling is None or not sampling.scored:
        return family
    return halved_level(len(sampling.scored), sampling.scored[-1] == sampling.total, family)


def _family_level(run: Run) -> float:
    return simultaneous_level(_LEVEL, max(1, sum(not entry.failed for entry in run.variants[1:])))


def latency_margin(run: Run) -> float:
    """Relative difference of latencies that counts as none: the run's own, where it has one."""
    return LATENCY_MARGIN if run.manifest.looks is None else run.manifest.looks.margin


def p50_us(run: Run, variant: str, phase: str | None = None) -> Interval | None:
    """Median of a variant's clean inferences in microseconds with its 95 % interval; `None` where there is none."""
    clean = run.latency(variant, phase=phase)  # the same object for all who ask
    if not len(clean.duration_ns):
        return None
    known = _MEDIANS.setdefault(run, {})
    of, found = known.get((variant, phase), (None, None))
    if of is not clean or found is None:
        found = quantile_interval(clean.duration_ns / 1e3, clean.round, method="expanded")
        known[variant, phase] = clean, found
    return found


def median_us(run: Run, variant: str, phase: str | None = None) -> float | None:
    """Median of a variant's clean inferences in microseconds; `None` where there is none."""
    durations = run.latency(variant, phase=phase).duration_ns
    return float(np.median(durations)) / 1e3 if len(durations) else None


def latency_ratio(run: Run, a: str, b: str, phase: str | None = None) -> RoundEffect | None:
    """ln(latency of b / latency of a) over the rounds that hold clean blocks of both; `None` where none does."""
    first, second = run.latency(a, phase=phase), run.latency(b, phase=phase)
    if not np.intersect1d(first.round, second.round).size:
        return None
    return round_log_ratios(first.duration_ns, first.round, second.duration_ns, second.round)


def latency_ratio_change(
    run: Run, pair: tuple[str, str], before: tuple[str, str], phase: str | None = None
) -> RoundEffect | None:
    """ln of the ratio of the second of a pair to the first, less that of another pair, round by round; `None` where no
    round holds clean blocks of all four."""
    sides = [run.latency(name, phase=phase) for name in (*pair, *before)]
    rounds = reduce(np.intersect1d, [found.round for found in sides])
    if not rounds.size:
        return None
    logs = [
        np.log([float(np.median(found.duration_ns[found.round == number])) for number in rounds]) for found in sides
    ]
    return RoundEffect((logs[1] - logs[0]) - (logs[3] - logs[2]))


def latency_difference_us(run: Run, a: str, b: str, phase: str | None = None) -> RoundDifference | None:
    """Latency of b less that of a in microseconds, from the same ratio; `None` as above."""
    ratio = latency_ratio(run, a, b, phase)
    if ratio is None:
        return None
    return RoundDifference(ratio, float(np.median(run.latency(a, phase=phase).duration_ns)) / 1e3)


def compared_latency(run: Run, a: str, b: str, phase: str | None = None) -> PairedDifference | None:
    """Both p50 in microseconds and how b differs from a, at the level of the run's figures; `None` as above."""
    first, second = run.latency(a, phase=phase), run.latency(b, phase=phase)
    if not np.intersect1d(first.round, second.round).size:
        return None
    one, other = p50_us(run, a, phase), p50_us(run, b, phase)
    return paired_medians(
        first.duration_ns / 1e3,
        first.round,
        second.duration_ns / 1e3,
        second.round,
        figure_level(run, a, b),
        (one, other) if one and other else None,
    )


def request_ratio(run: Run, a: str, b: str) -> RoundEffect | None:
    """ln(time of a request with b / with a): every phase as often as a request runs it. `None` where no round holds
    clean blocks of both in every phase."""
    phases = run.phases()
    if len(phases) == 1:
        return latency_ratio(run, a, b, phases[0].name)
    sides = [[run.latency(name, phase=phase.name) for phase in phases] for name in (a, b)]
    rounds = reduce(np.intersect1d, [found.round for side in sides for found in side])
    if not rounds.size:
        return None
    first, second = (
        np.array(
            [
                sum(
                    phase.steps * float(np.median(found.duration_ns[found.round == number]))
                    for phase, found in zip(phases, side, strict=True)
                )
                for number in rounds
            ]
        )
        for side in sides
    )
    return round_log_ratios(first, rounds, second, rounds)

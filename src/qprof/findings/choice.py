"""Which variant to deploy: the Pareto front, and the best one inside given limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from qprof.findings.verdicts import LATENCY_MARGIN, SCORE_MARGIN


@dataclass(frozen=True, slots=True)
class Candidate:
    """The figures of one variant that a choice is made by; what is not known is `None`.

    `score`: of the metric that leads the run's table, higher is better; `score_drop`: baseline minus variant, and
    `most_drop` the upper bound of its interval. `latency_us`: p50 of each phase, added where one request runs them all;
    `most_latency_us` with the upper bounds. `energy_j`: per request, of `energy_source`.
    """

    variant: str
    score: float | None
    score_drop: float | None
    most_drop: float | None
    latency_us: float | None
    most_latency_us: float | None
    size_bytes: int | None
    energy_j: float | None = None
    energy_source: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a variant must keep to; `None` is no limit. Scores in units of the metric (0.01: one point)."""

    score_drop: float | None = None
    latency_us: float | None = None
    size_bytes: float | None = None
    energy_j: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """`variant` to deploy, `None` where none fits; `misses`: variant -> the limits that it breaks, in words. `doubts`:
    limits that the variant keeps by its value, not by the bound of its interval."""

    variant: str | None
    misses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    doubts: Sequence[str] = ()


def dominated(candidates: Sequence[Candidate]) -> dict[str, str]:
    """variant -> one that is no worse in anything, and better in something; those left out are the Pareto front.

    Differences inside the margins of `qprof.explain.verdicts` are none. Figures that one side lacks are not compared.
    """
    found: dict[str, str] = {}
    for one in candidates:
        for other in candidates:
            if other is not one and _better_somewhere(other, one) and not _better_somewhere(one, other):
                found[one.variant] = other.variant
                break
    return found


def _better_somewhere(a: Candidate, b: Candidate) -> bool:
    """Whether a beats b in any figure by more than its margin."""
    if a.score is not None and b.score is not None and a.score > b.score + SCORE_MARGIN:
        return True
    lower = (
        (a.latency_us, b.latency_us, LATENCY_MARGIN),
        (a.size_bytes, b.size_bytes, 0.0),
        (a.energy_j, b.energy_j, LATENCY_MARGIN),
    )
    return any(x is not None and y is not None and x < y * (1.0 - margin) for x, y, margin in lower)


def choose(candidates: Sequence[Candidate], limits: Limits) -> Choice:
    """The fastest variant that keeps every limit (the smallest, where latency is not known).

    A figure that is not known breaks its limit. Where several are within the margin of the fastest the smallest wins.
    """
    misses = {one.variant: _broken(one, limits) for one in candidates}
    fitting = [one for one in candidates if not misses[one.variant]]
    if not fitting:
        return Choice(None, misses)
    timed = [one.latency_us for one in fitting if one.latency_us is not None]
    fastest = min(timed, default=None)
    near = [
        one
        for one in fitting
        if fastest is None or (one.latency_us is not None and one.latency_us <= fastest * (1.0 + LATENCY_MARGIN))
    ]
    best = min(near, key=lambda one: (one.size_bytes is None, one.size_bytes or 0))
    return Choice(best.variant, {name: broken for name, broken in misses.items() if broken}, _doubts(best, limits))


def _broken(one: Candidate, limits: Limits) -> list[str]:
    checks = (
        ("accuracy", one.score_drop, limits.score_drop, _points),
        ("p50", one.latency_us, limits.latency_us, _time),
        ("size", one.size_bytes, limits.size_bytes, _megabytes),
        ("energy", one.energy_j, limits.energy_j, _millijoules),
    )
    found = []
    for name, value, limit, text in checks:
        if limit is not None and value is None:
            found.append(f"its {name} is not known")
        elif limit is not None and value is not None and value > limit:
            lost = "loses " if name == "accuracy" else f"{name} "
            found.append(f"{lost}{text(value)}, the limit is {text(limit)}")
    return found


def _doubts(one: Candidate, limits: Limits) -> list[str]:
    found = []
    if limits.score_drop is not None and one.most_drop is not None and one.most_drop > limits.score_drop:
        found.append(f"its accuracy may be {_points(one.most_drop)} lower: the interval passes the limit")
    if limits.latency_us is not None and one.most_latency_us is not None and one.most_latency_us > limits.latency_us:
        found.append(f"its p50 may be {_time(one.most_latency_us)}: the interval passes the limit")
    return found


def _points(value: float) -> str:
    return f"{value * 100:.2f} points"


def _time(us: float) -> str:
    return f"{us / 1e3:.4g} ms" if us >= 1e3 else f"{us:.4g} µs"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.4g} MB"


def _millijoules(value: float) -> str:
    return f"{value * 1e3:.4g} mJ"

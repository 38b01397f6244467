"""Which variant to deploy: the Pareto front, and the best one inside given limits.

Both go by verdicts. A figure is better or worse where its verdict says so and not where two numbers differ, so what
differs by chance decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from qprof.findings.margins import LATENCY_MARGIN
from qprof.findings.verdicts import FigureVerdict
from qprof.record.perplexities import LOWER_IS_BETTER
from qprof.stats.verdict import Told

#: 0.95 lies 0.05 below 1, and as floating-point numbers a trifle more.
ROUNDING = 1e-9

#: Where no verdict is given on two latencies, one that is beyond so many times the other by its estimate is not taken
#: for as fast: ten times the margin within which latencies count as equal.
_FAR = 1.0 + 10.0 * LATENCY_MARGIN


@dataclass(frozen=True, slots=True)
class Candidate:
    """The figures of one variant that a choice is made by; what is not known is `None`.

    `score`: of the metric that leads the run's table; `score_drop`: baseline minus variant, of a perplexity the part by
    which it grew, and `most_drop` the upper bound of its interval. `latency_us`: p50 of each phase, added where one
    request runs them all; `most_latency_us` with the upper bounds. `energy_j`: per request, of `energy_source`.
    `peak_memory_bytes`: above the bare runtime. `score_name`: "accuracy", or the name of what stands for it;
    `random_inputs`: that is known on random inputs alone.
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
    peak_memory_bytes: int | None = None
    score_name: str = "accuracy"
    random_inputs: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What a variant must keep to; `None` is no limit. Scores in units of the metric (0.01: one point)."""

    score_drop: float | None = None
    latency_us: float | None = None
    size_bytes: float | None = None
    energy_j: float | None = None


class Pairs(Protocol):
    """What is known of two variants against each other."""

    def figures(self, a: str, b: str) -> Iterator[FigureVerdict]:
        """Every figure of `b` against `a`."""

    def request(self, a: str, b: str) -> Told | None:
        """The latency of a whole request with `b` against `a`; `None` where it is not known."""


@dataclass(frozen=True, slots=True)
class Dominance:
    """A variant that is better in some figures and equal in all others. `unknown`: figures that one side lacks."""

    variant: str
    better: tuple[str, ...]
    equal: tuple[str, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """`variant` to deploy, `None` where none fits; `misses`: variant -> the limits that it breaks, in words. `doubts`:
    limits that the variant keeps by its value, not by the bound of its interval, and what else is not sure. `by`: the
    figures that left it alone among those that fit, in their order; empty where it was alone."""

    variant: str | None
    misses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    doubts: Sequence[str] = ()
    by: Sequence[str] = ()


def dominated(candidates: Sequence[Candidate], pairs: Pairs) -> dict[str, Dominance]:
    """variant -> one that is shown to be better in something and equal or better in everything else; those left out are
    the Pareto front.

    An inconclusive figure shows nothing, so it keeps a variant on the front. Figures that one side lacks are not
    compared.
    """
    names = [one.variant for one in candidates]
    found = {
        name: [dominance for other in names if other != name and (dominance := _dominance(pairs, name, other))]
        for name in names
    }
    front = {name for name, others in found.items() if not others}
    # One on the front says more than one that is dominated itself.
    return {name: min(others, key=lambda other: other.variant not in front) for name, others in found.items() if others}


def _dominance(pairs: Pairs, beaten: str, by: str) -> Dominance | None:
    kinds: dict[str, list[str]] = {"better": [], "equivalent": [], "unknown": []}
    for one in pairs.figures(beaten, by):
        kind = "unknown" if one.baseline is None or one.value is None else one.kind
        if kind not in kinds:
            return None
        kinds[kind].append(one.figure)
    if not kinds["better"]:
        return None
    return Dominance(by, *(tuple(kinds[kind]) for kind in ("better", "equivalent", "unknown")))


def choose(candidates: Sequence[Candidate], limits: Limits, pairs: Pairs) -> Choice:
    """Of the variants that keep every limit those that are not shown to be slower than the fastest, or, where that is
    not decided, are not far slower by their estimates; of these the smallest, then the one with the least memory, then
    with the least energy, then the first.

    A figure that is not known breaks its limit, and loses against one that is.
    """
    misses = {one.variant: broken for one in candidates if (broken := _broken(one, limits))}
    left = fitting = [one for one in candidates if one.variant not in misses]
    if not left:
        return Choice(None, misses)
    by = []
    far = _far_slower(fitting, pairs)
    left = [one for one in fitting if one.variant not in far]
    for figure, value, kind in _ORDER:
        narrowed = _least(left, value, partial(kind, pairs))
        if len(narrowed) < len(left) or (figure == "latency" and far):
            by.append(figure)
        left = narrowed
    best = left[0]
    doubts = [*_doubts(best, limits), *_slower(best, candidates, misses, pairs)]
    if far:
        named = ", ".join(far)
        told = "takes" if len(far) == 1 else "take"
        doubts.append(
            f"that {named} {told} longer is by the estimates alone, on which there is no verdict; measure again"
        )
    return Choice(best.variant, misses, doubts, by)


def _far_slower(candidates: Sequence[Candidate], pairs: Pairs) -> list[str]:
    """Those that are `_FAR` slower than the fastest by their estimates, where no verdict is given on that."""
    timed = [(one.latency_us, one.variant) for one in candidates if one.latency_us is not None]
    if not timed:
        return []
    least_us, fastest = min(timed)
    return [
        name
        for latency_us, name in timed
        if latency_us > _FAR * least_us and pairs.request(fastest, name) == "inconclusive"
    ]


def _least(
    candidates: list[Candidate], value: Callable[[Candidate], float | None], kind: Callable[[str, str], Told | None]
) -> list[Candidate]:
    """Those that are not shown to be worse than the one with the least value; all where no value is known."""
    known = [(figure, one) for one in candidates if (figure := value(one)) is not None]
    if not known:
        return candidates
    least = min(known, key=lambda pair: pair[0])[1]
    return [one for _, one in known if one is least or kind(least.variant, one.variant) != "worse"]


def _kind(pairs: Pairs, figure: str, a: str, b: str) -> Told | None:
    """Of a figure of `b` against `a`; of several sensors or phases "worse" where any is."""
    kinds = [one.kind for one in pairs.figures(a, b) if figure in one.figure]
    return "worse" if "worse" in kinds else kinds[0] if kinds else None


_ORDER: tuple[tuple[str, Callable[[Candidate], float | None], Callable[[Pairs, str, str], Told | None]], ...] = (
    ("latency", lambda one: one.latency_us, lambda pairs, a, b: pairs.request(a, b)),
    ("size", lambda one: one.size_bytes, lambda pairs, a, b: _kind(pairs, "size", a, b)),
    ("peak memory", lambda one: one.peak_memory_bytes, lambda pairs, a, b: _kind(pairs, "peak memory", a, b)),
    ("energy", lambda one: one.energy_j, lambda pairs, a, b: _kind(pairs, "energy", a, b)),
)


def _slower(
    best: Candidate, candidates: Sequence[Candidate], misses: Mapping[str, Sequence[str]], pairs: Pairs
) -> Iterator[str]:
    """Where the chosen one may be slower than the fastest that fits."""
    timed = [one for one in candidates if one.variant not in misses and one.latency_us is not None]
    if not timed:
        return
    fastest = min(timed, key=lambda one: one.latency_us or 0.0)
    if fastest is not best and pairs.request(fastest.variant, best.variant) == "inconclusive":
        yield f"it may be slower than {fastest.variant}, by less than this run can tell"


def _broken(one: Candidate, limits: Limits) -> list[str]:
    checks = (
        (one.score_name, one.score_drop, limits.score_drop, _points),
        ("p50", one.latency_us, limits.latency_us, _time),
        ("size", one.size_bytes, limits.size_bytes, _megabytes),
        ("energy", one.energy_j, limits.energy_j, _millijoules),
    )
    found = []
    for name, value, limit, text in checks:
        if limit is not None and value is None:
            found.append(f"its {name} is not known")
        elif limit is not None and value is not None and value > limit + ROUNDING:
            if name in LOWER_IS_BETTER:
                found.append(f"its {name} grows by {value * 100:.2f} %, the limit is {limit * 100:g} %")
                continue
            lost = f"loses {_of(one)}" if name == one.score_name else f"{name} "
            found.append(f"{lost}{text(value)}, the limit is {text(limit)}")
    return found


def _doubts(one: Candidate, limits: Limits) -> list[str]:
    found = []
    grows = one.score_name in LOWER_IS_BETTER
    if limits.score_drop is not None and one.most_drop is not None and one.most_drop > limits.score_drop + ROUNDING:
        less = f"{one.most_drop * 100:.2f} % higher" if grows else f"{_points(one.most_drop)} lower"
        found.append(f"its {one.score_name} may be {less}: the interval passes the limit")
    elif limits.score_drop is not None and one.random_inputs:
        found.append(f"its {one.score_name} is that on random inputs, which bound nothing on yours")
    if limits.latency_us is not None and one.most_latency_us is not None and one.most_latency_us > limits.latency_us:
        found.append(f"its p50 may be {_time(one.most_latency_us)}: the interval passes the limit")
    return found


def _of(one: Candidate) -> str:
    """Which score, where it is none of accuracy."""
    return "" if one.score_name == "accuracy" else f"{one.score_name} "


def _points(value: float) -> str:
    return f"{value * 100:.2f} points"


def _time(us: float) -> str:
    return f"{us / 1e3:.4g} ms" if us >= 1e3 else f"{us:.4g} µs"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.4g} MB"


def _millijoules(value: float) -> str:
    return f"{value * 1e3:.4g} mJ"

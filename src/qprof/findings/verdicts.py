"""Better, worse, equivalent or inconclusive: every figure of every variant against the baseline's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from qprof.findings.effects import effect, latency_ratio
from qprof.stats.intervals import Interval
from qprof.stats.multiplicity import holm
from qprof.stats.planning import blocks_to_decide, detectable_effect, implied_scatter
from qprof.stats.rounds import RoundEffect
from qprof.stats.verdict import Kind, Verdict, corrected, judge
from qprof.store.run import Run

#: What counts as no difference, unless a command line says otherwise: 2 % of a latency, half a point of a score.
LATENCY_MARGIN = 0.02
SCORE_MARGIN = 0.005
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class FigureVerdict:
    """One figure of one variant against the baseline.

    `value`, `baseline`: the figures themselves, in `unit`. `change`: their relative difference ("%", of latencies,
    sizes, energies) or absolute one (of scores), with its interval. `verdict` is `None` for what is counted, not
    sampled (a file's size): `kind` says what there is to say. `more_rounds`: how many would decide, `None` where it is
    decided or never would be; `detectable`: the smallest change that a run of this length tells from none.
    """

    variant: str
    figure: str
    unit: str
    baseline: float | None
    value: float | None
    change: Interval | None
    kind: Kind
    relative: bool
    verdict: Verdict | None = None
    more_rounds: int | None = None
    detectable: float | None = None
    reason: str | None = None


def verdicts(
    run: Run, latency_margin: float = LATENCY_MARGIN, score_margin: float = SCORE_MARGIN
) -> list[FigureVerdict]:
    """All figures of all variants but the baseline; sampled ones are corrected together for their number (Holm)."""
    found = list(_all(run, latency_margin, score_margin))
    sampled = [one for one in found if one.verdict is not None]
    decided = iter(corrected([one.verdict for one in sampled if one.verdict is not None], holm))
    return [one if one.verdict is None else _with(one, next(decided)) for one in found]


def _with(one: FigureVerdict, verdict: Verdict) -> FigureVerdict:
    """A verdict and, where it is inconclusive, what would decide."""
    return replace(
        one, verdict=verdict, kind=verdict.kind, more_rounds=one.more_rounds if verdict.kind == "inconclusive" else None
    )


def _all(run: Run, latency_margin: float, score_margin: float) -> Iterator[FigureVerdict]:
    baseline = run.baseline
    metrics = list(run.manifest.score_columns)
    phases = [phase.name for phase in run.phases()]
    for entry in run.variants[1:]:
        name = entry.name
        if entry.failed:
            continue
        for metric in metrics:
            yield _score(run, baseline, name, metric, score_margin)
        for phase in phases:
            yield _latency(
                run, baseline, name, phase, "latency" if len(phases) == 1 else f"{phase} latency", latency_margin
            )
        base = run.manifest.baseline
        peaks = (each.memory.peak_rss_above_runtime_bytes for each in (base, entry))
        yield _counted(name, "size", base.bytes, entry.bytes)
        yield _counted(name, "peak memory", *peaks)


def _latency(run: Run, a: str, b: str, phase: str, figure: str, margin: float) -> FigureVerdict:
    found = latency_ratio(run, a, b, phase)
    first, second = _median_us(run, a, phase), _median_us(run, b, phase)
    if found is None:
        reason = "no round holds clean blocks of both"
        return FigureVerdict(b, figure, "us", first, second, None, "inconclusive", True, reason=reason)
    verdict = judge(found, math.log1p(margin))
    return FigureVerdict(
        variant=b,
        figure=figure,
        unit="us",
        baseline=first,
        value=second,
        change=_as_change(verdict.effect),
        kind=verdict.kind,
        relative=True,
        verdict=verdict,
        more_rounds=blocks_to_decide(verdict.effect, found.rounds, math.log1p(margin)),
        detectable=_detectable(found, verdict.effect),
        reason=verdict.effect.reason,
    )


def _median_us(run: Run, variant: str, phase: str) -> float | None:
    durations = run.latency(variant, phase=phase).duration_ns
    return float(np.median(durations)) / 1e3 if len(durations) else None


def _detectable(found: RoundEffect, interval: Interval) -> float | None:
    scatter = implied_scatter(interval, found.rounds)
    return None if scatter is None else math.expm1(detectable_effect(scatter, found.rounds))


def _as_change(log: Interval) -> Interval:
    """From the logarithm of a ratio to the relative change."""
    low, high = (None if bound is None else math.expm1(bound) for bound in (log.low, log.high))
    return replace(log, value=math.expm1(log.value), low=low, high=high)


def _score(run: Run, a: str, b: str, metric: str, margin: float) -> FigureVerdict:
    lower_is_better = metric == "perplexity"
    found = effect(run, metric, a, b, relative=lower_is_better)
    first, second = run.score(a, metric), run.score(b, metric)
    if found is None:
        reason = "no score by sample to pair"
        return FigureVerdict(b, metric, "1", first, second, None, "inconclusive", lower_is_better, reason=reason)
    bound = math.log1p(LATENCY_MARGIN) if lower_is_better else margin
    verdict = judge(found, bound, lower_is_better=lower_is_better)
    change = _as_change(verdict.effect) if lower_is_better else verdict.effect
    return FigureVerdict(
        b, metric, "1", first, second, change, verdict.kind, lower_is_better, verdict, reason=verdict.effect.reason
    )


def _counted(variant: str, figure: str, first: int | None, second: int | None) -> FigureVerdict:
    """A figure that has no scatter of its own: the smaller is better."""
    if not first or second is None:
        reason = "not known of both variants"
        return FigureVerdict(variant, figure, "bytes", first, second, None, "inconclusive", True, reason=reason)
    change = second / first - 1.0
    kind: Kind = "equivalent" if second == first else "better" if second < first else "worse"
    return FigureVerdict(variant, figure, "bytes", first, second, Interval(change, change, change, _LEVEL), kind, True)

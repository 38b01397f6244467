"""Better, worse, equivalent or inconclusive: every figure of every variant against the baseline's.

A figure's interval is as wide as it takes for the intervals of all variants to hold together at 95 %
(`qprof.findings.latency.figure_level`), and its word is what that interval says. Each figure is a family of its own:
of seven figures of equal variants, one in three runs may have a false word somewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from qprof.findings.effects import effect
from qprof.findings.energy import Figure, energy_changes
from qprof.findings.latency import (
    compared_latency,
    figure_level,
    latency_margin,
    latency_ratio,
    p50_us,
    request_ratio,
    score_level,
)
from qprof.findings.margins import LATENCY_MARGIN, SCORE_MARGIN
from qprof.findings.memory import memory_tolerance
from qprof.record.perplexities import LOWER_IS_BETTER
from qprof.stats.intervals import Interval
from qprof.stats.planning import blocks_to_decide, detectable_effect, implied_scatter
from qprof.stats.rounds import RoundEffect, scaled_change
from qprof.stats.verdict import Kind, Told, Verdict, judge, word
from qprof.store.run import Run


@dataclass(frozen=True, slots=True)
class FigureVerdict:
    """One figure of one variant against the baseline.

    `value`, `baseline`: the figures themselves, in `unit`. `change`: their relative difference ("%", of latencies,
    sizes, energies) or absolute one (of scores), with its interval; `difference`: the same in `unit`. `margin`: what
    counts as none, told as `change` is; `basis`: where it is from, of a margin that the run itself tells. `verdict` is
    `None` for what is counted, not sampled (a file's size): `kind` says what there is to say, and where a verdict is
    withheld. `more_rounds`: how many would decide, `None` where it is decided or never would be; `detectable`: the
    smallest change that a run of this length tells from none.
    """

    variant: str
    figure: str
    unit: str
    baseline: float | None
    value: float | None
    change: Interval | None
    kind: Told
    relative: bool
    verdict: Verdict | None = None
    more_rounds: int | None = None
    detectable: float | None = None
    reason: str | None = None
    difference: Interval | None = None
    margin: float | None = None
    basis: str | None = None


def verdicts(run: Run, margin: float | None = None, score_margin: float = SCORE_MARGIN) -> list[FigureVerdict]:
    """All figures of all variants but the baseline; `margin`: of latencies, by default the run's own."""
    return [
        one
        for entry in run.variants[1:]
        if not entry.failed
        for one in (
            *_scores(run, run.baseline, entry.name, score_margin),
            *_latencies(run, run.baseline, entry.name, latency_margin(run) if margin is None else margin),
            *_counted(run, run.baseline, entry.name),
            *_energies(run, run.baseline, entry.name),
        )
    ]


def figures_between(run: Run, a: str, b: str) -> Iterator[FigureVerdict]:
    """All figures of variant `b` against variant `a`, whichever they are, what is quick to know first."""
    yield from _counted(run, a, b)
    yield from _latencies(run, a, b, latency_margin(run))
    yield from _energies(run, a, b)
    yield from _scores(run, a, b, SCORE_MARGIN)


def request_verdict(run: Run, a: str, b: str) -> Verdict | None:
    """The latency of a whole request with `b` against `a`; `None` where no round holds both in every phase."""
    ratio = request_ratio(run, a, b)
    return None if ratio is None else judge(ratio, math.log1p(latency_margin(run)), level=figure_level(run, a, b))


def _latencies(run: Run, a: str, b: str, margin: float) -> Iterator[FigureVerdict]:
    phases = [phase.name for phase in run.phases()]
    for phase in phases:
        yield _latency(run, a, b, phase, "latency" if len(phases) == 1 else f"{phase} latency", margin)


def _latency(run: Run, a: str, b: str, phase: str, figure: str, margin: float) -> FigureVerdict:
    ratio, compared = latency_ratio(run, a, b, phase), compared_latency(run, a, b, phase)
    if ratio is None or compared is None:
        first, second = p50_us(run, a, phase), p50_us(run, b, phase)
        reason = "no round holds clean blocks of both"
        return FigureVerdict(
            b,
            figure,
            "us",
            first.value if first else None,
            second.value if second else None,
            None,
            "inconclusive",
            True,
            reason=reason,
        )
    verdict = judge(ratio, math.log1p(margin), level=figure_level(run, a, b))
    undecided = verdict.kind == "inconclusive"
    return FigureVerdict(
        variant=b,
        figure=figure,
        unit="us",
        baseline=compared.a.value,
        value=compared.b.value,
        change=scaled_change(verdict.effect),
        kind=verdict.kind,
        relative=True,
        verdict=verdict,
        more_rounds=blocks_to_decide(verdict.effect, ratio.rounds, math.log1p(margin)) if undecided else None,
        detectable=_detectable(ratio, verdict.effect),
        reason=verdict.effect.reason,
        difference=compared.difference,
        margin=margin,
    )


def _detectable(found: RoundEffect, interval: Interval) -> float | None:
    scatter = implied_scatter(interval, found.rounds)
    return None if scatter is None else math.expm1(detectable_effect(scatter, found.rounds, interval.level))


def _scores(run: Run, a: str, b: str, margin: float) -> Iterator[FigureVerdict]:
    for metric in run.manifest.score_columns:
        yield _score(run, a, b, metric, margin)


def _score(run: Run, a: str, b: str, metric: str, margin: float) -> FigureVerdict:
    lower_is_better = metric in LOWER_IS_BETTER
    found = effect(run, metric, a, b, relative=lower_is_better)
    first, second = run.score(a, metric), run.score(b, metric)
    if found is None:
        reason = "no score by sample to pair"
        return FigureVerdict(b, metric, "1", first, second, None, "inconclusive", lower_is_better, reason=reason)
    told = LATENCY_MARGIN if lower_is_better else margin
    bound = math.log1p(told) if lower_is_better else margin
    verdict = judge(found, bound, level=score_level(run), lower_is_better=lower_is_better)
    change = scaled_change(verdict.effect) if lower_is_better else verdict.effect
    return FigureVerdict(
        variant=b,
        figure=metric,
        unit="1",
        baseline=first,
        value=second,
        change=change,
        kind=verdict.kind,
        relative=lower_is_better,
        verdict=verdict,
        reason=verdict.effect.reason,
        difference=scaled_change(verdict.effect, first) if lower_is_better and first is not None else change,
        margin=told,
    )


def _counted(run: Run, a: str, b: str) -> Iterator[FigureVerdict]:
    """Figures that have no scatter of their own: the smaller is better, by more than the tolerance."""
    first, second = run.variant(a), run.variant(b)
    yield _count(b, "size", first.bytes, second.bytes, 0.0, None)
    peaks = (first.memory.peak_rss_above_runtime_bytes, second.memory.peak_rss_above_runtime_bytes)
    tolerance = memory_tolerance(run)
    yield _count(b, "peak memory", *peaks, tolerance.of(peaks[0] or 0), tolerance.basis)


def _count(
    variant: str, figure: str, first: int | None, second: int | None, tolerance: float, basis: str | None
) -> FigureVerdict:
    if not first or second is None:
        reason = "not known of both variants"
        return FigureVerdict(variant, figure, "bytes", first, second, None, "inconclusive", True, reason=reason)
    more = second - first
    kind: Kind = "equivalent" if abs(more) <= tolerance else "better" if more < 0 else "worse"
    return FigureVerdict(
        variant=variant,
        figure=figure,
        unit="bytes",
        baseline=first,
        value=second,
        change=_exact(more / first),
        kind=kind,
        relative=True,
        difference=_exact(more),
        margin=tolerance / first,
        basis=basis,
    )


def _exact(value: float) -> Interval:
    return Interval(value, value, value, 1.0)


def _energies(run: Run, a: str, b: str) -> Iterator[FigureVerdict]:
    """Joules per inference, of every phase and sensor of the best kind that there is."""
    found = energy_changes(run, a, b)
    phases, sensors = {one.phase for one in found}, {one.sensor for one in found}
    for one in found:
        figure = f"{one.phase} energy" if len(phases) > 1 else "energy"
        figure = f"{figure} ({one.sensor})" if len(sensors) > 1 else figure
        change = _interval(one.change, figure_level(run, a, b))
        known = change is not None and one.a_j is not None
        yield FigureVerdict(
            variant=b,
            figure=figure,
            unit="J",
            baseline=one.a_j,
            value=one.b_j,
            change=change,
            kind="inconclusive" if change is None else word(change, LATENCY_MARGIN),
            relative=True,
            reason=one.change.reason,
            difference=_times(change, one.a_j) if known else None,
            margin=LATENCY_MARGIN,
            basis=f"{one.provenance} by {one.sensor}",
        )


def _interval(figure: Figure, level: float) -> Interval | None:
    return None if figure.value is None else Interval(figure.value, figure.low, figure.high, level, figure.reason)


def _times(change: Interval | None, by: float | None) -> Interval | None:
    if change is None or by is None:
        return None
    low, high = (None if bound is None else bound * by for bound in (change.low, change.high))
    return replace(change, value=change.value * by, low=low, high=high)

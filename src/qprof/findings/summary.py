"""One line per variant: what it scored, how long it took, what it weighs. Each figure leads to the level below."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from qprof.findings.doubts import withholding
from qprof.findings.latency import compared_latency, latency_margin, p50_us
from qprof.findings.sensitivity import sensitivities
from qprof.findings.unshrunk import unshrunk
from qprof.record.distances import DECIDING, SQNR
from qprof.record.manifest import VariantEntry
from qprof.record.phases import Phase
from qprof.record.readings import SCORED_TOKENS
from qprof.stats.intervals import Interval, PairedDifference
from qprof.stats.verdict import Told, word
from qprof.store.run import Run


@dataclass(frozen=True, slots=True)
class PhaseSummary:
    """One phase of one variant.

    `latency_us`: median of the clean blocks; `ratio`: against the baseline, paired by round, and `verdict`: the word
    that goes with it; both are those of `qprof.findings.verdicts`. `overhead`: median of the
    profiled blocks over that of the clean ones, minus 1. `tokens_per_s`: the tokens of one inference over the median,
    `None` where tokens mean nothing.
    """

    name: str
    latency_us: Interval | None = None
    ratio: PairedDifference | None = None
    verdict: Told | None = None
    overhead: float | None = None
    inferences: int = 0
    blocks: int = 0
    tokens_per_s: Interval | None = None


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """The top figures of one variant. What was not measured is `None`, with the reason in `reasons`.

    `phases`: as the run's inferences come in them, at least one; `kernel` of quantized layers and `dtype` of the
    computation, where the runtime leaves the choice; `scores`: metric -> value, the task's leading metrics first, and
    `not_finite`: the share of samples whose score is no number. `kept_bytes`: of a language model what it keeps between
    tokens, keys and values or a state, behind the last one generated. `tokens_per_s_together`: of a request, one
    inference of the first phase and all steps of the others. `scoring_tokens_per_s`: tokens of the scored samples over
    the time that the model took for them, in batches.
    """

    name: str
    status: str
    phases: list[PhaseSummary]
    kernel: str | None = None
    dtype: str | None = None
    tokens_per_s_together: float | None = None
    scoring_tokens_per_s: float | None = None
    file_bytes: int | None = None
    footprint_bytes: int | None = None
    device_peak_bytes: int | None = None
    peak_memory_bytes: int | None = None
    pss_bytes: int | None = None
    arena_bytes: int | None = None
    kept_bytes: int | None = None
    overhead: float | None = None
    scores: dict[str, float | None] = field(default_factory=dict)
    not_finite: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def latency_us(self) -> Interval | None:
        """Of the first phase."""
        return self.phases[0].latency_us

    @property
    def ratio(self) -> PairedDifference | None:
        """Of the first phase."""
        return self.phases[0].ratio


def summarize(run: Run) -> list[VariantSummary]:
    """All variants of a run, baseline first; those that failed carry their reason."""
    columns = list(run.manifest.score_columns)
    if run.metric in DECIDING:  # what closeness is in the words of the trade
        columns.append(SQNR)
    baseline = run.baseline
    return [_summary(run, entry.name, baseline, columns) for entry in run.variants]


def _summary(run: Run, name: str, baseline: str, columns: list[str]) -> VariantSummary:
    entry = run.variant(name)
    reasons: dict[str, str] = dict(entry.memory.missing)
    if entry.failed:
        reasons["status"] = str(entry.reason)
    own = _own_phases(run, entry)
    phases = [_phase(run, baseline, name, phase) for phase in own]
    for phase in phases:
        if phase.latency_us is None:
            reasons["latency"] = "no clean block is finished"
    return VariantSummary(
        name=name,
        status=entry.status,
        phases=phases,
        kernel=entry.making.run.get("kernel") or None,
        dtype=entry.making.run.get("dtype") or None,
        tokens_per_s_together=_together(own, phases),
        scoring_tokens_per_s=_scoring_speed(run, name),
        file_bytes=entry.bytes,
        footprint_bytes=entry.memory.footprint_bytes,
        device_peak_bytes=entry.memory.device_peak_bytes,
        peak_memory_bytes=entry.memory.peak_rss_above_runtime_bytes,
        pss_bytes=entry.memory.pss_above_runtime_bytes,
        arena_bytes=entry.arena_bytes,
        kept_bytes=entry.kept.generated_bytes if entry.kept else None,
        scores={metric: run.score(name, metric) for metric in columns},
        not_finite=run.score(name, "not_finite"),
        reasons=reasons,
        notes=[
            *entry.notes,
            *(sensitivities(run) if name == baseline else []),
            *([found.sentence] if (found := unshrunk(entry)) else []),
        ],
    )


def _own_phases(run: Run, entry: VariantEntry) -> list[Phase]:
    """The run's phases with the tokens that this variant takes in one inference: it may have a batch of its own."""
    known = {phase.name: phase for phase in entry.phases}
    return [known.get(phase.name, phase) for phase in run.phases()]


def _phase(run: Run, baseline: str, name: str, phase: Phase) -> PhaseSummary:
    latency_us = p50_us(run, name, phase.name)
    if latency_us is None:
        return PhaseSummary(phase.name)
    ratio = None if name == baseline else compared_latency(run, baseline, name, phase.name)
    clean = run.latency(name, phase=phase.name)
    return PhaseSummary(
        name=phase.name,
        latency_us=latency_us,
        ratio=ratio,
        verdict=None if ratio is None else _word(run, baseline, name, ratio),
        overhead=_overhead(run, name, phase.name),
        inferences=len(clean.duration_ns),
        blocks=len(np.unique(clean.block)),
        tokens_per_s=_per_second(phase.tokens, latency_us),
    )


def _word(run: Run, a: str, b: str, ratio: PairedDifference) -> Told:
    if withholding(run, a, b):
        return "withheld"
    return word(ratio.log_ratio, math.log1p(latency_margin(run)))


def _per_second(tokens: int | None, latency_us: Interval) -> Interval | None:
    """The bounds change places: the shortest time is the highest speed."""
    if tokens is None:
        return None

    def speed(time_us: float | None) -> float | None:
        return None if time_us is None or time_us <= 0 else tokens * 1e6 / time_us

    value = speed(latency_us.value)
    return (
        None
        if value is None
        else replace(latency_us, value=value, low=speed(latency_us.high), high=speed(latency_us.low))
    )


def _together(phases: list[Phase], measured: list[PhaseSummary]) -> float | None:
    tokens, time_us = 0, 0.0
    for phase, found in zip(phases, measured, strict=True):
        if phase.tokens is None or found.latency_us is None:
            return None
        tokens += phase.tokens * phase.steps
        time_us += found.latency_us.value * phase.steps
    return tokens * 1e6 / time_us


def _scoring_speed(run: Run, name: str) -> float | None:
    seconds = float(run.latency(name, "scored").duration_ns.sum()) / 1e9
    blocks = [block.number for block in run.blocks() if block.variant == name]
    tokens = run.readings.total(SCORED_TOKENS, blocks)
    return None if not tokens or seconds <= 0 else tokens / seconds


def _overhead(run: Run, name: str, phase: str) -> float | None:
    """How much slower an instrumented inference is; from the rounds that hold both kinds of block."""
    clean, profiled = run.latency(name, phase=phase), run.latency(name, "profiled", phase)
    common = np.intersect1d(clean.round, profiled.round)
    if not common.size:
        return None
    ours = np.median(clean.duration_ns[np.isin(clean.round, common)])
    theirs = np.median(profiled.duration_ns[np.isin(profiled.round, common)])
    return float(theirs / ours - 1)

"""One line per variant: what it scored, how long it took, what it weighs. Each figure leads to the level below."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from qprof.explain.measured import fact
from qprof.stats.intervals import Interval, PairedDifference, paired_block_difference, quantile_interval
from qprof.store.run import Run


@dataclass(frozen=True, slots=True)
class VariantSummary:
    """The top figures of one variant. What was not measured is `None`, with the reason in `reasons`.

    `latency_us`: median of the clean blocks; `ratio`: against the baseline, paired by round; `overhead`: median of the
    profiled blocks over that of the clean ones, minus 1; `scores`: metric -> value, the task's leading metrics first.
    """

    name: str
    status: str
    latency_us: Interval | None = None
    ratio: PairedDifference | None = None
    inferences: int = 0
    blocks: int = 0
    file_bytes: int | None = None
    peak_memory_bytes: int | None = None
    pss_bytes: int | None = None
    arena_bytes: int | None = None
    overhead: float | None = None
    scores: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def summarize(run: Run) -> list[VariantSummary]:
    """All variants of a run, baseline first; those that failed carry their reason."""
    columns = list(run.manifest.get("score_columns", []))
    baseline = run.variants[0]["name"]
    return [_summary(run, entry["name"], baseline, columns) for entry in run.variants]


def _summary(run: Run, name: str, baseline: str, columns: list[str]) -> VariantSummary:
    entry = run.variant(name)
    reasons: dict[str, str] = dict(fact(entry, "memory", "missing") or {})
    if entry["status"] == "failed":
        reasons["status"] = str(entry["reason"])
    clean = run.latency(name)
    measured = len(clean.duration_ns) > 0
    if not measured:
        reasons["latency"] = "no clean block is finished"
    return VariantSummary(
        name=name,
        status=str(entry["status"]),
        latency_us=quantile_interval(clean.duration_ns / 1e3, clean.round, method="expanded") if measured else None,
        ratio=_ratio(run, baseline, name) if measured else None,
        inferences=len(clean.duration_ns),
        blocks=len(np.unique(clean.block)),
        file_bytes=entry.get("bytes"),
        peak_memory_bytes=fact(entry, "memory", "peak_rss_above_runtime_bytes"),
        pss_bytes=fact(entry, "memory", "pss_above_runtime_bytes"),
        arena_bytes=entry.get("arena_bytes"),
        overhead=_overhead(run, name),
        scores={metric: run.score(name, metric) for metric in columns},
        reasons=reasons,
        notes=list(entry.get("notes", [])),
    )


def _ratio(run: Run, baseline: str, name: str) -> PairedDifference | None:
    if name == baseline:
        return None
    a, b = run.latency(baseline), run.latency(name)
    if not np.intersect1d(a.round, b.round).size:
        return None
    return paired_block_difference(a.duration_ns / 1e3, a.round, b.duration_ns / 1e3, b.round, method="expanded")


def _overhead(run: Run, name: str) -> float | None:
    """How much slower an instrumented inference is; from the rounds that hold both kinds of block."""
    clean, profiled = run.latency(name), run.latency(name, "profiled")
    common = np.intersect1d(clean.round, profiled.round)
    if not common.size:
        return None
    ours = np.median(clean.duration_ns[np.isin(clean.round, common)])
    theirs = np.median(profiled.duration_ns[np.isin(profiled.round, common)])
    return float(theirs / ours - 1)

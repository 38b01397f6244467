"""The table of a run's variants."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qprof.explain.summary import VariantSummary
from qprof.report.table import Column, Table
from qprof.report.units import interval, percent, scaled_column, scaled_intervals
from qprof.stats.intervals import Interval
from qprof.store.run import Run


def summary_table(run: Run, summaries: Sequence[VariantSummary]) -> Table:
    """One row per variant: scores, latency p50 with its interval, size, memory."""
    metrics = list(dict.fromkeys(metric for summary in summaries for metric in summary.scores))
    time_unit, times = scaled_intervals([_triple(s.latency_us) for s in summaries], "duration_us")
    size_unit, sizes = scaled_column([s.file_bytes for s in summaries], "bytes")
    peak_unit, peaks = scaled_column([s.peak_memory_bytes for s in summaries], "bytes")
    arena_unit, arenas = scaled_column([s.arena_bytes for s in summaries], "bytes")
    columns = [
        Column("variant", "variant", align="left"),
        *(Column(metric, f"score.{metric}") for metric in metrics),
        Column("p50 [95 %]", "p50", unit=time_unit),
        Column("vs baseline", "ratio", priority=1),
        Column("size", "size", unit=size_unit),
        Column("peak mem", "peak", unit=peak_unit),
        Column("arena", "arena", unit=arena_unit, priority=3),
        Column("profiling", "overhead", priority=4),
        Column("inferences", "inferences", priority=5),
    ]
    rows = []
    for i, summary in enumerate(summaries):
        scores = {f"score.{metric}": _score(summary.scores.get(metric)) for metric in metrics}
        rows.append(
            {
                "variant": summary.name if summary.status == "ok" else f"{summary.name} (failed)",
                **scores,
                "p50": times[i],
                "ratio": _ratio(summary),
                "size": sizes[i],
                "peak": peaks[i],
                "arena": arenas[i],
                "overhead": None if summary.overhead is None else percent(summary.overhead, signed=True),
                "inferences": f"{summary.inferences}",
            }
        )
    return Table(columns, rows, title=_title(run), notes=_notes(run, summaries))


def _title(run: Run) -> str:
    threads = run.manifest["profile"]["protocol"]["threads"]
    cpu = run.manifest["machine"].get("cpu_model") or "unknown CPU"
    state = "" if run.complete else f"  ({run.manifest['status']}: go on with qprof run --resume {run.name})"
    return f"{run.name}: {cpu}, {threads} thread{'s' if threads != 1 else ''}{state}"


def _notes(run: Run, summaries: Sequence[VariantSummary]) -> list[str]:
    rounds = max((summary.blocks for summary in summaries), default=0)
    notes = [
        f"p50: median of the clean blocks, 95 % interval by bootstrap over {rounds} interleaved rounds; measured",
        "peak mem: peak resident memory above the bare runtime (process with the runtime imported); measured",
    ]
    if any(summary.overhead is not None for summary in summaries):
        notes.append("profiling: how much slower instrumented inferences are; latency is never taken from them")
    missing = next((s.latency_us.reason for s in summaries if s.latency_us and s.latency_us.reason), None)
    if missing:
        notes.append(f"{missing} (protocol.rounds)")
    notes += [f"{s.name}: {reason}" for s in summaries for key, reason in s.reasons.items() if key == "status"]
    notes += [f"{s.name}: {what}: {why}" for s in summaries for what, why in s.reasons.items() if what == "latency"]
    notes += [str(note) for note in run.manifest.get("notes", [])]
    notes += _variant_notes(summaries)
    return notes


def _variant_notes(summaries: Sequence[VariantSummary]) -> list[str]:
    """Notes that several variants share are said once."""
    who: dict[str, list[str]] = {}
    for summary in summaries:
        for note in summary.notes:
            who.setdefault(note, []).append(summary.name)
    return [f"{', '.join(names)}: {note}" for note, names in who.items()]


def _triple(found: Interval | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if found is None else (found.value, found.low, found.high)


def _score(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _ratio(summary: VariantSummary) -> str | None:
    """Time against the baseline: "x0.520 [0.515, 0.524]"."""
    if summary.ratio is None or summary.ratio.log_ratio is None:
        return None
    ratio = summary.ratio.log_ratio
    bounds = None if ratio.low is None or ratio.high is None else (math.exp(ratio.low), math.exp(ratio.high))
    return "x" + interval(math.exp(ratio.value), *(bounds or (None, None)))

"""The table of a run's variants."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qprof.findings.device import device_audits
from qprof.findings.distance import output_distances
from qprof.findings.summary import PhaseSummary, VariantSummary
from qprof.report.distance import distance_line
from qprof.report.looks import looks_lines
from qprof.report.ratio import ratio_note
from qprof.report.scores import cell_text
from qprof.report.table import Column, Table
from qprof.report.units import Kind, duration, interval, percent, scaled_column, scaled_intervals
from qprof.stats.intervals import Interval
from qprof.store.run import Run


def summary_table(run: Run, summaries: Sequence[VariantSummary]) -> Table:
    """One row per variant: scores, latency p50 with its interval (and tokens/s) of every phase, size, memory."""
    metrics = list(dict.fromkeys(metric for summary in summaries for metric in summary.scores))
    names = [phase.name for phase in run.phases()]
    rows: list[dict[str, str | None]] = [
        {
            "variant": summary.name if summary.status == "ok" else f"{summary.name} (failed)",
            "dtype": summary.dtype,
            "kernel": summary.kernel,
            **{f"score.{metric}": _score(metric, summary) for metric in metrics},
        }
        for summary in summaries
    ]
    columns = [Column("variant", "variant", align="left"), *(Column(metric, f"score.{metric}") for metric in metrics)]
    for position, name in enumerate(names):
        columns += _phase_columns(rows, [summary.phases[position] for summary in summaries], position, len(names), name)
    columns += [
        _filled(rows, "size", "size", [s.file_bytes for s in summaries]),
        _filled(rows, "footprint", "footprint", [s.footprint_bytes for s in summaries], priority=4),
        _filled(rows, "peak mem", "peak", [s.peak_memory_bytes for s in summaries], priority=int(len(names) > 1)),
        _filled(rows, "device peak", "device_peak", [s.device_peak_bytes for s in summaries]),
        _filled(rows, "arena", "arena", [s.arena_bytes for s in summaries], priority=3),
        _filled(rows, "cache", "cache", [s.kept_bytes for s in summaries], priority=3),
    ]
    columns += [
        Column("computes in", "dtype", align="left", priority=5),
        Column("kernel", "kernel", align="left", priority=5),
    ]
    together = [s.tokens_per_s_together for s in summaries]
    columns.append(_filled(rows, "together", "together", together, "count", "tok/s", priority=6))
    scoring = [s.scoring_tokens_per_s for s in summaries]
    columns.append(_filled(rows, "scoring", "scoring", scoring, "count", "tok/s", priority=7))
    always = {"size", "peak", *(["arena"] if len(names) == 1 else [])}
    shown = [c for c in columns if c.key in always or any(row.get(c.key) is not None for row in rows)]
    # The columns that say how a figure came about stand last, whatever phase they are of.
    shown.sort(key=lambda column: column.key.startswith(("overhead", "inferences")))
    return Table(shown, rows, title=_title(run), notes=_notes(run, summaries))


def _score(metric: str, summary: VariantSummary) -> str | None:
    """A figure that has none for numbers beyond the range of their type says so: a dash would be one not measured."""
    told = cell_text(metric, summary.scores)
    return "not finite" if told is None and summary.not_finite else told


def _phase_columns(
    rows: list[dict[str, str | None]], phases: Sequence[PhaseSummary], position: int, count: int, name: str
) -> list[Column]:
    """Fill in what is shown of one phase; its name stands before a title where there are several."""
    prefix = f"{name} " if count > 1 else ""
    time_unit, times = scaled_intervals([_triple(phase.latency_us) for phase in phases], "duration_us")
    speeds = [None if p.tokens_per_s is None else p.tokens_per_s.value for p in phases]
    for row, phase, time in zip(rows, phases, times, strict=True):
        row[f"p50.{position}"] = time
        row[f"ratio.{position}"] = _ratio(phase)
        row[f"verdict.{position}"] = phase.verdict
        row[f"overhead.{position}"] = None if phase.overhead is None else percent(phase.overhead, signed=True)
        row[f"inferences.{position}"] = f"{phase.inferences}"
    later = 2 * int(position > 0)
    return [
        Column(f"{prefix}p50 [95 %]", f"p50.{position}", unit=time_unit),
        Column("vs baseline", f"ratio.{position}", priority=1 + later),
        Column("verdict", f"verdict.{position}", align="left", priority=1 + later),
        _filled(rows, f"{prefix}speed", f"speed.{position}", speeds, "count", "tok/s", priority=2),
        Column(f"{prefix}profiling", f"overhead.{position}", priority=8 if count > 1 else 4),
        Column(f"{prefix}inferences", f"inferences.{position}", priority=9 if count > 1 else 5),
    ]


def _filled(
    rows: list[dict[str, str | None]],
    title: str,
    key: str,
    values: Sequence[float | None],
    kind: Kind = "bytes",
    unit: str = "",
    priority: int = 0,
) -> Column:
    """Write a column of figures into the rows, in one unit; `unit` goes behind the figures' own prefix (k, M)."""
    prefix, texts = scaled_column(values, kind)
    for row, text in zip(rows, texts, strict=True):
        row[key] = text
    return Column(title, key, unit=f"{prefix}{unit}" if unit else prefix, priority=priority)


def _title(run: Run) -> str:
    threads = run.manifest.profile.protocol.threads
    cpu = run.manifest.machine.cpu_model or "unknown CPU"
    state = "" if run.complete else f"  ({run.manifest.status}: go on with qprof run --resume {run.name})"
    return f"{run.name}: {cpu}, {threads} thread{'s' if threads != 1 else ''}{state}"


def _notes(run: Run, summaries: Sequence[VariantSummary]) -> list[str]:
    rounds = max((phase.blocks for summary in summaries for phase in summary.phases), default=0)
    notes = [
        f"p50: median of the clean blocks, 95 % interval by bootstrap over {rounds} interleaved rounds; measured",
        "peak mem: peak resident memory above the bare runtime (process with the runtime imported); measured",
    ]
    if any(summary.kept_bytes is not None for summary in summaries):
        notes.append(
            "cache: what a model keeps between tokens (keys and values, or a state), behind the last; measured"
        )
    if any(phase.ratio is not None for summary in summaries for phase in summary.phases):
        notes.append(ratio_note(run))
    notes += looks_lines(run)
    notes += _token_notes(run, summaries)
    if any(phase.overhead is not None for summary in summaries for phase in summary.phases):
        notes.append("profiling: how much slower instrumented inferences are; latency is never taken from them")
    notes += [f"{one.variant}: {distance_line(one)}" for one in output_distances(run)]
    latencies = [phase.latency_us for summary in summaries for phase in summary.phases]
    missing = next((latency.reason for latency in latencies if latency and latency.reason), None)
    if missing:
        notes.append(f"{missing} (protocol.rounds)")
    notes += _device_notes(run, summaries)
    notes += [f"{s.name}: {reason}" for s in summaries for key, reason in s.reasons.items() if key == "status"]
    notes += [f"{s.name}: {what}: {why}" for s in summaries for what, why in s.reasons.items() if what == "latency"]
    notes += run.manifest.notes
    notes += _variant_notes(summaries)
    return notes


def _token_notes(run: Run, summaries: Sequence[VariantSummary]) -> list[str]:
    """What is meant by tokens per second, where there are any."""
    phases = [phase for phase in run.phases() if phase.tokens is not None]
    if not phases:
        return []
    tokens = "; ".join(
        f"{phase.name}: {phase.tokens} token{'s' * (phase.tokens != 1)} per inference"
        + (f", {phase.steps} inferences per prompt" if phase.steps > 1 else "")
        for phase in phases
    )
    notes = [f"speed: tokens of one inference over its p50 ({tokens}); together: all tokens of a request over its time"]
    if any(summary.scoring_tokens_per_s is not None for summary in summaries):
        notes.append(
            "scoring: tokens of the scored samples over the model's time for them, in batches of about one length"
        )
    return notes


def _device_notes(run: Run, summaries: Sequence[VariantSummary]) -> list[str]:
    """Per variant and phase on an accelerator: what asynchronous timing would have shown, and what launches cost."""
    clean = {(s.name, p.name): p.latency_us.value for s in summaries for p in s.phases if p.latency_us is not None}
    notes = []
    for audit in device_audits(run, clean):
        note = (
            f"{audit.variant}, {audit.phase}: forward {duration(audit.synchronized_us)} synchronized, "
            f"{duration(audit.events_us)} by events, {duration(audit.unsynchronized_us)} by the host's clock alone "
            f"(asynchronous timing would lack {percent(audit.asynchronous_error)})"
        )
        if audit.kernels is not None and audit.idle_share is not None:
            note += f"; {audit.kernels:.0f} kernels, device idle {percent(audit.idle_share)} of the clean p50"
        notes.append(note)
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


def _ratio(phase: PhaseSummary) -> str | None:
    """Time against the baseline: "x0.520 [0.515, 0.524]"."""
    if phase.ratio is None:
        return None
    ratio = phase.ratio.log_ratio
    bounds = None if ratio.low is None or ratio.high is None else (math.exp(ratio.low), math.exp(ratio.high))
    return "x" + interval(math.exp(ratio.value), *(bounds or (None, None)))

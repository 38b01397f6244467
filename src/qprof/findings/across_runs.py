"""One variant of a run against one of another run: two machines, versions or models.

What differs between machines, versions and settings comes first, since it may be all there is to say. Nothing pairs the
rounds of two runs, so every interval is Welch's (`qprof.stats.unpaired`), one number per block:

    end-to-end difference = ops of both + ops of one alone + outside the ops + instrumentation

A block's end to end is the median of its clean inferences; its ops are means over the middle half of its profiled
inferences, by their total, which add up. The end-to-end interval also holds by what two processes that run one file
differ (`WORKERS`); an op's does not, so of many ops some differ by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.findings.difference_table import MeasuredVariant, change_flags
from qprof.findings.doubts import doubts
from qprof.findings.margins import LATENCY_MARGIN
from qprof.findings.measured import measured_variant
from qprof.findings.op_costs import WORKERS
from qprof.measure.surroundings import machine_changes, version_changes, versions_of
from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.runtimes.match_ops import match_ops
from qprof.stats.intervals import Interval
from qprof.stats.student import StudentEffect
from qprof.stats.unpaired import UnpairedEffect
from qprof.stats.verdict import Told, word
from qprof.store.run import Run


@dataclass(frozen=True, slots=True)
class AcrossRow:
    """One line, in microseconds per inference. `kind`: "matched", "inserted" (B's alone), "removed" (A's alone),
    "outside ops" or "instrumentation"; `a`, `b`: the ops, `None` where there is none, as are `a_us` and `b_us`."""

    kind: str
    label: str
    a: OpMeta | None
    b: OpMeta | None
    a_us: float | None
    b_us: float | None
    delta_us: Interval
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FigurePair:
    """A figure of both that is compared without an interval: a score, a size."""

    figure: str
    unit: str
    a: float | None
    b: float | None


@dataclass(frozen=True, slots=True)
class AcrossRuns:
    """Variant `a` of `a_run` against variant `b` of `b_run`.

    `differs`: what of machines, versions, models, settings and data is not the same, in words. `a_us`, `b_us`: p50 of a
    block, the mean over blocks; `difference_us` and `log_ratio`, ln(b / a), with their 95 % intervals; `a_blocks`,
    `b_blocks`: clean blocks. `rows`: where the difference went, empty for the reason in `untimed`.
    """

    a_run: str
    b_run: str
    a: str
    b: str
    phase: str
    differs: list[str]
    a_us: float
    b_us: float
    difference_us: Interval
    log_ratio: Interval
    verdict: Told
    a_blocks: int
    b_blocks: int
    rows: list[AcrossRow]
    figures: list[FigurePair]
    untimed: str | None = None

    @property
    def closing_error_us(self) -> float:
        """The difference minus the sum of the rows: rounding, nothing else."""
        return self.difference_us.value - math.fsum(row.delta_us.value for row in self.rows) if self.rows else 0.0


def differ_across(first: Run, a: str, second: Run, b: str, phase: str | None = None) -> AcrossRuns:
    """Variant `a` of the first run against variant `b` of the second in a phase, by default the first run's first.

    Raises `StoreError` where one has no such variant or phase, or no clean block of it.
    """
    name = first.phase(phase)
    second.phase(name)
    sides = (_clean(first, a, name), _clean(second, b, name))
    rows, untimed = _rows((first, a), (second, b), name)
    withheld = any(
        doubt.withholds and doubt.variant == variant and doubt.phase == name
        for run, variant in ((first, a), (second, b))
        for doubt in doubts(run)
    )
    a_us, b_us = (float(np.mean(list(blocks.values()))) for blocks in sides)
    log_ratio = _between_workers(UnpairedEffect(*(np.log(list(blocks.values())) for blocks in sides)), WORKERS)
    difference_us = _between_workers(UnpairedEffect(*(list(blocks.values()) for blocks in sides)), WORKERS * a_us)
    return AcrossRuns(
        a_run=first.name,
        b_run=second.name,
        a=a,
        b=b,
        phase=name,
        differs=list(_differs(first, first.variant(a), second, second.variant(b))),
        a_us=a_us,
        b_us=b_us,
        difference_us=difference_us,
        log_ratio=log_ratio,
        verdict="withheld" if withheld else word(log_ratio, math.log1p(LATENCY_MARGIN)),
        a_blocks=len(sides[0]),
        b_blocks=len(sides[1]),
        rows=rows,
        figures=_figures(first, a, second, b),
        untimed=untimed,
    )


def _between_workers(effect: StudentEffect, more: float) -> Interval:
    """The interval, wider by what the blocks of one process do not show: a standard error of `more`."""
    if effect.standard_error is None:
        return effect.interval()
    return StudentEffect(effect.value, math.hypot(effect.standard_error, more), effect.degrees).interval()


def _clean(run: Run, variant: str, phase: str) -> dict[int, float]:
    """Round -> p50 of its clean block, in microseconds."""
    clean = run.latency(variant, phase=phase)
    if not len(clean.duration_ns):
        entry = run.variant(variant)
        why = str(entry.reason) if entry.failed else "go on with qprof run --resume"
        raise StoreError(f"{run.folder}: {variant} has no finished clean block ({why})")
    return {
        int(number): float(np.median(clean.duration_ns[clean.round == number])) / 1e3
        for number in np.unique(clean.round)
    }


def _differs(first: Run, a: VariantEntry, second: Run, b: VariantEntry) -> list[str]:
    sides = ("(A)", "(B)")
    one, other = first.manifest, second.manifest
    told = [*machine_changes(one.machine, other.machine, sides)]
    told += version_changes(versions_of(one), versions_of(other), sides)
    if a.runtime != b.runtime:
        told.append(f"runtime: {a.runtime} (A), {b.runtime} (B)")
    if a.sha256 != b.sha256:
        told.append("model file: not the same")
    keys = sorted({*a.options, *b.options})
    told += [
        f"{key}: {a.options.get(key)} (A), {b.options.get(key)} (B)"
        for key in keys
        if a.options.get(key) != b.options.get(key)
    ]
    shapes = [[(tensor.name, list(tensor.shape), tensor.dtype) for tensor in entry.inputs] for entry in (a, b)]
    if shapes[0] != shapes[1]:
        told.append(f"inputs: {_tensors(a)} (A), {_tensors(b)} (B)")
    kinds = [found.task.kind if found.task is not None else None for found in (one, other)]
    if kinds[0] != kinds[1]:
        told.append(f"task: {kinds[0]} (A), {kinds[1]} (B)")
    if one.samples != other.samples:
        told.append(f"samples: {one.samples} (A), {other.samples} (B)")
    return told


def _tensors(entry: VariantEntry) -> str:
    return ", ".join(f"{tensor.dtype}{list(tensor.shape)}" for tensor in entry.inputs) or "none"


@dataclass(frozen=True, slots=True)
class _Blocks:
    """One side by round: `op_us` float64[rounds, ops], `total_us` of the same inferences, `clean_us`: [rounds]."""

    ops: list[OpMeta]
    op_us: NDArray[np.float64]
    total_us: NDArray[np.float64]
    clean_us: NDArray[np.float64]

    @classmethod
    def of(cls, run: Run, variant: str, phase: str) -> _Blocks:
        measured: MeasuredVariant = measured_variant(run, variant, phase)
        clean = _clean(run, variant, phase)
        rounds = [number for number in np.unique(measured.profiled_round).tolist() if number in clean]
        if len(rounds) < len(clean):  # the rows would be of other rounds than their sum
            raise StoreError(
                f"{run.folder}: {variant} was not profiled in all its rounds; go on with qprof run --resume"
            )
        op_us, total_us = [], []
        for number in rounds:
            inside = measured.profiled_round == number
            totals = measured.profiled_us[inside]
            # Quartiles that are inferences themselves: of two, interpolated ones would leave none between them.
            low, high = np.quantile(totals, 0.25, method="lower"), np.quantile(totals, 0.75, method="higher")
            middle = (totals >= low) & (totals <= high)
            op_us.append(measured.op_us[inside][middle].mean(axis=0))
            total_us.append(float(totals[middle].mean()))
        return cls(list(measured.ops), np.array(op_us), np.array(total_us), np.array([clean[n] for n in rounds]))


def _rows(a: tuple[Run, str], b: tuple[Run, str], phase: str) -> tuple[list[AcrossRow], str | None]:
    """The rows; or none, and why: the ops of one were not timed."""
    try:
        first, second = _Blocks.of(*a, phase), _Blocks.of(*b, phase)
    except StoreError as error:
        return [], str(error)
    match = match_ops(first.ops, second.ops)
    nothing = (np.zeros(len(first.clean_us)), np.zeros(len(second.clean_us)))
    rows = []
    places: list[tuple[str, int | None, int | None]] = [("matched", i, j) for i, j in match.pairs]
    places += [("inserted", None, j) for j in match.inserted] + [("removed", i, None) for i in match.removed]
    for kind, i, j in places:
        before = nothing[0] if i is None else first.op_us[:, i]
        after = nothing[1] if j is None else second.op_us[:, j]
        op_a, op_b = (None if i is None else first.ops[i]), (None if j is None else second.ops[j])
        named = op_a or op_b
        assert named is not None
        flags = change_flags(op_a, op_b) if op_a and op_b else ()
        a_us, b_us = (None if i is None else float(before.mean())), (None if j is None else float(after.mean()))
        rows.append(
            AcrossRow(kind, named.name, op_a, op_b, a_us, b_us, UnpairedEffect(before, after).interval(), flags)
        )
    rest = [side.total_us - side.op_us.sum(axis=1) for side in (first, second)]
    over = [side.clean_us - side.total_us for side in (first, second)]
    for kind, label, (before, after) in (
        ("outside ops", "outside the ops", rest),
        ("instrumentation", "estimator and instrumentation", over),
    ):
        means = float(before.mean()), float(after.mean())
        rows.append(AcrossRow(kind, label, None, None, *means, UnpairedEffect(before, after).interval()))
    return rows, None


def _figures(first: Run, a: str, second: Run, b: str) -> list[FigurePair]:
    metrics = [name for name in first.manifest.score_columns if name in second.manifest.score_columns]
    found = [FigurePair(name, "1", first.score(a, name), second.score(b, name)) for name in metrics]
    entries = first.variant(a), second.variant(b)
    found.append(FigurePair("file", "bytes", entries[0].bytes, entries[1].bytes))
    peaks = [entry.memory.peak_rss_above_runtime_bytes for entry in entries]
    found.append(FigurePair("peak memory", "bytes", *peaks))
    return [pair for pair in found if pair.a is not None or pair.b is not None]

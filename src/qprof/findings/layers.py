"""The level below latency: every op of one variant, or its ops rolled up by type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qprof.findings.difference_table import MeasuredVariant
from qprof.findings.measured import measured_variant
from qprof.findings.resolution import resolution_us, widened
from qprof.findings.unshrunk import unshrunk
from qprof.record.model import Structure
from qprof.record.ops import FUSED, OpMeta
from qprof.stats.intervals import Interval, quantile_interval
from qprof.stats.midmean import conditional_midmean
from qprof.store.run import Run

By = Literal["op", "type", "delegate", "kernel"]


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One op, or several of one type. `p50_us` is `None` for an op that has no kernel of its own (`reason`).

    `share`: part of the profiled end-to-end time (midmean, so that all shares and the rest make 1).
    `gflop_per_s`: 2 x MACs over the median time. `runs`: how often it ran in an inference, on average; MACs and
    activations are those of all runs. `None` where it is not told, or not the same for all.

    `resolution_us`: how far the clock may be off in every inference alike, which the interval of `p50_us` holds; `None`
    where it was not recorded. `timed`: how it was timed, as `qprof.record.ops.SOURCES` has it; `None` for several ways,
    and where nothing was.
    """

    label: str
    type: str
    ops: int
    kernel: str | None
    delegate: str | None
    p50_us: Interval | None
    share: float
    macs: int | None
    weight_bytes: int | None
    activation_bytes: int | None
    gflop_per_s: float | None
    meta: OpMeta | None = None
    runs: float | None = None
    reason: str | None = None
    resolution_us: float | None = None
    timed: str | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """How the time of quantized linear layers was divided between dequantization, matmul and the rest.

    `how`: "in situ", op by op inside the running model; "replayed", the parts run alone; `None` where they cannot be
    taken apart, for the `reason`. `dequantize_ops`: kernel -> its share of the dequantization, the largest first.
    `in_situ_ms`, `replayed_ms`: all dequantization of one inference, by either way. `quantize_ops`: of linears that
    multiply integers, kernel -> its share of making them of the activations.
    """

    how: str | None
    reason: str | None
    dequantize_ops: dict[str, float]
    in_situ_ms: float | None
    replayed_ms: float | None
    quantize_ops: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Layers:
    """All rows of a variant. `end_to_end_us` is the profiled inferences' median, `clean_us` that of the clean blocks;
    `rest_share` is the part of the profiled time that no op accounts for; `partitions`: delegate -> partitions. `split`
    tells how quantized layers were taken apart (see `Split`), `None` where there are none. `stored`: what did not
    shrink of its file, in words, `None` where there is nothing to say of it."""

    variant: str
    phase: str
    structure: Structure
    rows: list[LayerRow]
    end_to_end_us: Interval
    clean_us: Interval
    rest_share: float
    inferences: int
    partitions: dict[str, int]
    split: Split | None = None
    stored: str | None = None


def layers(run: Run, variant: str, by: By = "op", phase: str | None = None) -> Layers:
    """The op table of a variant in a phase (by default the run's first), from its profiled blocks.

    Raises `StoreError` where its ops were not timed.
    """
    measured = measured_variant(run, variant, phase)
    midmean = conditional_midmean(measured.op_us, measured.profiled_us, measured.profiled_round)
    shares = np.asarray(midmean.means) / midmean.total
    sources = run.op_sources(variant, phase)
    rows = [
        _row(measured, members, label, float(shares[members].sum()), by, sources)
        for label, members in _groups(measured.ops, by)
    ]
    # A subgraph that is called twice has its partitions once.
    divided = {(op.delegate, op.partition) for op in run.ops_of(variant, phase) if op.type == "DELEGATE"}
    partitions = Counter(delegate for delegate, _ in sorted(divided, key=str) if delegate is not None)
    return Layers(
        variant=variant,
        phase=run.phase(phase),
        structure=run.variant(variant).structure,
        rows=rows,
        end_to_end_us=quantile_interval(measured.profiled_us, measured.profiled_round, method="expanded"),
        clean_us=quantile_interval(measured.clean_us, measured.clean_round, method="expanded"),
        rest_share=float(midmean.rest / midmean.total),
        inferences=len(measured.profiled_us),
        partitions=dict(partitions),
        stored=found.sentence if (found := unshrunk(run.variant(variant))) else None,
        split=_split(run, variant, run.phase(phase)) if any(op.quantization for op in measured.ops) else None,
    )


def _split(run: Run, variant: str, phase: str) -> Split | None:
    timing = run.variant(variant).timing
    found = timing.split.get(phase) if timing else None
    if found is None:
        return None
    ops = sorted((found.dequantize_ops or {}).items(), key=lambda item: -item[1])
    quantize = None if found.quantize_ops is None else _largest_first(found.quantize_ops)
    return Split(found.how, found.reason, dict(ops), found.in_situ_ms, found.replayed_ms, quantize)


def _largest_first(shares: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _groups(ops: Sequence[OpMeta], by: By) -> list[tuple[str, NDArray[np.intp]]]:
    """Label and members of each row, in order of first appearance."""
    labels = [str(_label(op, position, by)) for position, op in enumerate(ops)]
    groups: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        groups.setdefault(label, []).append(position)
    if by == "op":
        return [(ops[int(label)].name, np.array(members)) for label, members in groups.items()]
    return [(label, np.array(members)) for label, members in groups.items()]


def _label(op: OpMeta, position: int, by: By) -> object:
    if by == "type":
        return op.type
    if by == "delegate":
        return op.delegate or "none (builtin kernels)"
    if by == "kernel":
        return op.kernel or "unknown"
    return position  # names need not be unique


def _row(
    measured: MeasuredVariant,
    members: NDArray[np.intp],
    label: str,
    share: float,
    by: By,
    sources: Mapping[str, str],
) -> LayerRow:
    ops = [measured.ops[i] for i in members]
    one = ops[0] if by == "op" else None
    ran = [op for op in ops if op.kernel != FUSED and op.runs != 0]
    idle = all(op.runs == 0 for op in ops)
    p50 = None
    if ran:
        p50 = quantile_interval(measured.op_us[:, members].sum(axis=1), measured.profiled_round, method="expanded")
        p50 = widened(p50, resolution_us(ran))
        if p50.low is not None and p50.low < 0.0:
            p50 = replace(p50, low=0.0)
    macs = _total([op.macs for op in ops])
    return LayerRow(
        label=label,
        type=_shared([op.type for op in ops]) or "several",
        ops=len(ops),
        kernel=_shared([op.kernel for op in ops]),
        delegate=_shared([op.delegate for op in ops]),
        p50_us=p50,
        share=share,
        macs=macs,
        weight_bytes=_total([op.weight_bytes for op in ops]),
        activation_bytes=_total([op.activation_bytes for op in ops]),
        gflop_per_s=2 * macs / p50.value / 1e3 if macs and p50 is not None and p50.value > 0 else None,
        meta=one,
        reason=None if ran else _IDLE if idle else _NO_KERNEL,
        runs=_shared_count([op.runs for op in ops]),
        resolution_us=resolution_us(ran) if all(op.resolution_us is not None for op in ran) else None,
        timed=_shared([sources.get(op.op) for op in ran]) if ran else None,
    )


_NO_KERNEL = "no kernel of its own: fused into a neighbour or folded when the model was loaded"
_IDLE = "not run in the inferences that were profiled: of another branch, or of the first inference alone"


def _shared_count(values: Sequence[float | None]) -> float | None:
    return values[0] if len(set(values)) == 1 else None


def _total(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _shared(values: Sequence[str | None]) -> str | None:
    return values[0] if len(set(values)) == 1 else None

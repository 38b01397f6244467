"""From a run's tables to the arrays that explanations work on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.findings.difference_table import MeasuredVariant
from qprof.findings.op_runs import is_container, own_times, per_inference, with_call_names
from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.store.run import Latencies, OpTimes, Run


def op_list(run: Run, variant: str, phase: str | None = None) -> list[OpMeta]:
    """A variant's ops in execution order, containers (delegate partitions, control flow) included; of the run's first
    phase, or of the one that is named.

    Raises `StoreError` with the reason where the variant's ops were not timed.
    """
    entry = run.variant(variant)
    ops = run.ops_of(variant, phase)
    if not ops:
        raise StoreError(f"{run.folder}: the ops of {variant} were not timed ({_why_untimed(run, entry)})")
    return ops


def _why_untimed(run: Run, entry: VariantEntry) -> str:
    if entry.failed:
        return str(entry.reason)
    if not run.manifest.profile.protocol.profiled:
        return "protocol.profiled is off"
    return "; ".join(entry.notes) or "the run was stopped before; go on with qprof run --resume"


def leaves(ops: list[OpMeta]) -> NDArray[np.bool_]:
    """Which ops' own times add up to the whole: those that contain no other, and loops, branches and calls, whose own
    time is what their ops leave over."""
    return ~is_container(ops)


def measured_variant(run: Run, variant: str, phase: str | None = None, kind: str = "profiled") -> MeasuredVariant:
    """Clean latencies and the time of every leaf op in every profiled inference of a phase (by default the first).

    `kind`: of the blocks that the ops are taken from, "profiled" or "reset".

    An op that ran several times in an inference (in a loop's body) counts with its sum, in its MACs and bytes too; one
    that was folded away counts 0. Raises `StoreError` where the ops were not timed.
    """
    ops = op_list(run, variant, phase)
    keep = leaves(ops)
    profiled = run.latency(variant, kind, phase)
    clean = run.latency(variant, phase=phase)
    if not len(profiled.duration_ns) or not len(clean.duration_ns):
        entry = run.variant(variant)
        why = str(entry.reason) if entry.failed else "go on with qprof run --resume"
        raise StoreError(f"{run.folder}: {variant} has no finished clean and profiled blocks ({why})")
    events = run.ops(variant, phase, kind)
    times = own_times(ops, op_matrix(profiled, events, len(ops)))
    if any(op.runs is not None or op.subgraph for op in ops):
        counts = op_matrix(profiled, replace(events, duration_ns=np.ones_like(events.duration_ns)), len(ops))
        ops = with_call_names(per_inference(ops, counts, profiled.sample, run.variant(variant).structure))
    return MeasuredVariant(
        name=variant,
        ops=[op for op, is_leaf in zip(ops, keep, strict=True) if is_leaf],
        clean_us=clean.duration_ns / 1e3,
        clean_round=clean.round,
        op_us=times[:, keep] / 1e3,
        profiled_us=profiled.duration_ns / 1e3,
        profiled_round=profiled.round,
    )


def op_matrix(inferences: Latencies, events: OpTimes, op_count: int) -> NDArray[np.float64]:
    """Nanoseconds of each op in each inference: float64[inferences, op_count]."""
    width = int(inferences.inference.max()) + 1 if len(inferences.inference) else 1
    keys = inferences.block.astype(np.int64) * width + inferences.inference
    order = np.argsort(keys)
    wanted = events.block.astype(np.int64) * width + events.inference
    row = order[np.searchsorted(keys[order], wanted)]
    flat = np.bincount(
        row * op_count + events.op, weights=events.duration_ns.astype(np.float64), minlength=len(keys) * op_count
    )
    return np.asarray(flat.reshape(len(keys), op_count), np.float64)

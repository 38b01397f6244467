"""From a run's tables to the arrays that explanations work on."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.findings.difference_table import MeasuredVariant
from qprof.findings.op_runs import is_container, own_times, per_inference, with_call_names
from qprof.record.manifest import VariantEntry
from qprof.record.ops import OpMeta
from qprof.store.op_scan import Chunk
from qprof.store.run import OP_TIMES, Latencies, OpTimes, Run


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
    counted = any(op.runs is not None or op.subgraph for op in ops)
    times, counts = _op_matrices(profiled, run.op_chunks(variant, phase, kind), len(ops), counted)
    named = (
        ops
        if counts is None
        else with_call_names(per_inference(ops, counts, profiled.sample, run.variant(variant).structure))
    )
    op_us = own_times(ops, times)[:, keep]
    op_us /= 1e3
    return MeasuredVariant(
        name=variant,
        ops=[op for op, is_leaf in zip(named, keep, strict=True) if is_leaf],
        clean_us=clean.duration_ns / 1e3,
        clean_round=clean.round,
        op_us=op_us,
        profiled_us=profiled.duration_ns / 1e3,
        profiled_round=profiled.round,
    )


def measured_once(run: Run, variant: str, phase: str, kind: str = "profiled") -> MeasuredVariant:
    """The same, kept as long as the run is held: every variant is compared with one baseline. Not to be written."""
    known = _MEASURED.setdefault(run, {})
    place = (variant, phase, kind)
    if place not in known:
        known[place] = measured_variant(run, variant, phase, kind)
    return known[place]


_MEASURED: WeakKeyDictionary[Run, dict[tuple[str, str, str], MeasuredVariant]] = WeakKeyDictionary()


def op_matrix(inferences: Latencies, events: OpTimes, op_count: int) -> NDArray[np.float64]:
    """Nanoseconds of each op in each inference: float64[inferences, op_count]."""
    columns = {name: getattr(events, name) for name in OP_TIMES}
    return _op_matrices(inferences, [columns], op_count, counted=False)[0]


def _op_matrices(
    inferences: Latencies, chunks: Iterable[Chunk], op_count: int, counted: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Nanoseconds of each op in each inference, float64[inferences, op_count], and where it is `counted` how often it
    ran; from parts of the op events, each with the columns `OP_TIMES`. Whole numbers below 2^53 add up exactly."""
    width = int(inferences.inference.max()) + 1 if len(inferences.inference) else 1
    keys = inferences.block.astype(np.int64) * width + inferences.inference
    order = np.argsort(keys)
    ordered = keys[order]
    times = np.zeros(len(keys) * op_count)
    counts = np.zeros(len(keys) * op_count) if counted else None
    for chunk in chunks:
        if not len(chunk["op"]):
            continue
        wanted = chunk["block"].astype(np.int64) * width + chunk["inference"]
        # Events of one inference stand together: it is looked up once.
        first = np.flatnonzero(np.concatenate([[True], wanted[1:] != wanted[:-1]]))
        place = np.searchsorted(ordered, wanted[first])
        if not len(ordered) or np.any(ordered[np.minimum(place, len(ordered) - 1)] != wanted[first]):
            raise StoreError(
                "samples.parquet: damaged (it lacks inferences that ops.parquet has events of); restore it or run anew"
            )
        row = np.repeat(order[place], np.diff([*first, len(wanted)]))
        low, high = int(row.min()) * op_count, (int(row.max()) + 1) * op_count
        cell = row * op_count + chunk["op"] - low
        times[low:high] += np.bincount(cell, chunk["duration_ns"], high - low)
        if counts is not None:
            counts[low:high] += np.bincount(cell, minlength=high - low)
    shape = (len(keys), op_count)
    return times.reshape(shape), None if counts is None else counts.reshape(shape)

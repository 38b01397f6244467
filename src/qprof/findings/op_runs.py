"""Ops that run more than once in an inference, or not at all: those of loops, branches and functions.

The counts that are recorded of an op (multiplications, bytes) are of one run. How often it ran, its events tell; that
times the counts is what an inference takes, which its time is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qprof.record.ops import OpMeta


def is_container(ops: Sequence[OpMeta]) -> NDArray[np.bool_]:
    """Which ops are but the frame of others: delegate partitions, and layers whose parts are timed."""
    subgraphs = {op.op: op.subgraph for op in ops}
    frames = {op.parent for op in ops if op.parent is not None and subgraphs.get(op.parent) == op.subgraph}
    return np.array([op.op in frames or op.type == "DELEGATE" for op in ops], bool)


def callers(ops: Sequence[OpMeta]) -> dict[int, list[int]]:
    """Position of each op that runs other subgraphs -> the positions of the ops and partitions right inside."""
    position = {op.op: place for place, op in enumerate(ops)}
    found: dict[int, list[int]] = {}
    for place, op in enumerate(ops):
        above = None if op.parent is None else position.get(op.parent)
        if above is not None and ops[above].subgraph != op.subgraph:
            found.setdefault(above, []).append(place)
    return found


def own_times(ops: Sequence[OpMeta], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The times of all ops, [inferences, ops], those of loops, branches and calls without what runs inside them: what
    the runtime takes to go around the loop and to hand tensors over. Never less than 0, since what is inside is over
    before it: where that would be more, something is counted twice, and the sum has to show it."""
    own = times.copy()
    for place, inside in callers(ops).items():
        own[:, place] = np.maximum(times[:, place] - times[:, inside].sum(axis=1), 0.0)
    return own


def with_call_names(ops: Sequence[OpMeta]) -> list[OpMeta]:
    """The ops, those of a subgraph with several callers named after the one that runs them: "matmul in block_2". What
    the caller is called is known of all ops, also of one that is in such a subgraph itself."""
    known = {op.op: op for op in ops}
    found = []
    for op in ops:
        names, at = [op.name], known.get(op.op.partition("@")[2])
        while at is not None and len(names) < _DEEPEST:
            names.append(at.name)
            at = known.get(at.op.partition("@")[2])
        found.append(replace(op, name=" in ".join(names)) if len(names) > 1 else op)
    return found


#: Callers that are named behind an op.
_DEEPEST = 8


def per_inference(
    ops: Sequence[OpMeta], counts: NDArray[np.float64], samples: NDArray[np.integer], structure: str | None = None
) -> list[OpMeta]:
    """The ops with the counts of an inference, and `runs` as their events tell.

    `counts`: events of each op in each inference, [inferences, ops]; `samples`: the sample of each inference;
    `structure`: as the manifest has it, "modules" where an op that stands in no subgraph may run more or less than once
    (an expert, which not every token picks). The mean
    is one over the samples, of which some were run more often than others, and not as often by each variant: a loop
    whose passes depend on the sample would seem to do other work.

    Weights stay as they are stored: they are read in each run, and yet the model holds them once. Ops whose counts
    are of a whole inference already are left alone.
    """
    numbers, which = np.unique(samples, return_inverse=True)
    summed = np.zeros((len(numbers), len(ops)))
    np.add.at(summed, which.reshape(-1), counts)
    means = (summed / np.bincount(which.reshape(-1), minlength=len(numbers))[:, None]).mean(axis=0)
    runs = {op.op: float(count) for op, count in zip(ops, means, strict=True)}
    found = []
    for op in ops:
        if op.runs is None and op.subgraph == 0:
            found.append(op)
            continue
        # A kernel that was fused away leaves no event; the partition does.
        once = op.subgraph == 0 and structure != "modules"
        ran = 1.0 if once else runs[op.op] or runs.get(op.parent or "", 0.0) * (op.partition is not None)
        found.append(
            replace(op, runs=ran, macs=_times(op.macs, ran), activation_bytes=_times(op.activation_bytes, ran))
        )
    return found


def _times(count: int | None, runs: float) -> int | None:
    return None if count is None else round(count * runs)

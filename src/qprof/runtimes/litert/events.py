"""From the profiler's raw records to the time of each op."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core._op_profiler import KIND_KERNEL, KIND_NODE
from qprof.record.ops import SOURCES, OpEvents, OpMeta
from qprof.runtimes.litert.own_time import owners

#: XNNPACK reports the time of each kernel in whole microseconds, rounded down (xnn_get_elapsed_time in its runtime.c;
#: not the two times that it is the difference of, so that no average over inferences brings back what is lost). What
#: was lost is known to lie between nothing and one: the estimate is half of one.
FLOOR_LOSS_US = 0.5

_NODE_SOURCE = SOURCES.index("node")
_KERNEL_SOURCE = SOURCES.index("kernel")
_CLOCKED_SOURCE = SOURCES.index("clocked")


@dataclass(frozen=True)
class EventLayout:
    """Which op of the op list a record belongs to.

    `nodes`: (subgraph, node) -> op. `kernels`: (subgraph, node of the delegate, kernel) -> op. Subgraphs are numbered
    as the profiler numbers them.
    """

    nodes: Mapping[tuple[int, int], int]
    kernels: Mapping[tuple[int, int, int], int]


def to_events(records: NDArray[Any], layout: EventLayout) -> OpEvents:
    """Op events of recorded inferences.

    A node's time is its own, in nanoseconds, and so is a kernel's whose clock was read along (`readings`). Where none
    was, a delegate's node is split over its ops: each kernel's whole microseconds plus `FLOOR_LOSS_US`, scaled so that
    they add up to the node's nanoseconds. Kernels that belong to one op become one event. Records of kernels that the
    layout does not know stay in their node's own time, as do those of kernels whose node left no record.
    """
    positions, kernel_positions, owner = owners(records)
    nodes = records[positions]
    node_ops = _lookup(nodes, layout.nodes, ("subgraph", "node"))
    known = node_ops >= 0
    parts = [
        OpEvents(
            inference=nodes["inference"][known],
            op=node_ops[known],
            start_ns=nodes["start_ns"][known],
            duration_ns=nodes["duration_ns"][known],
            source=np.full(int(known.sum()), _NODE_SOURCE, np.uint8),
        )
    ]
    clocked = records["readings"][kernel_positions] > 0
    for chosen, events in ((clocked, _clocked_events), (~clocked, _kernel_events)):
        if chosen.any():
            of = owner[chosen]
            parts.append(events(records[kernel_positions[chosen]], nodes[of], of, layout))
    return _concatenate(parts)


def with_resolutions(
    ops: Sequence[OpMeta], records: NDArray[Any], layout: EventLayout, reading_ns: int
) -> list[OpMeta]:
    """The op list with how far the clock may mislead of each op (`OpMeta.resolution_us`), from the records of one
    inference.

    A reading of the clock (`reading_ns`) costs now less, now more than usual, by what the processor does besides: it
    may be off by as much as it costs. Of a kernel in whole microseconds half of one is not known.
    """
    lost = np.zeros(len(ops))
    timed = np.zeros(len(ops), bool)
    nodes, kernels = (records[records["kind"] == kind] for kind in (KIND_NODE, KIND_KERNEL))
    for owners_of, readings in (
        (_lookup(nodes, layout.nodes, ("subgraph", "node")), np.ones(len(nodes))),
        (_lookup(kernels, layout.kernels, ("subgraph", "node", "kernel")), kernels["readings"]),
    ):
        each = np.where(readings > 0, readings * reading_ns / 1e3, FLOOR_LOSS_US)
        known = owners_of >= 0
        np.add.at(lost, owners_of[known], each[known])
        timed[owners_of[known]] = True
    return [
        replace(op, resolution_us=float(us) if is_timed else None)
        for op, us, is_timed in zip(ops, lost, timed, strict=True)
    ]


def _clocked_events(
    kernels: NDArray[Any], nodes: NDArray[Any], owner: NDArray[np.intp], layout: EventLayout
) -> OpEvents:
    """Events of kernels (one at least) that were timed in nanoseconds, as `_kernel_events`."""
    ops = _lookup(kernels, layout.kernels, ("subgraph", "node", "kernel"))
    begin = np.flatnonzero(np.r_[True, (owner[1:] != owner[:-1]) | (ops[1:] != ops[:-1])])
    known = ops[begin] >= 0
    return OpEvents(
        inference=kernels["inference"][begin][known],
        op=ops[begin][known],
        start_ns=kernels["start_ns"][begin][known],
        duration_ns=np.add.reduceat(kernels["duration_ns"], begin)[known],
        source=np.full(int(known.sum()), _CLOCKED_SOURCE, np.uint8),
    )


def _kernel_events(
    kernels: NDArray[Any], nodes: NDArray[Any], owner: NDArray[np.intp], layout: EventLayout
) -> OpEvents:
    """Events of kernels (one at least); `nodes[i]` is the delegate's node that ran `kernels[i]`, `owner[i]` its
    number."""
    ops = _lookup(kernels, layout.kernels, ("subgraph", "node", "kernel"))
    weight = kernels["duration_us"].astype(np.float64) + FLOOR_LOSS_US
    total = np.bincount(owner, weights=weight)
    share = weight / total[owner]
    duration = share * nodes["duration_ns"]
    running = np.cumsum(share)
    # Position of each kernel inside its node: the running share, less what stood there when the node began.
    before = running - share
    first = np.r_[True, owner[1:] != owner[:-1]]
    origin = np.maximum.accumulate(np.where(first, np.arange(len(owner)), 0))
    # As integers: a float has 2 ns left once a machine was up for 104 days (2**53 ns).
    start = nodes["start_ns"] + np.rint((before - before[origin]) * nodes["duration_ns"]).astype(np.int64)
    new_event = np.r_[True, (owner[1:] != owner[:-1]) | (ops[1:] != ops[:-1])]
    begin = np.flatnonzero(new_event)
    known = ops[begin] >= 0
    return OpEvents(
        inference=kernels["inference"][begin][known],
        op=ops[begin][known],
        start_ns=start[begin][known],
        duration_ns=np.rint(np.add.reduceat(duration, begin)[known]).astype(np.int64),
        source=np.full(int(known.sum()), _KERNEL_SOURCE, np.uint8),
    )


def _lookup(records: NDArray[Any], table: Mapping[Any, int], fields: tuple[str, ...]) -> NDArray[np.int32]:
    """`table[record's fields]` for every record, -1 where the table has no such key."""
    if len(records) == 0:
        return np.empty(0, np.int32)
    keys, inverse = np.unique(records[list(fields)], return_inverse=True)
    values = np.array([table.get(tuple(int(field) for field in key), -1) for key in keys], np.int32)
    return values[inverse.reshape(-1)]


def _concatenate(parts: list[OpEvents]) -> OpEvents:
    merged = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("inference", "op", "start_ns", "duration_ns", "source")
    }
    order = np.lexsort((merged["start_ns"], merged["inference"]))
    return OpEvents(**{name: values[order] for name, values in merged.items()})

"""From the profiler's raw records to the time of each op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core._op_profiler import KIND_KERNEL, KIND_NODE
from qprof.record.ops import SOURCES, OpEvents

#: XNNPACK reports whole microseconds, rounded down: on average each kernel lost half of one.
FLOOR_LOSS_US = 0.5

_NODE_SOURCE = SOURCES.index("node")
_KERNEL_SOURCE = SOURCES.index("kernel")


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

    A node's time is its own, in nanoseconds. A delegate's node is split over its ops: each kernel's whole microseconds
    plus `FLOOR_LOSS_US`, scaled so that they add up to the node's nanoseconds. Kernels that belong to one op become
    one event. Records of kernels that the layout does not know stay in their node's own time, as do those of kernels
    whose node left no record.
    """
    is_node = records["kind"] == KIND_NODE
    nodes = records[is_node]
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
    is_kernel = records["kind"] == KIND_KERNEL
    if is_kernel.any():
        # A delegate reports its kernels just before its node's own record: the next node record is theirs.
        owner = np.searchsorted(np.flatnonzero(is_node), np.flatnonzero(is_kernel))
        kernels, owner = records[is_kernel][owner < len(nodes)], owner[owner < len(nodes)]
        # Unless that node is not timed.
        theirs = np.logical_and.reduce(
            [kernels[name] == nodes[name][owner] for name in ("inference", "subgraph", "node")]
        )
        if theirs.any():
            parts.append(_kernel_events(kernels[theirs], nodes[owner[theirs]], owner[theirs], layout))
    return _concatenate(parts)


def _kernel_events(
    kernels: NDArray[Any], nodes: NDArray[Any], owner: NDArray[np.int64], layout: EventLayout
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

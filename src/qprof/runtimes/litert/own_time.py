"""What timing the ops costs an inference, taken out of what was timed: as far as the clock's own readings tell it.

Two costs are known. From one reading of a clock to the next passes the time of a reading, also where nothing else
happens in between (`OpProfiler.reading_cost_ns`): every node and every kernel that was timed holds one. And a delegate
that is asked for the times of its kernels reports them once it has run them all, inside its own node: what lies between
its last reading and the end of the node is that.

An inference without them is as if its clocks took no time: later ops move up, and everything still adds up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core._op_profiler import KIND_KERNEL, KIND_NODE


@dataclass(frozen=True, slots=True)
class OwnTime:
    """`records`: the same records, of the model alone; of a kernel that was timed in nanoseconds also its start.
    `timing_ns`: int64[inferences], what was taken out of each."""

    records: NDArray[Any]
    timing_ns: NDArray[np.int64]


def owners(records: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Positions of the nodes' records, those of the kernels that lie in a timed node, and for each of these its node's
    number among the nodes.

    A delegate reports its kernels just before its node's own record: the next node record is theirs, unless that node
    is not timed.
    """
    nodes = np.flatnonzero(records["kind"] == KIND_NODE)
    kernels = np.flatnonzero(records["kind"] == KIND_KERNEL)
    owner = np.searchsorted(nodes, kernels)
    kernels, owner = kernels[owner < len(nodes)], owner[owner < len(nodes)]
    theirs = np.ones(len(kernels), bool)
    for name in ("inference", "subgraph", "node"):
        theirs &= records[name][kernels] == records[name][nodes[owner]]
    return nodes, kernels[theirs], owner[theirs]


def own_time(records: NDArray[Any], reading_ns: int) -> OwnTime:
    """Take what timing them cost out of the ops of whole inferences. `reading_ns`: of one reading of the clock."""
    positions, kernels, owner = owners(records)
    inferences = int(records["inference"].max()) + 1 if len(records) else 0
    if not len(positions):
        return OwnTime(records, np.zeros(inferences, np.int64))
    found = records.copy()
    start, duration = (records[name][positions] for name in ("start_ns", "duration_ns"))
    clocked = records["readings"][kernels] > 0
    kernels, owner = kernels[clocked], owner[clocked]
    # A reading may cost less than usual, but nothing takes less than no time.
    own = np.maximum(records["duration_ns"][kernels] - records["readings"][kernels] * reading_ns, 0)
    spent = np.minimum(duration, reading_ns)
    first = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]]) if len(owner) else np.empty(0, np.intp)
    before = np.maximum(records["start_ns"][kernels[first]] - start[owner[first]] - reading_ns, 0)
    in_kernels = np.add.reduceat(own, first) if len(first) else own
    spent[owner[first]] = np.maximum(duration[owner[first]] - before - in_kernels, 0)

    gone = _Gone(start + duration, spent)
    inference = records["inference"][positions]
    timing = np.bincount(inference, weights=spent, minlength=inferences).astype(np.int64)
    begin = np.full(inferences, np.iinfo(np.int64).max)
    np.minimum.at(begin, inference, start)
    base = gone.until(begin[inference])
    new_start = start - (gone.until(start) - base)
    new_end = start + duration - (gone.until(start + duration) - base)
    found["start_ns"][positions] = new_start
    found["duration_ns"][positions] = np.maximum(new_end - new_start, 0)

    found["duration_ns"][kernels] = own
    running = np.cumsum(own) - own
    group = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(owner)]))
    found["start_ns"][kernels] = (new_start[owner[first]] + before - running[first])[group] + running
    return OwnTime(found, timing)


class _Gone:
    """How much of the time until some moment was spent on timing; what a node holds counts once it has ended."""

    def __init__(self, ends: NDArray[np.int64], spent: NDArray[np.int64]) -> None:
        order = np.argsort(ends, kind="stable")
        self._ends = ends[order]
        self._sums = np.r_[0, np.cumsum(spent[order])]

    def until(self, moment: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(self._sums[np.searchsorted(self._ends, moment, side="right")])

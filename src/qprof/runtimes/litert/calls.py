"""Which call of a subgraph a record of the profiler belongs to.

A subgraph may have several callers: a function that was kept whole and is called from two places, the decomposition of
two composites, a function called inside a loop's body and behind it. The profiler tells subgraph and node of a record.
The call follows from the order of the records: a node's own record is written when it returns, so that the next record
of one of the subgraph's callers is that of the op which made the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core._op_profiler import KIND_NODE
from qprof.runtimes.litert.model_facts import SubgraphFacts

#: Subgraphs that call one another twice each have 2**n calls: beyond so many ops the calls of one are not told apart.
_MOST_OPS = 20_000


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a subgraph, or its only one. `number` takes the place of the subgraph's in the records; the first
    call of a subgraph has the number of the subgraph. `subgraph` is as the profiler numbers it; `caller` the number of
    the call in which the calling node stands, and that node; `None` for what is run from outside."""

    number: int
    subgraph: int
    caller: tuple[int, int] | None = None


class Calls:
    """All calls of a model's subgraphs, callers before what they call.

    `subgraphs`: the file's facts of each subgraph that the profiler knows, in its order.
    """

    def __init__(self, subgraphs: Sequence[SubgraphFacts]) -> None:
        self._subgraphs = subgraphs
        numbers = {facts.index: number for number, facts in enumerate(subgraphs)}
        # subgraph -> (node, subgraph that it runs), in the order of the nodes
        self._runs = [
            [(op.index, child) for op in facts.ops for child in dict.fromkeys(map(numbers.get, op.subgraphs)) if child]
            for facts in subgraphs
        ]
        self._of: dict[int, list[Call]] = {}
        self._depth: dict[int, int] = {}  # of a subgraph's deepest call
        try:
            self.all = self._told_apart()
        except _TooManyError:
            self.all = self._one_each()
        for call in self.all:
            self._of.setdefault(call.subgraph, []).append(call)
        self._by_number = {call.number: call for call in self.all}

    def _told_apart(self) -> list[Call]:
        found: list[Call] = []
        seen: set[int] = set()
        ops = 0
        for root in range(len(self._subgraphs)):
            # Behind the main subgraph, those that nothing has run by then: of other signatures.
            if root in seen:
                continue
            waiting: list[tuple[int, tuple[int, int] | None, tuple[int, ...]]] = [(root, None, ())]
            while waiting:
                subgraph, caller, above = waiting.pop()
                ops += 1 + len(self._subgraphs[subgraph].ops)
                if ops > _MOST_OPS:
                    raise _TooManyError
                number = len(self._subgraphs) + len(found) - len(seen) if subgraph in seen else subgraph
                seen.add(subgraph)
                found.append(Call(number, subgraph, caller))
                self._depth[subgraph] = max(self._depth.get(subgraph, 0), len(above))
                inside = (*above, subgraph)  # LiteRT runs no subgraph inside itself
                waiting += [
                    (child, (number, node), inside)
                    for node, child in reversed(self._runs[subgraph])
                    if child not in inside
                ]
        return found

    def _one_each(self) -> list[Call]:
        callers = {child: (owner, node) for owner, runs in enumerate(self._runs) for node, child in runs}
        return [Call(number, number, callers.get(number)) for number in range(len(self._subgraphs))]

    def calling_nodes(self, subgraph: int) -> frozenset[int]:
        """Nodes of a subgraph, as the profiler numbers it, that run others which it knows."""
        return frozenset(node for node, _ in self._runs[subgraph])

    def is_shared(self, call: Call) -> bool:
        """Whether its subgraph has other calls."""
        return len(self._of[call.subgraph]) > 1

    def assign(self, records: NDArray[Any]) -> NDArray[Any]:
        """The records with the number of their call in the place of their subgraph's; -1 where it is not known.

        Only subgraphs with several calls change, so that most models' records are handed back as they are.
        """
        shared = [subgraph for subgraph, calls in self._of.items() if len(calls) > 1]
        if not shared or not len(records):
            return records
        assigned = records.copy()
        for subgraph in sorted(shared, key=lambda one: self._depth[one]):  # a caller's own call is asked for
            self._assign(subgraph, records, assigned)
        return assigned

    def _assign(self, subgraph: int, records: NDArray[Any], assigned: NDArray[Any]) -> None:
        table: Mapping[tuple[int, int], int] = {call.caller: call.number for call in self._of[subgraph] if call.caller}
        callers = {(self._by_number[call].subgraph, node) for call, node in table}
        is_caller = np.zeros(len(records), bool)
        for owner, node in callers:
            is_caller |= (records["subgraph"] == owner) & (records["node"] == node)
        where = np.flatnonzero(is_caller & (records["kind"] == KIND_NODE))
        ours = np.flatnonzero(records["subgraph"] == subgraph)
        following = np.searchsorted(where, ours)
        known = following < len(where)
        assigned["subgraph"][ours[~known]] = -1
        ours, made_by = ours[known], where[following[known]]
        numbers = _numbers(assigned[made_by], table)
        # A caller that is not timed has no record: the next one was made by another, which began later.
        is_node = records["kind"][ours] == KIND_NODE
        inside = records["inference"][ours] == records["inference"][made_by]
        inside &= ~is_node | (records["start_ns"][made_by] <= records["start_ns"][ours])
        assigned["subgraph"][ours] = np.where(inside, numbers, -1)


def _numbers(made_by: NDArray[Any], table: Mapping[tuple[int, int], int]) -> NDArray[np.int32]:
    numbers = np.full(len(made_by), -1, np.int32)
    for (call, node), number in table.items():
        numbers[(made_by["subgraph"] == call) & (made_by["node"] == node)] = number
    return numbers


class _TooManyError(Exception):
    """More calls than are worth telling apart."""

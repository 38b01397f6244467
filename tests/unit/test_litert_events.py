"""From records to op events: known answers, and that the table always closes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

core = pytest.importorskip("qprof.core._op_profiler")

from qprof.record.ops import SOURCES, OpEvents  # noqa: E402
from qprof.runtimes.litert.events import EventLayout, to_events  # noqa: E402

NODE, KERNEL = (SOURCES.index(name) for name in ("node", "kernel"))


def node(number: int, start_ns: int, duration_ns: int, *, inference: int = 0, subgraph: int = 0) -> tuple[int, ...]:
    return (core.KIND_NODE, inference, subgraph, number, -1, -1, start_ns, duration_ns, 0, 0)


def kernel(number: int, owner: int, duration_us: int, *, inference: int = 0, subgraph: int = 0) -> tuple[int, ...]:
    return (core.KIND_KERNEL, inference, subgraph, owner, number, 0, 0, 0, duration_us, 0)


def records(*rows: tuple[int, ...]) -> NDArray[Any]:
    return np.array(list(rows), dtype=core.record_dtype)


def rows(events: OpEvents) -> list[tuple[int, ...]]:
    """(inference, op, start, duration, source) of every event."""
    columns = (events.inference, events.op, events.start_ns, events.duration_ns, events.source)
    assert len({len(column) for column in columns}) == 1
    return [tuple(int(value) for value in row) for row in zip(*columns, strict=True)]


def layout(nodes: dict[Any, int] | None = None, kernels: dict[Any, int] | None = None) -> EventLayout:
    return EventLayout(nodes=nodes or {}, kernels=kernels or {})


def test_nothing_recorded() -> None:
    events = to_events(records(), layout({(0, 0): 0}))
    assert rows(events) == []
    assert [getattr(events, name).dtype for name in ("inference", "op", "start_ns", "duration_ns", "source")] == [
        *(np.int32, np.int32, np.int64, np.int64, np.uint8)
    ]


def test_nodes_keep_their_own_nanoseconds() -> None:
    recorded = records(node(7, 100, 11), node(3, 120, 5), node(7, 900, 13, inference=1), node(3, 920, 0, inference=1))
    assert rows(to_events(recorded, layout({(0, 7): 0, (0, 3): 1}))) == [
        (0, 0, 100, 11, NODE),
        (0, 1, 120, 5, NODE),
        (1, 0, 900, 13, NODE),
        (1, 1, 920, 0, NODE),
    ]


def test_a_partition_is_split_by_whole_microseconds_and_the_half_that_each_lost() -> None:
    # Weights 2.5, 0.5 and 1.0 + 1.0 of 5: of 10 000 ns the first op gets 5000, the second 1000, the third 4000.
    recorded = records(kernel(0, 9, 2), kernel(1, 9, 0), kernel(2, 9, 1), kernel(3, 9, 0), node(9, 50_000, 10_000))
    answers = layout({(0, 9): 0}, {(0, 9, 0): 1, (0, 9, 1): 2, (0, 9, 2): 3, (0, 9, 3): 3})
    assert rows(to_events(recorded, answers)) == [
        (0, 0, 50_000, 10_000, NODE),
        (0, 1, 50_000, 5_000, KERNEL),
        (0, 2, 55_000, 1_000, KERNEL),
        (0, 3, 56_000, 4_000, KERNEL),
    ]


def test_two_partitions_in_one_inference_are_scaled_apart() -> None:
    recorded = records(
        *(kernel(0, 9, 1), kernel(1, 9, 1), node(9, 0, 4_000)),
        node(4, 4_000, 100),
        *(kernel(0, 10, 4), kernel(1, 10, 0), node(10, 4_100, 1_000)),
    )
    answers = layout({(0, 9): 0, (0, 4): 3, (0, 10): 4}, {(0, 9, 0): 1, (0, 9, 1): 2, (0, 10, 0): 5, (0, 10, 1): 6})
    assert rows(to_events(recorded, answers)) == [
        (0, 0, 0, 4_000, NODE),
        (0, 1, 0, 2_000, KERNEL),
        (0, 2, 2_000, 2_000, KERNEL),
        (0, 3, 4_000, 100, NODE),
        (0, 4, 4_100, 1_000, NODE),
        (0, 5, 4_100, 900, KERNEL),
        (0, 6, 5_000, 100, KERNEL),
    ]


def test_the_same_partition_in_two_inferences() -> None:
    recorded = records(
        *(kernel(0, 9, 7), node(9, 0, 8_000)),
        *(kernel(0, 9, 3, inference=1), node(9, 9_000, 3_700, inference=1)),
    )
    assert rows(to_events(recorded, layout({(0, 9): 0}, {(0, 9, 0): 1}))) == [
        (0, 0, 0, 8_000, NODE),
        (0, 1, 0, 8_000, KERNEL),
        (1, 0, 9_000, 3_700, NODE),
        (1, 1, 9_000, 3_700, KERNEL),
    ]


def test_kernels_of_one_op_on_both_sides_of_an_inference_stay_apart() -> None:
    """The last op of one inference and the first of the next are the same op where a partition has one."""
    recorded = records(kernel(0, 9, 1), node(9, 0, 2_000), kernel(0, 9, 1), node(9, 3_000, 2_000))
    events = rows(to_events(recorded, layout({}, {(0, 9, 0): 1})))
    assert events == [(0, 1, 0, 2_000, KERNEL), (0, 1, 3_000, 2_000, KERNEL)]


def test_an_unknown_kernel_stays_in_its_partition() -> None:
    recorded = records(kernel(0, 9, 1), kernel(1, 9, 1), kernel(2, 9, 1), node(9, 0, 3_000))
    answers = layout({(0, 9): 0}, {(0, 9, 0): 1, (0, 9, 2): 2})
    assert rows(to_events(recorded, answers)) == [
        (0, 0, 0, 3_000, NODE),
        (0, 1, 0, 1_000, KERNEL),
        (0, 2, 2_000, 1_000, KERNEL),
    ]


def test_unknown_nodes_leave_no_event() -> None:
    recorded = records(node(1, 0, 10), node(2, 10, 10), node(1, 20, 10, subgraph=1))
    assert rows(to_events(recorded, layout({(0, 2): 0}))) == [(0, 0, 10, 10, NODE)]
    assert rows(to_events(recorded, layout())) == []


def test_kernels_of_a_node_without_a_record_do_not_weigh_on_the_next() -> None:
    """A delegate whose node could not be hooked reports outside of any node."""
    lost = [kernel(0, -1, 1_000, subgraph=-1), kernel(1, -1, 1_000, subgraph=-1)]
    answers = layout({(0, 9): 0}, {(0, 9, 0): 1})
    expected = [(0, 0, 0, 2_000, NODE), (0, 1, 0, 2_000, KERNEL)]
    assert rows(to_events(records(*lost, kernel(0, 9, 1), node(9, 0, 2_000)), answers)) == expected
    assert rows(to_events(records(kernel(0, 9, 1), node(9, 0, 2_000), *lost), answers)) == expected
    assert rows(to_events(records(*lost), answers)) == []
    assert rows(to_events(records(*lost, node(9, 0, 2_000)), answers)) == expected[:1]


def test_a_loop_holds_the_time_of_its_body() -> None:
    """Body nodes end, and are recorded, before the WHILE that runs them; events come in order of their start."""
    recorded = records(
        *(node(0, 10, 5, subgraph=1), kernel(0, 3, 0, subgraph=2), node(3, 20, 30, subgraph=2)),
        *(node(0, 60, 5, subgraph=1), kernel(0, 3, 0, subgraph=2), node(3, 70, 20, subgraph=2)),
        *(node(0, 95, 5, subgraph=1), node(0, 5, 100)),
    )
    answers = layout({(0, 0): 0, (1, 0): 1, (2, 3): 2}, {(2, 3, 0): 3})
    assert rows(to_events(recorded, answers)) == [
        (0, 0, 5, 100, NODE),
        (0, 1, 10, 5, NODE),
        (0, 2, 20, 30, NODE),
        (0, 3, 20, 30, KERNEL),
        (0, 1, 60, 5, NODE),
        (0, 2, 70, 20, NODE),
        (0, 3, 70, 20, KERNEL),
        (0, 1, 95, 5, NODE),
    ]


def test_starts_are_exact_on_a_machine_that_was_up_for_months() -> None:
    start_ns = 2**53 + 1  # 104 days: the first number that a double cannot hold
    recorded = records(kernel(0, 9, 0), kernel(1, 9, 0), node(9, start_ns, 2_000))
    events = to_events(recorded, layout({(0, 9): 0}, {(0, 9, 0): 1, (0, 9, 1): 2}))
    assert events.start_ns.tolist() == [start_ns, start_ns, start_ns + 1_000]


@st.composite
def inferences(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], EventLayout]:
    """Some inferences of a model with up to three partitions; their kernels belong to ops in rising order."""
    partitions = draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=3))
    nodes: dict[Any, int] = {}
    kernels: dict[Any, int] = {}
    count = 0
    for partition, steps in enumerate(partitions):
        nodes[0, partition] = count
        for number, op in enumerate(np.cumsum([1, *steps[1:]])):
            kernels[0, partition, number] = count + int(op)
        count = max(kernels.values()) + 1
    recorded = []
    now_ns = draw(st.integers(0, 10**15))
    for inference in range(draw(st.integers(1, 4))):
        for partition, steps in enumerate(partitions):
            for number in range(len(steps)):
                recorded.append(kernel(number, partition, draw(st.integers(0, 10**6)), inference=inference))
            duration_ns = draw(st.integers(0, 10**10))
            recorded.append(node(partition, now_ns, duration_ns, inference=inference))
            now_ns += duration_ns
    return recorded, EventLayout(nodes=nodes, kernels=kernels)


@settings(max_examples=150, deadline=None)
@given(inferences())
def test_the_ops_of_a_partition_add_up_to_it(made: tuple[list[tuple[int, ...]], EventLayout]) -> None:
    recorded, answers = made
    events = to_events(records(*recorded), answers)
    is_kernel = events.source == KERNEL
    containers = sorted(answers.nodes.values())
    owner = np.searchsorted(containers, events.op, side="right")
    for inference in np.unique(events.inference):
        for number in range(1, len(containers) + 1):
            inside = (events.inference == inference) & (owner == number)
            (whole,) = np.flatnonzero(inside & ~is_kernel)
            parts = np.flatnonzero(inside & is_kernel)
            assert len(set(events.op[parts])) == len(parts)
            assert abs(int(events.duration_ns[parts].sum()) - int(events.duration_ns[whole])) <= len(parts)
            assert np.all(events.start_ns[parts] >= events.start_ns[whole])
            ends = events.start_ns[parts] + events.duration_ns[parts]
            assert np.all(ends <= events.start_ns[whole] + events.duration_ns[whole] + 1)
            assert np.all(np.abs(events.start_ns[parts][1:] - ends[:-1]) <= 1)

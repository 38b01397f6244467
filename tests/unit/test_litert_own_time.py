"""What timing costs, taken out of records: known answers, and that nothing else is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

core = pytest.importorskip("qprof.core._op_profiler")

from qprof.record.ops import SOURCES, OpMeta  # noqa: E402
from qprof.runtimes.litert.events import EventLayout, to_events, with_resolutions  # noqa: E402
from qprof.runtimes.litert.own_time import own_time  # noqa: E402

READING_NS = 30


def node(number: int, start_ns: int, duration_ns: int, *, inference: int = 0) -> tuple[int, ...]:
    return (core.KIND_NODE, inference, 0, number, -1, -1, start_ns, duration_ns, 0, 0)


def kernel(number: int, owner: int, start_ns: int, duration_ns: int, readings: int = 1) -> tuple[int, ...]:
    return (core.KIND_KERNEL, 0, 0, owner, number, 0, start_ns, duration_ns, duration_ns // 1000, readings)


def records(*rows: tuple[int, ...]) -> NDArray[Any]:
    return np.array(list(rows), dtype=core.record_dtype)


def times(found: NDArray[Any]) -> list[tuple[int, int]]:
    return [
        (int(start), int(duration)) for start, duration in zip(found["start_ns"], found["duration_ns"], strict=True)
    ]


def test_a_node_holds_one_reading_of_the_clock_and_later_nodes_move_up() -> None:
    found = own_time(records(node(0, 1000, 500), node(1, 1600, 130), node(0, 5000, 20, inference=1)), READING_NS)
    assert times(found.records) == [(1000, 470), (1570, 100), (5000, 0)]
    assert found.timing_ns.tolist() == [60, 20]


def test_a_delegate_loses_its_kernels_readings_and_its_report_of_them() -> None:
    # From 1000 on: 50 until the first reading, kernels of 100 and 400 (two readings), then 250 of reporting.
    recorded = records(kernel(0, 9, 1050, 100), kernel(1, 9, 1150, 400, 2), node(9, 1000, 800), node(3, 1900, 130))
    found = own_time(recorded, READING_NS)
    #       kernels: less a reading each        20 before them (a reading less), 70 and 340; then the node behind it
    assert times(found.records) == [(1020, 70), (1090, 340), (1000, 430), (1530, 100)]
    assert found.timing_ns.tolist() == [370 + 30]


def test_what_holds_other_nodes_loses_what_these_lose() -> None:
    """A loop's node ends after those of its body, and holds one reading of its own."""
    found = own_time(records(node(1, 1100, 200), node(2, 1400, 200), node(0, 1000, 800)), READING_NS)
    assert times(found.records) == [(1100, 170), (1370, 170), (1000, 710)]
    assert found.timing_ns.tolist() == [90]


def test_whole_microseconds_are_left_to_be_divided() -> None:
    recorded = records((core.KIND_KERNEL, 0, 0, 9, 0, 0, 0, 0, 2, 0), node(9, 1000, 3030))
    found = own_time(recorded, READING_NS)
    assert found.records["duration_us"][0] == 2 and times(found.records)[1] == (1000, 3000)


def test_nothing_was_recorded() -> None:
    found = own_time(records(), READING_NS)
    assert len(found.records) == 0 and len(found.timing_ns) == 0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 300),  # what lies before the node
            st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 3)), max_size=4),  # its kernels, readings
            st.integers(0, 2000),  # what it does besides
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_taken_out_and_what_is_left_are_the_whole(nodes: list[tuple[int, Any, int]]) -> None:
    at, rows = 10_000, []
    for number, (gap, kernels, more) in enumerate(nodes):
        at += gap
        inside = at + more // 2
        for place, (duration, readings) in enumerate(kernels):
            rows.append(kernel(place, number, inside, duration, readings))
            inside += duration
        end = max(inside + more - more // 2, at)
        rows.append(node(number, at, end - at))
        at = end
    recorded = records(*rows)
    found = own_time(recorded, READING_NS)
    is_node = recorded["kind"] == core.KIND_NODE
    lost = (recorded["duration_ns"] - found.records["duration_ns"])[is_node].sum()
    assert lost == found.timing_ns.sum() and (found.records["duration_ns"] >= 0).all()
    ends = (found.records["start_ns"] + found.records["duration_ns"])[is_node]
    assert (found.records["start_ns"][is_node][1:] >= ends[:-1]).all()
    layout = EventLayout(
        {(0, n): n for n in range(len(nodes))}, {(0, n, k): 10 * (n + 1) for n in range(6) for k in range(4)}
    )
    events = to_events(found.records, layout)
    inside_of = events.source == SOURCES.index("clocked")
    for number, (_, kernels, _) in enumerate(nodes):
        (own,) = events.duration_ns[(events.op == number) & ~inside_of]
        parts = events.duration_ns[events.op == 10 * (number + 1)]
        assert parts.sum() == sum(max(0, d - r * READING_NS) for d, r in kernels) <= own


def test_an_op_is_known_as_well_as_the_clock_of_its_kernels() -> None:
    recorded = records(
        *(kernel(0, 9, 1050, 100), kernel(1, 9, 1150, 400, 2), node(9, 1000, 800)),
        *((core.KIND_KERNEL, 0, 0, 8, 0, 0, 0, 0, 2, 0), node(8, 2000, 3030)),
    )
    layout = EventLayout({(0, 9): 0, (0, 8): 2}, {(0, 9, 0): 1, (0, 9, 1): 1, (0, 8, 0): 3})
    ops = [OpMeta(op=str(i), name=str(i), type="ADD", index=i) for i in range(5)]
    found = with_resolutions(ops, recorded, layout, READING_NS)
    assert [op.resolution_us for op in found] == pytest.approx([0.03, 0.09, 0.03, 0.5, None])

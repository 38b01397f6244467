"""Ceilings from benches whose every pass is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qprof.record.ceilings import Ceiling, number_format
from qprof.runtimes import ceilings
from qprof.runtimes.ceilings import Bench, levels, measure, on_the_host, slope, throughput

MIB = 1 << 20


def ceiling(**more: Any) -> Ceiling:
    return Ceiling("compute", "matmul", "float32", "GMAC/s", "by hand", **more)


def timer_of(seconds: dict[Any, float], log: list[int] | None = None) -> ceilings.CallTimer:
    """A timer that does not call, and knows what each call takes."""

    def timer(call: Callable[[], Any], calls: int) -> float:
        if log is not None:
            log.append(calls)
        return seconds[call] * calls

    return timer


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Parts of the coming passes that were spent waiting for a processor; calm when they are used up."""
    parts: list[float] = []
    clock = itertools.count(0, 1_000_000)
    total = [0.0]
    reads = itertools.count()

    def waited_ns() -> int:
        if next(reads) % 2:  # behind a pass of one step of the clock
            total[0] += (parts.pop(0) if parts else 0.0) * 1_000_000
        return round(total[0])

    monkeypatch.setattr(ceilings, "_waited_ns", waited_ns)
    monkeypatch.setattr(ceilings, "perf_counter_ns", lambda: next(clock))
    monkeypatch.setattr(ceilings, "PATIENCE_S", 1e9)
    yield parts


def test_throughput_is_work_over_the_time_of_one_call() -> None:
    log: list[int] = []
    bench = throughput(ceiling(), 3e6, print, timer_of({print: 0.001}, log))
    assert bench.sample() == pytest.approx(3.0)  # 3e6 in 1 ms is 3e9 in a second
    assert log[-2:] == [1, 15]  # one call that is not counted, then a pass of 15 ms


def test_a_call_that_takes_longer_than_a_pass_is_made_once() -> None:
    log: list[int] = []
    throughput(ceiling(), 1e9, print, timer_of({print: 2.0}, log)).sample()
    assert log[-1] == 1


def test_slope_leaves_out_what_any_chain_costs() -> None:
    bench = slope(ceiling(), 128, min, max, timer_of({min: 50e-6 + 8 * 2e-6, max: 50e-6 + 136 * 2e-6}))
    assert bench.sample() == pytest.approx(2.0)


def test_on_the_host_counts_every_call() -> None:
    calls: list[int] = []
    seconds = on_the_host(lambda: calls.append(1), 25)
    assert len(calls) == 25 and 0 < seconds < 1


def test_medians_and_interquartile_ranges_over_passes_through_all(waited: list[float]) -> None:
    order: list[str] = []
    figures = {"a": iter([5, 1, 9, 2, 8, 3, 100]), "b": iter([7.0] * 7)}

    def bench(name: str) -> Bench:
        return Bench(ceiling(note=name), lambda: (order.append(name), float(next(figures[name])))[1])

    a, b = measure([bench("a"), bench("b")])
    assert order == ["a", "b"] * 7
    assert (a.value, a.spread, a.repetitions, a.note, a.disturbed) == (5.0, 6.0, 7, "a", False)
    assert (b.value, b.spread) == (7.0, 0.0)


def test_a_pass_that_had_to_wait_is_tried_again(waited: list[float]) -> None:
    waited += [0.5, 0.0]
    figures = iter([1.0] + [10.0] * 7)
    (found,) = measure([Bench(ceiling(), lambda: next(figures))])
    assert (found.value, found.spread, found.disturbed) == (10.0, 0.0, False)


def test_where_no_pass_is_calm_the_calmest_counts_and_says_so(waited: list[float]) -> None:
    waited += [0.9, 0.3, 0.6] * 7
    figures = itertools.cycle([1.0, 3.0, 2.0])
    (found,) = measure([Bench(ceiling(), lambda: next(figures))])
    assert (found.value, found.disturbed) == (3.0, True)


def test_on_a_busy_machine_it_makes_fewer_passes(waited: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "PATIENCE_S", 0.0)
    waited += [0.9] * 99
    figures = iter(range(99))
    (found,) = measure([Bench(ceiling(), lambda: float(next(figures)))])
    assert (found.repetitions, found.value, found.disturbed) == (5, 2.0, True)


def test_a_slope_that_noise_has_turned_around_is_no_figure(waited: list[float]) -> None:
    (found,) = measure([Bench(ceiling(), lambda: -0.1)])
    assert found.value is None and found.spread is None
    assert found.reason is not None and "too busy" in found.reason


def test_waiting_for_a_processor_is_read_from_the_kernel() -> None:
    before = ceilings._waited_ns()
    assert 0 <= before <= ceilings._waited_ns()


def test_levels_lie_well_inside_what_they_are_named_after() -> None:
    inner, outer, memory = levels({"L1d": 32 << 10, "L2": MIB, "L3": 32 * MIB})
    assert (inner.name, inner.bytes, inner.capacity) == ("L2", MIB // 2, MIB)
    assert (outer.name, outer.bytes, outer.capacity) == ("L3", 8 * MIB, 32 * MIB)
    assert (memory.name, memory.bytes, memory.capacity, memory.note) == ("memory", 192 * MIB, None, None)


def test_an_outer_cache_no_larger_than_an_inner_one_is_no_level() -> None:
    assert [level.name for level in levels({"L2": 4 * MIB, "L3": 4 * MIB})] == ["L2", "memory"]


@pytest.mark.parametrize("unknown", [None, {}])
def test_without_cache_sizes_there_is_memory_alone_and_a_note(unknown: dict[str, int] | None) -> None:
    (memory,) = levels(unknown)
    assert memory.capacity is None and memory.note is not None and "cache sizes unknown" in memory.note


def test_caches_too_large_to_get_past_are_said() -> None:
    memory = levels({"L2": 2 * MIB, "L3": 300 * MIB})[-1]
    assert memory.bytes == 384 * MIB
    assert memory.note == "the caches hold 300 MiB, part of the 384 MiB that are streamed"


def test_number_formats() -> None:
    assert number_format("float32", "float32") == "float32"
    assert number_format("float32", "int8") == "int8 weights, float32 activations"

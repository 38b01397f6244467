"""The sampler on a clock that a wait moves: rates, traces, faults, cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from fake_clock import FakeClock
from qprof.probes import sampler as sampling
from qprof.probes.base import JoinedProbe, NullProbe, Part, PartsProbe, Probe, ProbeError, ProbeReading, SensorGoneError
from qprof.probes.sampler import FAILURES_IN_A_ROW, Sampler, open_in_time, sleep_or_stop
from qprof.record.sensors import Channel, Missing
from sensor_fakes import FakeProbe, fails_at, vanishes_at

ALWAYS = (0, 1 << 62)
MS = 1_000_000


class Waits:
    """A wait that moves the clock instead, and after so many turns says that the sampler was stopped."""

    def __init__(self, clock: FakeClock, turns: int) -> None:
        self.clock, self.turns = clock, turns
        self.asked: list[float] = []
        self.done = threading.Event()

    def __call__(self, stop: threading.Event, seconds: float) -> bool:
        self.asked.append(seconds)
        self.clock.advance(seconds)
        if len(self.asked) < self.turns:
            return False
        self.done.set()
        return True


def sampled(probe: Probe, clock: FakeClock, turns: int = 50, **options: object) -> Sampler:
    """A sampler that has read `probe` on a clock of its own, `turns` times unless it lost it before."""
    sampler = Sampler([probe], 100.0, clock=clock, wait=Waits(clock, turns), **options)  # type: ignore[arg-type]
    sampler.start()
    for thread in threading.enumerate():
        if thread.name == f"qprof {probe.name}":
            thread.join(10)
            assert not thread.is_alive()
    sampler.stop()
    return sampler


def test_readings_are_a_period_apart() -> None:
    clock = FakeClock(5 * MS)
    trace = sampled(FakeProbe(clock), clock).between(*ALWAYS)["fake.value"]
    assert trace.t_ns.tolist() == [5 * MS + turn * 10 * MS for turn in range(50)]
    assert trace.values.tolist() == [t_ns / 1e9 for t_ns in trace.t_ns.tolist()]
    assert trace.channel.name == "fake.value"


def test_a_slow_reading_skips_turns_and_keeps_the_beat() -> None:
    clock = FakeClock()

    def slow_third(number: int) -> None:
        clock.advance(0.025 if number == 3 else 0.0)

    sampler = sampled(FakeProbe(clock, before_read=slow_third), clock, 5)
    # Due at 0, 10, 20; the third ends at 45, so that 30 and 40 are left out.
    assert sampler.between(*ALWAYS)["fake.value"].t_ns.tolist() == [0, 10 * MS, 45 * MS, 50 * MS, 60 * MS]
    (cost,) = sampler.costs
    assert (cost.reads, cost.skipped, cost.failed) == (5, 2, 0)
    assert cost.longest_read_ns == 25 * MS
    assert cost.mean_read_ns == 5 * MS


@pytest.mark.parametrize(
    ("start", "end", "neighbours", "expected"),
    [
        (20, 40, 0, [20, 30, 40]),
        (21, 39, 0, [30]),
        (21, 39, 1, [20, 30, 40]),
        (31, 32, 0, []),
        (31, 32, 1, [30, 40]),
        (0, 10, 1, [0, 10, 20]),
        (480, 900, 2, [460, 470, 480, 490]),
        (900, 901, 1, [490]),
    ],
)
def test_a_window_is_cut_out(start: int, end: int, neighbours: int, expected: list[int]) -> None:
    clock = FakeClock()
    trace = sampled(FakeProbe(clock), clock).between(start * MS, end * MS, neighbours)["fake.value"]
    assert trace.t_ns.tolist() == [t * MS for t in expected]
    assert len(trace.values) == len(expected)


def test_arrays_grow_up_to_the_limit_and_then_forget_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_FIRST_READINGS", 8)
    clock = FakeClock()
    sampler = sampled(FakeProbe(clock), clock, 70, memory_bytes=32 * 16)
    with pytest.raises(ProbeError, match=r"fake\.value: readings of the window's start were forgotten"):
        sampler.between(*ALWAYS)
    # 32 fit: forgotten are 16 at the 33rd, the 49th and the 65th.
    kept = sampler.between(480 * MS, 1 << 62)["fake.value"]
    assert kept.t_ns.tolist() == [turn * 10 * MS for turn in range(48, 70)]
    assert kept.values.tolist() == [turn / 100 for turn in range(48, 70)]
    with pytest.raises(ProbeError):
        sampler.between(470 * MS, 480 * MS)


def test_a_trace_survives_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_FIRST_READINGS", 8)
    clock = FakeClock()
    trace = sampled(FakeProbe(clock), clock, 70).between(*ALWAYS)["fake.value"]
    assert np.array_equal(trace.t_ns, np.arange(70) * 10 * MS)
    assert np.array_equal(trace.values, np.arange(70) / 100)


def test_forgetting_on_request() -> None:
    clock = FakeClock()
    sampler = sampled(FakeProbe(clock), clock)
    sampler.forget(200 * MS)
    assert sampler.between(200 * MS, 220 * MS)["fake.value"].t_ns.tolist() == [200 * MS, 210 * MS, 220 * MS]
    with pytest.raises(ProbeError):
        sampler.between(190 * MS, 220 * MS)


def test_a_failed_reading_is_a_gap_and_is_counted() -> None:
    clock = FakeClock()
    sampler = sampled(FakeProbe(clock, before_read=fails_at(2, 3)), clock, 5)
    assert sampler.between(*ALWAYS)["fake.value"].t_ns.tolist() == [0, 30 * MS, 40 * MS]
    assert sampler.costs[0].failed == 2
    assert not sampler.missing


def test_failing_on_and_on_drops_the_probe() -> None:
    clock = FakeClock()
    probe = FakeProbe(clock, before_read=fails_at(1, *range(3, 100)))
    sampler = sampled(probe, clock, 100)
    assert probe.reads == 2 + FAILURES_IN_A_ROW
    assert [missing.reason for missing in sampler.missing] == ["failed 20 times in a row: fake: no answer"]
    assert probe.closed == 1


def test_a_sensor_that_vanishes_is_dropped_at_once_and_keeps_its_trace() -> None:
    clock = FakeClock()
    probe = FakeProbe(clock, before_read=vanishes_at(4))
    sampler = sampled(probe, clock)
    assert probe.reads == 4
    assert sampler.missing == [
        Missing("fake", "lost while reading: fake: unplugged", "see whether its driver or device is still there")
    ]
    assert len(sampler.between(*ALWAYS)["fake.value"].t_ns) == 3


def test_a_fault_in_a_probe_is_told_and_ends_no_run() -> None:
    clock = FakeClock()

    def fault(number: int) -> None:
        raise KeyError("watts\nand more")

    sampler = sampled(FakeProbe(clock, before_read=fault), clock)
    assert [missing.reason for missing in sampler.missing] == [r"stopped by a fault: KeyError: 'watts\nand more'"]


def test_a_reading_that_comes_too_late_is_thrown_away() -> None:
    clock = FakeClock()

    def late(number: int) -> None:
        clock.advance(3.0 if number == 2 else 0.0)

    sampler = sampled(FakeProbe(clock, before_read=late), clock, timeout_s=2.0)
    assert sampler.between(*ALWAYS)["fake.value"].t_ns.tolist() == [0]
    assert [missing.reason for missing in sampler.missing] == ["did not answer within 2 s"]


def test_a_sensor_that_hangs_is_left_behind_and_the_others_go_on() -> None:
    clock = FakeClock()
    released, hanging = threading.Event(), threading.Event()

    def hang(number: int) -> None:
        if number == 2:
            hanging.set()
            released.wait(10)

    stuck = FakeProbe(clock, name="stuck", before_read=hang)
    fine = FakeProbe(clock, name="fine")
    sampler = Sampler([stuck, fine], 1000.0, timeout_s=0.05, clock=clock, wait=lambda stop, s: stop.wait(0.0005))
    sampler.start()
    assert hanging.wait(10)
    assert not sampler.missing
    clock.advance(1.0)
    assert [(missing.probe, missing.reason) for missing in sampler.missing] == [
        ("stuck", "did not answer within 0.05 s")
    ]
    reads = fine.reads
    deadline = time.monotonic() + 10
    while fine.reads < reads + 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert fine.reads >= reads + 5
    sampler.stop()
    assert fine.closed == 1
    assert stuck.closed == 0
    released.set()
    for thread in threading.enumerate():
        if thread.name == "qprof stuck":
            thread.join(10)
    assert sampler.between(*ALWAYS)["stuck.value"].t_ns.tolist() == [0]
    assert stuck.closed == 1
    assert len(sampler.missing) == 1


def test_a_close_that_hangs_does_not_hold_up_the_end() -> None:
    clock = FakeClock()
    released = threading.Event()

    class Stuck(FakeProbe):
        def close(self) -> None:
            released.wait(10)

    sampler = Sampler([Stuck(clock)], timeout_s=0.05)
    sampler.start()
    sampler.stop()
    released.set()
    assert [missing.reason for missing in sampler.missing] == ["did not end when asked to"]


def test_what_was_never_there_is_missing_too() -> None:
    clock = FakeClock()
    probe = FakeProbe(clock, missing=(Missing("fake.energy", "no counter", "buy one"),))
    with Sampler([NullProbe("nvml", "no driver", "install it"), probe], clock=clock) as sampler:
        pass
    assert [missing.probe for missing in sampler.missing] == ["nvml", "fake.energy"]
    assert [channel.name for channel in sampler.channels] == ["fake.value"]
    assert [cost.probe for cost in sampler.costs] == ["fake"]


def test_a_probe_is_read_at_least_once() -> None:
    clock = FakeClock(3)
    with Sampler([FakeProbe(clock)], clock=clock) as sampler:
        pass
    assert sampler.between(*ALWAYS)["fake.value"].t_ns.tolist() == [3]


def test_cost_is_the_threads_cpu_time_over_the_wall_time() -> None:
    clock = FakeClock()
    readings = iter(range(0, 10**9, 50_000))
    sampler = sampled(FakeProbe(clock), clock, 101, cpu_ns=lambda: next(readings))
    (cost,) = sampler.costs
    assert cost.wall_s == pytest.approx(1.0)
    assert cost.cpu_s == pytest.approx(101 * 50e-6)
    assert cost.cpu_share == pytest.approx(0.00505)


def test_no_time_has_no_share() -> None:
    assert Sampler([FakeProbe(FakeClock())], clock=FakeClock()).costs[0].cpu_share is None


def test_each_probe_has_its_rate() -> None:
    clock = FakeClock()
    waits = Waits(clock, 3)
    sampler = Sampler([FakeProbe(clock)], {"fake": 4.0}, clock=clock, wait=waits)
    sampler.start()
    assert waits.done.wait(10)
    sampler.stop()
    assert waits.asked == [0.25, 0.25, 0.25]


@pytest.mark.parametrize("rate", [0.0, -1.0, 1001.0, float("nan")])
def test_rates_that_are_none(rate: float) -> None:
    with pytest.raises(ValueError, match="not a sampling rate"):
        Sampler([FakeProbe(FakeClock())], rate)


def test_names_are_not_shared() -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match="'fake'"):
        Sampler([FakeProbe(clock), FakeProbe(clock)])


def test_real_time() -> None:
    """On the machine's own clock: about 20 readings in a tenth of a second, none earlier than the start."""
    began = time.perf_counter_ns()

    class Now:
        def now_ns(self) -> int:
            return time.perf_counter_ns()

    with Sampler([FakeProbe(Now())], 200.0) as sampler:
        time.sleep(0.1)
    trace = sampler.between(began, time.perf_counter_ns())["fake.value"]
    assert 5 <= len(trace.t_ns) <= 25
    assert (np.diff(trace.t_ns) > 0).all()
    cost = sampler.costs[0]
    assert cost.cpu_share is not None and 0 < cost.cpu_share < 0.5


def test_opening_that_hangs_or_fails_is_a_null_probe() -> None:
    released = threading.Event()
    closed = threading.Event()

    class Late(NullProbe):
        def close(self) -> None:
            closed.set()

    def hang() -> Probe:
        released.wait(10)
        return Late("late", "", "")

    def fail() -> Probe:
        raise OSError("no such library")

    hung = open_in_time("nvml", hang, 0.02)
    assert hung.missing[0].reason == "did not answer within 0.02 s when opened"
    released.set()
    assert closed.wait(10)
    assert open_in_time("nvml", fail).missing[0].reason == "cannot be opened: OSError: no such library"
    given = NullProbe("x", "y", "z")
    assert open_in_time("x", lambda: given) is given


def part(name: str, read: Callable[[], list[float]], channels: int = 1) -> Part:
    made = tuple(Channel(f"{name}.{i}", "W", "gauge", "measured", "a fake") for i in range(channels))
    return Part(name, made, read, "mend it")


def test_parts_keep_their_positions_when_one_fails() -> None:
    answers = iter([[1.0], None, [3.0]])

    def sometimes() -> list[float]:
        answer = next(answers)
        if answer is None:
            raise ProbeError("not now")
        return answer

    clock = FakeClock(0, 10)
    probe = PartsProbe("p", [part("b", lambda: [5.0, 6.0], 2), part("a", sometimes)], clock=clock)
    expected: list[list[ProbeReading]] = [
        [(0, 5, 5.0), (1, 5, 6.0), (2, 15, 1.0)],
        [(0, 35, 5.0), (1, 35, 6.0)],
    ]
    assert probe.read() == expected[0]
    assert probe.read() == expected[1]
    assert [position for position, _, _ in probe.read()] == [0, 1, 2]
    assert probe.missing == (Missing("a", "failed 1x while reading, last: not now", "mend it"),)


def test_joined_probes_keep_their_positions_and_fail_on_their_own() -> None:
    clock = FakeClock()
    first = FakeProbe(clock, lambda t: 1.0, "a", vanishes_at(2))
    second = FakeProbe(clock, lambda t: 2.0, "b", fails_at(3))
    probe = JoinedProbe("files", [first, NullProbe("c", "none", "buy one"), second])
    assert [channel.name for channel in probe.channels] == ["a.value", "b.value"]
    assert probe.read() == [(0, 0, 1.0), (1, 0, 2.0)]
    assert probe.read() == [(1, 0, 2.0)]
    with pytest.raises(ProbeError) as error:
        probe.read()
    assert not isinstance(error.value, SensorGoneError)
    second.before_read = vanishes_at(1)
    with pytest.raises(SensorGoneError):
        probe.read()
    assert first.reads == 2  # gone is gone
    assert [missing.probe for missing in probe.missing] == ["c", "a", "b"]
    probe.close()
    assert (first.closed, second.closed) == (1, 1)


def test_sleeping_ends_with_the_time_or_with_the_stop() -> None:
    stop = threading.Event()
    begin = time.monotonic()
    assert sleep_or_stop(stop, 0.02) is False and time.monotonic() - begin >= 0.02
    stop.set()
    assert sleep_or_stop(stop, 0.001) is True
    begin = time.monotonic()
    assert sleep_or_stop(stop, 60.0) is True and time.monotonic() - begin < 30.0

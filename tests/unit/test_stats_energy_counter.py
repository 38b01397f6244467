"""Energy from counters: against loads whose energy is known by formula, and refusals where it cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energy_traces import MS, SECOND, Counter, burst, constant, ramp, reading_times, square, true_j
from qprof.stats.energy import counter_energy, update_period

START, END = 2 * SECOND + 13 * MS, 7 * SECOND + 13 * MS  # 5 s, as the rule asks

LOADS = {
    "constant": constant(250.0),
    "ramp": ramp(60.0, 25.0),
    "square_700ms": square(60.0, 300.0, 0.7),
    "square_in_step": square(60.0, 300.0, 0.1),
    "burst": burst(60.0, 300.0, START * 1e-9, END * 1e-9),
}


@pytest.mark.parametrize("rate_hz", [7.0, 10.0, 13.0, 100.0, 1000.0])
@pytest.mark.parametrize("name", LOADS)
def test_known_energy_is_found_within_2_percent_and_within_its_bound(name, rate_hz):
    load = LOADS[name]
    t = reading_times(10.0, rate_hz)
    found = counter_energy(t, Counter().read(load, t), START, END)
    truth = true_j(load, START, END)
    assert found.reason is None
    assert found.joules == pytest.approx(truth, rel=0.02)
    assert abs(found.joules - truth) <= found.error_j + 2e-3  # the counter itself counts whole mJ


def test_error_bound_is_one_update_of_energy_at_each_end():
    t = reading_times(10.0, 1000.0, seed=None)
    found = counter_energy(t, Counter().read(constant(250.0), t), START, END)
    assert found.updates == 50
    assert 25.0 <= found.error_j <= 25.0 * 2  # 250 W over 100 ms: 25 J an update
    # The window starts in between two updates, so the truth is well inside.
    assert abs(found.joules - 1250.0) < 0.3
    # Half an update more, which no update shows.
    assert counter_energy(t, Counter().read(constant(250.0), t), START, END + 50 * MS).joules == pytest.approx(
        1262.5, abs=0.3
    )


@pytest.mark.parametrize(("idle", "busy"), [(60.0, 300.0), (300.0, 60.0), (20.0, 300.0)])
def test_a_slow_counter_is_not_biased_by_the_step_at_each_edge(idle, busy):
    load = burst(idle, busy, START * 1e-9, END * 1e-9)
    t = reading_times(10.0, 100.0)
    truth = true_j(load, START, END)
    for phase in range(0, 500, 25):  # 10 periods to the window, no more; a straight line loses 4 %
        value = Counter(period_ns=500 * MS, phase_ns=phase * MS).read(load, t)
        assert counter_energy(t, value, START, END).joules == pytest.approx(truth, rel=0.02)


def test_updates_are_placed_where_they_can_have_happened():
    t = reading_times(10.0, 13.0)
    steep = ramp(0.0, 100.0)  # a clock that is off by half a reading would cost 19 J
    counters = [Counter(phase_ns=phase * MS) for phase in range(0, 100, 5)]
    found = [counter_energy(t, counter.read(steep, t), START, END).joules for counter in counters]
    assert abs(np.mean(found) - true_j(steep, START, END)) < 5.0
    t = reading_times(10.0, 100.0)
    value = Counter().read(constant(250.0), t)
    keep = ~((t > 3 * SECOND) & (t < 5 * SECOND))
    # The update after the gap is at most 100 ms old, not somewhere in the gap.
    assert counter_energy(t[keep], value[keep], START, 4 * SECOND + 13 * MS).joules == pytest.approx(500.0, abs=8.0)


@pytest.mark.parametrize(("rate_hz", "resolved"), [(1000.0, True), (100.0, True), (17.0, True), (13.0, True)])
def test_update_period_is_found_from_the_steps(rate_hz, resolved):
    t = reading_times(20.0, rate_hz)
    found = update_period(t, Counter(period_ns=100 * MS).read(constant(80.0), t))
    assert found.period_ns == pytest.approx(100 * MS, rel=0.01)
    assert found.resolved is resolved


@pytest.mark.parametrize("rate_hz", [10.0, 7.0, 2.0])
def test_a_counter_read_too_slowly_gives_an_upper_bound(rate_hz):
    t = reading_times(40.0, rate_hz)
    found = update_period(t, Counter(period_ns=20 * MS).read(constant(80.0), t))
    assert not found.resolved
    assert found.period_ns == pytest.approx(SECOND / rate_hz, rel=0.02)


def test_update_period_is_not_misled_by_drop_outs_and_standstill():
    t = reading_times(30.0, 100.0)
    counter = Counter().read(square(0.0, 100.0, 6.0), t)  # 3 s without any power, over and over: nothing new to say
    keep = ~((t > 3 * SECOND) & (t < 5 * SECOND)) & ~((t > 8 * SECOND) & (t < 9 * SECOND))
    assert update_period(t[keep], counter[keep]).period_ns == pytest.approx(100 * MS, rel=0.01)


def test_update_period_of_a_slowly_read_counter_is_not_misled_by_drop_outs():
    t = reading_times(60.0, 13.0)
    counter = Counter().read(constant(100.0), t)
    keep = np.arange(len(t)) % 9 > 1
    assert update_period(t[keep], counter[keep]).period_ns == pytest.approx(100 * MS, rel=0.06)


def test_update_period_of_a_still_counter_is_unknown():
    t = reading_times(5.0, 100.0)
    found = update_period(t, np.full(len(t), 5.0))
    assert found.period_ns is None and not found.resolved
    assert "too few" in found.reason


def test_wrap_around_is_seen_through():
    t = reading_times(10.0, 100.0)
    counter = Counter(period_ns=1 * MS, unit_j=61e-6, first=262_143.328850e6 / 61 - 1e6, wraps_at=262_143.328850e6 / 61)
    found = counter_energy(
        t, counter.read(constant(90.0), t), START, END, joules_per_unit=61e-6, wraps_at=counter.wraps_at
    )
    assert found.joules == pytest.approx(450.0, rel=0.002)
    plain = Counter(first=0.0)
    wrapping = Counter(first=1e9 - 700_000.0, wraps_at=1e9)
    a = counter_energy(t, plain.read(constant(250.0), t), START, END)
    b = counter_energy(t, wrapping.read(constant(250.0), t), START, END, wraps_at=1e9)
    assert b.flags == ("wrapped",)
    assert b.joules == pytest.approx(a.joules, abs=1e-6)
    assert counter_energy(t, wrapping.read(constant(250.0), t), START, END).joules is None  # wraps_at not told


@settings(max_examples=60, deadline=None)
@given(first=st.integers(0, 199_999), shift_s=st.integers(-50, 10**6), rate=st.sampled_from([9.0, 50.0, 300.0]))
def test_neither_the_wrap_position_nor_the_time_of_day_matter(first, shift_s, rate):
    load = square(60.0, 300.0, 0.7)
    t = reading_times(10.0, rate)
    plain = counter_energy(t, Counter().read(load, t), START, END)
    moved = Counter(first=float(first), wraps_at=200_000.0).read(load, t)
    by = shift_s * SECOND
    wrapped = counter_energy(t + by, moved, START + by, END + by, wraps_at=200_000.0)
    assert wrapped.joules == pytest.approx(plain.joules, abs=1e-6)
    assert wrapped.error_j == pytest.approx(plain.error_j, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    cut=st.integers(START + SECOND, END - SECOND), phase=st.integers(0, 99), rate=st.sampled_from([8.0, 40.0, 500.0])
)
def test_adjacent_windows_add_up(cut, phase, rate):
    t = reading_times(10.0, rate)
    value = Counter(phase_ns=phase * MS).read(ramp(60.0, 25.0), t)
    parts = [counter_energy(t, value, START, cut), counter_energy(t, value, cut, END)]
    whole = counter_energy(t, value, START, END)
    assert sum(part.joules for part in parts) == pytest.approx(whole.joules, rel=1e-9)


@pytest.mark.parametrize("wraps_at", [None, 262_143_000.0])
def test_a_counter_that_goes_backwards_inside_the_window_is_refused(wraps_at):
    t = reading_times(10.0, 100.0)
    value = Counter(first=2e8).read(constant(250.0), t)
    value[t > 4 * SECOND] -= 2e8  # the driver was reloaded
    found = counter_energy(t, value, START, END, wraps_at=wraps_at)
    assert found.joules is None and found.error_j is None
    assert found.flags == ("backwards",)
    assert "backwards" in found.reason
    # A reset before or after the window does no harm to it.
    early = counter_energy(t, value, SECOND, 3 * SECOND, wraps_at=wraps_at)
    assert early.joules == pytest.approx(500.0, rel=0.02)
    late = counter_energy(t, value, 5 * SECOND, 9 * SECOND, wraps_at=wraps_at)
    assert late.joules == pytest.approx(1000.0, rel=0.02)


def test_a_reset_between_the_window_and_the_update_that_bounds_it_is_refused():
    t = reading_times(10.0, 100.0)
    value = Counter(first=2e8, phase_ns=0).read(constant(250.0), t)
    end = 7 * SECOND + 55 * MS  # bounded by the update at 7.1 s, at which the counter falls
    value[t > 7 * SECOND + 99 * MS] -= 2e8
    assert counter_energy(t, value, START, end).flags == ("backwards",)


def test_too_few_updates_are_refused():
    t = reading_times(10.0, 100.0)
    found = counter_energy(t, Counter().read(constant(250.0), t), START, START + 350 * MS)
    assert found.joules is None
    assert found.updates == 4 and "at least 5" in found.reason


def test_a_sensor_that_vanishes_or_comes_late_is_refused():
    t = reading_times(10.0, 100.0)
    value = Counter().read(constant(250.0), t)
    gone = counter_energy(t[t < 6 * SECOND], value[t < 6 * SECOND], START, END)
    assert gone.joules is None and "no update after the window" in gone.reason
    late = counter_energy(t[t > 3 * SECOND], value[t > 3 * SECOND], START, END)
    assert late.joules is None and "no update before the window" in late.reason
    still = counter_energy(t, np.zeros(len(t)), START, END)
    assert still.joules is None and "never changed" in still.reason
    assert counter_energy(t[:1], value[:1], START, END).joules is None
    assert counter_energy(t[:0], value[:0], START, END).joules is None


def test_drop_outs_inside_cost_nothing_and_at_an_edge_widen_the_bound():
    t = reading_times(10.0, 100.0)
    load = square(60.0, 300.0, 0.7)
    value = Counter().read(load, t)
    value[(t > 3 * SECOND) & (t < 5 * SECOND)] = np.nan  # readings that failed
    whole = counter_energy(t, value, START, END)
    assert whole.joules == pytest.approx(true_j(load, START, END), rel=0.02)
    edge = counter_energy(t, value, START, 4 * SECOND)
    assert edge.error_j > 3 * whole.error_j
    assert abs(edge.joules - true_j(load, START, 4 * SECOND)) <= edge.error_j


def test_wraps_that_may_have_gone_unseen_are_refused():
    t = reading_times(10.0, 100.0)
    value = Counter(wraps_at=200_000.0).read(constant(250.0), t)
    keep = ~((t > 3 * SECOND) & (t < 5 * SECOND))  # 500 J in the gap, the counter holds 200
    found = counter_energy(t[keep], value[keep], START, END, wraps_at=200_000.0)
    assert found.joules is None and "more than once" in found.reason


@pytest.mark.parametrize(
    ("t", "v", "start", "end"),
    [
        ([0, 0, 1], [1.0, 2.0, 3.0], 0, 1),
        ([0, 1], [1.0], 0, 1),
        ([0.5, 1.5], [1.0, 2.0], 0, 1),
        ([0, 1], [1.0, 2.0], 5, 5),
    ],
)
def test_bad_arrays_raise(t, v, start, end):
    with pytest.raises(ValueError):
        counter_energy(t, v, start, end)

"""Energy from power traces: instantaneous, lagging, averaging and part-time sensors of known loads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energy_traces import MS, SECOND, Power, a100_like, burst, bursts_of, constant, ramp, reading_times, square, true_j
from qprof.stats.energy import PowerSensor, power_energy

START, END = 3 * SECOND + 13 * MS, 8 * SECOND + 13 * MS  # 5 s, as the rule asks


LOADS = {
    "constant": constant(250.0),
    "ramp": ramp(60.0, 25.0),
    "square_700ms": square(60.0, 300.0, 0.7),
    "burst": burst(60.0, 300.0, START * 1e-9, END * 1e-9),
    "square_in_idle": bursts_of(square(60.0, 300.0, 0.7), 60.0, START * 1e-9, END * 1e-9),
}
SENSORS = {
    "instantaneous": PowerSensor(),
    "lag_300ms": PowerSensor(lag_ns=300 * MS),
    "held_20ms": PowerSensor(update_ns=20 * MS),
    "averaging_1s": PowerSensor(averaging_ns=SECOND),
    "averaging_1s_lag_held": PowerSensor(averaging_ns=SECOND, lag_ns=150 * MS, update_ns=100 * MS),
}


@pytest.mark.parametrize("rate_hz", [100.0, 400.0])
@pytest.mark.parametrize("kind", SENSORS)
@pytest.mark.parametrize("name", LOADS)
def test_known_energy_is_found_within_2_percent(name, kind, rate_hz):
    load, sensor = LOADS[name], SENSORS[kind]
    t = reading_times(12.0, rate_hz, seed=3)
    watts = Power(sensor.averaging_ns, sensor.update_ns, 7 * MS, sensor.lag_ns).read(load, t)
    found = power_energy(t, watts, START, END, sensor)
    truth = true_j(load, START, END)
    assert found.coverage == 1.0
    assert found.joules == pytest.approx(truth, rel=0.02)
    if "square" not in name:  # whose inner edges between two readings no bound knows
        assert abs(found.joules - truth) <= found.error_j + 0.002 * truth


@pytest.mark.parametrize(
    "sensor",
    [
        PowerSensor(update_ns=100 * MS),
        PowerSensor(25 * MS, update_ns=100 * MS),
        PowerSensor(SECOND, lag_ns=40 * MS, update_ns=100 * MS),
    ],
)
def test_every_delay_of_a_sensor_is_taken_out(sensor):
    t = reading_times(12.0, 500.0, seed=None)
    steep = ramp(0.0, 200.0)  # 1 ms of delay costs 1 J
    watts = Power(sensor.averaging_ns, sensor.update_ns, 7 * MS, sensor.lag_ns).read(steep, t)
    found = power_energy(t, watts, START, END, sensor)
    # A held staircase is read at its steps' middle but for the part of a step at each edge.
    assert found.joules == pytest.approx(true_j(steep, START, END), abs=5.0)


@pytest.mark.parametrize("window_ms", [5000, 5370, 5900, 1000])
def test_averages_tile_the_window_where_a_plain_trapezoid_leaks(window_ms):
    end = START + window_ms * MS
    load = burst(0.0, 300.0, START * 1e-9, end * 1e-9)
    t = reading_times(14.0, 200.0, seed=None)
    watts = Power(SECOND).read(load, t)
    tiled = power_energy(t, watts, START, end, PowerSensor(averaging_ns=SECOND))
    naive = power_energy(t, watts, START, end)
    truth = true_j(load, START, end)
    assert tiled.flags == ("averaged",)
    assert tiled.joules == pytest.approx(truth, rel=0.003)
    assert naive.joules < 0.93 * truth


def test_a_window_shorter_than_the_averaging_time_is_refused():
    t = reading_times(12.0, 100.0)
    found = power_energy(t, np.full(len(t), 9.0), START, START + 900 * MS, PowerSensor(averaging_ns=SECOND))
    assert found.joules is None and "averages over" in found.reason


def test_edges_are_interpolated_exactly():
    t = np.array([0, 4, 8, 12], np.int64) * SECOND
    found = power_energy(t, [0.0, 40.0, 80.0, 120.0], SECOND, 10 * SECOND)
    assert found.joules == pytest.approx(10.0 * (10**2 - 1**2) / 2.0, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(START + MS, END - MS), shift=st.integers(-(10**15), 10**15), lag=st.integers(0, 500))
def test_adjacent_windows_add_up_wherever_the_clock_stands(cut, shift, lag):
    t = reading_times(12.0, 50.0)
    watts = Power().read(square(60.0, 300.0, 0.7), t)
    sensor = PowerSensor(lag_ns=lag * MS)
    whole = power_energy(t, watts, START, END, sensor).joules
    parts = [power_energy(t + shift, watts, a + shift, b + shift, sensor).joules for a, b in ((START, cut), (cut, END))]
    assert sum(parts) == pytest.approx(whole, rel=1e-9)


def test_drop_outs_count_against_the_coverage():
    t = reading_times(12.0, 100.0)
    load = constant(250.0)
    watts = Power().read(load, t)
    short = (t > 5 * SECOND) & (t < 5 * SECOND + 150 * MS)
    watts[short] = np.nan
    found = power_energy(t, watts, START, END)
    assert found.flags == ("drop_outs",)
    assert found.coverage == pytest.approx(0.967, abs=0.004)
    assert found.joules == pytest.approx(1250.0, rel=0.02)
    watts[(t > 4 * SECOND) & (t < 5 * SECOND)] = np.nan
    refused = power_energy(t, watts, START, END)
    assert refused.joules is None and refused.coverage < 0.8
    assert "cover" in refused.reason


def test_a_drop_out_that_hides_a_change_is_in_the_bound():
    t = reading_times(12.0, 100.0)
    load = burst(60.0, 300.0, 0.0, 5.001)
    watts = Power().read(load, t)
    watts[(t > 5 * SECOND) & (t < 5 * SECOND + 200 * MS)] = np.nan
    found = power_energy(t, watts, START, END)
    truth = true_j(load, START, END)
    assert 10.0 < abs(found.joules - truth) <= found.error_j


@pytest.mark.parametrize("keep", [lambda t: t < 7 * SECOND, lambda t: t > 4 * SECOND, lambda t: t < 0])
def test_a_sensor_that_vanishes_or_comes_late_is_refused(keep):
    t = reading_times(12.0, 100.0)
    found = power_energy(t[keep(t)], np.full(np.count_nonzero(keep(t)), 9.0), START, END)
    assert found.joules is None and found.reason


def test_25_percent_sampling_is_blind_to_a_load_in_step_and_says_so():
    _, power = a100_like()
    load = square(60.0, 300.0, 0.1, duty=0.75)  # the sensor looks only at the last quarter, in which it idles
    t = reading_times(12.0, 100.0)
    watts = power.read(load, t)
    truth = true_j(load, START, END)
    found = power_energy(t, watts, START, END, PowerSensor(25 * MS, update_ns=100 * MS))
    assert found.joules < 0.3 * truth
    assert found.flags == ("part_time",) and found.error_j is None
    bounded = power_energy(
        t, watts, START, END, PowerSensor(25 * MS, update_ns=100 * MS, lowest_w=60.0, highest_w=400.0)
    )
    assert abs(bounded.joules - truth) <= bounded.error_j


def test_25_percent_sampling_over_many_phases_is_right_in_the_mean():
    load = square(60.0, 300.0, 0.1, duty=0.75)
    t = reading_times(12.0, 100.0)
    sensor = PowerSensor(25 * MS, update_ns=100 * MS)
    found = [power_energy(t, a100_like(k * 100 * MS // 8)[1].read(load, t), START, END, sensor) for k in range(8)]
    assert np.mean([energy.joules for energy in found]) == pytest.approx(true_j(load, START, END), rel=0.02)
    # Not in step, it is right at once.
    free = square(60.0, 300.0, 0.0731, duty=0.75)
    one = power_energy(t, a100_like()[1].read(free, t), START, END, sensor)
    assert one.joules == pytest.approx(true_j(free, START, END), rel=0.02)

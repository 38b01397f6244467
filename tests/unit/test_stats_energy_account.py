"""Idle, agreement, the rule, joules per inference, the split into time and power, CO2e; two synthetic GPUs replayed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energy_traces import (
    MS,
    SECOND,
    Counter,
    a100_like,
    burst,
    bursts_of,
    h100_like,
    reading_times,
    square,
    true_j,
)
from qprof.stats.energy import (
    BlockEnergy,
    Energy,
    EnergyVerdict,
    PowerSensor,
    VariantRounds,
    agreement,
    co2e_g,
    counter_energy,
    energy_rule,
    idle_power,
    joules_per_inference,
    net_energy,
    phase_shifts,
    power_energy,
    split_energy_ratio,
    update_period,
)


def energy(joules: float | None, error_j: float | None = 0.0, seconds: float = 5.0, start_s: float = 0.0) -> Energy:
    start = round(start_s * SECOND)
    reason = "no sensor" if joules is None else None
    return Energy(joules, error_j, start, start + round(seconds * SECOND), reason=reason)


def block(joules: float | None, number: int, error_j: float = 1.0, repetitions: int = 40, seconds: float = 5.0):
    start = number * (6 * SECOND + 13 * MS)
    starts = start + np.arange(repetitions, dtype=np.int64) * round(seconds / repetitions * SECOND + 3.7 * MS)
    return BlockEnergy(energy(joules, error_j, seconds, start * 1e-9), starts)


# Idle, gross and net.


def test_idle_is_the_mean_of_both_and_net_is_what_is_left():
    idle = idle_power(energy(300.0, 5.0), energy(304.0, 5.0))
    assert idle.watts == pytest.approx(60.4)
    assert idle.drift_w == pytest.approx(0.8) and not idle.drifted
    assert idle.error_w == pytest.approx(0.4 + 1.0)
    account = net_energy(energy(1250.0, 20.0, 5.0), idle)
    assert account.idle.joules == pytest.approx(302.0)
    assert account.net.joules == pytest.approx(948.0)
    assert account.net.error_j == pytest.approx(20.0 + 7.0)
    assert account.net.joules + account.idle.joules == pytest.approx(account.gross.joules)


def test_drift_is_flagged_only_beyond_tolerance_and_errors():
    assert idle_power(energy(300.0, 1.0), energy(400.0, 1.0)).drifted
    assert idle_power(energy(400.0, 1.0), energy(300.0, 1.0)).drifted
    assert not idle_power(energy(300.0, 60.0), energy(400.0, 60.0)).drifted
    assert not idle_power(energy(300.0, 1.0), energy(312.0, 1.0)).drifted


def test_a_missing_idle_is_named_and_never_zero():
    one = idle_power(energy(300.0, 1.0), energy(None, None))
    assert one.watts == 60.0 and one.drift_w is None and "stands alone" in one.reason
    none = idle_power(energy(None, None), energy(None, None))
    assert none.watts is None and none.reason
    account = net_energy(energy(1250.0), none)
    assert account.net.joules is None and account.net.reason == none.reason
    refused = net_energy(energy(None, None), one)
    assert refused.net.joules is None and refused.net.reason == "no sensor"
    unbounded = net_energy(energy(1250.0), idle_power(energy(300.0, None), energy(300.0, 1.0)))
    assert unbounded.net.joules == pytest.approx(950.0) and unbounded.net.error_j is None


# Counter against integral.


@pytest.mark.parametrize(
    ("counter", "integral", "verdict"),
    [
        (energy(187.0, 4.0), energy(327.0, 5.0), "disagree"),
        (energy(1000.0, 50.0), energy(1030.0, 5.0), "agree"),
        (energy(1000.0, 50.0), energy(930.0, 50.0), "inconclusive"),
        (energy(1000.0, 5.0), energy(930.0, 5.0), "disagree"),
        (energy(1000.0, 5.0), energy(930.0, None), "inconclusive"),
        (energy(None, None), energy(930.0), "unknown"),
        (energy(1000.0), energy(None, None), "unknown"),
        (energy(0.0), energy(930.0), "unknown"),
    ],
)
def test_agreement(counter, integral, verdict):
    found = agreement(counter, integral)
    assert found.verdict == verdict
    if verdict == "unknown":
        assert found.mismatch is None and found.reason
    else:
        assert found.mismatch == pytest.approx(integral.joules / counter.joules - 1.0)


def test_agreement_of_different_windows_raises():
    with pytest.raises(ValueError, match="different windows"):
        agreement(energy(1.0), energy(1.0, start_s=1.0))


# The rule.


def test_the_rule_holds_exactly_at_its_limits():
    assert energy_rule(5 * SECOND, 32, 8, 500.0 * MS) == EnergyVerdict(True)
    assert EnergyVerdict(True).reason is None


@pytest.mark.parametrize(
    ("arguments", "reason", "longer_ns", "more_repetitions", "more_phases"),
    [
        ((4 * SECOND, 32, 8, 100.0 * MS), "shorter than 5 s", SECOND, 0, 0),
        ((5 * SECOND, 20, 8, 100.0 * MS), "20 repetitions", 3 * SECOND, 12, 0),
        ((5 * SECOND, 32, 7, 100.0 * MS), "7 phases", 0, 0, 1),
        ((5 * SECOND, 32, 8, 700.0 * MS), "7.1 update periods of 700 ms", 2 * SECOND, 0, 0),
        ((5 * SECOND, 32, 8, None), "period is unknown", 0, 0, 0),
    ],
)
def test_the_rule_says_what_is_missing(arguments, reason, longer_ns, more_repetitions, more_phases):
    verdict = energy_rule(*arguments)
    assert not verdict.ok and len(verdict.reasons) == 1
    assert reason in verdict.reason
    assert (verdict.longer_ns, verdict.more_repetitions, verdict.more_phases) == (
        longer_ns,
        more_repetitions,
        more_phases,
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10 * SECOND), st.integers(1, 60), st.floats(1e6, 2e9))
def test_a_window_that_is_longer_as_told_satisfies_the_rule(window, repetitions, period):
    verdict = energy_rule(window, repetitions, 8, period)
    enough = energy_rule(window + verdict.longer_ns, repetitions + verdict.more_repetitions, 8, period)
    assert enough.ok
    assert verdict.ok == (verdict.longer_ns == 0 and verdict.more_repetitions == 0)


def test_phases_of_a_load_in_step_are_one():
    rng = np.random.default_rng(0)
    steady = np.arange(50, dtype=np.int64) * 200 * MS
    jittered = steady + rng.integers(-2 * MS, 2 * MS, 50)
    assert phase_shifts(steady, 100.0 * MS) == 1
    assert phase_shifts(jittered, 100.0 * MS) == 1
    evenly = np.arange(8, dtype=np.int64) * (600 * MS + 100 * MS // 8)
    assert phase_shifts(evenly, 100.0 * MS) == 8
    assert phase_shifts(np.arange(50, dtype=np.int64) * 137 * MS, 100.0 * MS) == 16
    assert phase_shifts([], 100.0 * MS) == 0
    with pytest.raises(ValueError, match="positive"):
        phase_shifts(steady, 0.0)


# Joules per inference.


def test_joules_per_inference_with_interval_gross_and_net():
    rng = np.random.default_rng(1)
    blocks = [block(1250.0 * math.exp(rng.normal(0.0, 0.02)), i) for i in range(9)]
    found = joules_per_inference(blocks, 100.0 * MS, idle=idle_power(energy(300.0, 5.0), energy(300.0, 5.0)))
    mean = np.mean([b.energy.joules for b in blocks]) / 40
    assert found.verdict.ok and found.blocks == 9
    assert found.gross.value == pytest.approx(mean)
    assert found.gross.low < 1250.0 / 40 < found.gross.high
    assert found.gross.high - found.gross.low < 0.05 * mean
    assert found.gross_error_j == pytest.approx(1.0 / 40)
    assert found.net.value == pytest.approx(mean - 60.0 * 5.0 / 40)
    # The idle is uncertain by 1 W, 5 J a block, which no resampling shows.
    wider = 2 * 5.0 / 40
    assert found.net.high - found.net.low == pytest.approx(found.gross.high - found.gross.low + wider)
    assert found.net_error_j == pytest.approx(1.0 / 40 + 5.0 / 40)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        blocks = [block(1000.0 * math.exp(rng.normal(0.0, 0.03)), i) for i in range(10)]
        gross = joules_per_inference(blocks, 100.0 * MS, resamples=400).gross
        hits += gross.low <= 1000.0 * math.exp(0.03**2 / 2) / 40 <= gross.high
    assert 0.88 <= hits / 200 <= 1.0


def test_refused_where_the_rule_fails():
    short = joules_per_inference([block(1250.0, i, seconds=4.0) for i in range(9)], 100.0 * MS)
    assert short.gross is None and short.net is None
    assert "shorter than 5 s" in short.verdict.reason and short.verdict.longer_ns == SECOND
    few = joules_per_inference([block(1250.0, i, repetitions=10) for i in range(9)], 100.0 * MS)
    assert few.gross is None and few.verdict.more_repetitions == 22
    slow = joules_per_inference([block(1250.0, i) for i in range(9)], 600.0 * MS)
    assert slow.gross is None and "update periods" in slow.verdict.reason
    assert joules_per_inference([block(1250.0, i) for i in range(9)], None).gross is None
    step = [BlockEnergy(b.energy, np.arange(40, dtype=np.int64) * 100 * MS) for b in (block(9e2, i) for i in range(9))]
    assert "phases" in joules_per_inference(step, 100.0 * MS).verdict.reason
    assert joules_per_inference([], 100.0 * MS).verdict.reason == "no blocks"


def test_blocks_without_a_usable_energy_are_left_out_and_named():
    blocks = [block(1250.0, i) for i in range(6)] + [block(None, 6), block(1250.0, 7, error_j=400.0)]
    found = joules_per_inference(blocks, 100.0 * MS)
    assert found.blocks == 6 and found.gross.value == pytest.approx(1250.0 / 40)
    assert found.left_out[0] == (6, "no sensor")
    assert found.left_out[1][0] == 7 and "uncertain" in found.left_out[1][1]
    nothing = joules_per_inference([block(None, 0)], 100.0 * MS)
    assert nothing.gross is None and "no sensor" in nothing.verdict.reason
    few = joules_per_inference([block(1250.0, i) for i in range(3)], 100.0 * MS)
    assert few.gross.value == pytest.approx(1250.0 / 40) and few.gross.low is None and few.gross.reason


# The split.


def test_31_percent_less_energy_is_28_less_time_and_the_rest_power():
    rng = np.random.default_rng(3)
    rounds = np.arange(12)
    disturbed = np.exp(rng.normal(0.0, 0.3, 12))  # of both variants of a round alike
    a = VariantRounds(rounds, 1000.0 * disturbed, 5.0 * disturbed, np.full(12, 100))
    time, power = 0.72, 0.958
    b = VariantRounds(rounds, 1000.0 * time * power * disturbed, 5.0 * time * disturbed, np.full(12, 100))
    split = split_energy_ratio(a, b)
    assert math.exp(split.energy.value) == pytest.approx(time * power)
    assert math.exp(split.time.value) == pytest.approx(time)
    assert math.exp(split.power.value) == pytest.approx(power)
    assert split.time.high - split.time.low < 1e-9  # pairing takes the disturbance out
    assert split.rounds == 12 and split.left_out == ()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0.1, 1e4)] * 4, *[st.integers(1, 500)] * 2), min_size=1, max_size=12))
def test_the_split_closes(rows):
    e_a, e_b, t_a, t_b, n_a, n_b = (np.array(column) for column in zip(*rows, strict=True))
    ids = np.arange(len(rows))
    split = split_energy_ratio(VariantRounds(ids, e_a, t_a, n_a), VariantRounds(ids, e_b, t_b, n_b), resamples=20)
    assert split.time.value + split.power.value == pytest.approx(split.energy.value, abs=1e-9)
    assert split.time.value == pytest.approx(math.log((t_b.sum() / n_b.sum()) / (t_a.sum() / n_a.sum())), abs=1e-9)
    assert split.energy.value == pytest.approx(math.log((e_b.sum() / n_b.sum()) / (e_a.sum() / n_a.sum())), abs=1e-9)
    assert (split.power.low is None) == (len(rows) < 5)


def test_unpaired_rounds_are_left_out_and_bad_input_raises():
    a = VariantRounds([0, 1, 2], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1, 1, 1])
    b = VariantRounds([2, 1, 7], [2.0, 2.0, 50.0], [1.0, 1.0, 1.0], [1, 1, 1])
    split = split_energy_ratio(a, b)
    assert split.left_out == (0, 7) and split.rounds == 2
    assert split.energy.value == pytest.approx(math.log(2.0))
    with pytest.raises(ValueError, match="no round"):
        split_energy_ratio(a, VariantRounds([9], [1.0], [1.0], [1]))
    with pytest.raises(ValueError, match="joules must be positive"):
        split_energy_ratio(a, VariantRounds([0, 1], [0.0, 1.0], [1.0, 1.0], [1, 1]))


def test_co2e():
    assert co2e_g(3.6e6, 380.0) == pytest.approx(380.0)
    assert co2e_g(36.0, 400.0) == pytest.approx(0.004)
    for factor in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="grid factor"):
            co2e_g(1.0, factor)


# Whole measurements, replayed on synthetic GPUs: idle, blocks of 5 s with shifted phases, idle.


def replay(counter: Counter, power, load, t, sensor: PowerSensor, inference_s: float):
    """Per inference from the counter, with idle, and the agreement of every block; blocks of 5 s from 6, 12, ... s."""
    mj, watts = counter.read(load, t), power.read(load, t)
    idle = idle_power(counter_energy(t, mj, SECOND, 5 * SECOND), counter_energy(t, mj, 55 * SECOND, 59 * SECOND))
    blocks, agreements = [], []
    for start, end in windows():
        found = counter_energy(t, mj, start, end)
        starts = start + np.arange(int(5.0 / inference_s), dtype=np.int64) * round(inference_s * SECOND)
        blocks.append(BlockEnergy(found, starts))
        agreements.append(agreement(found, power_energy(t, watts, start, end, sensor)))
    period = update_period(t, mj).period_ns
    return joules_per_inference(blocks, period, idle=idle), agreements, period


def windows() -> list[tuple[int, int]]:
    starts = [(6 + 6 * k) * SECOND + k * 100 * MS // 8 for k in range(8)]
    return [(start, start + 5 * SECOND) for start in starts]


def blocks_of(inner, idle_w: float):
    """Idle but in the windows, where it is `inner`, which starts anew in each."""
    extra = [
        bursts_of(lambda s, a=a: inner(s - a * 1e-9), 0.0, a * 1e-9, b * 1e-9) for a, b in windows()
    ]  # a window's load alone, 0 W outside

    def energy_j(s):
        busy = sum(np.clip(s, a * 1e-9, b * 1e-9) - a * 1e-9 for a, b in windows())
        return idle_w * (s - busy) + sum(part(s) for part in extra)

    return energy_j


@pytest.mark.parametrize("rate_hz", [40.0, 100.0])
def test_synthetic_a100_counter_is_right_where_its_power_is_blind(rate_hz):
    counter, power = a100_like(phase_ns=41 * MS)
    inference_s = 0.1125  # not in step with the counter
    load = blocks_of(square(60.0, 350.0, inference_s, duty=0.6), 60.0)
    t = reading_times(60.0, rate_hz)
    found, agreements, period = replay(counter, power, load, t, PowerSensor(25 * MS, update_ns=100 * MS), inference_s)
    truth = np.mean([true_j(load, a, b) for a, b in windows()]) / 44
    assert period == pytest.approx(100 * MS, rel=0.02)
    assert found.verdict.ok
    assert found.gross.value == pytest.approx(truth, rel=0.02)
    assert abs(found.gross.value - truth) <= found.gross_error_j
    assert found.net.value == pytest.approx(truth - 60.0 * 5.0 / 44, rel=0.02)
    assert {a.verdict for a in agreements} <= {"agree", "inconclusive"}


def test_synthetic_a100_in_step_is_refused_for_its_phases():
    counter, _ = a100_like()
    load = burst(60.0, 350.0, 6.0, 11.0)
    t = reading_times(60.0, 100.0)
    mj = counter.read(load, t)
    one = counter_energy(t, mj, 6 * SECOND, 11 * SECOND)
    starts = 6 * SECOND + np.arange(50, dtype=np.int64) * 100 * MS
    found = joules_per_inference([BlockEnergy(one, starts)] * 6, update_period(t, mj).period_ns)
    assert found.gross is None and "phases" in found.verdict.reason


def test_synthetic_h100_average_agrees_with_its_counter_once_tiled():
    counter, _, average = h100_like(phase_ns=41 * MS)
    load = blocks_of(square(70.0, 600.0, 0.1125, duty=0.6), 70.0)
    t = reading_times(60.0, 100.0)
    sensor = PowerSensor(SECOND, update_ns=100 * MS)
    found, agreements, _ = replay(counter, average, load, t, sensor, 0.1125)
    truth = np.mean([true_j(load, a, b) for a, b in windows()]) / 44
    assert found.gross.value == pytest.approx(truth, rel=0.02)
    assert all(a.verdict == "agree" for a in agreements)
    assert max(abs(a.mismatch) for a in agreements) < 0.03

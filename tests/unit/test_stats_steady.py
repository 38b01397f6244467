"""The end of the warm-up is found in the durations, with no clock and no sleep."""

from __future__ import annotations

import numpy as np
import pytest

from qprof.stats.steady import SteadyState, mann_kendall_p, theil_sen_slope

MS = 1_000_000


def feed(detector: SteadyState, durations_ns: list[int]) -> int | None:
    """Number of inferences after which the detector first said steady."""
    for count, duration in enumerate(durations_ns, start=1):
        detector.add(duration)
        if detector.state.steady:
            return count
    return None


def test_a_constant_model_is_steady_after_the_windows_it_asks_for():
    detector = SteadyState(window_ns=25 * MS, windows=5)
    assert feed(detector, [5 * MS] * 100) == 25
    assert detector.state.windows == 5 and detector.state.inferences == 25


def test_a_slow_model_still_needs_three_inferences_a_window():
    assert feed(SteadyState(), [1000 * MS] * 30) == 15


def test_one_outlier_per_window_does_not_matter():
    durations = [5 * MS, 5 * MS, 300 * MS] * 10
    assert feed(SteadyState(window_ns=25 * MS), durations) == 15


def test_warm_up_is_waited_for():
    warming = [int(10 * MS * (1 + 2 * 0.9**i)) for i in range(60)]
    steady_at = feed(SteadyState(), warming + [10 * MS] * 100)
    assert steady_at is not None and 30 < steady_at < 75
    assert warming[min(steady_at, 60) - 15] < 1.05 * 10 * MS, "the first window used is already close to the end"


def test_a_slow_trend_inside_the_spread_is_still_seen():
    detector = SteadyState(tolerance=0.05, trend_tolerance=0.01)
    drifting = [int(10 * MS * (1 - 0.0025 * (i // 3))) for i in range(45)]  # 1 % over 5 windows at 3 a window
    assert feed(detector, [int(10 * MS * (1 - 0.01 * (i // 3))) for i in range(45)]) is None
    assert "speeding by 4" in detector.state.reason
    assert feed(SteadyState(trend_tolerance=0.02), drifting) == 15, "a trend that is not worth the tolerance passes"


def test_slowing_down_is_named():
    detector = SteadyState()
    assert feed(detector, [int(10 * MS * (1 + 0.01 * (i // 3))) for i in range(45)]) is None
    assert "slowing" in detector.state.reason


def test_a_model_that_jumps_between_two_levels_is_never_steady():
    detector = SteadyState()
    assert feed(detector, ([10 * MS] * 3 + [12 * MS] * 3) * 30) is None
    assert detector.state.reason == "the last 5 windows spread 16.7%, more than 5.0%"


@pytest.mark.parametrize(("duration_ns", "noise"), [(2 * MS, 0.1), (2 * MS, 0.02), (300 * MS, 0.1)])
def test_noise_without_a_trend_is_steady_soon(duration_ns, noise):
    windows = []
    for seed in range(100):
        detector = SteadyState()
        feed(detector, np.random.default_rng(seed).lognormal(np.log(duration_ns), noise, 2000).astype(int).tolist())
        assert detector.state.steady
        windows.append(detector.state.windows)
    assert np.quantile(windows, 0.9) <= 10 and max(windows) <= 25


def test_spread_that_the_noise_explains_is_said_to_be_explained():
    detector = SteadyState(windows=5)
    for shift in (0, 6, 1, 4, 2):
        for duration in (80, 100, 120):
            detector.add((duration + shift) * MS)
    assert detector.state.steady
    assert (
        detector.state.reason
        == "the last 5 windows spread 5.9%, which the noise inside them explains, and show no trend"
    )


def test_steadiness_can_be_lost_again():
    detector = SteadyState()
    assert feed(detector, [10 * MS] * 15) == 15
    for _ in range(6):
        detector.add(20 * MS)
    assert not detector.state.steady


def test_what_it_says_before_it_knows():
    detector = SteadyState(window_ns=10 * MS)
    assert (detector.state.steady, detector.state.reason) == (False, "no inference yet")
    detector.add(MS)
    assert detector.state.reason == "the first window is not complete"
    for _ in range(9):
        detector.add(MS)
    assert detector.state.reason == "1 of 5 windows" and detector.state.windows == 1
    assert feed(SteadyState(window_ns=0), [0] * 20) is None


@pytest.mark.parametrize("settings", [{"windows": 3}, {"window_ns": -1}, {"window_inferences": 0}, {"tolerance": -0.1}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError):
        SteadyState(**settings)


def test_negative_duration_is_refused():
    with pytest.raises(ValueError, match="negative"):
        SteadyState().add(-1)


@pytest.mark.parametrize("length", [4, 5, 8, 12])
def test_mann_kendall_is_the_exact_kendall_test_of_scipy(length):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(length)
    for _ in range(20):
        values = rng.random(length) + 0.1 * np.arange(length)
        expected = stats.kendalltau(np.arange(length), values, method="exact").pvalue
        assert mann_kendall_p(values.tolist()) == pytest.approx(expected, rel=1e-9)


def test_mann_kendall_known_values():
    assert mann_kendall_p([1, 2, 3, 4, 5]) == pytest.approx(2 / 120)
    assert mann_kendall_p([5, 4, 3, 2, 1]) == pytest.approx(2 / 120)
    assert mann_kendall_p([1, 1, 1, 1, 1]) == 1.0


def test_theil_sen_is_that_of_scipy_and_ignores_an_outlier():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).random(11).tolist()
    assert theil_sen_slope(values) == pytest.approx(stats.theilslopes(values).slope)
    assert theil_sen_slope([0.0, 1.0, 2.0, 300.0, 4.0, 5.0]) == 1.0
    with pytest.raises(ValueError):
        theil_sen_slope([1.0])

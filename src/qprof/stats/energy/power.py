"""Energy over a window from a trace of power: the cross-check of a counter, and the only figure where there is none.

What NVIDIA's sensors do is found in Yang, Adamek & Armour, "Part-time Power Measurements: nvidia-smi's Lack of
Attention", arXiv 2312.02741, 2023: they hold a value until the next update, average over 1 s (Ampere and newer but
GA100) or look at 25 ms in every 100 (A100, H100).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.stats.energy.figures import DROP_OUT, Energy, Flag, check_window, checked_readings

#: With less of a window covered by readings than this, its energy is refused.
LEAST_COVERAGE = 0.95


@dataclass(frozen=True, slots=True)
class PowerSensor:
    """How a power sensor works, as far as that is known.

    Each reading is the mean power of the `averaging_ns` that ended `lag_ns` before its last update (0: instantaneous).
    `update_ns`: time between updates, through which a value is held (0: each reading is a new one); it is not inferred
    here, since a gauge that repeats itself may as well be right. `lowest_w`, `highest_w`: what the device can draw at
    all (its idle power, its limit); bounds use the range that was read where they are `None`.
    """

    averaging_ns: int = 0
    lag_ns: int = 0
    update_ns: int = 0
    lowest_w: float | None = None
    highest_w: float | None = None


class _Trace:
    """Power as a function of time, linear between the readings and held before the first and after the last."""

    def __init__(self, t: NDArray[np.int64], watts: NDArray[np.float64]) -> None:
        self.origin_ns = int(t[0])
        self.seconds = (t - t[0]) * 1e-9
        self.watts = watts
        steps = np.diff(self.seconds) * (watts[1:] + watts[:-1]) / 2.0
        self.joules = np.concatenate([[0.0], np.cumsum(steps)])
        gaps = np.diff(self.seconds)
        long = gaps > DROP_OUT * np.median(gaps)
        self.gap_from, self.gap_to = self.seconds[:-1][long], self.seconds[1:][long]

    def at(self, seconds: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(np.interp(np.asarray(seconds, dtype=np.float64), self.seconds, self.watts))

    def integral(self, seconds: float) -> float:
        """Energy from the first reading to a time, trapezoid by trapezoid."""
        last = len(self.seconds) - 1
        i = int(np.clip(np.searchsorted(self.seconds, seconds, side="right") - 1, 0, last))
        edge = 0 if seconds < self.seconds[0] else i
        rest = seconds - self.seconds[edge]
        return float(self.joules[edge] + rest * (self.watts[edge] + self.at(seconds)) / 2.0)

    def over(self, seconds: NDArray[np.float64], width: float) -> NDArray[np.float64]:
        """Mean power over `width` around each time: a held value is read in the middle of its step, so to speak."""
        if width <= 0:
            return self.at(seconds)
        ends = [(self.integral(s + width / 2.0) - self.integral(s - width / 2.0)) / width for s in seconds.tolist()]
        return np.array(ends, np.float64)

    def uncovered(self, start: float, end: float) -> float:
        """Seconds of [start, end] that lie in drop-outs, before the first reading or after the last."""
        gaps = np.maximum(np.minimum(self.gap_to, end) - np.maximum(self.gap_from, start), 0.0).sum()
        outside = max(min(self.seconds[0], end) - start, 0.0) + max(end - max(self.seconds[-1], start), 0.0)
        return float(gaps + outside)


def power_energy(
    t_ns: ArrayLike,
    watts: ArrayLike,
    start_ns: int,
    end_ns: int,
    sensor: PowerSensor | None = None,
    *,
    least_coverage: float = LEAST_COVERAGE,
) -> Energy:
    """Energy over [start_ns, end_ns] from readings int64[n], float64[n] of power in watts.

    An instantaneous sensor is integrated by trapezoids, interpolated at the edges. A held value is half an update old
    in the mean: the trace is moved back by that and by the lag. Of a sensor that averages without leaving anything out,
    readings one averaging time apart are added up instead (flag "averaged"): each is the energy of the time it
    averaged, so they tile the window from both ends exactly, and only what is left in the middle is estimated. A window
    shorter than the averaging time is refused. A sensor that averages over less than its update period looks part of
    the time (flag "part_time"): what the device did in between is bounded by `lowest_w` and `highest_w` alone, and
    without them `error_j` is `None`; such a figure is fit for a cross-check over many phases, no more.

    Drop-outs are filled by interpolation and counted in `coverage`; a window covered by less than `least_coverage` is
    refused. `error_j` bounds edges, drop-outs and unobserved time for power within the range named above; between two
    readings of an instantaneous sensor the power is taken to be linear. Raises `ValueError` for bad arrays.
    """
    check_window(start_ns, end_ns)
    t, w = checked_readings(t_ns, watts)
    sensor = sensor or PowerSensor()
    if len(t) < 2:
        return Energy(None, None, start_ns, end_ns, 0.0, reason=f"{len(t)} readings of power: at least two are needed")
    part_time = 0 < sensor.averaging_ns < sensor.update_ns
    tiles = sensor.averaging_ns > 0 and not part_time
    delay_ns = sensor.lag_ns + sensor.update_ns / 2.0 + (sensor.averaging_ns / 2.0 if part_time else 0.0)
    trace = _Trace(t, w)
    start = (start_ns - trace.origin_ns + delay_ns) * 1e-9
    end = (end_ns - trace.origin_ns + delay_ns) * 1e-9
    missing = trace.uncovered(start, end)
    coverage = 1.0 - missing / (end - start)
    states: tuple[tuple[Flag, bool], ...] = (("drop_outs", missing > 0), ("part_time", part_time), ("averaged", tiles))
    flags = tuple(flag for flag, present in states if present)

    def refused(reason: str) -> Energy:
        return Energy(None, None, start_ns, end_ns, coverage, flags=flags, reason=reason)

    if coverage < least_coverage:
        return refused(f"readings cover {coverage:.1%} of the window: at least {least_coverage:.0%} are needed")
    if tiles and end_ns - start_ns < sensor.averaging_ns:
        return refused(
            f"the window of {(end - start) * 1e3:.0f} ms is shorter than the {sensor.averaging_ns * 1e-6:.0f} ms "
            "that the sensor averages over"
        )
    low, high = _power_range(trace, sensor, start, end)
    joules, error = _tiled(trace, start, end, sensor) if tiles else _trapezoids(trace, start, end)
    bound: float | None = error + (sensor.update_ns * 1e-9 + missing) * (high - low)
    if part_time:
        mean = joules / (end - start)
        unseen = (end - start) * (1.0 - sensor.averaging_ns / sensor.update_ns)
        known = sensor.lowest_w is not None and sensor.highest_w is not None
        bound = bound + unseen * max(mean - low, high - mean) if known and bound is not None else None
    return Energy(joules, bound, start_ns, end_ns, coverage, flags=flags)


def _power_range(trace: _Trace, sensor: PowerSensor, start: float, end: float) -> tuple[float, float]:
    """Smallest and largest power near the window: what is known of the device, else what was read."""
    reach = max(sensor.averaging_ns * 1e-9, (end - start) * 0.1)
    near = trace.watts[(trace.seconds >= start - reach) & (trace.seconds <= end + reach)]
    near = near if len(near) else trace.watts
    low = float(near.min()) if sensor.lowest_w is None else sensor.lowest_w
    high = float(near.max()) if sensor.highest_w is None else sensor.highest_w
    return low, high


def _trapezoids(trace: _Trace, start: float, end: float) -> tuple[float, float]:
    """Joules and the error at the edges: the power may have changed anywhere between the two readings around each."""
    error = 0.0
    for edge in (start, end):
        i = int(np.clip(np.searchsorted(trace.seconds, edge), 1, len(trace.seconds) - 1))
        error += (trace.seconds[i] - trace.seconds[i - 1]) / 2.0 * abs(trace.watts[i] - trace.watts[i - 1])
    return trace.integral(end) - trace.integral(start), float(error)


def _tiled(trace: _Trace, start: float, end: float, sensor: PowerSensor) -> tuple[float, float]:
    """Joules from readings that each average over the time `averaging` before them, and the error of the remainder.

    With E the energy up to a time, a reading is P(t) = (E(t) - E(t - A)) / A, so that A P(t) summed over t one
    averaging time apart telescopes to a difference of E. What the window has beyond a multiple of A is put in its
    middle, where a measured load is steadiest, and taken at the mean power around it.
    """
    averaging, held = sensor.averaging_ns * 1e-9, sensor.update_ns * 1e-9
    # A window of exactly n averaging times must not lose one of them to rounding.
    count = int((end - start) / averaging + 1e-9)
    left = (count + 1) // 2
    from_start = start + averaging * np.arange(1, left + 1)
    from_end = end - averaging * np.arange(count - left)
    remainder = max(end - start - count * averaging, 0.0)
    middle = start + left * averaging + remainder / 2.0
    readings = trace.over(np.concatenate([from_start, from_end, [middle + averaging / 2.0]]), held)
    joules = averaging * float(readings[:-1].sum()) + remainder * float(readings[-1])
    inside = trace.watts[(trace.seconds >= start + averaging) & (trace.seconds <= end)]
    spread = float(inside.max() - inside.min()) if len(inside) else 0.0
    return joules, remainder * spread

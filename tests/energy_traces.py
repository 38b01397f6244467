"""Synthetic loads whose energy is known by formula, and sensors that look at them as real ones do. Nothing here was
recorded: `a100_like` and `h100_like` are built from the description in arXiv 2312.02741."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MS = 1_000_000
SECOND = 1_000_000_000

#: Energy in joules up to each time (seconds from 0), of a load that has the power of its name.
Load = Callable[[np.ndarray], np.ndarray]


def constant(watts: float) -> Load:
    return lambda s: watts * s


def ramp(from_w: float, per_s: float) -> Load:
    return lambda s: from_w * s + per_s * s * s / 2.0


def square(low: float, high: float, period_s: float, duty: float = 0.5) -> Load:
    """`high` for the first `duty` of every period."""

    def energy(s: np.ndarray) -> np.ndarray:
        whole, part = np.divmod(s, period_s)
        return low * s + (high - low) * (whole * duty * period_s + np.minimum(part, duty * period_s))

    return energy


def burst(idle_w: float, busy_w: float, from_s: float, to_s: float) -> Load:
    """Idle, then busy between two times, then idle."""
    return lambda s: idle_w * s + (busy_w - idle_w) * (np.clip(s, from_s, to_s) - from_s)


def bursts_of(inner: Load, idle_w: float, from_s: float, to_s: float) -> Load:
    """Idle, then `inner` between two times, then idle."""

    def energy(s: np.ndarray) -> np.ndarray:
        busy = np.clip(s, from_s, to_s)
        start = inner(np.float64(from_s))
        return idle_w * (s - (busy - from_s)) + inner(busy) - start

    return energy


def true_j(load: Load, start_ns: int, end_ns: int) -> float:
    return float(load(np.float64(end_ns * 1e-9)) - load(np.float64(start_ns * 1e-9)))


def reading_times(seconds: float, rate_hz: float, seed: int | None = 0, origin_ns: int = 0) -> np.ndarray:
    """Times of readings at a rate; a seed lets each be late by up to a tenth of the interval, as a real thread is."""
    step = SECOND / rate_hz
    times = np.arange(int(seconds * rate_hz)) * step
    if seed is not None:
        times = times + np.random.default_rng(seed).uniform(0.0, 0.1 * step, len(times))
    return origin_ns + np.round(times).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Counter:
    """A cumulative counter (mJ by default) that is updated every `period_ns`, first at `phase_ns`."""

    period_ns: int = 100 * MS
    phase_ns: int = 37 * MS
    unit_j: float = 1e-3
    first: float = 0.0
    wraps_at: float | None = None

    def read(self, load: Load, t_ns: np.ndarray) -> np.ndarray:
        updated = np.floor((t_ns - self.phase_ns) / self.period_ns) * self.period_ns + self.phase_ns
        value = self.first + np.floor(load(updated * 1e-9) / self.unit_j)
        return value if self.wraps_at is None else np.mod(value, self.wraps_at)


@dataclass(frozen=True, slots=True)
class Power:
    """A power sensor: the mean of the `averaging_ns` up to `lag_ns` before its last update; see `PowerSensor`."""

    averaging_ns: int = 0
    update_ns: int = 0
    phase_ns: int = 0
    lag_ns: int = 0

    def read(self, load: Load, t_ns: np.ndarray) -> np.ndarray:
        t = t_ns.astype(np.float64)
        if self.update_ns:
            t = np.floor((t - self.phase_ns) / self.update_ns) * self.update_ns + self.phase_ns
        end = (t - self.lag_ns) * 1e-9
        width = max(self.averaging_ns, 1000) * 1e-9  # 1 us is as instantaneous as a difference quotient gets
        return np.asarray((load(end) - load(end - width)) / width)


def a100_like(phase_ns: int = 0) -> tuple[Counter, Power]:
    """SYNTHETIC: an A100 as arXiv 2312.02741 describes it: power over 25 ms of every 100 ms; a 100 ms counter."""
    return Counter(period_ns=100 * MS, phase_ns=phase_ns), Power(25 * MS, 100 * MS, phase_ns)


def h100_like(phase_ns: int = 0) -> tuple[Counter, Power, Power]:
    """SYNTHETIC: an H100: as the A100, with a second figure that averages over 1 s and is updated every 100 ms."""
    counter, instant = a100_like(phase_ns)
    return counter, instant, Power(SECOND, 100 * MS, phase_ns)

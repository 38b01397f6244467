"""What an energy account is made of: a window's joules with their error bound, and how often a sensor updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Flag = Literal["wrapped", "backwards", "drop_outs", "averaged", "part_time"]

#: Of all pairs of readings, at most this share may differ for an update period to be told from them: beyond it the
#: sensor is read about as slowly as it updates, or more slowly, and updates may have gone by unseen.
_RESOLVED_SHARE = 0.9
#: A gap between readings this many times the median gap is a drop-out.
DROP_OUT = 2.5
_FEWEST_SPACINGS = 3


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one sensor over [start_ns, end_ns].

    `joules` is `None` where the readings cannot give it; `reason` then says why. The truth lies within `error_j` of
    `joules` as far as the sensor itself is right; `None` says that no bound can be given. `coverage`: share of the
    window that readings cover. `updates`: updates of a counter inside the window, `None` for a power trace.
    """

    joules: float | None
    error_j: float | None
    start_ns: int
    end_ns: int
    coverage: float | None = None
    updates: int | None = None
    flags: tuple[Flag, ...] = ()
    reason: str | None = None

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return (self.end_ns - self.start_ns) * 1e-9

    @property
    def watts(self) -> float | None:
        """Mean power over the window."""
        return None if self.joules is None else self.joules / self.seconds


@dataclass(frozen=True, slots=True)
class UpdatePeriod:
    """How often a sensor shows a new value.

    `period_ns` is the mean time between the new values that the readings show. Where `resolved` is false the sensor was
    not read faster than it updates, and `period_ns` is an upper bound. `None` where it cannot be told: see `reason`.
    """

    period_ns: float | None
    resolved: bool
    updates: int
    reason: str | None = None


def update_period(t_ns: ArrayLike, value: ArrayLike) -> UpdatePeriod:
    """Update period of a counter or gauge from its readings: int64[n], float64[n].

    A sensor that is read faster than it updates repeats itself, and the spacing of the changes is the period: in the
    mean, since each change is seen up to one reading late. Spacings much longer than the others (a drop-out, or
    nothing new to say) are left out. The period differs between devices and drivers (Yang, Adamek &
    Armour, "Part-time Power Measurements", arXiv 2312.02741, 2023), so it is found anew in every run. Raises
    `ValueError` for times that do not increase.
    """
    t, v = checked_readings(t_ns, value)
    if len(t) < 2:
        return UpdatePeriod(None, False, 0, f"{len(t)} readings show no update")
    gaps = np.diff(t)
    typical = float(np.median(gaps))
    new = np.flatnonzero(np.diff(v) != 0) + 1
    spacings = np.diff(t[new])
    if len(spacings) < _FEWEST_SPACINGS:
        return UpdatePeriod(None, False, len(new), f"{len(new)} updates in {len(t)} readings are too few for a period")
    usual = spacings[spacings <= 1.5 * np.median(spacings) + typical]
    return UpdatePeriod(float(usual.mean()), len(new) <= _RESOLVED_SHARE * len(gaps), len(new))


def checked_readings(t_ns: ArrayLike, value: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The finite readings: int64[n], float64[n]. A reading that is not finite is one that failed, and is left out.

    Raises `ValueError` where the arrays are not vectors of one length, or the times are no integers or do not increase.
    """
    times = np.asarray(t_ns)
    values = np.asarray(value, dtype=np.float64)
    if times.ndim != 1 or times.shape != values.shape:
        raise ValueError(f"times and values must be vectors of one length, got {times.shape} and {values.shape}")
    if len(times) and not np.issubdtype(times.dtype, np.integer):
        raise ValueError(f"times must be integers (nanoseconds), got {times.dtype}")
    times = times.astype(np.int64)
    if np.any(np.diff(times) <= 0):
        raise ValueError(f"times must increase; they do not after reading {int(np.argmax(np.diff(times) <= 0))}")
    finite = np.isfinite(values)
    return times[finite], values[finite]


def check_window(start_ns: int, end_ns: int) -> None:
    """Raises `ValueError` for a window without length."""
    if end_ns <= start_ns:
        raise ValueError(f"a window must end after it starts, got {start_ns} to {end_ns} ns")

"""Energy over a window from a counter that is updated now and then and may wrap around.

Sources: NVML's `nvmlDeviceGetTotalEnergyConsumption` (mJ since the driver was loaded); the Linux powercap interface
(`energy_uj` wraps at `max_energy_range_uj`; Documentation/power/powercap/powercap.rst). Why the first and last update
decide the error of a short window: Yang, Adamek & Armour, arXiv 2312.02741, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.stats.energy.figures import Energy, Flag, check_window, checked_readings, update_period

#: With fewer updates than this inside a window the two edges, one update each, are more than a third of it.
FEWEST_UPDATES = 5
#: A step back is taken for a wrap-around only if the power that it then means is at most this many times the largest
#: other one. A reset to 0 far from `wraps_at` means a power that is larger by orders of magnitude.
_PLAUSIBLE_POWER = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class _Updates:
    """Points of the true curve of energy: at a time in (after_ns, until_ns] it stood at `units` since the first.

    `at_ns` is the best guess of that time. `backwards`: bool, whether the counter fell at this update for no reason.
    """

    at_ns: NDArray[np.float64]
    after_ns: NDArray[np.int64]
    until_ns: NDArray[np.int64]
    units: NDArray[np.float64]
    wrapped: NDArray[np.bool_]
    backwards: NDArray[np.bool_]
    first_ns: int


@dataclass(frozen=True, slots=True)
class _Edge:
    units: float
    low: float
    high: float


def counter_energy(
    t_ns: ArrayLike,
    value: ArrayLike,
    start_ns: int,
    end_ns: int,
    *,
    joules_per_unit: float = 1e-3,
    wraps_at: float | None = None,
    fewest_updates: int = FEWEST_UPDATES,
) -> Energy:
    """Energy over [start_ns, end_ns] from readings int64[n], float64[n] of a cumulative counter.

    The readings must reach one update beyond the window at each end, better two. The counter's value at an edge is
    interpolated between the updates around it, each placed in the middle of the time in which it can have happened,
    with the power on either side as weights. Energy never
    falls, so the updates that surely lie before and after an edge bound it: `error_j` is at most the energy of one
    update period at each end, two where an update and an edge cannot be told apart. It assumes a counter without lag.

    `value` falls from near `wraps_at` to near 0 where it wraps; any other fall inside the window (a reset, a driver
    that was reloaded) refuses it, with the flag "backwards". Refused as well: fewer than `fewest_updates` updates
    inside the window, and gaps in which the counter may have wrapped unseen. Raises `ValueError` for bad arrays.
    """
    check_window(start_ns, end_ns)
    t, v = checked_readings(t_ns, value)

    def refused(reason: str, updates: int | None = None, flags: tuple[Flag, ...] = ()) -> Energy:
        return Energy(None, None, start_ns, end_ns, updates=updates, flags=flags, reason=reason)

    if len(t) < 2:
        return refused(f"{len(t)} readings of the counter: at least two are needed")
    found = _updates(t, v, wraps_at)
    start, end = _edge(found, start_ns), _edge(found, end_ns)
    inside = int(np.count_nonzero((found.at_ns > start_ns) & (found.at_ns <= end_ns)))
    if start is None or end is None:
        return refused(_uncovered(found, start_ns, end_ns, start is None), inside)
    beyond = int(np.searchsorted(found.after_ns, end_ns, side="left"))
    used = (found.until_ns > start_ns) & (np.arange(len(found.units)) <= beyond)
    if np.any(found.backwards & used):
        return refused("the counter went backwards inside the window (a reset?)", inside, ("backwards",))
    if wraps_at is not None and _may_hide_a_wrap(found, used, wraps_at):
        return refused("the counter may have wrapped more than once between two readings: read it more often", inside)
    if inside < fewest_updates:
        return refused(f"{inside} updates of the counter in the window: at least {fewest_updates} are needed", inside)
    units = end.units - start.units
    error = max(end.high - start.low - units, units - (end.low - start.high))
    return Energy(
        units * joules_per_unit,
        max(error, 0.0) * joules_per_unit,
        start_ns,
        end_ns,
        coverage=1.0,
        updates=inside,
        flags=("wrapped",) if np.any(found.wrapped & used) else (),
    )


def _updates(t: NDArray[np.int64], v: NDArray[np.float64], wraps_at: float | None) -> _Updates:
    new = np.flatnonzero(np.diff(v) != 0) + 1
    steps = v[new] - v[new - 1]
    after, until = t[new - 1], t[new]
    period = update_period(t, v).period_ns
    gap = (until - after).astype(np.float64)
    # After a drop-out the value is one period old at most, however long nothing was read.
    at = until - np.minimum(gap, np.inf if period is None else period) / 2.0
    fell = steps < 0
    wrapped: NDArray[np.bool_] = np.zeros(len(steps), np.bool_)
    if wraps_at is not None and np.any(fell) and np.all((v >= 0) & (v <= wraps_at)):
        wrapped = fell & _plausible(np.where(fell, steps + wraps_at, steps), np.diff(at, prepend=t[0]), fell, wraps_at)
    units = np.where(wrapped, steps + (wraps_at or 0.0), np.where(fell, 0.0, steps))
    return _Updates(at, after, until, np.cumsum(units), wrapped, fell & ~wrapped, int(t[0]))


def _plausible(
    steps: NDArray[np.float64], spacing_ns: NDArray[np.float64], fell: NDArray[np.bool_], wraps_at: float
) -> NDArray[np.bool_]:
    """Whether each step, unwrapped, means a power that the counter shows elsewhere as well."""
    power = steps / np.maximum(spacing_ns, 1.0)
    # The first step may follow an update that was not seen: its spacing says nothing.
    known = ~fell & (np.arange(len(steps)) > 0)
    if not np.any(known):
        return np.asarray(steps < wraps_at / 2.0)
    return np.asarray(power <= _PLAUSIBLE_POWER * power[known].max())


def _edge(found: _Updates, at_ns: int) -> _Edge | None:
    """The counter at a time, with bounds; `None` where no update lies surely before or surely after it."""
    before = int(np.searchsorted(found.until_ns, at_ns, side="right")) - 1
    beyond = int(np.searchsorted(found.after_ns, at_ns, side="left"))
    if beyond >= len(found.units) or at_ns < found.at_ns[0]:
        return None
    low = float(found.units[before]) if before >= 0 else 0.0
    high = float(found.units[beyond])
    return _Edge(_interpolated(found, at_ns), low, high)


def _interpolated(found: _Updates, at_ns: int) -> float:
    """Units at a time between two updates, shared out by the power before the first and after the second of them.

    A window's edge is where the load changes, from idle to busy or back. A straight line would put a part of the busy
    side's energy on the idle side at both edges, in every block alike, which no number of phases averages out.
    """
    i = int(np.clip(np.searchsorted(found.at_ns, at_ns, side="right") - 1, 0, len(found.units) - 2))
    at, units = found.at_ns[i : i + 2], found.units[i : i + 2]
    before, after = 1.0, 1.0
    spacing = np.diff(found.at_ns[max(i - 1, 0) : i + 3])
    # Across a drop-out the power of one update next to it says little.
    if len(spacing) == 3 and spacing[1] <= 2.5 * min(spacing[0], spacing[2]):
        before, _, after = np.diff(found.units[i - 1 : i + 3]) / spacing
    left, right = before * (at_ns - at[0]), after * (at[1] - at_ns)
    # No power on either side: whatever was used in between, nothing says when.
    share = left / (left + right) if left + right > 0 else (at_ns - at[0]) / (at[1] - at[0])
    return float(units[0] + share * (units[1] - units[0]))


def _uncovered(found: _Updates, start_ns: int, end_ns: int, at_start: bool) -> str:
    if not len(found.units):
        return "the counter never changed: it is not updated, or was read too briefly"
    if at_start and start_ns < found.at_ns[0]:
        return (
            f"the counter shows no update before the window (the first comes {_ms(found.at_ns[0] - start_ns)} into it)"
        )
    return (
        f"the counter shows no update after the window (the last comes {_ms(end_ns - found.at_ns[-1])} before its end)"
    )


def _ms(ns: float) -> str:
    return f"{ns * 1e-6:.0f} ms"


def _may_hide_a_wrap(found: _Updates, used: NDArray[np.bool_], wraps_at: float) -> bool:
    """Whether the counter's largest power would fill its whole range within one of the gaps between readings."""
    spacing = np.diff(found.at_ns)
    power = np.diff(found.units) / spacing
    if not len(power):
        return False
    gaps = (found.until_ns - found.after_ns)[used]
    return bool(np.any(gaps * power.max() >= wraps_at))

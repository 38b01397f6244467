"""Power over time: what each block of a variant drew, as its sensors showed it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.errors import StoreError
from qprof.findings.energy.recorded import Recorded, Window
from qprof.findings.energy.sensors import JOULES_PER_UNIT, Sensor, find_sensors
from qprof.store.readings import Series
from qprof.store.run import Run


@dataclass(frozen=True, slots=True, eq=False)
class PowerTrace:
    """One channel in and around one block: `t_s` float64[n] from the window's start, `watts` float64[n].

    `from_counter`: each point is the mean power between two updates of a counter, and stands at the later of them;
    else it is a reading.
    """

    variant: str
    phase: str
    round: int
    block: int
    channel: str
    provenance: str
    from_counter: bool
    window_s: float
    t_s: NDArray[np.float64]
    watts: NDArray[np.float64]


def power_traces(run: Run, variant: str, phase: str | None = None) -> list[PowerTrace]:
    """The traces of all energy blocks of a variant, in every phase or one.

    Raises `StoreError` where there is no such variant or phase, or nothing was read during such blocks.
    """
    run.variant(variant)
    recorded = Recorded(run)
    windows = recorded.of(variant, "energy", run.phase(phase) if phase else None)
    if not windows:
        why = (run.manifest.energy.reason if run.manifest.energy else None) or "it was not measured so far"
        raise StoreError(f'{run.folder}: {variant} has no energy blocks to draw ({why}); see protocol.energy = "on"')
    sensors, _ = find_sensors(run, recorded)
    found = [trace for window in windows for sensor in sensors for trace in _of(recorded, sensor, window)]
    if not found:
        raise StoreError(f"{run.folder}: no sensor was read during {variant}'s energy blocks; see qprof doctor")
    return found


def _of(recorded: Recorded, sensor: Sensor, window: Window) -> list[PowerTrace]:
    """The counter's, then those of the power channels beside it; a model has one figure per block, and no trace."""
    if sensor.source == "model":
        return []
    found = []
    for channel in (sensor.channel, *sensor.checks):
        trace = recorded.series(window.block, channel)
        counter = sensor.source == "counter" and channel == sensor.channel
        if trace is not None and counter:
            trace = _from_counter(trace, JOULES_PER_UNIT[sensor.unit], sensor.wraps_at)
        if trace is None or not len(trace):
            continue
        found.append(
            PowerTrace(
                variant=window.variant,
                phase=window.phase,
                round=window.round,
                block=window.block,
                channel=channel,
                provenance=sensor.provenance,
                from_counter=counter,
                window_s=window.seconds,
                t_s=np.asarray((trace.t_ns - window.start_ns) * 1e-9, np.float64),
                watts=trace.values,
            )
        )
    return found


def _from_counter(trace: Series, joules_per_unit: float, wraps_at: float | None) -> Series:
    """Mean power between the updates of a counter; a step back that is no wrap-around has none, and is left out."""
    t, value = trace.t_ns, trace.values
    new = np.flatnonzero(np.diff(value) != 0) + 1
    steps = np.diff(value[new])
    if wraps_at:
        steps = np.where(steps < 0, steps + wraps_at, steps)
    watts = steps * joules_per_unit / (np.diff(t[new]) * 1e-9)
    return Series(t[new][1:][steps > 0], watts[steps > 0])

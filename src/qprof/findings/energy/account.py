"""What one sensor says of one variant: joules per inference over its blocks, or why there is no such figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.findings.energy.recorded import Recorded, Window
from qprof.findings.energy.sensors import Sensor, window_energy
from qprof.stats.energy import (
    BlockEnergy,
    Energy,
    EnergyVerdict,
    Idle,
    PerInference,
    VariantRounds,
    energy_rule,
    joules_per_inference,
)
from qprof.stats.energy.rule import LEAST_PHASES, LEAST_REPETITIONS
from qprof.stats.intervals import Interval, percentile_interval, resample_weights

#: Why such a model has no net energy, though the difference would be 0 J.
_CONSTANT = "the model's power is the same at all times: it cannot tell work from idling"

_LEVEL, _RESAMPLES, _SEED = 0.95, 2000, 0


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """The energy of a variant's windows by one sensor.

    `energies`: one per window; `used`: positions of those that the figures are made of; `left_out`: position and
    reason of the others. `found.verdict` holds for joules per inference; `power` is refused for the window alone.
    """

    sensor: Sensor
    windows: list[Window]
    energies: list[Energy]
    used: list[int]
    found: PerInference
    power: Interval | None
    power_reason: str | None
    idle: Idle

    @property
    def net_refusal(self) -> str | None:
        """Why there are no net joules per inference."""
        if self.refusal or self.found.net is not None:
            return self.refusal
        return _CONSTANT if _is_constant(self.sensor) else self.idle.reason

    @property
    def left_out(self) -> tuple[tuple[int, str], ...]:
        return self.found.left_out

    @property
    def refusal(self) -> str | None:
        """Why there are no joules per inference, with what would give them."""
        if self.found.gross is not None:
            return None
        return "; ".join(filter(None, (self.found.verdict.reason, self._remedy())))

    def _remedy(self) -> str | None:
        if not self.windows or self.sensor.source == "model":
            return None
        if self.windows[0].kind == "clean":
            return 'blocks that are long enough come with protocol.energy = "on"'
        if self.windows[0].kind == "scored":
            return "more scored samples in each block give one: a larger task.limit, or fewer protocol.rounds"
        verdict = self.found.verdict
        if verdict.longer_ns:
            shortest = min(self.windows[i].seconds for i in self.used)
            return f"protocol.energy_block_s = {math.ceil(shortest + verdict.longer_ns * 1e-9)} gives one"
        return "more blocks give one: protocol.energy_rounds" if verdict.more_phases else None

    def rounds(self) -> VariantRounds:
        """What the used windows hold, round by round."""
        windows = [self.windows[i] for i in self.used]
        return VariantRounds(
            [window.round for window in windows],
            [self.energies[i].joules or 0.0 for i in self.used],
            [self.energies[i].seconds for i in self.used],
            [window.repetitions for window in windows],
        )


def account(recorded: Recorded, sensor: Sensor, windows: Sequence[Window], idle: Idle) -> Account:
    """The energy of some windows of one variant, judged by the rule of `qprof.stats.energy.rule`; a model knows no
    update period, and no rule of that kind can be asked of it."""
    energies = [window_energy(recorded, sensor, window) for window in windows]
    period_ns = recorded.period(sensor.channel).period_ns
    found = (
        _modelled(windows, energies, None if _is_constant(sensor) else idle)
        if sensor.source == "model"
        else joules_per_inference(
            [BlockEnergy(e, w.repeated_starts()) for w, e in zip(windows, energies, strict=True)], period_ns, idle=idle
        )
    )
    out = {position for position, _ in found.left_out}
    used = [i for i in range(len(windows)) if i not in out]
    reason = _power_refusal(sensor, [windows[i] for i in used], period_ns) if used else found.verdict.reason
    power = None if reason else _mean_power([energies[i] for i in used])
    return Account(sensor, list(windows), energies, used, found, power, reason, idle)


def _is_constant(sensor: Sensor) -> bool:
    return sensor.source == "model" and sensor.provenance == "modelled"


def _power_refusal(sensor: Sensor, windows: Sequence[Window], period_ns: float | None) -> str | None:
    """Why no mean power can be told: the rule, but for what it asks of the inferences in a window."""
    if sensor.source == "model":
        return None
    shortest = min(window.end_ns - window.start_ns for window in windows)
    return energy_rule(shortest, LEAST_REPETITIONS, LEAST_PHASES, period_ns).reason


def _mean_power(energies: Sequence[Energy]) -> Interval:
    joules = np.array([energy.joules for energy in energies], np.float64)
    return _ratio(joules, np.array([energy.seconds for energy in energies], np.float64))


def _modelled(windows: Sequence[Window], energies: Sequence[Energy], idle: Idle | None) -> PerInference:
    """Per inference of what a model says, resampling whole blocks."""
    left_out = tuple((i, energy.reason or "refused") for i, energy in enumerate(energies) if energy.joules is None)
    pairs = [(w, e, e.joules) for w, e in zip(windows, energies, strict=True) if e.joules is not None]
    if not pairs:
        reason = f"no block has an energy ({left_out[0][1]})" if left_out else "no blocks"
        return PerInference(None, None, None, None, EnergyVerdict(False, (reason,)), 0, left_out)
    joules = np.array([value for _, _, value in pairs], np.float64)
    seconds = np.array([energy.seconds for _, energy, _ in pairs], np.float64)
    counts = np.array([window.repetitions for window, _, _ in pairs], np.float64)
    net = None
    if idle is not None and idle.watts is not None:
        net = _ratio(joules - idle.watts * seconds, counts)
        # Either idle may have been the true one: no resampling of blocks shows that.
        common = None if idle.drift_w is None else abs(idle.drift_w) / 2.0 * float(seconds.sum() / counts.sum())
        net = _widened(net, common, idle.reason)
    return PerInference(_ratio(joules, counts), net, None, None, EnergyVerdict(True), len(pairs), left_out)


def _widened(interval: Interval, by: float | None, reason: str | None) -> Interval:
    if interval.low is None or interval.high is None:
        return interval
    if by is None:
        return Interval(interval.value, None, None, interval.level, reason)
    return Interval(interval.value, interval.low - by, interval.high + by, interval.level)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> Interval:
    """Sum over sum with its interval over blocks."""
    weights = resample_weights(len(above), _RESAMPLES, _SEED)
    replicates = (weights @ above) / (weights @ below)
    return percentile_interval(float(above.sum() / below.sum()), replicates, _LEVEL, len(above), "expanded")

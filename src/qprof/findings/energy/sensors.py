"""The sensors of a run that tell of energy, and what each says of one window."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qprof.findings.energy.recorded import Recorded, Window
from qprof.probes.nvml import SLOWED_BITS, throttle_reasons
from qprof.record.sensors import CodeCarbonFacts, SampledChannel
from qprof.stats.energy import Agreement, Energy, Idle, PowerSensor, agreement, counter_energy, idle_power, power_energy
from qprof.stats.energy.figures import DROP_OUT
from qprof.store.run import Run

JOULES_PER_UNIT = {"mJ": 1e-3, "J": 1.0, "uJ": 1e-6}
#: Most trustworthy first: readings that average tile a window without a gap, instantaneous ones look now and then.
_GAUGES = ("power_average", "power_instant", "power")
_AVERAGING_NS = {"power_average": 1_000_000_000}
#: A100 and H100 look at 25 ms of every update alone (arXiv 2312.02741); so may the other boards with their chips.
_PART_TIME = re.compile(r"\b(A100X?|AX?800|A30X?|CMP 170HX|H100|H800|H200|H20|GH200)\b")
_PART_TIME_NS = 25_000_000
_MODEL = re.compile(r"codecarbon\.(\w+)\.energy")
_MODEL_SECONDS = "codecarbon.seconds"


@dataclass(frozen=True, slots=True)
class Sensor:
    """What tells of the energy of one part of the machine, "nvml.0" or "codecarbon.ram": a scope with figures of its
    own, which are never added to another's.

    `source` says where its joules come from: a "counter", "power" that is integrated, or a "model". `checks` are the
    power channels that a counter is compared with.
    """

    scope: str
    source: str
    provenance: str
    text: str
    channel: str
    unit: str
    wraps_at: float | None = None
    checks: tuple[str, ...] = ()
    throttle: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """The integral of a power channel against the counter, over all windows of `what` ("blocks", "idle") that both
    know: see `qprof.stats.energy.Agreement`."""

    channel: str
    what: str
    verdict: str
    mismatch: float | None
    error: float | None
    windows: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Flagged:
    """A thing that a reader must know of some of the windows; `of` is how many there are."""

    flag: str
    windows: int
    of: int
    detail: str | None = None


def find_sensors(run: Run, recorded: Recorded) -> tuple[list[Sensor], list[str]]:
    """The sensors of a run, and remarks on those that are passed over: GPUs that no variant ran on."""
    known = {channel.name: channel for channel in run.manifest.sensors.channels}
    found, remarks = [], []
    for scope in dict.fromkeys(name.rpartition(".")[0] for name in known):
        sensor = _measured(scope, known)
        if sensor is None:
            continue
        if _elsewhere(run, sensor):
            remarks.append(f"{scope}: left out, the variants ran on another device")
            continue
        found.append(sensor)
    return [*found, *_models(run, recorded)], remarks


def _measured(scope: str, known: Mapping[str, SampledChannel]) -> Sensor | None:
    """The sensor of a scope, if it has a counter of energy or a gauge of power."""
    inside = [channel for name, channel in known.items() if name.rpartition(".")[0] == scope]
    counters = [c for c in inside if c.kind == "counter" and c.unit in JOULES_PER_UNIT]
    gauges = {c.name.rpartition(".")[2]: c for c in inside if c.kind == "gauge" and c.unit == "W"}
    powers = [gauges[name] for name in _GAUGES if name in gauges]
    if not counters and not powers:
        return None
    chosen = counters[0] if counters else powers[0]
    throttle = f"{scope}.throttle"
    return Sensor(
        scope=scope,
        source="counter" if counters else "power",
        provenance=chosen.provenance,
        text=chosen.sensor,
        channel=chosen.name,
        unit=chosen.unit,
        wraps_at=chosen.wraps_at,
        checks=tuple(power.name for power in powers) if counters else (),
        throttle=throttle if throttle in known else None,
    )


def _elsewhere(run: Run, sensor: Sensor) -> bool:
    """Whether it is the sensor of a GPU that is known not to have run the variants."""
    sensors = run.manifest.sensors
    if not sensor.scope.startswith("nvml."):
        return False
    return sensors.device == "cpu" or bool(sensors.device_uuid and sensors.device_uuid not in sensor.text)


def _models(run: Run, recorded: Recorded) -> list[Sensor]:
    """What CodeCarbon told, each part of the machine by itself."""
    provenances = run.readings.provenances
    facts = run.manifest.sensors.codecarbon or CodeCarbonFacts()
    modelled = {"cpu": facts.cpu, "ram": facts.ram}
    found = []
    for channel in recorded.channels:
        match = _MODEL.fullmatch(channel)
        if match:
            version = f" {facts.version}" if facts.version else ""
            part = modelled.get(match[1])
            text = f"CodeCarbon{version}, {match[1]}" + (f": {part}" if part else "")
            scope = channel.rpartition(".")[0]
            found.append(Sensor(scope, "model", provenances[channel], text, channel, "J"))
    return found


def window_energy(recorded: Recorded, sensor: Sensor, window: Window) -> Energy:
    """What a sensor says of a window; without joules, but with the reason, where it cannot."""
    if sensor.source == "model":
        return _model_energy(recorded, sensor, window)
    if sensor.source == "power":
        return _integral(recorded, sensor.channel, sensor.text, window)
    trace = recorded.series(window.block, sensor.channel)
    if trace is None:
        return _nothing(window, f"no reading of {sensor.channel}")
    scale = JOULES_PER_UNIT[sensor.unit]
    return counter_energy(
        trace.t_ns,
        trace.values,
        window.start_ns,
        window.end_ns,
        joules_per_unit=scale,
        wraps_at=sensor.wraps_at or None,
    )


def _model_energy(recorded: Recorded, sensor: Sensor, window: Window) -> Energy:
    """The model's mean power over the time around a block, for as long as its inferences took."""
    joules = recorded.total(window.block, sensor.channel)
    seconds = recorded.total(window.block, _MODEL_SECONDS)
    if joules is None or not seconds:
        return _nothing(window, f"no {'energy' if joules is None else 'duration'} from CodeCarbon")
    if joules <= 0:
        return _nothing(window, "CodeCarbon reports 0 J: it could read nothing")
    end_ns = window.end_ns if window.spent_ns is None else window.start_ns + window.spent_ns
    spent_s = (end_ns - window.start_ns) * 1e-9
    return Energy(joules / seconds * spent_s, None, window.start_ns, end_ns)


def _integral(recorded: Recorded, channel: str, text: str, window: Window) -> Energy:
    trace = recorded.series(window.block, channel)
    if trace is None:
        return _nothing(window, f"no reading of {channel}")
    return power_energy(
        trace.t_ns, trace.values, window.start_ns, window.end_ns, _power_sensor(recorded, channel, text)
    )


def _power_sensor(recorded: Recorded, channel: str, text: str) -> PowerSensor:
    """How a power channel works, from its name, the device's, and the update period that its readings show."""
    period = recorded.period(channel)
    update_ns = round(period.period_ns) if period.period_ns is not None and period.resolved else 0
    suffix = channel.rpartition(".")[2]
    averaging_ns = _AVERAGING_NS.get(suffix, 0)
    if suffix == "power_instant" and _PART_TIME.search(text) and update_ns > _PART_TIME_NS:
        averaging_ns = _PART_TIME_NS
    return PowerSensor(averaging_ns, update_ns=update_ns)


def _nothing(window: Window, reason: str) -> Energy:
    return Energy(None, None, window.start_ns, window.end_ns, reason=reason)


def find_idle(recorded: Recorded, sensor: Sensor) -> Idle:
    """What the sensor showed while all variants were loaded and none ran."""

    def side(when: str) -> Energy:
        window = recorded.idle(when)
        if window is None:
            return Energy(None, None, 0, 1, reason=f"no idle block {when} the measurement")
        return window_energy(recorded, sensor, window)

    return idle_power(side("before"), side("after"))


def find_checks(recorded: Recorded, sensor: Sensor, windows: Sequence[Window]) -> list[Check]:
    """The counter against each power channel beside it, over the blocks and over the idle windows."""
    idle = [window for when in ("before", "after") if (window := recorded.idle(when)) is not None]
    return [
        _check(recorded, sensor, channel, what, members)
        for what, members in (("blocks", windows), ("idle", idle))
        for channel in sensor.checks
    ]


def _check(recorded: Recorded, sensor: Sensor, channel: str, what: str, windows: Sequence[Window]) -> Check:
    pairs = [(window_energy(recorded, sensor, w), _integral(recorded, channel, sensor.text, w)) for w in windows]
    both = [(a, b) for a, b in pairs if a.joules is not None and b.joules is not None]
    if not both:
        reasons = [e.reason for pair in pairs for e in pair if e.reason]
        return Check(channel, what, "unknown", None, None, 0, reasons[0] if reasons else f"no {what} to compare")
    found: Agreement = agreement(_sum([a for a, _ in both]), _sum([b for _, b in both]))
    return Check(channel, what, found.verdict, found.mismatch, found.error, len(both), found.reason)


def _sum(energies: Sequence[Energy]) -> Energy:
    """All windows' energy as one, so that they are judged together."""
    errors = [energy.error_j for energy in energies]
    bounded = [error for error in errors if error is not None]
    error = sum(bounded) if len(bounded) == len(errors) else None
    return Energy(sum(e.joules or 0.0 for e in energies), error, energies[0].start_ns, energies[-1].end_ns)


def find_flags(
    recorded: Recorded, sensor: Sensor, windows: Sequence[Window], energies: Sequence[Energy]
) -> list[Flagged]:
    """What the accounting flagged, readings that are missing, clocks that were held down."""
    counts: dict[str, int] = {}
    for energy in energies:
        for flag in energy.flags:
            counts[flag] = counts.get(flag, 0) + 1
    if sensor.source == "counter":
        gaps = sum(_has_gap(recorded, sensor, window) for window in windows)
        counts |= {"drop_outs": gaps} if gaps else {}
    found = [Flagged(flag.replace("_", "-"), count, len(windows)) for flag, count in counts.items()]
    masks = [_slowed(recorded, sensor, window) for window in windows]
    slowed = [mask for mask in masks if mask]
    if slowed:
        reasons = throttle_reasons(int(np.bitwise_or.reduce(slowed)))
        found.append(Flagged("throttled", len(slowed), len(windows), ", ".join(reasons)))
    return found


def _has_gap(recorded: Recorded, sensor: Sensor, window: Window) -> bool:
    """Whether a counter went unread for longer than its update period, far longer than is usual."""
    trace = recorded.series(window.block, sensor.channel)
    if trace is None or len(trace) < 2:
        return False
    t = trace.t_ns
    gaps = np.diff(t)
    inside = (t[1:] > window.start_ns) & (t[:-1] < window.end_ns)
    least = max(DROP_OUT * float(np.median(gaps)), recorded.period(sensor.channel).period_ns or 0.0)
    return bool(np.any(gaps[inside] > least))


def _slowed(recorded: Recorded, sensor: Sensor, window: Window) -> int:
    """All reasons that held the clocks down in a window, bit by bit; 0 for none."""
    trace = recorded.series(window.block, sensor.throttle) if sensor.throttle else None
    if trace is None:
        return 0
    inside = (trace.t_ns >= window.start_ns) & (trace.t_ns <= window.end_ns) & np.isfinite(trace.values)
    masks = trace.values[inside].astype(np.int64) & SLOWED_BITS
    return int(np.bitwise_or.reduce(masks)) if len(masks) else 0

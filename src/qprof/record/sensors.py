"""The sensors of a run: what they read, what is missing and why, what reading them cost."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct, field


@dataclass(frozen=True, slots=True)
class Channel:
    """One figure that a probe reads.

    `kind` is "counter" (only grows, but for a wrap at `wraps_at`, in `unit`) or "gauge"; `provenance` is "measured",
    "estimated" or "modelled"; `sensor` tells a reader what it is.
    """

    name: str
    unit: str
    kind: str
    provenance: str
    sensor: str
    wraps_at: float | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A sensor, or a part of one, that is not there; `probe` names the probe or the channel."""

    probe: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class SamplingCost:
    """What reading one probe cost: the CPU time of its thread, and how long a reading took.

    `sampler`: "compiled" or "python", by which of the two it was read. One compiled thread reads several probes: each
    has its part of the thread's time, by how long its turns took.
    """

    probe: str
    reads: int
    failed: int
    skipped: int  # turns left out because the reading before them took too long
    cpu_s: float
    wall_s: float
    mean_read_ns: float | None
    longest_read_ns: int | None
    sampler: str = "python"
    longest_late_ns: int | None = None  # from a turn's deadline to its start; `None` where it was not looked at

    @property
    def cpu_share(self) -> float | None:
        """Part of one core; `None` before any time has passed."""
        return self.cpu_s / self.wall_s if self.wall_s > 0 else None


class SampledChannel(Struct, frozen=True, forbid_unknown_fields=True):
    """A `Channel`, and how often a run read it."""

    name: str
    unit: str
    kind: str
    provenance: str
    sensor: str
    wraps_at: float | None = None
    rate_hz: float | None = None

    @classmethod
    def of(cls, channel: Channel, rate_hz: float | None) -> SampledChannel:
        names = (channel.name, channel.unit, channel.kind, channel.provenance, channel.sensor)
        return cls(*names, channel.wraps_at, rate_hz)


class CodeCarbonFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """What CodeCarbon models: `cpu`, `ram`: by which assumption; `grid_source`: whose grams of CO2e per kWh."""

    version: str | None = None
    country: str | None = None
    grid_g_per_kwh: float | None = None
    grid_source: str | None = None
    cpu: str | None = None
    ram: str | None = None
    start_s: float | None = None
    mode: str | None = None


class SensorFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """The sensors of a run on `device`; `device_uuid`: which GPU that is, `None` where it is none or not known."""

    device: str = "cpu"
    device_uuid: str | None = None
    channels: list[SampledChannel] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    costs: list[SamplingCost] = field(default_factory=list)
    codecarbon: CodeCarbonFacts | None = None

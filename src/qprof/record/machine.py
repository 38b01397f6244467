"""The machine as a run records it."""

from __future__ import annotations

from msgspec import Struct, field


class Machine(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the figures depend on, and nothing that names the machine's owner. A fact that the machine does not tell is
    `None`, with its reason in `missing` (fact -> reason)."""

    cpu_model: str | None = None
    cpu_vendor: str | None = None
    architecture: str | None = None
    cpu_flags: list[str] | None = None
    logical_cpus: int | None = None
    physical_cores: int | None = None
    affinity: list[int] | None = None
    smt_active: bool | None = None
    cpu_capacities: str | None = None
    cache_bytes: dict[str, int] | None = None
    governor: str | None = None
    scaling_driver: str | None = None
    frequency_limit_hz: int | None = None
    frequency_highest_hz: int | None = None
    boost: bool | None = None
    memory_bytes: int | None = None
    cgroup_cpus: float | None = None
    cgroup_memory_bytes: int | None = None
    load_average: list[float] | None = None
    operating_system: str | None = None
    kernel: str | None = None
    libc: str | None = None
    hypervisor: str | None = None
    container: str | None = None
    python: str | None = None
    missing: dict[str, str] = field(default_factory=dict)


class ClockFacts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The clock of all times: what a reading of it costs, and what to add for the time of day."""

    source: str = "CLOCK_MONOTONIC"
    resolution_ns: int | None = None
    reading_cost_ns: float | None = None
    wall_offset_ns: int | None = None

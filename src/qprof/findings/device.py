"""What an accelerator's clocks say of each other, and how much of the time it had nothing to do."""

from __future__ import annotations

from dataclasses import dataclass

from qprof.store.run import Run


@dataclass(frozen=True, slots=True)
class DeviceAudit:
    """One variant in one phase; microseconds of an inference's forward, medians.

    `unsynchronized_us`: the host's clock without waiting for the device; `synchronized_us`: the same with a
    synchronization at the end; `events_us`: between two events on the device. `asynchronous_error`: the part of the
    second that the first lacks. `kernels`: launches of an inference; `busy_us`: time in which one ran, from a profiler
    pass of its own; `idle_share`: what the clean latency has beyond that, 0 to 1: the device waits for launches.
    Figures that were not measured are `None`.
    """

    variant: str
    phase: str
    unsynchronized_us: float
    synchronized_us: float
    events_us: float
    asynchronous_error: float
    kernels: float | None
    busy_us: float | None
    idle_share: float | None


def device_audits(run: Run, clean_us: dict[tuple[str, str], float]) -> list[DeviceAudit]:
    """The audits that a run holds; `clean_us`: (variant, phase) -> p50 of the clean blocks."""
    found = []
    for entry in run.variants:
        for phase in run.phases():
            clocks = entry.timing.clocks.get(phase.name) if entry.timing else None
            if entry.timing is None or clocks is None:
                continue
            kernels = entry.timing.kernels.get(phase.name)
            busy_us = None if kernels is None else kernels.busy_us
            clean = clean_us.get((entry.name, phase.name))
            found.append(
                DeviceAudit(
                    variant=entry.name,
                    phase=phase.name,
                    unsynchronized_us=clocks.unsynchronized_us,
                    synchronized_us=clocks.synchronized_us,
                    events_us=clocks.events_us,
                    asynchronous_error=clocks.asynchronous_error,
                    kernels=None if kernels is None else kernels.launches,
                    busy_us=busy_us,
                    idle_share=None if busy_us is None or not clean else max(0.0, 1 - busy_us / clean),
                )
            )
    return found

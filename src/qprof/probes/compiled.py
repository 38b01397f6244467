"""The compiled sampler: one thread without Python reads every probe whose parts have plans (`probes.plan`).

It keeps the readings, and loses parts and probes, as `probes.sampler` does in Python, which is its oracle in the tests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qprof.probes import losses
from qprof.probes.base import JoinedProbe, Part, PartsProbe, Probe
from qprof.probes.plan import FilePlan
from qprof.probes.traces import ChannelTrace, forgotten
from qprof.record.sensors import Channel, Missing, SamplingCost

try:
    from qprof.core import _sampler
except ImportError:  # not built here: Python's threads read everything
    _sampler = None  # type: ignore[assignment]


def available() -> bool:
    """Whether the compiled sampler was built."""
    return _sampler is not None


@dataclass(frozen=True, slots=True)
class _Group:
    """A probe and its parts; none where it has no channels."""

    probe: Probe
    parts: Sequence[Part]


class CompiledThread:
    """The probes that compiled code reads, on one thread for all of them."""

    def __init__(self, timeout_s: float, failures_in_a_row: int, first_readings: int, most_readings: int) -> None:
        self.timeout_s = timeout_s
        self._started = False
        self._lines = 0
        self._options = {
            "timeout_ns": round(timeout_s * 1e9),
            "failures_in_a_row": failures_in_a_row,
            "first_readings": first_readings,
            "most_readings": most_readings,
        }
        self.core = _sampler.Sampler(**self._options) if available() else None

    def line(self, probe: Probe, rate_hz: float) -> CompiledLine | None:
        """The probe among those of this thread; `None` where it has to be read in Python."""
        groups = _groups(probe) if self.core is not None and probe.channels else None
        if groups is None or self.core is None:
            return None
        number = self.core.add_probe(round(1e9 / rate_hz))
        try:
            for group in groups:
                self.core.add_group(number)
                for part in group.parts:
                    _add(self.core, number, part)
        except RuntimeError:  # no descriptor is left, or its library cannot be opened once more
            self.core.drop_last_probe()
            return None
        self._lines += 1
        return CompiledLine(self, self.core, number, probe, groups)

    def start(self) -> None:
        """Begins with the first line that starts."""
        if self.core is not None and not self._started:
            self._started = True
            self.core.start()


class CompiledLine:
    """One probe, as compiled code reads it."""

    def __init__(
        self, thread: CompiledThread, core: _sampler.Sampler, number: int, probe: Probe, groups: list[_Group]
    ) -> None:
        self.probe = probe
        self.traces = [_Trace(core, number, position, channel) for position, channel in enumerate(probe.channels)]
        self._thread, self._core, self._number, self._groups = thread, core, number, groups
        self._starts = 0
        self._closing: Missing | None = None

    def start(self) -> None:
        if self._starts:
            raise RuntimeError("a sampler is started once")
        self._starts += 1
        self._thread.start()

    def ask_to_stop(self) -> None:
        self._core.ask_to_stop()

    def finish(self, patience_s: float) -> None:
        """Wait for the last reading, then close the probe."""
        deadline = time.monotonic() + patience_s
        self._core.wait_for_end(round(patience_s * 1e9))
        hangs = self._core.state(self._number).lost in ("hung", "not ended")
        closing = threading.Thread(
            target=self._close, args=(hangs,), name=f"qprof close {self.probe.name}", daemon=True
        )
        closing.start()
        if hangs:
            return  # it closes when the reading comes back, if it ever does
        closing.join(max(0.0, deadline - time.monotonic()))
        if closing.is_alive() and self.lost() is None:
            self._closing = losses.not_ended(self.probe.name)

    def _close(self, hangs: bool) -> None:
        if hangs:
            self._core.wait_for_all()
        try:
            self.probe.close()
        except Exception as error:  # as in Python's sampler: told, and no end of the run
            self._closing = losses.not_closed(self.probe.name, f"{type(error).__name__}: {error}")

    @property
    def missing(self) -> Sequence[Missing]:
        """What its probes miss, which parts failed, and which of several probes is gone."""
        found: list[Missing] = []
        gone: list[Missing] = []
        for group, failed in self._failures():
            found += group.probe.missing
            for part, failure in failed:
                found.append(losses.part_failed(part.name, failure.times, _reason(part, failure), part.remedy))
            if group.parts and len(failed) == len(group.parts) and all(failure.gone for _, failure in failed):
                gone.append(Missing(group.probe.name, _told(group, failed), losses.GONE_REMEDY))
        return found + (gone if isinstance(self.probe, JoinedProbe) else [])

    def lost(self) -> Missing | None:
        """Why the probe was dropped; this also finds a reading that hangs now."""
        state = self._core.state(self._number)
        name = self.probe.name
        if state.lost == "hung":
            return losses.hung(name, self._thread.timeout_s)
        if state.lost == "not ended":
            return losses.not_ended(name)
        if state.lost == "no memory":
            return losses.no_memory(name)
        if not state.lost:
            return self._closing
        told = [_told(group, failed) for group, failed in self._failures()][state.last_failing_group]
        return losses.gone(name, told) if state.lost == "gone" else losses.failing(name, state.in_a_row, told)

    def cost(self) -> SamplingCost:
        state = self._core.state(self._number)
        reads = state.reads
        return SamplingCost(
            probe=self.probe.name,
            reads=reads,
            failed=state.failed,
            skipped=state.skipped,
            cpu_s=state.cpu_ns / 1e9,
            wall_s=state.wall_ns / 1e9,
            mean_read_ns=state.read_ns / reads if reads else None,
            longest_read_ns=state.longest_read_ns if reads else None,
            sampler="compiled",
            longest_late_ns=state.longest_late_ns if reads else None,
        )

    def _failures(self) -> Iterator[tuple[_Group, list[tuple[Part, _sampler.PartFailures]]]]:
        """Each group with its parts that have failed, in the order in which they first did."""
        failures = iter(self._core.failures(self._number))
        for group in self._groups:
            # Before the start there are none at all.
            pairs = [(part, failure) for part, failure in zip(group.parts, failures, strict=False) if failure.times]
            yield group, sorted(pairs, key=lambda pair: pair[1].first)


class _Trace:
    """Readings of one channel, which compiled code keeps."""

    def __init__(self, core: _sampler.Sampler, number: int, position: int, channel: Channel) -> None:
        self.channel = channel
        self._core, self._number, self._position = core, number, position

    def between(self, start_ns: int, end_ns: int, neighbours: int) -> ChannelTrace:
        found = self._core.between(self._number, self._position, start_ns, end_ns, neighbours)
        if found is None:
            raise forgotten(self.channel)
        t_ns, values = found
        return ChannelTrace(self.channel, t_ns, values)

    def forget(self, before_ns: int) -> None:
        self._core.forget(self._number, self._position, before_ns)


def _groups(probe: Probe) -> list[_Group] | None:
    """The probes that it is made of; `None` where one of them is of another kind, or has a part without a plan."""
    if not probe.channels:
        return [_Group(probe, ())]
    # Of these types alone: what is derived from them may read in a way of its own.
    if type(probe) is PartsProbe:
        return None if probe.planned is None else [_Group(probe, probe.planned)]
    if type(probe) is not JoinedProbe:
        return None
    found: list[_Group] = []
    for one in probe.probes:
        groups = None if type(one) is JoinedProbe else _groups(one)
        if groups is None:
            return None
        found += groups
    return found


def _add(core: _sampler.Sampler, number: int, part: Part) -> None:
    """Raises `RuntimeError`; `ValueError` where the plan does not fit the part."""
    plan = part.plan
    if plan is None:
        raise ValueError(f"{part.name} has no plan")
    if isinstance(plan, FilePlan):
        descriptors = [file.fileno() for file in plan.files]
        channels = core.add_files(number, plan.form, descriptors, scale=plan.scale, every_ns=part.every_ns)
    else:
        channels = core.add_nvml(
            number,
            plan.figure,
            library=plan.library,
            function=plan.function,
            device=plan.device,
            numbers=plan.numbers,
            scale=plan.scale,
            gone=plan.gone,
            every_ns=part.every_ns,
        )
    if channels != len(part.channels):
        raise ValueError(f"{part.name}: its plan reads {channels} figures for {len(part.channels)} channels")


def _reason(part: Part, failure: _sampler.PartFailures) -> str:
    return part.plan.reason(failure) if part.plan is not None else ""


def _told(group: _Group, failed: Sequence[tuple[Part, _sampler.PartFailures]]) -> str:
    """What the group's `read` raises where none of its parts answers."""
    return losses.no_part_answers(group.probe.name, _reason(*failed[0])) if failed else group.probe.name

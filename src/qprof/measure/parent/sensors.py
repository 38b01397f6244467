"""The sensors of a run: opened once the variants are loaded, sampled in the parent, their windows cut out of blocks."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qprof.errors import QprofError
from qprof.measure.parent.process import WorkerProcess
from qprof.measure.requests import Answer, BeginEstimate, EndEstimate, OpenEstimator, PreloadEstimator, Request
from qprof.probes.base import JoinedProbe, Probe
from qprof.probes.host import open_host
from qprof.probes.nvml import FAST_FIGURES, FIGURES, open_nvml
from qprof.probes.rapl import open_rapl
from qprof.probes.sampler import Sampler, open_in_time
from qprof.record.readings import Reading, SensorTrace
from qprof.record.sensors import CodeCarbonFacts, Missing, SampledChannel, SensorFacts
from qprof.stats.energy import update_period

#: Energy counters of GPUs are brought up to date every 20 to 100 ms: this resolves them (`stats.energy.update_period`).
FAST_HZ = 100.0
#: Processor counters are new every millisecond, and the host's figures every 100 ms.
FILES_HZ = 20.0
SLOW_HZ = 5.0

#: Readings that an energy window needs beyond either end, in update periods of the sensor and in seconds.
MARGIN_PERIODS = 2.5
LEAST_MARGIN_S = 0.25
#: An energy window is longer than the rule's ten periods by this factor: the period is an estimate itself.
WINDOW_PERIODS = 12.0
#: What was read this long ago is in a block already, or in none.
_FORGET_NS = 60_000_000_000

_COUNTER_OF_GPU = re.compile(r"nvml\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class SampledProbe:
    """A probe and how often it is read."""

    probe: Probe
    rate_hz: float


def open_probes(device: str) -> list[SampledProbe]:
    """The sensors that tell of a run on `device` ("cpu", "cuda:0"); those that are absent say so themselves."""
    files = JoinedProbe("files", [open_in_time("rapl", open_rapl), open_in_time("host", open_host)])
    probes = [SampledProbe(files, FILES_HZ)]
    if device.startswith("cuda"):
        power = open_in_time("nvml", lambda: open_nvml(figures=FAST_FIGURES))
        probes += [SampledProbe(power, FAST_HZ), SampledProbe(_nvml_state(), SLOW_HZ)]
    return probes


def open_watch(device: str) -> list[SampledProbe]:
    """The sensors that tell whether a run was left alone, and none that reads power: what else the host does, its
    clocks, and those of a GPU."""
    probes = [SampledProbe(open_in_time("host", open_host), FILES_HZ)]
    if device.startswith("cuda"):
        probes.append(SampledProbe(_nvml_state(), SLOW_HZ))
    return probes


def _nvml_state() -> Probe:
    slow = tuple(figure for figure in FIGURES if figure not in FAST_FIGURES)
    return open_in_time("nvml.state", lambda: open_nvml(figures=slow, name="nvml.state"))


class Sensors:
    """Samples probes from `start` to `stop`; also a context manager."""

    def __init__(self, probes: Sequence[SampledProbe], estimator: Estimator | None = None) -> None:
        rates = {sampled.probe.name: sampled.rate_hz for sampled in probes}
        self._rates = {channel.name: s.rate_hz for s in probes for channel in s.probe.channels}
        self._sampler = Sampler([sampled.probe for sampled in probes], rates)
        self._estimator = estimator
        self._periods_ns: dict[str, float] = {}

    def __enter__(self) -> Sensors:
        self._sampler.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._sampler.stop()

    @property
    def estimates(self) -> bool:
        """Whether blocks get energies from a model, for what no sensor measures."""
        return self._estimator is not None and self._estimator.facts is not None

    def describe(self, device: str, device_uuid: str | None) -> SensorFacts:
        """What the manifest keeps: channels, what is missing and why, what sampling has cost so far."""
        estimator = self._estimator
        return SensorFacts(
            device=device,
            device_uuid=device_uuid,
            channels=[SampledChannel.of(c, self._rates[c.name]) for c in self._sampler.channels],
            missing=[*self._sampler.missing, *(estimator.missing if estimator else ())],
            costs=list(self._sampler.costs),
            codecarbon=estimator.facts if estimator else None,
        )

    def energy_channels(self, device: str, uuid: str | None) -> list[str]:
        """Channels that measure what `device` draws: the processor's counters, or those of the GPU with that UUID (of
        every GPU, where it is not known)."""
        names = []
        for channel in self._sampler.channels:
            gpu = _COUNTER_OF_GPU.match(channel.name) is not None
            ours = gpu == device.startswith("cuda") and (not gpu or uuid is None or uuid in channel.sensor)
            if ours and channel.provenance == "measured" and (channel.unit == "W" or channel.unit == "mJ"):
                names.append(channel.name)
        return names

    def find_periods(self, start_ns: int, end_ns: int, channels: Sequence[str]) -> None:
        """Learn the update periods of sensors from what they showed in a window."""
        for name, trace in self._sampler.between(start_ns, end_ns).items():
            if name in channels:
                period = update_period(trace.t_ns, trace.values).period_ns
                if period is not None:
                    self._periods_ns[name] = period

    @property
    def margin_s(self) -> float:
        """How long before and after a window its sensors have to be read."""
        return max(LEAST_MARGIN_S, MARGIN_PERIODS * max(self._periods_ns.values(), default=0.0) / 1e9)

    @property
    def least_window_s(self) -> float:
        """How long a window has to be for the slowest of the sensors whose period was found."""
        return WINDOW_PERIODS * max(self._periods_ns.values(), default=0.0) / 1e9

    def traces(self, start_ns: int, end_ns: int, margin_s: float = 0.0) -> list[SensorTrace]:
        """What was read in a window and a margin around it, with the readings next to it on either side."""
        margin_ns = int(margin_s * 1e9)
        found = self._sampler.between(start_ns - margin_ns, end_ns + margin_ns, neighbours=1)
        self._sampler.forget(start_ns - _FORGET_NS)
        return [
            SensorTrace(name, trace.channel.unit, trace.channel.provenance, trace.t_ns, trace.values)
            for name, trace in found.items()
            if len(trace.t_ns)
        ]

    @contextlib.contextmanager
    def estimated(self, readings: list[Reading]) -> Iterator[None]:
        """Adds what the model makes of the energy of the enclosed time to `readings`."""
        if self._estimator is None:
            yield
            return
        self._estimator.begin()
        yield
        readings += self._estimator.end()


class Estimator:
    """CodeCarbon in a process of its own: it brings pandas and threads, and may hang; the run goes on without it."""

    def __init__(self, log: Path, country: str, timeout_s: float = 30.0) -> None:
        self._worker = WorkerProcess("CodeCarbon", log)
        self._worker.post(PreloadEstimator())
        self._country = country
        self._timeout_s = timeout_s
        self.facts: CodeCarbonFacts | None = None
        self.missing: list[Missing] = []

    def open(self) -> None:
        """Wait until it is ready, or learn why it never will be."""
        opened = self._ask(OpenEstimator(country=self._country))
        if opened is not None:
            self.facts, self.missing = opened.facts, opened.missing

    def begin(self) -> None:
        """Start of a window."""
        if self.facts is not None:
            self._ask(BeginEstimate())

    def end(self) -> list[Reading]:
        """End of a window; its energies."""
        ended = self._ask(EndEstimate()) if self.facts is not None else None
        if ended is None:
            return []
        self.missing = ended.missing
        return ended.readings

    def stop(self) -> None:
        """End the process."""
        self._worker.stop()

    def _ask(self, request: Request[Answer]) -> Answer | None:
        try:
            return self._worker.ask(request, timeout_s=self._timeout_s)
        except QprofError as error:
            self.facts = None
            self.missing = [Missing("codecarbon", str(error), "see the run's logs/codecarbon.log")]
            return None


def rest(seconds: float) -> tuple[int, int]:
    """Wait, and tell when: CLOCK_MONOTONIC at the start and at the end."""
    start_ns = time.perf_counter_ns()
    time.sleep(seconds)
    return start_ns, time.perf_counter_ns()

"""Run directories of synthetic loads, whose energy is known by formula, as seen by sensors of `energy_traces`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from energy_traces import MS, SECOND, Counter, Load, Power, a100_like, h100_like, reading_times, square
from qprof.record.blocks import Block, BlockFacts, Samples
from qprof.record.manifest import EnergyPlan, Manifest, RecordedProfile, VariantEntry
from qprof.record.phases import Phase
from qprof.record.readings import Reading, SensorTrace
from qprof.record.rows import ScoreRow
from qprof.record.sections import ProtocolSection
from qprof.record.sensors import CodeCarbonFacts, Missing, SampledChannel, SensorFacts
from qprof.store.run import Run
from qprof.store.writer import RunWriter, save_scores

UUID = "GPU-11111111-aaaa"
#: Overrides of a real run that is short and measures energy all the same.
QUICK = (
    "protocol.rounds=3",
    "protocol.block_ms=2",
    "protocol.profiled_block_ms=2",
    "protocol.warmup_max_s=0.05",
    "protocol.energy_rounds=2",
    "protocol.energy_block_s=0.3",
    "protocol.stacks_s=0",
    "protocol.layer_errors=0",
    "protocol.ceilings=false",
)
#: What happens to a channel's readings on their way: times, values and the windows in; times and values out.
Fault = Callable[[np.ndarray, np.ndarray, "list[Placed]"], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Variant:
    """Inferences of `inference_s`, each at `high` watts for `duty` of it and then at `low`."""

    inference_s: float
    low: float = 60.0
    high: float = 350.0
    duty: float = 0.6

    @property
    def watts(self) -> float:
        return self.low + (self.high - self.low) * self.duty

    @property
    def joules(self) -> float:
        """Of one inference, gross."""
        return self.watts * self.inference_s


@dataclass(frozen=True)
class Placed:
    """A block on the time axis; `repetitions` inferences from `start_ns` on."""

    variant: str
    kind: str
    round: int
    start_ns: int
    end_ns: int
    repetitions: int
    phase: str
    when: str | None = None


@dataclass
class Recording:
    """What is recorded; `write` makes the run. Idle power is `idle_w` before and after, and between the blocks."""

    variants: Mapping[str, Variant]
    sensors: Mapping[str, Counter | Power] = field(default_factory=dict)
    device: str = "NVIDIA A100-SXM4-80GB"
    rounds: int = 8
    seconds: float = 5.0
    kind: str = "energy"
    idle_w: float = 60.0
    rate_hz: float = 100.0
    scored_s: float = 0.0
    correct: Sequence[float] = ()
    tokens: int | None = None
    task: str = "detection"
    phases: Sequence[str] = ("inference",)
    faults: Mapping[str, Fault] = field(default_factory=dict)
    #: per codecarbon channel: watts and provenance
    models: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    #: watts that they tell before and after, where those are others
    idle_models: tuple[float, float] | None = None
    throttle: Callable[[list[Placed]], tuple[np.ndarray, np.ndarray]] | None = None
    idle: bool = True
    finished: bool = True
    grid: float | None = 380.0
    missing: Sequence[Mapping[str, str]] = ()
    unphased: bool = False

    def placed(self) -> list[Placed]:
        """All blocks in order: idle, the variants of each round, idle. Each starts at a phase of its own."""
        delays = np.random.default_rng(11)
        now = SECOND
        found: list[Placed] = []

        def place(variant: str, kind: str, round_: int, seconds: float, phase: str, when: str | None = None) -> None:
            nonlocal now
            each = self.variants[variant].inference_s if variant else seconds
            count = max(int(np.ceil(seconds / each - 1e-9)), 1)
            length = round(count * each * SECOND)
            repetitions = 0 if kind == "idle" else count
            found.append(Placed(variant, kind, round_, now, now + length, repetitions, phase, when))
            step = 100 * MS
            delay = 0 if self.unphased else int(delays.uniform(0.0, step))
            now = -(-(now + length + 700 * MS) // step) * step + delay

        if self.idle:
            place("", "idle", -1, 5.0, "", "before")
        for round_ in range(self.rounds):
            for name in self.variants:
                for phase in self.phases:
                    place(name, self.kind, round_, self.seconds, phase)
                if self.scored_s:
                    place(name, "scored", round_, self.scored_s, self.phases[0])
        if self.idle:
            place("", "idle", -1, 5.0, "", "after")
        return found

    def load(self) -> Load:
        """The energy that was truly used, up to each time."""
        busy = [block for block in self.placed() if block.variant]
        loads = [square(v.low, v.high, v.inference_s, v.duty) for v in (self.variants[b.variant] for b in busy)]

        def energy(s: np.ndarray) -> np.ndarray:
            total = self.idle_w * s
            for block, inner in zip(busy, loads, strict=True):
                inside = np.clip(s, block.start_ns * 1e-9, block.end_ns * 1e-9) - block.start_ns * 1e-9
                total = total + inner(inside) - self.idle_w * inside
            return total

        return energy

    def write(self, folder: Path) -> Run:
        blocks = self.placed()
        seconds = blocks[-1].end_ns / SECOND + 2.0
        load = self.load()
        readings: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for number, (name, sensor) in enumerate(self.sensors.items()):
            t = reading_times(seconds, self.rate_hz, seed=number)
            t, values = t, sensor.read(load, t)
            readings[name] = self.faults[name](t, values, blocks) if name in self.faults else (t, values)
        if self.throttle:
            readings["nvml.0.throttle"] = self.throttle(blocks)
        writer = RunWriter.create(folder, self._manifest())
        for number, block in enumerate(blocks):
            writer.save_block(self._block(number, block, readings))
        for name in self.variants if self.correct else ():
            rows = [ScoreRow(name, "correct", i, v) for i, v in enumerate(self.correct)]
            accuracy = ScoreRow(name, "accuracy", None, float(np.mean(self.correct)))
            save_scores(folder, name, [accuracy, *rows])
        if self.finished:
            writer.finalize(("node",))
        writer.close()
        return Run(folder)

    def _block(self, number: int, block: Placed, readings: Mapping[str, Any]) -> Block:
        margin = 0 if block.kind in ("clean", "scored") and self.kind == "clean" else 400 * MS
        traces = []
        for name, (t, values) in readings.items():
            first = max(int(np.searchsorted(t, block.start_ns - margin)) - 1, 0)
            last = int(np.searchsorted(t, block.end_ns + margin, "right")) + 1
            unit = "W" if "power" in name else "1" if "throttle" in name else "mJ"
            traces.append(SensorTrace(name, unit, "measured", t[first:last], values[first:last]))
        length = (block.end_ns - block.start_ns) * 1e-9
        # A task of CodeCarbon surrounds the block: it lasts longer, and its energy is for all of that time.
        around = length + 0.013
        models = [
            Reading(name, block.end_ns, self._told(watts, block) * around, "J", provenance)
            for name, (watts, provenance) in self.models.items()
        ]
        if models:
            models.append(Reading("codecarbon.seconds", block.end_ns, around, "s", "measured"))
        step = (block.end_ns - block.start_ns) // max(block.repetitions, 1)
        thinned = np.arange(0, block.repetitions, max(1, int(np.ceil(MS / step))))
        samples = Samples(
            sample=np.zeros(len(thinned), np.int32),
            start_ns=block.start_ns + thinned * step,
            duration_ns=np.full(len(thinned), step),
        )
        facts = BlockFacts(window_ns=(block.start_ns, block.end_ns), repetitions=block.repetitions, when=block.when)
        return Block(
            number, block.round, block.variant, block.kind, samples, None, {}, models, facts, block.phase, traces
        )

    def _told(self, watts: float, block: Placed) -> float:
        return watts if self.idle_models is None or block.when is None else self.idle_models[block.when == "after"]

    def _manifest(self) -> Manifest:
        kinds = {name: "counter" if isinstance(s, Counter) else "gauge" for name, s in self.sensors.items()}
        channels = [
            SampledChannel(
                name=name,
                unit="mJ" if kind == "counter" else "W",
                kind=kind,
                provenance="measured",
                sensor=f"{self.device} ({UUID}) {name.rpartition('.')[2]}",
                wraps_at=getattr(self.sensors[name], "wraps_at", None),
                rate_hz=self.rate_hz,
            )
            for name, kind in kinds.items()
        ]
        if self.throttle:
            sensor = f"{self.device} ({UUID}) reasons"
            channels.append(SampledChannel("nvml.0.throttle", "1", "gauge", "measured", sensor, None, 5.0))
        codecarbon = CodeCarbonFacts(
            version="3.3.2",
            country="DEU",
            grid_g_per_kwh=self.grid,
            grid_source="a source",
            cpu="load of the machine",
            ram="8 W",
            start_s=1.0,
            mode="cpu_load",
        )
        phases = [Phase(name, tokens=self.tokens) for name in self.phases]
        why = None if self.kind == "energy" else "protocol.energy is off"
        return Manifest(
            created="2026-01-01T00:00:00+00:00",
            profile=RecordedProfile(name="energy", task={"kind": self.task}, protocol=ProtocolSection(threads=1)),
            op_sources=["node"],
            variants=[VariantEntry(name=name, phases=list(phases)) for name in self.variants],
            sensors=SensorFacts(
                device="cuda:0",
                device_uuid=UUID,
                channels=channels,
                missing=[Missing(**each) for each in self.missing],
                codecarbon=codecarbon if self.grid is not None or self.models else None,
            ),
            energy=EnergyPlan(blocks=why is None, reason=why),
        )


#: b takes 72 % of the time of a, at 95.8 % of its power.
TWO = {"a": Variant(0.1125), "b": Variant(0.081, low=60.0, high=337.3, duty=0.6)}


def a100(**changes: Any) -> Recording:
    """SYNTHETIC, as arXiv 2312.02741 describes an A100: a counter of 100 ms, power over 25 ms of every 100."""
    counter, instant = a100_like(phase_ns=41 * MS)
    return Recording(
        **{"variants": TWO, "sensors": {"nvml.0.energy": counter, "nvml.0.power_instant": instant}, **changes}
    )


def h100(**changes: Any) -> Recording:
    """SYNTHETIC: an H100: as the A100, and a mean over 1 s."""
    counter, instant, average = h100_like(phase_ns=41 * MS)
    sensors = {"nvml.0.energy": counter, "nvml.0.power_instant": instant, "nvml.0.power_average": average}
    return Recording(**{"variants": TWO, "sensors": sensors, "device": "NVIDIA H100 80GB HBM3", **changes})

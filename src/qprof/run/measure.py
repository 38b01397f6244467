"""What is measured, block by block: warm-up, idle, interleaved rounds, host stacks."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from qprof.errors import ModelError, QprofError
from qprof.run.crew import Crew
from qprof.run.plan import PlannedBlock, extra_number, plan_blocks, warmup_number
from qprof.run.profile import Profile
from qprof.run.progress import ProgressDisplay
from qprof.run.sensors import Sensors, rest
from qprof.run.stacks import StackBlocks
from qprof.stats.energy.rule import LEAST_REPETITIONS
from qprof.store.blocks import INFERENCE, OP_COLUMNS, SAMPLE_COLUMNS, Block, Reading, SensorTrace
from qprof.store.writer import RunWriter

#: Kinds of blocks whose windows sensors are read for.
_SENSED = ("clean", "scored", "energy", "idle")
#: Idle windows: as long as the rule of `stats.energy.rule` wants them where something is measured.
_IDLE_S, _ESTIMATED_IDLE_S = 5.0, 1.0
#: An energy window begins at a random phase of the sensor's period; this where the period is not known.
_ASSUMED_PERIOD_S = 0.1


class Measurement:
    """All blocks of one run, those that are kept already left out."""

    def __init__(
        self, writer: RunWriter, profile: Profile, crew: Crew, sensors: Sensors, progress: ProgressDisplay
    ) -> None:
        self._writer = writer
        self._manifest = writer.manifest
        self._protocol = profile.protocol
        self._crew = crew
        self._sensors = sensors
        self._progress = progress
        self._random = random.Random(self._protocol.seed)
        self._phases = self._common_phases()
        self._device_channels: list[str] = []

    def run(self) -> None:
        """Everything, in the order of the protocol. Raises `ModelError` where no variant could be measured."""
        self._decide_on_energy()
        blocks = self._plan()
        self._warm_up(blocks)
        self._idle(0, "before", blocks)
        self._rounds(blocks)
        self._crew.require_some("measured")
        self._idle(1, "after", blocks)
        StackBlocks(self._writer, self._protocol, self._crew, self._progress).record(self._phases)
        self._manifest["sensors"] |= self._sensors.describe()

    def _common_phases(self) -> list[str]:
        """The phases of the run, which are those of every variant that was loaded. Raises `ModelError`."""
        found = {entry["name"]: [phase["name"] for phase in entry["phases"]] for entry in self._crew.living()}
        first = next(iter(found.values()))
        for name, phases in found.items():
            if phases != first:
                raise ModelError(
                    f"variant {name} runs in {', '.join(phases)}, others in {', '.join(first)}; run it alone"
                )
        return first

    # -- the plan -------------------------------------------------------------------------------------------------

    def _decide_on_energy(self) -> None:
        """Whether there are blocks as long as power sensors need: decided once, so that a resumed run has its plan."""
        uuids = [entry.get("facts", {}).get("device_uuid") for entry in self._crew.living()]
        self._device_channels = self._sensors.energy_channels(self._protocol.device, uuids[0])
        self._manifest["sensors"] = {"device": self._protocol.device, "device_uuid": uuids[0]}
        self._manifest["sensors"] |= self._sensors.describe()
        if "energy" not in self._manifest:
            reason = self._why_no_energy_blocks()
            self._manifest["energy"] = {"blocks": reason is None, "reason": reason}
        self._writer.save_manifest()

    def _why_no_energy_blocks(self) -> str | None:
        if self._protocol.energy == "off":
            return "protocol.energy is off"
        if not self._device_channels and self._protocol.energy == "auto":
            return f"nothing here measures the power of {self._protocol.device}; see qprof doctor"
        return None

    def _plan(self) -> list[PlannedBlock]:
        return plan_blocks(
            variants=len(self._manifest["variants"]),
            rounds=self._protocol.rounds,
            samples=self._manifest["samples"],
            profiled=self._protocol.profiled,
            seed=self._protocol.seed,
            phases=self._phases,
            scored=self._crew.scored if self._protocol.scored else 0,
            energy_rounds=self._protocol.energy_rounds if self._manifest["energy"]["blocks"] else 0,
        )

    # -- warm-up and idle -----------------------------------------------------------------------------------------

    def _warm_up(self, blocks: list[PlannedBlock]) -> None:
        count = len(self._manifest["variants"])
        for position, entry in enumerate(self._manifest["variants"]):
            entry["warmup"] = {}
            for number, phase in enumerate(self._phases):
                if entry["status"] == "ok":
                    where = warmup_number(position, number, count, blocks)
                    self._warm_up_phase(entry, PlannedBlock(where, -1, position, "warmup", (), False, phase))
        self._writer.save_manifest()
        self._crew.require_some("warmed up")

    def _warm_up_phase(self, entry: dict[str, Any], block: PlannedBlock) -> None:
        self._progress.phase("warming up", f"variant {self._key(block).removesuffix(' warmup')}")
        request = {"do": "warmup", "phase": block.phase, "max_s": self._protocol.warmup_max_s}
        try:
            answer, arrays = self._crew.ask(entry, request)
        except QprofError as error:
            self._crew.fail(entry, error)
            return
        entry["warmup"][block.phase] = answer
        if not answer["steady"]:
            where = "" if block.phase == INFERENCE else f" in {block.phase}"
            entry["notes"].append(f"not steady{where} after {self._protocol.warmup_max_s:g} s: {answer['reason']}")
        self._save(block, {}, arrays)

    def _idle(self, position: int, when: str, blocks: list[PlannedBlock]) -> None:
        """What is drawn while every variant is loaded and none runs; the sensors' update periods come from it too."""
        number = extra_number(position, len(self._manifest["variants"]), len(self._phases), blocks)
        seconds = _IDLE_S if self._device_channels else _ESTIMATED_IDLE_S if self._sensors.estimates else 0.0
        if not seconds:
            return
        self._progress.phase("idling", f"{seconds:g} s {when} the measurement, all variants loaded")
        readings: list[Reading] = []
        rest(self._sensors.margin_s)
        with self._sensors.estimated(readings):
            start_ns, end_ns = rest(seconds)
        rest(self._sensors.margin_s)
        self._sensors.find_periods(start_ns, end_ns, self._device_channels)
        if number in self._writer.finished_blocks():
            return
        self._writer.save_block(
            Block(
                number=number,
                round=-1,
                variant="",
                kind="idle",
                samples={name: np.empty(0, kind) for name, kind in SAMPLE_COLUMNS.items()},
                readings=readings,
                facts={"when": when, "window_ns": [start_ns, end_ns], "repetitions": 0},
                phase="",
                traces=self._sensors.traces(start_ns, end_ns, self._sensors.margin_s),
            )
        )

    # -- rounds ---------------------------------------------------------------------------------------------------

    def _rounds(self, blocks: list[PlannedBlock]) -> None:
        finished = self._writer.finished_blocks()
        left = [block for block in blocks if block.number not in finished and self._can_run(block)]
        self._progress.phase("measuring", f"{len(left)} blocks")
        counts: dict[str, int] = {}
        for block in left:
            counts[self._key(block)] = counts.get(self._key(block), 0) + 1
        self._progress.plan(counts)
        for block in left:
            if self._can_run(block):
                self._run_block(block)

    def _run_block(self, block: PlannedBlock) -> None:
        entry = self._manifest["variants"][block.variant]
        self._progress.start(self._key(block), f"round {block.round + 1}/{self._protocol.rounds}  {self._key(block)}")
        request = {
            "do": "block",
            "kind": block.kind,
            "phase": block.phase,
            "samples": list(block.samples),
            "min_ms": self._least_ms(block.kind),
            "min_repetitions": LEAST_REPETITIONS if block.kind == "energy" else 1,
            "keep": block.keep,
        }
        begin = time.monotonic()
        readings: list[Reading] = []
        margin_s = self._sensors.margin_s if block.kind == "energy" else 0.0
        if block.kind == "energy":
            rest(margin_s + self._random.uniform(0.0, max(_ASSUMED_PERIOD_S, margin_s)))
        try:
            if block.kind in _SENSED:
                with self._sensors.estimated(readings):
                    answer, arrays = self._crew.ask(entry, request)
            else:
                answer, arrays = self._crew.ask(entry, request)
        except QprofError as error:
            self._crew.fail(entry, error)
            return
        rest(margin_s)
        start_ns, end_ns = answer["facts"].get("window_ns", (0, 0))
        traces = self._sensors.traces(start_ns, end_ns, margin_s) if block.kind in _SENSED else []
        self._save(block, answer, arrays, readings, traces)
        self._progress.done(self._key(block), time.monotonic() - begin)

    def _least_ms(self, kind: str) -> float:
        if kind == "energy":
            return 1e3 * max(self._protocol.energy_block_s, self._sensors.least_window_s)
        return self._protocol.profiled_block_ms if kind == "profiled" else self._protocol.block_ms

    def _save(
        self,
        block: PlannedBlock,
        answer: Mapping[str, Any],
        arrays: Mapping[str, Any],
        estimates: list[Reading] | None = None,
        traces: list[SensorTrace] | None = None,
    ) -> None:
        has_ops = "ops.op" in arrays
        self._writer.save_block(
            Block(
                number=block.number,
                round=block.round,
                variant=self._manifest["variants"][block.variant]["name"],
                kind=block.kind,
                samples={name: arrays[f"samples.{name}"] for name in SAMPLE_COLUMNS},
                ops={name: arrays[f"ops.{name}"] for name in OP_COLUMNS} if has_ops else None,
                predictions={int(sample): value for sample, value in answer.get("predictions", {}).items()},
                readings=[*(Reading(*fields) for fields in answer.get("readings", ())), *(estimates or ())],
                facts=answer.get("facts", {}),
                phase=block.phase,
                traces=traces or [],
            )
        )

    def _can_run(self, block: PlannedBlock) -> bool:
        entry = self._manifest["variants"][block.variant]
        return entry["status"] == "ok" and (block.kind != "profiled" or entry["instrumented"])

    def _key(self, block: PlannedBlock) -> str:
        phase = "" if block.phase == INFERENCE or block.kind == "scored" else f" {block.phase}"
        return f"{self._manifest['variants'][block.variant]['name']}{phase} {block.kind}"

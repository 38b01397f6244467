"""What is measured, block by block: warm-up, idle, interleaved rounds, host stacks."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from qprof.errors import ModelError, QprofError
from qprof.measure.parent.looks import Decided, EarlyEnd, RoundsWatch, new_looks
from qprof.measure.parent.sensors import Sensors, rest
from qprof.measure.parent.stacks import StackBlocks
from qprof.measure.parent.turns import Turns
from qprof.measure.parent.variants import Crew
from qprof.measure.plan import (
    MeasuredKind,
    PlannedBlock,
    extra_number,
    more_blocks,
    plan_blocks,
    sampled,
    warmup_number,
)
from qprof.measure.profile import Profile
from qprof.measure.progress import ProgressDisplay
from qprof.measure.requests import BlockAnswer, MeasureBlock, WarmUp
from qprof.record.blocks import Block, BlockFacts, Samples
from qprof.record.looks import Look, Sampling
from qprof.record.manifest import EnergyPlan, VariantEntry
from qprof.record.phases import INFERENCE
from qprof.record.readings import Reading, SensorTrace
from qprof.stats.energy.rule import LEAST_REPETITIONS
from qprof.stats.sequential import FIRST_LOOK
from qprof.store.writer import RunWriter

#: Kinds of blocks whose windows sensors are read for.
_SENSED = ("clean", "scored", "energy", "idle")
#: So few samples are predicted by the first look of a run until its verdicts are decided, more are spread over it.
_FEW_SAMPLES = 96
#: Idle blocks, behind the warm-ups.
_EXTRA = 2
#: Idle windows: as long as the rule of `stats.energy.rule` wants them where something is measured.
_IDLE_S, _ESTIMATED_IDLE_S = 5.0, 0.5
#: An energy window begins at a random phase of the sensor's period; this where the period is not known.
_ASSUMED_PERIOD_S = 0.1


class Measurement:
    """All blocks of one run, those that are kept already left out."""

    def __init__(
        self,
        writer: RunWriter,
        profile: Profile,
        crew: Crew,
        sensors: Sensors,
        progress: ProgressDisplay,
        until: Decided | None = None,
    ) -> None:
        self._writer = writer
        self._manifest = writer.manifest
        self._protocol = profile.protocol
        self._crew = crew
        self._sensors = sensors
        self._progress = progress
        self._turns = Turns(progress, self._protocol.alone)
        self._random = random.Random(self._protocol.seed)
        self._phases = self._common_phases()
        self._device_channels: list[str] = []
        self._device_uuid: str | None = None
        self._order: list[int] = []
        self._watch: RoundsWatch | None = None
        self._end = EarlyEnd(writer, self._protocol.rounds, until) if until else None

    def run(self) -> None:
        """Everything, in the order of the protocol. Raises `ModelError` where no variant could be measured."""
        self._decide_on_energy()
        blocks = self._plan()
        self._warm_up(blocks)
        with self._turns.turn():
            self._idle(0, "before", blocks)
        if self._protocol.adaptive:
            self._rounds_until_decided(blocks)
        else:
            self._rounds(blocks)
        more = self._more_samples(blocks)
        if more:
            self._rounds(more)
        self._count_predicted([*blocks, *more])
        self._crew.require_some("measured")
        with self._turns.turn():
            self._idle(1, "after", blocks)
        StackBlocks(self._writer, self._protocol, self._crew, self._progress).record(self._phases)
        self._describe_sensors()

    def _common_phases(self) -> list[str]:
        """The phases of the run, which are those of every variant that was loaded. Raises `ModelError`."""
        found = {entry.name: [phase.name for phase in entry.phases] for entry in self._crew.living()}
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
        self._device_uuid = self._crew.living()[0].facts.get("device_uuid")
        self._device_channels = self._sensors.energy_channels(self._protocol.device, self._device_uuid)
        self._describe_sensors()
        if self._manifest.energy is None:
            reason = self._why_no_energy_blocks()
            self._manifest.resets = any(entry.resets for entry in self._manifest.variants)
            self._manifest.energy = EnergyPlan(blocks=reason is None, reason=reason)
        self._writer.save_manifest()

    def _describe_sensors(self) -> None:
        self._manifest.sensors = self._sensors.describe(self._protocol.device, self._device_uuid)

    def _why_no_energy_blocks(self) -> str | None:
        if self._protocol.energy == "off":
            return "protocol.energy is off"
        if not self._device_channels and self._protocol.energy == "auto":
            return f"nothing here measures the power of {self._protocol.device}; see qprof doctor"
        return None

    def _plan(self) -> list[PlannedBlock]:
        energy = self._manifest.energy
        apart = self._crew.scored if self._protocol.scored else 0
        total = apart or self._manifest.samples or 0
        if self._manifest.sampling is None and (self._protocol.adaptive or self._protocol.samples is not None):
            self._manifest.sampling = Sampling(total=total, asked=[min(total, self._protocol.samples or total)])
        first = total if self._manifest.sampling is None else self._manifest.sampling.asked[0]
        blocks = plan_blocks(
            variants=len(self._manifest.variants),
            rounds=self._protocol.rounds,
            samples=self._manifest.samples or 0 if apart else first,
            profiled=self._protocol.profiled,
            seed=self._protocol.seed,
            phases=self._phases,
            scored=first if apart else 0,
            energy_rounds=self._protocol.energy_rounds if energy is not None and energy.blocks else 0,
            resets=self._manifest.resets,
            timed_alone=not self._protocol.scored,
            most_samples=self._protocol.block_samples,
            timed=self._protocol.timed,
            predicted_within=FIRST_LOOK if self._protocol.adaptive and first <= _FEW_SAMPLES else None,
        )
        if self._manifest.sampling is not None:
            blocks, self._order = sampled(blocks, total, self._protocol.seed, apart=bool(apart))
        return blocks

    def _more_samples(self, blocks: Sequence[PlannedBlock]) -> list[PlannedBlock]:
        """Blocks for the samples that were asked for after the rounds had been planned."""
        asked = [] if self._manifest.sampling is None else self._manifest.sampling.asked
        count = len(self._manifest.variants)
        number, round_ = extra_number(_EXTRA, count, len(self._phases), blocks), self._protocol.rounds
        finished = self._writer.finished_blocks()
        kind: MeasuredKind = "scored" if self._crew.scored else "predicted"
        found: list[PlannedBlock] = []
        # Of those that were asked for before, the budget may have left some: they are asked for, too.
        left = [replace(b, kind=kind) for b in blocks if b.keep and b.number not in finished and len(asked) > 1]
        for before, upto in itertools.pairwise(asked):
            found += more_blocks(
                variants=count,
                samples=self._order[before:upto],
                number=number + len(found),
                round_=found[-1].round + 1 if found else round_,
                seed=self._protocol.seed,
                kind=kind,
                phase=self._phases[0],
            )
        return [*left, *found]

    def _count_predicted(self, blocks: Sequence[PlannedBlock]) -> None:
        """How many of the samples every variant has predicted, where not all may be."""
        if self._manifest.sampling is None:
            return
        finished = self._writer.finished_blocks()
        found: dict[int, set[int]] = {}
        for block in blocks:
            if block.keep and block.number in finished:
                found.setdefault(block.variant, set()).update(block.samples)
        living = [self._manifest.variants.index(entry) for entry in self._crew.living()]
        self._manifest.sampling.predicted = min(len(found.get(variant, ())) for variant in living)

    # -- rounds until the verdicts are decided ------------------------------------------------------------------------

    def _rounds_until_decided(self, blocks: Sequence[PlannedBlock]) -> None:
        """The rounds, until every pair is decided or the budget is spent; see `qprof.measure.parent.looks`."""
        looks = self._manifest.looks = self._manifest.looks or new_looks(self._protocol, len(self._manifest.variants))
        looks.budget_s, looks.ended = self._protocol.budget_s, None
        watch = self._watch = RoundsWatch(self._manifest, looks, self._phases)
        finished = self._writer.finished_blocks()
        for block in blocks:
            if block.kind == "clean" and block.number in finished:
                kept = self._writer.kept_block(block.number)
                if kept.kind == "clean":  # and not run for its predictions alone
                    watch.add(kept.variant, kept.phase, kept.round, kept.samples.duration_ns)
        within = "" if looks.budget_s is None else f", {looks.budget_s:g} s"
        self._progress.phase("measuring", f"until decided, at most {looks.rounds} rounds{within}")
        rounds, shown_s = 0, looks.spent_s
        # Windows of energy are long, and no look needs them: it comes before those of its round.
        for (round_, energy), members in itertools.groupby(blocks, lambda b: (b.round, b.kind == "energy")):
            planned = list(members)
            if not self._round(watch, planned, finished):
                if energy or watch.whole(round_):
                    planned = []
                for block in planned:  # half a round pairs nothing, and a resumed run begins it anew
                    self._writer.drop_block(block.number)
                    watch.drop(round_)
                self._show(watch, watch.look(rounds, forced=True))
                watch.end("budget")
                break
            rounds = round_ + 1
            look = watch.look(rounds)
            if look is not None or looks.spent_s > shown_s:  # and not where nothing was wanted of the round
                self._show(watch, look)
                shown_s = looks.spent_s
        else:
            watch.end("rounds" if watch.undecided() or not watch.pairs() else "decided")
        self._writer.save_manifest()

    def _round(self, watch: RoundsWatch, members: Sequence[PlannedBlock], finished: set[int]) -> bool:
        """Run what is wanted of a round's blocks; False where the budget is spent before its end. The first round is
        run in any case, so that there is something to show."""
        left = [block for block in members if block.number not in finished and self._can_run(block)]
        left = [found for block in left if (found := watch.wanted(block)) is not None]
        for position, block in enumerate(left):
            if block.round and not watch.affords(() if position else left):
                return False
            if not self._can_run(block):
                continue
            with self._turns.turn():
                begin = time.monotonic()
                self._run_block(block)
                watch.spend(block, time.monotonic() - begin)
        return True

    def _show(self, watch: RoundsWatch, look: Look | None) -> None:
        """What is known now. It is kept at once: a resumed run decides no second time, and has no budget twice."""
        looks = self._manifest.looks
        assert looks is not None  # there is a watch
        self._writer.save_manifest()
        rows = watch.standing()
        rounds = max((row.rounds for row in rows), default=0)
        many = "round" if rounds == 1 else "rounds"
        self._progress.standing(f"after {rounds} {many}, {looks.spent_s:.1f} s", rows, look is not None)

    # -- warm-up and idle -----------------------------------------------------------------------------------------

    def _warm_up(self, blocks: list[PlannedBlock]) -> None:
        count = len(self._manifest.variants)
        for position, entry in enumerate(self._manifest.variants):
            entry.warmup = {}
            for number, phase in enumerate(self._phases):
                if not entry.failed:
                    where = warmup_number(position, number, count, blocks)
                    with self._turns.turn():
                        self._warm_up_phase(entry, PlannedBlock(where, -1, position, "warmup", (), False, phase))
        self._writer.save_manifest()
        self._crew.require_some("warmed up")

    def _warm_up_phase(self, entry: VariantEntry, block: PlannedBlock) -> None:
        self._progress.phase("warming up", f"variant {self._key(block).removesuffix(' warmup')}")
        try:
            answer = self._crew.ask(entry, WarmUp(phase=block.phase, max_s=self._protocol.warmup_max_s))
        except QprofError as error:
            self._crew.fail(entry, error)
            return
        entry.warmup[block.phase] = answer.warmup
        if not answer.warmup.steady:
            where = "" if block.phase == INFERENCE else f" in {block.phase}"
            entry.notes.append(f"not steady{where} after {self._protocol.warmup_max_s:g} s: {answer.warmup.reason}")
        self._save(block, BlockAnswer(samples=answer.samples, facts=BlockFacts()))

    def _idle(self, position: int, when: str, blocks: list[PlannedBlock]) -> None:
        """What is drawn while every variant is loaded and none runs; the sensors' update periods come from it too."""
        number = extra_number(position, len(self._manifest.variants), len(self._phases), blocks)
        seconds = _IDLE_S if self._device_channels else _ESTIMATED_IDLE_S if self._sensors.estimates else 0.0
        if not seconds:
            return
        self._progress.phase("idling", f"{seconds:g} s {when} the measurement, all variants loaded")
        readings: list[Reading] = []
        margin_s = self._sensors.margin_s if self._device_channels else 0.0  # a model is not read, before or behind
        rest(margin_s)
        with self._sensors.estimated(readings):
            start_ns, end_ns = rest(seconds)
        rest(margin_s)
        self._sensors.find_periods(start_ns, end_ns, self._device_channels)
        if number in self._writer.finished_blocks():
            return
        self._writer.save_block(
            Block(
                number=number,
                round=-1,
                variant="",
                kind="idle",
                samples=Samples.none(),
                readings=readings,
                facts=BlockFacts(when=when, window_ns=(start_ns, end_ns), repetitions=0),
                phase="",
                traces=self._sensors.traces(start_ns, end_ns, margin_s),
            )
        )

    # -- rounds ---------------------------------------------------------------------------------------------------

    def _rounds(self, blocks: list[PlannedBlock]) -> None:
        finished = self._writer.finished_blocks()
        left = [block for block in blocks if block.number not in finished and self._can_run(block)]
        self._progress.phase("measuring", f"{len(left)} blocks")
        self._progress.plan(Counter(self._key(block) for block in left))
        for round_, members in itertools.groupby(left, lambda block: block.round):
            for block in members:
                if self._can_run(block):
                    with self._turns.turn():
                        self._run_block(block)
            if self._end is not None and self._end.reached(round_ + 1):
                break

    def _run_block(self, block: PlannedBlock) -> None:
        entry = self._manifest.variants[block.variant]
        rounds = self._protocol.rounds
        where = f"round {block.round + 1}/{rounds}" if block.round < rounds else "more samples"
        self._progress.start(self._key(block), f"{where}  {self._key(block)}")
        request = MeasureBlock(
            kind="clean" if block.kind == "predicted" else block.kind,
            phase=block.phase,
            samples=list(block.samples),
            min_ms=self._least_ms(block.kind),
            min_repetitions=LEAST_REPETITIONS if block.kind == "energy" else 1,
            keep=block.keep,
            chosen=self._manifest.sampling is not None,
        )
        begin = time.monotonic()
        estimates: list[Reading] = []
        margin_s = self._sensors.margin_s if block.kind == "energy" else 0.0
        if block.kind == "energy":
            rest(margin_s + self._random.uniform(0.0, max(_ASSUMED_PERIOD_S, margin_s)))
        try:
            if block.kind in _SENSED:
                with self._sensors.estimated(estimates):
                    answer = self._crew.ask(entry, request)
            else:
                answer = self._crew.ask(entry, request)
        except QprofError as error:
            self._crew.fail(entry, error)
            return
        rest(margin_s)
        start_ns, end_ns = answer.facts.window_ns or (0, 0)
        traces = self._sensors.traces(start_ns, end_ns, margin_s) if block.kind in _SENSED else []
        self._save(block, answer, estimates, traces)
        if self._watch is not None and block.kind == "clean":
            self._watch.add(entry.name, block.phase, block.round, answer.samples.duration_ns)
        self._progress.done(self._key(block), time.monotonic() - begin)

    def _least_ms(self, kind: str) -> float:
        if kind == "predicted":
            return 0.0
        if kind == "energy":
            return 1e3 * max(self._protocol.energy_block_s, self._sensors.least_window_s)
        return self._protocol.profiled_block_ms if kind in ("profiled", "reset") else self._protocol.block_ms

    def _save(
        self,
        block: PlannedBlock,
        answer: BlockAnswer,
        estimates: Sequence[Reading] = (),
        traces: Sequence[SensorTrace] = (),
    ) -> None:
        self._writer.save_block(
            Block(
                number=block.number,
                round=block.round,
                variant=self._manifest.variants[block.variant].name,
                kind=block.kind,
                samples=answer.samples,
                ops=answer.ops,
                predictions=answer.predictions,
                readings=[*answer.readings, *estimates],
                facts=answer.facts,
                phase=block.phase,
                traces=list(traces),
            )
        )

    def _can_run(self, block: PlannedBlock) -> bool:
        entry = self._manifest.variants[block.variant]
        return not entry.failed and {"profiled": entry.instrumented, "reset": bool(entry.resets)}.get(block.kind, True)

    def _key(self, block: PlannedBlock) -> str:
        phase = "" if block.phase == INFERENCE or block.kind in ("scored", "predicted") else f" {block.phase}"
        return f"{self._manifest.variants[block.variant].name}{phase} {block.kind}"

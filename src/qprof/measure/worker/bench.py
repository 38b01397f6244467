"""One variant on the bench: loaded clean, loaded again with its ops timed, run in blocks. Lives in a worker."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns, thread_time_ns  # CLOCK_MONOTONIC on Linux, the timeline of every probe
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError, QprofError
from qprof.measure.channel import json_safe
from qprof.measure.requests import (
    BlockAnswer,
    InstrumentedAnswer,
    LoadedAnswer,
    LoadVariant,
    MeasureBlock,
    NotesAnswer,
    WarmedUpAnswer,
)
from qprof.measure.worker.decode_check import between_tokens
from qprof.measure.worker.histories import outputs_from_the_start, same_outputs, timed_and_not
from qprof.measure.worker.inferences import InferenceLog, lead_in, not_numbers, repeated
from qprof.measure.worker.loading import refuse_changed
from qprof.measure.worker.memory_growth import MemoryGrowth
from qprof.measure.worker.placements import Placements
from qprof.measure.worker.prepared_inputs import PreparedInputs
from qprof.probes.memory import read_memory
from qprof.probes.usage import USAGE_UNITS, Usage, read_usage
from qprof.record.blocks import BlockFacts
from qprof.record.manifest import Timing, Warmup
from qprof.record.model import LanguageModel, Model
from qprof.record.phases import Phase
from qprof.record.readings import SCORED_TOKENS, Reading
from qprof.record.tensors import TensorSpec
from qprof.runtimes import registry
from qprof.runtimes.base import ProfiledModel
from qprof.stats.steady import SteadyState
from qprof.tasks import registry as tasks

#: Inferences after which a variant's memory is read: allocations on first use are over.
_MEMORY_INFERENCES = 3

#: Inferences of a long block that are written down start this far apart at least.
_THINNED_NS = 1_000_000

#: Of the warm-up in a process that others have warmed already: what is left is the model's own first inferences.
_SHARED_WINDOW_NS = 10_000_000

#: Inputs made ahead of the clock, at most.
_CHUNK_BYTES = 64_000_000

#: Inferences of a profiled block for which records are allocated before its clock starts.
_RESERVED_INFERENCES = 64


class Bench:
    """A variant and its task, ready to be measured. `prepared`: inputs that it shares with others of its process."""

    def __init__(self, request: LoadVariant, prepared: PreparedInputs | None = None) -> None:
        variant = request.variant
        self._alone = request.alone
        self._path = Path(variant.path)
        self._runtime = registry.get(variant.runtime)
        self._options = msgspec.convert(variant.options, self._runtime.options_type)
        self._runtime.preload(variant.options)
        self._task = tasks.build(request.task)
        _settle()
        self._prepared = (prepared or PreparedInputs()).of(request.task, self._task)
        self._placements = Placements(self._runtime, self._path, self._options)
        self._model = self._load_counting_memory()
        refuse_changed(self._runtime, variant)
        self._profiled: ProfiledModel | None = None
        self._chunk = max(1, _CHUNK_BYTES // max(1, sum(_nbytes(spec) for spec in self._model.loaded.inputs)))
        _settle()

    def _load_counting_memory(self) -> Model:
        """Load the clean model first, while nothing else was, and run it: what the process grows by is the variant's.
        It is run on the first sample, which is made in between: zeros may be no input for it."""
        growth = MemoryGrowth()
        with growth.window():
            model = self._load()
        self._task.bind(model)
        inputs = self._inputs([0])[0]
        try:
            with growth.window():
                for phase in model.loaded.phases:
                    model.enter(phase.name)
                    for _ in range(_MEMORY_INFERENCES):
                        model.set_inputs(inputs)
                        model.invoke()
        except ModelError as error:
            advice = self._task.input_advice()
            raise (ModelError(f"{error}; {advice}") if advice else error) from error
        self._memory = growth.memory(model.memory_bytes())
        self._remarks = not_numbers(model)
        return model

    def describe(self) -> LoadedAnswer:
        """What the manifest keeps of the loaded variant."""
        loaded = self._model.loaded
        return LoadedAnswer(
            inputs=list(loaded.inputs),
            outputs=list(loaded.outputs),
            phases=list(loaded.phases),
            structure=loaded.structure,
            facts=json_safe(loaded.facts),
            memory=self._memory,
            scored=self._task.scored_count(),
            notes=[*loaded.notes, *self._remarks, *self._task.notes()],
        )

    def notes(self, decoding: bool) -> NotesAnswer:
        """What the task has noticed, what the instrumentation tells of itself and of the measurement, and of a language
        model what it keeps between tokens; with `decoding` also whether it decodes as it was scored."""
        kept, decoded, remarks = between_tokens(self._runtime, self._model, self._task, decoding)
        found = self._timing_notes()
        return msgspec.structs.replace(found, notes=[*found.notes, *remarks], kept=kept, decoding=decoded)

    def _timing_notes(self) -> NotesAnswer:
        if self._profiled is None:
            return NotesAnswer(notes=self._task.notes(), timing=None)
        notes, timing = self._task.notes(), self._profiled.timing_facts()
        if lost := self._profiled.lost_events():
            notes.append(f"{lost} op events were lost for want of memory; mistrust its op times, and free some memory")
        try:
            timing |= self._profiled.audit()
        except QprofError as error:
            notes.append(f"the measurement was not audited: {error}")
        return NotesAnswer(notes=notes, timing=msgspec.convert(json_safe(timing), Timing))

    def instrument(self) -> InstrumentedAnswer:
        """Load the variant a second time with its ops timed; check that it computes the same (in its first phase: later
        ones may go on from where the inference before them ended)."""
        self._profiled = None
        phase = self._model.loaded.phases[0].name
        try:
            profiled = self._runtime.instrument(self._model, self._path, self._options)
            inputs = self._inputs([0])[0]
            profiled.set_inputs(inputs)
            ops = profiled.discover()
        except QprofError as error:
            return InstrumentedAnswer(ops=None, notes=[str(error)])
        self._profiled = profiled
        _settle()
        ours, theirs = timed_and_not(self._model, profiled, self._load, phase, inputs)
        same = same_outputs(ours, theirs)
        notes = [] if same else ["the instrumented model's outputs differ from the clean one's; mistrust its op times"]
        return InstrumentedAnswer(
            ops=list(ops),
            arena_bytes=profiled.arena_bytes(),
            outputs_identical=same,
            resets=self._resets(profiled),
            notes=notes,
        )

    def _load(self) -> Model:
        """The clean model once more, which has run nothing yet."""
        return self._runtime.load(self._path, self._options)

    def warm_up(self, phase: str, max_s: float) -> WarmedUpAnswer:
        """Run until steady or until `max_s` is spent; the durations are kept as a block of kind "warmup"."""
        inputs = self._inputs([0])[0]
        self._model.enter(phase)
        steady = SteadyState() if self._alone else SteadyState(window_ns=_SHARED_WINDOW_NS)
        log = InferenceLog()
        deadline_ns = perf_counter_ns() + int(max_s * 1e9)
        while not steady.state.steady and (perf_counter_ns() < deadline_ns or not log.samples):
            self._model.set_inputs(inputs)
            start_ns = perf_counter_ns()
            self._model.run_once()
            log.add(0, start_ns, perf_counter_ns())
            steady.add(log.durations_ns[-1])
        state = steady.state
        warmup = Warmup(steady=state.steady, reason=state.reason, inferences=len(log.samples))
        return WarmedUpAnswer(warmup=warmup, samples=log.arrays())

    def block(self, request: MeasureBlock) -> BlockAnswer:
        """Run the samples of one block, over and over until it lasted `min_ms`.

        A clean block keeps what the first pass predicted (`keep`); a profiled one ends as soon as its time is up and
        returns op events; a scored one runs its samples once, as the task will.
        """
        samples = request.samples
        phase = next(phase for phase in self._model.loaded.phases if phase.name == request.phase)
        min_ns = int(request.min_ms * 1e6)
        load_ns = None
        if request.kind in ("clean", "energy"):
            self._model, load_ns = self._placements.moved(self._model, min_ns, self._inputs(samples[: self._chunk])[0])
        before = read_usage()
        gc.collect()
        gc.disable()
        try:
            if request.kind == "scored":
                answer = self._scored_block(self._rows(samples, request.chosen))
            elif request.kind == "profiled":
                answer = self._profiled_block(samples, phase, min_ns)
            elif request.kind == "reset":
                answer = self._reset_block(samples, phase, min_ns)
            elif request.kind in ("energy", "stacks"):
                answer = self._long_block(samples, phase, min_ns, request.min_repetitions)
            else:
                answer = self._clean_block(samples, phase, min_ns, keep=request.keep)
        finally:
            gc.enable()
        facts = msgspec.structs.replace(answer.facts, load_ns=load_ns)
        return msgspec.structs.replace(answer, facts=facts, readings=[*answer.readings, *self._block_readings(before)])

    def _block_readings(self, before: Usage) -> list[Reading]:
        """What the process used since `before`, and its memory now."""
        usage = asdict(read_usage().since(before))
        now_ns = perf_counter_ns()
        found = [
            Reading(f"host.{name}", now_ns, float(value), USAGE_UNITS[name], "measured")
            for name, value in usage.items()
        ]
        memory = {
            **(asdict(read_memory()) if self._alone else {}),  # else it is that of all variants in the process
            **{f"{name}_bytes": size for name, size in self._model.memory_bytes().items()},
        }
        return found + [
            Reading(f"memory.{name.removesuffix('_bytes')}", now_ns, float(size), "bytes", "measured")
            for name, size in memory.items()
            if name.endswith("_bytes") and size is not None
        ]

    def _clean_block(self, samples: Sequence[int], phase: Phase, min_ns: int, keep: bool) -> BlockAnswer:
        model = self._model
        model.enter(phase.name)
        log = InferenceLog()
        state = model.loaded.keeps_state
        predictions = self._from_the_start(samples) if keep and state and not model.loaded.resets_state else {}
        keep = keep and not predictions
        untimed = lead_in(model, self._inputs(samples[: self._chunk])[0])
        model.enter(phase.name)  # anew: what was run before must not change where the first inference begins
        run = model.run_once
        on_cpu_ns = 0
        while not log.samples or log.spent_ns < min_ns:
            for chunk in self._chunks(samples):
                outputs: list[list[NDArray[Any]]] = []
                wanted = keep and len(log.samples) < len(samples)
                inputs = self._inputs(chunk)
                begin_ns, begin_cpu_ns = perf_counter_ns(), thread_time_ns()
                for sample, arrays in zip(chunk, inputs, strict=True):
                    if wanted and state:
                        model.enter(phase.name)  # what is scored must not depend on the samples before it
                    for _ in range(phase.steps):
                        model.set_inputs(arrays)
                        start_ns = perf_counter_ns()
                        run()
                        log.add(sample, start_ns, perf_counter_ns())
                    if wanted:
                        outputs.append(model.outputs())
                on_cpu_ns += thread_time_ns() - begin_cpu_ns
                log.spent_ns += perf_counter_ns() - begin_ns
                for sample, kept in zip(chunk, outputs, strict=False):
                    predictions[sample] = json_safe(self._task.decode(sample, kept))
        facts = BlockFacts(
            lead_in=untimed,
            loops=len(log.samples) // (len(samples) * phase.steps),
            window_ns=log.window_ns,
            repetitions=len(log.samples),
            spent_ns=log.spent_ns,
            on_cpu_ns=on_cpu_ns,
        )
        return BlockAnswer(samples=log.arrays(), facts=facts, predictions=predictions)

    def _from_the_start(self, samples: Sequence[int]) -> dict[int, Any]:
        """Predictions of a model that keeps a state which cannot be reset: those of one that is loaded anew."""
        fresh, found = self._load(), {}
        for chunk in self._chunks(samples):
            outputs = outputs_from_the_start(fresh, self._inputs(chunk))
            found.update({n: json_safe(self._task.decode(n, one)) for n, one in zip(chunk, outputs, strict=True)})
        return found

    def _long_block(self, samples: Sequence[int], phase: Phase, min_ns: int, least: int) -> BlockAnswer:
        """The same few samples over and over, for `min_ns` and `least` inferences at least: nothing else happens in its
        window. Of inferences that take less than a millisecond only some are written down."""
        model = self._model
        inputs = self._inputs(samples[: self._chunk])
        model.enter(phase.name)
        lead_in(model, inputs[0])
        model.enter(phase.name)
        log = InferenceLog()
        repetitions, due_ns, run = 0, 0, model.run_once
        begin_ns = now_ns = perf_counter_ns()
        while now_ns - begin_ns < min_ns or repetitions < least:
            for sample, arrays in repeated(zip(samples, inputs, strict=False), phase.steps):
                model.set_inputs(arrays)
                start_ns = perf_counter_ns()
                run()
                now_ns = perf_counter_ns()
                repetitions += 1
                if start_ns >= due_ns:
                    log.add(sample, start_ns, now_ns)
                    due_ns = start_ns + _THINNED_NS
        facts = BlockFacts(window_ns=(begin_ns, now_ns), repetitions=repetitions)
        return BlockAnswer(samples=log.arrays(), facts=facts)

    def _scored_block(self, samples: Sequence[int]) -> BlockAnswer:
        """Predict some samples of a text task."""
        predictions, batches = self._task.predict(cast(LanguageModel, self._model), samples)
        log = InferenceLog()
        for batch in batches:
            log.add(batch.first_sample, batch.start_ns, batch.start_ns + batch.duration_ns)
        tokens = sum(batch.tokens for batch in batches)
        reading = Reading(SCORED_TOKENS, perf_counter_ns(), float(tokens), "tokens", "measured")
        facts = BlockFacts(
            batches=len(batches), rows=len(samples), window_ns=log.window_ns, repetitions=len(log.samples)
        )
        kept = {sample: json_safe(value) for sample, value in predictions.items()}
        return BlockAnswer(samples=log.arrays(), facts=facts, predictions=kept, readings=[reading])

    def _rows(self, samples: Sequence[int], chosen: bool) -> list[int]:
        """Samples in the order in which the task runs them best; unless they are `chosen`, they count in that order."""
        order = self._task.scoring_order()
        wanted = set(samples)
        return [sample for sample in order if sample in wanted] if chosen else [order[i] for i in samples]

    def _profiled_block(self, samples: Sequence[int], phase: Phase, min_ns: int) -> BlockAnswer:
        model = self._profiled
        if model is None:
            raise QprofError("a profiled block was asked of a variant that is not instrumented")
        model.enter(phase.name)
        log = InferenceLog()
        untimed = lead_in(model, self._inputs(samples[: self._chunk])[0])
        model.reserve(_RESERVED_INFERENCES)
        model.enter(phase.name)
        run = model.run_once
        while not log.samples or log.spent_ns < min_ns:
            for chunk in self._chunks(samples):
                for sample, arrays in repeated(zip(chunk, self._inputs(chunk), strict=True), phase.steps):
                    model.set_inputs(arrays)
                    model.begin(len(log.samples))
                    start_ns = perf_counter_ns()
                    run()
                    end_ns = perf_counter_ns()
                    model.end()
                    log.add(sample, start_ns, end_ns)
                    log.spent_ns += end_ns - start_ns
                    if log.spent_ns >= min_ns:
                        break
                if log.spent_ns >= min_ns:
                    break
        ops, found = model.drain(), log.arrays()
        timing_ns = self._runtime.timing_ns(model)
        if timing_ns is not None:
            # No longer in the ops either: it belongs to neither, and would be taken for what lies between the ops.
            found.duration_ns[: len(timing_ns)] -= timing_ns
        return BlockAnswer(samples=found, facts=BlockFacts(lead_in=untimed), ops=ops)

    def _reset_block(self, samples: Sequence[int], phase: Phase, min_ns: int) -> BlockAnswer:
        """A profiled block before whose ops the processor's state is reset: what an op owes to its predecessor is the
        difference to the profiled block beside it."""
        if self._profiled is None or not self._runtime.reset_before_ops(self._profiled, True):
            raise QprofError("a block with resets was asked of a variant that resets nothing")
        try:
            return self._profiled_block(samples, phase, min_ns)
        finally:
            self._runtime.reset_before_ops(self._profiled, False)

    def _resets(self, profiled: ProfiledModel) -> str:
        """What can be reset before the ops of the instrumented model, in words."""
        can = self._runtime.reset_before_ops(profiled, True)
        if can:
            self._runtime.reset_before_ops(profiled, False)
        return self._runtime.resets if can else ""

    def _chunks(self, samples: Sequence[int]) -> Iterator[Sequence[int]]:
        """The block's samples in runs whose inputs fit in memory together; inputs are made between their clocks."""
        for begin in range(0, len(samples), self._chunk):
            yield samples[begin : begin + self._chunk]

    def _inputs(self, samples: Sequence[int]) -> list[list[NDArray[Any]]]:
        """Inputs of some samples; the last are kept (see `PreparedInputs`)."""
        return self._prepared.inputs(samples)


def _settle() -> None:
    """Let later collections pass over all that is there by now: the objects of a large library, which stay, cost a
    quarter of a second each time."""
    gc.collect()
    gc.freeze()


def _nbytes(spec: TensorSpec) -> int:
    return int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize

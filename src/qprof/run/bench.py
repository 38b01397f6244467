"""One variant on the bench: loaded clean, loaded again with its ops timed, run in blocks. Lives in a worker."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns  # CLOCK_MONOTONIC on Linux, the timeline of every probe
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from qprof.errors import QprofError
from qprof.probes.memory import MemoryReading, PeakReset, read_memory, reset_peak
from qprof.probes.usage import USAGE_UNITS, read_usage
from qprof.run.workload import bind_task, build_task
from qprof.runtimes import registry
from qprof.runtimes.base import LanguageModel, Model, OpEvents, Phase, ProfiledModel, RunOptions, TensorSpec
from qprof.stats.steady import SteadyState
from qprof.store.blocks import SCORED_TOKENS
from qprof.tasks.base import TextTask

#: Untimed inferences before a block, until both are reached: other workers have used the caches in between.
LEAD_IN_INFERENCES = 2
LEAD_IN_NS = 5_000_000

#: Inferences on zero inputs after which a variant's memory is read: allocations on first use are over.
_MEMORY_INFERENCES = 3

#: Inferences of a long block that are written down start this far apart at least.
_THINNED_NS = 1_000_000

#: Inputs made ahead of the clock, at most.
_CHUNK_BYTES = 64_000_000

#: Inferences of a profiled block for which records are allocated before its clock starts.
_RESERVED_INFERENCES = 64

_Item = TypeVar("_Item")

Answer = tuple[dict[str, Any], dict[str, NDArray[Any]]]


class Bench:
    """A variant and its task, ready to be measured. See `qprof.run.worker` for the requests."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._path = Path(request["path"])
        self._options = RunOptions(**request["options"])
        self._runtime = registry.get(request["runtime"])
        self._runtime.preload()
        _settle()
        self._model = self._load_counting_memory()
        self._task = build_task(request["task"])
        bind_task(self._task, self._model)
        self._profiled: ProfiledModel | None = None
        self._chunk = max(1, _CHUNK_BYTES // max(1, sum(_nbytes(spec) for spec in self._model.loaded.inputs)))
        self._prepared: tuple[tuple[int, ...], list[list[NDArray[Any]]]] = ((), [])
        _settle()

    def _load_counting_memory(self) -> Model:
        """Load the clean model first, while nothing else was: what the process grows by is the variant's."""
        gc.collect()
        peak_reset = reset_peak()
        before = read_memory()
        model = self._runtime.load(self._path, self._options)
        zeros = [_zeros(spec) for spec in model.loaded.inputs]
        for phase in model.loaded.phases:
            model.enter(phase.name)
            for _ in range(_MEMORY_INFERENCES):
                model.set_inputs(zeros)
                model.invoke()
        self.memory = _memory_growth(before, read_memory(), peak_reset)
        self.memory |= {f"{name}_bytes": value for name, value in model.memory_bytes().items()}
        return model

    def describe(self) -> dict[str, Any]:
        """What the manifest keeps of the loaded variant."""
        loaded = self._model.loaded
        return {
            "inputs": [asdict(spec) for spec in loaded.inputs],
            "outputs": [asdict(spec) for spec in loaded.outputs],
            "phases": [asdict(phase) for phase in loaded.phases],
            "facts": loaded.facts,
            "memory": self.memory,
            "samples": self._task.sample_count(),
            "scored": self._task.scored_count() if isinstance(self._task, TextTask) else 0,
            "notes": [*loaded.notes, *self._task.notes()],
        }

    def notes(self) -> dict[str, Any]:
        """What the task has noticed, and what the instrumentation tells of itself and of the measurement."""
        if self._profiled is None:
            return {"notes": self._task.notes(), "timing": None}
        notes, timing = self._task.notes(), self._profiled.timing_facts()
        try:
            timing |= self._profiled.audit()
        except QprofError as error:
            notes.append(f"the measurement was not audited: {error}")
        return {"notes": notes, "timing": timing}

    def instrument(self) -> dict[str, Any]:
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
            return {"ops": None, "notes": [str(error)]}
        self._profiled = profiled
        _settle()
        ours, theirs = self._timed_and_not(profiled, phase, inputs)
        same = all(
            np.array_equal(mine, its, equal_nan=mine.dtype.kind == "f") for mine, its in zip(ours, theirs, strict=True)
        )
        notes = [] if same else ["the instrumented model's outputs differ from the clean one's; mistrust its op times"]
        return {
            "ops": [asdict(op) for op in ops],
            "arena_bytes": profiled.arena_bytes(),
            "outputs_identical": same,
            "notes": notes,
        }

    def _timed_and_not(
        self, profiled: ProfiledModel, phase: str, inputs: list[NDArray[Any]]
    ) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Outputs of an inference without instrumentation, and of one whose ops are timed."""
        self._model.enter(phase)
        self._model.set_inputs(inputs)
        self._model.invoke()
        ours = self._model.outputs()
        profiled.enter(phase)
        profiled.set_inputs(inputs)
        profiled.begin(0)
        profiled.invoke()
        profiled.end()
        profiled.drain()
        return ours, profiled.outputs()

    def warm_up(self, phase: str, max_s: float) -> Answer:
        """Run until steady or until `max_s` is spent; the durations are kept as a block of kind "warmup"."""
        inputs = self._inputs([0])[0]
        self._model.enter(phase)
        steady = SteadyState()
        log = _InferenceLog()
        deadline_ns = perf_counter_ns() + int(max_s * 1e9)
        while not steady.state.steady and (perf_counter_ns() < deadline_ns or not log.samples):
            self._model.set_inputs(inputs)
            start_ns = perf_counter_ns()
            self._model.run_once()
            log.add(0, start_ns, perf_counter_ns())
            steady.add(log.durations_ns[-1])
        answer = {"steady": steady.state.steady, "reason": steady.state.reason, "inferences": len(log.samples)}
        return answer, log.arrays()

    def block(self, request: Mapping[str, Any]) -> Answer:
        """Run the samples of one block, over and over until it lasted `min_ms`.

        A clean block keeps what the first pass predicted (`keep`); a profiled one ends as soon as its time is up and
        returns op events; a scored one runs its samples once, as the task will.
        """
        samples = [int(sample) for sample in request["samples"]]
        phase = next(phase for phase in self._model.loaded.phases if phase.name == request["phase"])
        min_ns = int(float(request["min_ms"]) * 1e6)
        before = read_usage()
        gc.collect()
        gc.disable()
        try:
            if request["kind"] == "scored":
                answer, arrays = self._scored_block(samples)
            elif request["kind"] == "profiled":
                answer, arrays = self._profiled_block(samples, phase, min_ns)
            elif request["kind"] in ("energy", "stacks"):
                answer, arrays = self._long_block(samples, phase, min_ns, int(request["min_repetitions"]))
            else:
                answer, arrays = self._clean_block(samples, phase, min_ns, keep=bool(request["keep"]))
        finally:
            gc.enable()
        usage = asdict(read_usage().since(before))
        now_ns = perf_counter_ns()
        answer["readings"] = answer.get("readings", []) + [
            [f"host.{name}", now_ns, float(value), USAGE_UNITS[name], "measured"] for name, value in usage.items()
        ]
        memory = {
            **asdict(read_memory()),
            **{f"{name}_bytes": size for name, size in self._model.memory_bytes().items()},
        }
        answer["readings"] += [
            [f"memory.{name.removesuffix('_bytes')}", now_ns, float(size), "bytes", "measured"]
            for name, size in memory.items()
            if name.endswith("_bytes") and size is not None
        ]
        return answer, arrays

    def _clean_block(self, samples: Sequence[int], phase: Phase, min_ns: int, keep: bool) -> Answer:
        model = self._model
        model.enter(phase.name)
        log = _InferenceLog()
        predictions: dict[str, Any] = {}
        lead_in = _lead_in(model, self._inputs(samples[: self._chunk])[0])
        model.enter(phase.name)  # anew: what was run before must not change where the first inference begins
        run = model.run_once
        while not log.samples or log.spent_ns < min_ns:
            for chunk in self._chunks(samples):
                outputs: list[list[NDArray[Any]]] = []
                wanted = keep and len(log.samples) < len(samples)
                inputs = self._inputs(chunk)
                begin_ns = perf_counter_ns()
                for sample, arrays in zip(chunk, inputs, strict=True):
                    for _ in range(phase.steps):
                        model.set_inputs(arrays)
                        start_ns = perf_counter_ns()
                        run()
                        log.add(sample, start_ns, perf_counter_ns())
                    if wanted:
                        outputs.append(model.outputs())
                log.spent_ns += perf_counter_ns() - begin_ns
                for sample, kept in zip(chunk, outputs, strict=False):
                    predictions[str(sample)] = self._task.decode(sample, kept)
        facts = {
            "lead_in": lead_in,
            "loops": len(log.samples) // (len(samples) * phase.steps),
            **log.window(),
            "spent_ns": log.spent_ns,
        }
        return {"facts": facts, "predictions": predictions}, log.arrays()

    def _long_block(self, samples: Sequence[int], phase: Phase, min_ns: int, least: int) -> Answer:
        """The same few samples over and over, for `min_ns` and `least` inferences at least: nothing else happens in its
        window. Of inferences that take less than a millisecond only some are written down."""
        model = self._model
        inputs = self._inputs(samples[: self._chunk])
        model.enter(phase.name)
        _lead_in(model, inputs[0])
        model.enter(phase.name)
        log = _InferenceLog()
        repetitions, due_ns, run = 0, 0, model.run_once
        begin_ns = now_ns = perf_counter_ns()
        while now_ns - begin_ns < min_ns or repetitions < least:
            for sample, arrays in _repeated(zip(samples, inputs, strict=False), phase.steps):
                model.set_inputs(arrays)
                start_ns = perf_counter_ns()
                run()
                now_ns = perf_counter_ns()
                repetitions += 1
                if start_ns >= due_ns:
                    log.add(sample, start_ns, now_ns)
                    due_ns = start_ns + _THINNED_NS
        return {"facts": {"window_ns": [begin_ns, now_ns], "repetitions": repetitions}}, log.arrays()

    def _scored_block(self, samples: Sequence[int]) -> Answer:
        """Predict some samples of a text task, counted in the order in which the task runs them."""
        if not isinstance(self._task, TextTask):
            raise QprofError("a scored block was asked of a task whose timed inferences are what is scored")
        order = self._task.scoring_order()
        predictions, batches = self._task.predict(cast(LanguageModel, self._model), [order[i] for i in samples])
        log = _InferenceLog()
        for batch in batches:
            log.add(batch.first_sample, batch.start_ns, batch.start_ns + batch.duration_ns)
        tokens = sum(batch.tokens for batch in batches)
        reading = [SCORED_TOKENS, perf_counter_ns(), float(tokens), "tokens", "measured"]
        facts = {"batches": len(batches), "rows": len(samples), **log.window()}
        kept = {str(sample): value for sample, value in predictions.items()}
        return {"facts": facts, "predictions": kept, "readings": [reading]}, log.arrays()

    def _profiled_block(self, samples: Sequence[int], phase: Phase, min_ns: int) -> Answer:
        model = self._profiled
        if model is None:
            raise QprofError("a profiled block was asked of a variant that is not instrumented")
        model.enter(phase.name)
        log = _InferenceLog()
        lead_in = _lead_in(model, self._inputs(samples[: self._chunk])[0])
        model.reserve(_RESERVED_INFERENCES)
        model.enter(phase.name)
        run = model.run_once
        while not log.samples or log.spent_ns < min_ns:
            for chunk in self._chunks(samples):
                for sample, arrays in _repeated(zip(chunk, self._inputs(chunk), strict=True), phase.steps):
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
        return {"facts": {"lead_in": lead_in}, "predictions": {}}, log.arrays() | _op_arrays(model.drain())

    def _chunks(self, samples: Sequence[int]) -> Iterator[Sequence[int]]:
        """The block's samples in runs whose inputs fit in memory together; inputs are made between their clocks."""
        for begin in range(0, len(samples), self._chunk):
            yield samples[begin : begin + self._chunk]

    def _inputs(self, samples: Sequence[int]) -> list[list[NDArray[Any]]]:
        """Inputs of some samples; the last are kept, for a second pass and for the block's profiled twin."""
        wanted = tuple(samples)
        if self._prepared[0] != wanted:
            self._prepared = (wanted, [self._task.inputs(sample) for sample in wanted])
        return self._prepared[1]


class _InferenceLog:
    """What is written down of each inference, and the time spent on all of them."""

    def __init__(self) -> None:
        self.samples: list[int] = []
        self.starts_ns: list[int] = []
        self.durations_ns: list[int] = []
        self.spent_ns = 0

    def add(self, sample: int, start_ns: int, end_ns: int) -> None:
        self.samples.append(sample)
        self.starts_ns.append(start_ns)
        self.durations_ns.append(end_ns - start_ns)

    def window(self) -> dict[str, Any]:
        """From the first inference to the last, what lies between them included."""
        end_ns = self.starts_ns[-1] + self.durations_ns[-1]
        return {"window_ns": [self.starts_ns[0], end_ns], "repetitions": len(self.samples)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "samples.sample": np.array(self.samples, np.int32),
            "samples.start_ns": np.array(self.starts_ns, np.int64),
            "samples.duration_ns": np.array(self.durations_ns, np.int64),
        }


def _settle() -> None:
    """Let later collections pass over all that is there by now: the objects of a large library, which stay, cost a
    quarter of a second each time."""
    gc.collect()
    gc.freeze()


def _repeated(items: Iterable[_Item], times: int) -> Iterator[_Item]:
    for item in items:
        yield from itertools.repeat(item, times)


def _lead_in(model: Model, inputs: Sequence[NDArray[Any]]) -> int:
    begin_ns = perf_counter_ns()
    count = 0
    while count < LEAD_IN_INFERENCES or perf_counter_ns() - begin_ns < LEAD_IN_NS:
        model.set_inputs(inputs)
        model.run_once()
        count += 1
    return count


def _zeros(spec: TensorSpec) -> NDArray[Any]:
    return np.full(spec.shape, spec.zero_point or 0, np.dtype(spec.dtype))


def _nbytes(spec: TensorSpec) -> int:
    return int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize


def _op_arrays(events: OpEvents) -> dict[str, NDArray[Any]]:
    return {f"ops.{name}": getattr(events, name) for name in ("inference", "op", "start_ns", "duration_ns", "source")}


def _memory_growth(before: MemoryReading, after: MemoryReading, peak_reset: PeakReset) -> dict[str, Any]:
    """Bytes above the bare runtime (imported, no model): resident, proportional, and at the peak."""

    def grown(late: int | None, early: int | None) -> int | None:
        return None if late is None or early is None else late - early

    reasons = {**before.missing, **after.missing}
    peak = grown(after.peak_rss_bytes, before.rss_bytes) if peak_reset else None
    if peak_reset.reason:
        reasons["peak_rss_bytes"] = f"the peak counter cannot be reset: {peak_reset.reason}"
    return {
        "rss_above_runtime_bytes": grown(after.rss_bytes, before.rss_bytes),
        "pss_above_runtime_bytes": grown(after.pss_bytes, before.pss_bytes),
        "peak_rss_above_runtime_bytes": peak,
        "runtime_rss_bytes": before.rss_bytes,
        "missing": reasons,
    }

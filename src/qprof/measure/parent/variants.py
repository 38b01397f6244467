"""The variants of a run and their workers: made, loaded, instrumented; the ones that fail are out, the others go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from qprof.errors import DataError, ModelError, QprofError, WorkerError
from qprof.measure.models import runtime_of
from qprof.measure.parent.entries import keep_made, loaded_variant, memory_of
from qprof.measure.parent.jobs import at_once
from qprof.measure.parent.maker import Maker, maker
from qprof.measure.parent.preloads import Preloads
from qprof.measure.parent.process import Bounds, WorkerProcess, stop_all
from qprof.measure.parent.spare import Kind, SpareWorkers
from qprof.measure.parent.two_models import fit_together
from qprof.measure.profile import Profile
from qprof.measure.progress import ProgressDisplay
from qprof.measure.requests import (
    Answer,
    Instrument,
    InstrumentedAnswer,
    LoadedAnswer,
    LoadVariant,
    MadeAnswer,
    MakeVariant,
    OfVariant,
    Preload,
    PreparedAnswer,
    PrepareTask,
    Request,
)
from qprof.probes.machine import packages
from qprof.record.manifest import PreparedTask, VariantEntry
from qprof.record.sections import FileVariantSection, VariantSection
from qprof.runtimes import registry
from qprof.runtimes.base import Asked
from qprof.store.files import make_folder
from qprof.store.writer import RunWriter
from qprof.tasks import registry as tasks


class Crew:
    """The worker processes of the variants, and what the manifest says of each. `scored`: samples that are predicted in
    passes of their own, 0 where the timed ones are scored. `bounds`: of each worker.

    Every variant has a process of its own, unless the protocol says otherwise. Of several in one, the death of that
    process is the failure of the one that was asked; the others are loaded once more, each by itself.
    """

    def __init__(
        self,
        writer: RunWriter,
        profile: Profile,
        progress: ProgressDisplay,
        bounds: Bounds,
        spare: SpareWorkers | None = None,
    ) -> None:
        self._spare = spare
        #: What was imported into a process, where that is all that there is in it.
        self.kinds: dict[WorkerProcess, Kind] = {}
        self._writer = writer
        self._manifest = writer.manifest
        self._profile = profile
        self._protocol = profile.protocol
        self._progress = progress
        self._workers: dict[str, WorkerProcess] = {}
        self._shared: dict[tuple[Any, ...], WorkerProcess] = {}
        self._bereft: set[str] = set()
        self._logs = writer.folder / "logs"
        self._bounds = bounds
        self._calibration_digest = ""
        self.scored = 0
        make_folder(self._logs)

    def stop(self) -> None:
        """End all workers."""
        stop_all({*self._workers.values(), *self._shared.values()})
        self._workers.clear()
        self._shared.clear()

    def released(self, count: int) -> list[WorkerProcess]:
        """Of the processes of the variants, so many that can be used for something else; all others are ended. One that
        has a library of its own in it is none: such a library may change how others are run."""
        own = [entry for entry in self.living() if not entry.making.run.get("library")]
        fit = dict.fromkeys(self._workers[entry.name] for entry in own if entry.name in self._workers)
        kept = [worker for worker in fit if worker.lives][:count]
        self._workers = {name: one for name, one in self._workers.items() if one not in kept}
        self._shared = {key: one for key, one in self._shared.items() if one not in kept}
        self.stop()
        return kept

    def ask(self, entry: VariantEntry, request: Request[Answer]) -> Answer:
        """Ask a variant's worker, within the protocol's time limit. Raises what the worker does."""
        worker = self._worker(entry)
        worker.label = f"variant {entry.name}"
        if isinstance(request, OfVariant):
            request = msgspec.structs.replace(request, name=entry.name)
        return worker.ask(request, timeout_s=self._protocol.timeout_s)

    def pid(self, entry: VariantEntry) -> int:
        """The process of a variant's worker."""
        return self._worker(entry).pid

    def _worker(self, entry: VariantEntry) -> WorkerProcess:
        if entry.name in self._bereft:
            self._load_again(entry)
        return self._workers[entry.name]

    def living(self) -> list[VariantEntry]:
        """The manifest's entries of the variants that have not failed."""
        return self._manifest.living()

    @property
    def task(self) -> PreparedTask:
        """The run's task, once its data are ready."""
        assert self._manifest.task is not None  # `make_all` comes first
        return self._manifest.task

    # -- made ---------------------------------------------------------------------------------------------------------

    def make_all(self) -> None:
        """Prepare the data and make every variant. Raises `DataError`, and `ModelError` where none could be made."""
        self._progress.phase("preparing", "data set")
        with maker(self._logs / "prepare.log", self._bounds, self._spare) as made:
            files = [str(entry.section.get("file") or "") for entry in self._manifest.variants]
            prepared = made.ask(PrepareTask(section=self._needed_of_task(), files=files))
            self._refuse_other_data(prepared)
            self._manifest.task, self._manifest.samples = prepared.task, prepared.samples
            self._manifest.notes = prepared.notes
            self._calibration_digest = prepared.calibration_digest
            for note in prepared.notes:
                self._progress.note(note)
            preloads = Preloads(max(1, at_once() - 1))
            guessed = self._preloaded(preloads)
            for entry in self._manifest.variants:
                self._progress.phase("preparing", f"variant {entry.name}")
                self._make(made, entry, guessed.get(entry.name), preloads)
            preloads.finish()
        self._manifest.packages |= packages(self._runtime_packages())
        self._writer.save_manifest()
        self.require_some("made")

    def _needed_of_task(self) -> dict[str, Any]:
        """The task's section; without its calibration samples where no variant is calibrated."""
        task, kind = self._profile.task, tasks.get(self._profile.task.kind)
        own = [(_source(section) or self._profile.model.path, section) for section in self._profile.variants]
        if not any(runtime_of(path, kind.gives).calibrates(section) for path, section in own):
            task = kind.without_calibration(task)
        plain: dict[str, Any] = msgspec.to_builtins(task)
        return plain

    def _refuse_other_data(self, prepared: PreparedAnswer) -> None:
        """On resuming: the plan of the blocks, and so what the kept ones hold, follows from the samples."""
        known = self._manifest.samples
        if known is None or self._manifest.task is None:
            return
        if known != prepared.samples or self._manifest.task.skip != prepared.task.skip:
            raise DataError(
                f"{self._writer.folder}: the data set is not the one that the run began with ({known} samples then, "
                f"{prepared.samples} now); bring it back, or run anew"
            )

    def _preloaded(self, preloads: Preloads) -> dict[str, str]:
        """Importing a runtime takes seconds: the variants' workers do it while the variants are made. By the name of
        each variant, the runtime that will most likely run it."""
        if not self._protocol.own_process:
            return {}
        gives, found = tasks.get(self._profile.task.kind).gives, {}
        for entry, section in zip(self._manifest.variants, self._profile.variants, strict=True):
            with contextlib.suppress(ModelError):  # making it says what is wrong
                found[entry.name] = runtime_of(_source(section) or self._profile.model.path, gives).name
                preloads.add(self._new_worker(entry), Preload(runtime=found[entry.name], run={}))
        return found

    def _make(self, maker: Maker, entry: VariantEntry, guessed: str | None, preloads: Preloads) -> None:
        """Make one variant. `guessed`: the runtime that its own worker has imported."""
        entry.status, entry.reason, entry.untimed, entry.notes = "ok", None, None, []
        known = entry.sha256
        request = MakeVariant(
            model=self._manifest.profile.model,
            section=entry.section,
            task=self.task,
            device=self._protocol.device,
            calibration_digest=self._calibration_digest,
        )
        try:
            made = maker.ask(request, preloads.go_on)
        except QprofError as error:
            self.fail(entry, error)
            return
        if known is not None and known != made.sha256:
            changed = f"its model file is not the one that the run began with ({made.path}); run anew"
            self.fail(entry, ModelError(changed))
            return
        keep_made(entry, made)
        preload = Preload(runtime=made.runtime, run=made.run)
        if self._protocol.own_process:
            # A library of its own may not go with what is imported by default.
            fits = guessed == made.runtime and not made.run.get("library")
            worker = self._workers[entry.name] if fits else self._new_worker(entry)
            preloads.add(worker, preload)
            self._note_kind(worker, entry, made)
            return
        # What a library or the number of threads changes in a process, it changes for all that is loaded there.
        alike = (made.runtime, made.run.get("library"), entry.section.get("threads"))
        if alike not in self._shared:
            self._shared[alike] = self._spare_worker(entry, made) or self._new_worker(entry)
            self._shared[alike].post(preload)
            self._note_kind(self._shared[alike], entry, made)
        self._workers[entry.name] = self._shared[alike]

    def _spare_worker(self, entry: VariantEntry, made: MadeAnswer) -> WorkerProcess | None:
        """A process of an earlier run that has imported what this variant needs, and nothing else."""
        kind = self._kind(entry, made)
        if self._spare is None or kind is None:
            return None
        return self._spare.take(kind, f"variant {entry.name}", self._bounds)

    def _note_kind(self, worker: WorkerProcess, entry: VariantEntry, made: MadeAnswer) -> None:
        kind = self._kind(entry, made)
        if kind is not None:
            self.kinds[worker] = kind

    def _kind(self, entry: VariantEntry, made: MadeAnswer) -> Kind | None:
        """`None` for a variant that brings a library of its own."""
        if made.run.get("library"):
            return None
        threads = entry.section.get("threads") or self._protocol.threads
        return Kind(made.runtime, threads, self._protocol.device)

    def _new_worker(self, entry: VariantEntry) -> WorkerProcess:
        self._drop_worker(entry)
        worker = WorkerProcess(f"variant {entry.name}", self._logs / f"{entry.name}.log", self._bounds)
        self._workers[entry.name] = worker
        return worker

    def _drop_worker(self, entry: VariantEntry, gone: bool = True) -> None:
        """End a variant's process, `gone` or not; one that others are in only where it is gone. They get another, each
        its own, when they are asked next."""
        worker = self._workers.pop(entry.name, None)
        if worker is None:
            return
        others = [name for name, one in self._workers.items() if one is worker]
        if others and not gone:
            return
        worker.stop()
        self._shared = {key: one for key, one in self._shared.items() if one is not worker}
        for name in others:
            del self._workers[name]
        self._bereft.update(others)

    def _load_again(self, entry: VariantEntry) -> None:
        """Load a variant whose process died of another one."""
        self._bereft.discard(entry.name)
        self._new_worker(entry)
        instrumented = entry.instrumented
        self._keep_loaded(entry, self.ask(entry, self._to_load(entry)))
        if instrumented:
            self._instrument(entry)

    def _runtime_packages(self) -> list[str]:
        used = sorted({str(entry.runtime) for entry in self.living()})
        return [package for name in used for package in registry.get(name).packages]

    # -- loaded and instrumented --------------------------------------------------------------------------------------

    def load_all(self) -> None:
        """Load and instrument every variant in its worker. Raises `ModelError` where none could be loaded."""
        for entry, loaded in self.answers(self.living(), self._to_load, "loading"):
            if isinstance(loaded, QprofError):
                self.fail(entry, loaded)
            else:
                self._keep_loaded(entry, loaded)
        if self._protocol.profiled:
            for entry, answer in self.answers(self.living(), lambda _: Instrument(), "instrumenting"):
                try:
                    self._keep_instrumented(entry, answer)
                except QprofError as error:
                    self.fail(entry, error)
        self._writer.save_manifest()
        self.require_some("loaded")

    def answers(
        self, entries: Sequence[VariantEntry], request: Callable[[VariantEntry], Request[Answer]], what: str
    ) -> Iterator[tuple[VariantEntry, Answer | QprofError]]:
        """Each variant's answer to a request that times nothing, or what was raised instead of one, in their order.
        Where they have processes and memory of their own, several are asked at once."""
        apart = self._protocol.own_process and fit_together(self._manifest.baseline, entries)
        together = at_once() if apart else 1
        for begin in range(0, len(entries), together):
            group = entries[begin : begin + together]
            self._progress.phase(what, f"variant {', '.join(entry.name for entry in group)}")
            if len(group) == 1:
                yield group[0], self._outcome(group[0], _built(request, group[0]))
                continue
            for entry in group:
                self._worker(entry)  # by this thread: the kernel ends a worker with the thread that started it
            with ThreadPoolExecutor(len(group)) as threads:
                try:
                    found = list(threads.map(self._outcome, group, [_built(request, entry) for entry in group]))
                except BaseException:  # Ctrl-C: who waits for an answer gets none any more
                    for entry in group:
                        self._workers[entry.name].kill_process()
                    raise
            yield from zip(group, found, strict=True)

    def _outcome(self, entry: VariantEntry, request: Request[Any] | QprofError) -> Any | QprofError:
        if isinstance(request, QprofError):
            return request
        try:
            return self.ask(entry, request)
        except QprofError as error:
            return error

    def _to_load(self, entry: VariantEntry) -> LoadVariant:
        runtime = registry.get(str(entry.runtime))
        section = next(section for section in self._profile.variants if section.name == entry.name)
        asked = Asked(self._protocol, self._profile.model, tasks.prompts(self.task), entry.making.run)
        entry.options = msgspec.to_builtins(runtime.options(section, asked))
        entry.instrumented, entry.arena_bytes, entry.resets = False, None, ""
        return LoadVariant(variant=loaded_variant(entry), task=self._task_of(entry), alone=self._protocol.own_process)

    def _keep_loaded(self, entry: VariantEntry, loaded: LoadedAnswer) -> None:
        self.scored = max(self.scored, loaded.scored)
        entry.notes += [note for note in loaded.notes if note not in self._manifest.notes]
        entry.inputs, entry.outputs, entry.phases = loaded.inputs, loaded.outputs, loaded.phases
        entry.structure, entry.facts = loaded.structure, loaded.facts
        entry.memory, entry.scored = memory_of(loaded.memory, self._protocol.own_process), loaded.scored

    def _task_of(self, entry: VariantEntry) -> PreparedTask:
        """The run's task; for a variant with a batch of its own, with prompts of so many rows."""
        batch, section = entry.section.get("batch"), self.task.section
        if batch is None or "batch" not in section:
            return self.task
        return msgspec.structs.replace(self.task, section={**section, "batch": batch})

    def _instrument(self, entry: VariantEntry) -> None:
        self._keep_instrumented(entry, self._outcome(entry, Instrument()))

    def _keep_instrumented(self, entry: VariantEntry, answer: InstrumentedAnswer | QprofError) -> None:
        if isinstance(answer, WorkerError):
            # The clean model ran: what died is the instrumentation. Latency can still be measured without it.
            entry.untimed = str(answer)
            entry.notes.append(f"per-op timing is off: {answer}")
            self._progress.note(f"{entry.name}: per-op timing is off: {answer}")
            self._new_worker(entry)
            self._keep_loaded(entry, self.ask(entry, self._to_load(entry)))
            return
        if isinstance(answer, QprofError):
            raise answer
        entry.notes += answer.notes
        entry.arena_bytes, entry.outputs_identical = answer.arena_bytes, answer.outputs_identical
        if answer.ops is None:
            return
        kept = self._writer.saved_ops(entry.name)
        if kept is not None and [op.op for op in kept] != [op.op for op in answer.ops]:
            raise ModelError("its op list is not the one that the run began with; run anew")
        self._writer.save_ops(entry.name, answer.ops)
        entry.instrumented, entry.resets = True, answer.resets

    # -- failed -------------------------------------------------------------------------------------------------------

    def fail(self, entry: VariantEntry, error: QprofError) -> None:
        """Record why a variant is out; its kept blocks stay, the others go on."""
        entry.status, entry.reason = "failed", str(error)
        self._bereft.discard(entry.name)
        self._drop_worker(entry, gone=isinstance(error, WorkerError))
        self._writer.save_manifest()
        self._progress.note(f"variant {entry.name} failed: {error}")

    def require_some(self, step: str) -> None:
        """Raise `ModelError` where every variant has failed; `step` is what none of them survived."""
        if not self.living():
            first = self._manifest.baseline
            raise ModelError(f"no variant could be {step}; {first.name}: {first.reason}")


def _built(request: Callable[[VariantEntry], Request[Any]], entry: VariantEntry) -> Request[Any] | QprofError:
    try:
        return request(entry)
    except QprofError as error:
        return error


def _source(section: VariantSection) -> str:
    return section.file if isinstance(section, FileVariantSection) else ""

"""`qprof run`: from a profile to a run directory. The steps are those of the protocol, in its order."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import qprof
from qprof.errors import ProfileError, QprofError, StoreError
from qprof.measure.models import model_path
from qprof.measure.parent.after_blocks import AfterBlocks
from qprof.measure.parent.blocks import Measurement
from qprof.measure.parent.jobs import Job, Jobs, at_once
from qprof.measure.parent.looks import Decided
from qprof.measure.parent.output_distances import OutputComparison
from qprof.measure.parent.process import Bounds
from qprof.measure.parent.sensors import Estimator, SampledProbe, Sensors, open_probes, open_watch
from qprof.measure.parent.sharpen import ask_for_more, count_scored
from qprof.measure.parent.spare import SpareWorkers
from qprof.measure.parent.variants import Crew
from qprof.measure.profile import Profile, resolved, validate_recorded
from qprof.measure.progress import ProgressDisplay
from qprof.measure.requests import CollectNotes, ScoreVariant, Tabulate
from qprof.measure.surroundings import changes_since
from qprof.probes.clock import reading_cost_ns, resolution_ns, wall_offset_ns
from qprof.probes.machine import describe_machine, packages
from qprof.record.blocks import BlockEntry
from qprof.record.machine import ClockFacts
from qprof.record.manifest import Manifest, VariantEntry
from qprof.record.ops import SOURCES
from qprof.runtimes import registry
from qprof.store.files import make_folder, new_folder
from qprof.store.own import sweep
from qprof.store.run import runs_folder
from qprof.store.writer import RunWriter

#: Packages that every run uses, beside those of its runtimes.
_PACKAGES = ("qprof", "numpy", "pillow", "pycocotools", "pyarrow")

#: Opens the sensors of a run on a device.
OpenProbes = Callable[[str], Sequence[SampledProbe]]


def require_runtime(profile: Profile) -> None:
    """Raise `MissingExtraError` where a package is not installed that the profile's model cannot be run without."""
    registry.for_model(model_path(profile.model.path)).require()


def start(
    profile: Profile,
    folder: Path,
    progress: ProgressDisplay,
    opener: OpenProbes = open_probes,
    spare: SpareWorkers | None = None,
    until: Decided | None = None,
) -> RunWriter:
    """Run a profile into a new run directory. `opener` opens the sensors of the run's device; `spare`: workers of
    earlier runs, to which it leaves its own; `until`: asked at some rounds whether the others are needed.

    A variant that fails is recorded with its reason and the others go on. Raises `StoreError` where the directory
    cannot be written, `ModelError` where no variant could be measured, and whatever the task finds wrong with its data.
    """
    return _finished(RunWriter.create(folder, _new_manifest(profile)), profile, progress, opener, spare, until)


def resume(
    folder: Path,
    progress: ProgressDisplay,
    opener: OpenProbes = open_probes,
    *,
    changed: bool = False,
    budget_s: float | None = None,
    samples: int | None = None,
    spare: SpareWorkers | None = None,
    until: Decided | None = None,
) -> RunWriter:
    """Go on with an interrupted run: blocks that are kept are not run again, variants that failed or were not scored
    are tried again, those of a finished run, too. With `budget_s` seconds of measuring in all, or so many `samples`, a
    run that began with fewer is sharpened (`qprof.measure.parent.sharpen`).

    Raises `StoreError` where the machine or the versions are not those that it began with, unless it is to go on even
    if they have `changed`; the manifest then says so.
    """
    writer = RunWriter.resume(folder)
    try:
        more = ask_for_more(writer, budget_s, samples)
    except StoreError:
        writer.close()
        raise
    if not more and not writer.can_go_on():
        progress.note(f"{folder} is complete; nothing is left to run")
        writer.close()
        sweep()  # it may have been killed when its tables stood, and its workers were leaving
        return writer
    try:
        profile = validate_recorded(writer.manifest.profile, str(writer.folder / "manifest.json"))
        _refuse_mixture(writer, changed)
    except (ProfileError, StoreError):
        writer.close()
        raise
    writer.manifest.status = "running"
    return _finished(writer, profile, progress, opener, spare, until)


def _refuse_mixture(writer: RunWriter, changed: bool) -> None:
    """Figures of two machines, or of two versions, are not to be mixed in silence."""
    found = changes_since(writer.manifest)
    if found and not changed:
        raise StoreError(
            f"{writer.folder}: began with another machine or other versions ({'; '.join(found)}); run anew, or add "
            "--changed to go on all the same"
        )
    writer.manifest.changed = list(dict.fromkeys([*writer.manifest.changed, *found]))


def _finished(
    writer: RunWriter,
    profile: Profile,
    progress: ProgressDisplay,
    opener: OpenProbes,
    spare: SpareWorkers | None,
    until: Decided | None,
) -> RunWriter:
    with contextlib.closing(writer):
        sweep()  # what workers of earlier runs left that were killed
        execution = Execution(writer, profile, progress, opener, spare, until)
        try:
            execution.run()
        except BaseException:
            # Ctrl-C included: whatever stopped the run, the manifest must not claim that it still goes on. Once the
            # tables stand, it must not deny them either: the parts they were made of are being dropped.
            if not writer.manifest.complete:
                writer.manifest.status = "interrupted"
                with contextlib.suppress(StoreError):  # a full disk is told of by the error that is under way
                    writer.save_manifest()
            raise
        finally:
            execution.stop()
            sweep()
    return writer


class Execution:
    """One run while it happens."""

    def __init__(
        self,
        writer: RunWriter,
        profile: Profile,
        progress: ProgressDisplay,
        opener: OpenProbes = open_probes,
        spare: SpareWorkers | None = None,
        until: Decided | None = None,
    ) -> None:
        self._writer = writer
        self._manifest = writer.manifest
        self._progress = progress
        self._opener = opener
        self._profile = profile
        self._protocol = profile.protocol
        self._logs = writer.folder / "logs"
        self._bounds = Bounds.of(self._protocol)
        self._spare = spare
        self._until = until
        self._crew = Crew(writer, profile, progress, self._bounds, spare)

    def run(self) -> None:
        """Everything from the data to the tables."""
        with self._estimator() as estimator:
            self._crew.make_all()
            self._crew.load_all()
            with self._sensors(estimator) as sensors:
                Measurement(self._writer, self._profile, self._crew, sensors, self._progress, self._until).run()
        self._collect_notes()
        after = AfterBlocks(self._writer, self._protocol, self._progress)
        # They have imported what the jobs need, which takes seconds.
        with Jobs(self._logs / "layers.log", self._bounds, self._crew.released(at_once())) as jobs:
            after.check(jobs, self._crew.living())
            kinds = self._crew.kinds
            alike = len(set(kinds.values())) == 1 and self._protocol.device == "cpu"  # else what they hold may count
            after.find_ceilings(self._crew.living(), jobs if alike else None)
            if self._spare is not None:
                self._spare.keep({worker: kinds[worker] for worker in jobs.give_up(kinds)})
        self._finish()

    def stop(self) -> None:
        """End all workers."""
        self._crew.stop()

    @contextlib.contextmanager
    def _estimator(self) -> Iterator[Estimator | None]:
        """CodeCarbon, started first: it takes seconds to load, and the data and the variants are made meanwhile."""
        if self._protocol.energy == "off":
            yield None
            return
        estimator = Estimator(self._logs / "codecarbon.log", self._protocol.country)
        try:
            yield estimator
        finally:
            estimator.stop()

    def _sensors(self, estimator: Estimator | None) -> Sensors:
        """Opened when the variants are loaded: what a driver sets up for its first user is done by then."""
        if estimator is None:
            # What else the machine does is watched in any case: it is what a latency is doubted for.
            return Sensors(open_watch(self._protocol.device))
        estimator.open()
        return Sensors(self._opener(self._protocol.device), estimator)

    def _collect_notes(self) -> None:
        """What the tasks noticed while they decoded (detections dropped, images of another size)."""
        asked = CollectNotes(decoding=self._protocol.scored and self._protocol.timed)  # once, not in each verification
        for entry, answer in self._crew.answers(self._crew.living(), lambda _: asked, "collecting notes"):
            if isinstance(answer, QprofError):  # all that it measured is kept
                entry.notes.append(f"what its task noticed is lost: {answer}")
                continue
            entry.timing, entry.kept, entry.decoding = answer.timing, answer.kept, answer.decoding
            known = {*entry.notes, *self._manifest.notes}
            entry.notes += [note for note in answer.notes if note not in known]

    def _finish(self) -> None:
        # In another process: predictions and tables are large, and the parent is to stay small.
        with Jobs(self._logs / "score.log", self._bounds) as jobs:
            self._score(jobs, self._crew.living() if self._protocol.scored else ())
            count_scored(self._manifest)
            OutputComparison(self._writer, self._protocol, self._progress).run(jobs, self._crew.living())
            self._progress.phase("writing", "tables")
            self._writer.finalize(SOURCES, partial(_tabulated, jobs))

    def _score(self, jobs: Jobs, entries: Sequence[VariantEntry]) -> None:
        folder = str(self._writer.folder.absolute())
        asked = [
            Job(f"scoring of {entry.name}", ScoreVariant(folder=folder, variant=entry.name, task=self._crew.task))
            for entry in entries
        ]
        for entry, answer in zip(entries, jobs.ask_all(asked), strict=True):
            self._progress.phase("scoring", f"variant {entry.name}")
            entry.unscored = None
            if isinstance(answer, StoreError):
                raise answer
            if isinstance(answer, QprofError):
                # What it predicted is kept: it can be scored again.
                entry.unscored = str(answer)
                self._progress.note(f"{entry.name}: not scored: {answer}")
                continue
            if answer.columns:
                self._manifest.score_columns = answer.columns
            entry.notes += [note for note in answer.notes if note not in entry.notes]


def _tabulated(jobs: Jobs, folder: Path, variants: Sequence[str], sources: Sequence[str]) -> list[BlockEntry]:
    request = Tabulate(folder=str(folder.absolute()), variants=list(variants), sources=list(sources))
    return jobs.ask("writing of the tables", request).blocks


def _new_manifest(profile: Profile) -> Manifest:
    recorded = resolved(profile)
    return Manifest(
        name=profile.name,
        description=profile.description,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        qprof=qprof.__version__,
        profile=recorded,
        machine=describe_machine(),
        packages=packages(_PACKAGES),
        clock=ClockFacts(
            resolution_ns=resolution_ns(), reading_cost_ns=reading_cost_ns(), wall_offset_ns=wall_offset_ns()
        ),
        op_sources=list(SOURCES),
        variants=[VariantEntry(name=section["name"], section=section) for section in recorded.variants],
    )


def new_run_folder(profile: Profile) -> Path:
    """An empty folder in the runs folder, named for the time and the profile; of two that ask in the same second each
    gets its own. Raises `StoreError`."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = runs_folder() / f"{stamp}-{profile.name}"
    make_folder(base.parent)
    folder, number = base, 2
    while not new_folder(folder):
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    return folder

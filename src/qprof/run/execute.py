"""`qprof run`: from a profile to a run directory. The steps are those of the protocol, in its order."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import qprof
from qprof.errors import DataError, ModelError, QprofError, StoreError, WorkerError
from qprof.probes.clock import reading_cost_ns, resolution_ns, wall_offset_ns
from qprof.probes.machine import describe_machine, packages
from qprof.run.plan import PlannedBlock, plan_blocks, warmup_number
from qprof.run.profile import Profile, model_path, resolved, validate
from qprof.run.workers import Worker, closing_worker
from qprof.runtimes import registry
from qprof.runtimes.base import SOURCES
from qprof.store.blocks import INFERENCE, OP_COLUMNS, SAMPLE_COLUMNS, Block, Reading
from qprof.store.files import make_folder
from qprof.store.run import runs_folder
from qprof.store.writer import RunWriter

#: Packages that every run uses, beside those of its runtimes.
_PACKAGES = ("qprof", "numpy", "pillow", "pycocotools", "pyarrow")


def require_runtime(profile: Profile) -> None:
    """Raise `MissingExtraError` where a package is not installed that the profile's model cannot be run without."""
    registry.for_model(model_path(profile.model.path)).require()


class ProgressDisplay(Protocol):
    """What a run tells of itself while it goes on (see `qprof.report.progress`)."""

    def phase(self, name: str, detail: str = "") -> None: ...
    def plan(self, total_steps_by_key: Mapping[str, int]) -> None: ...
    def start(self, key: str, text: str) -> None: ...
    def done(self, key: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


class SilentProgress:
    """Tells nothing."""

    def phase(self, name: str, detail: str = "") -> None: ...
    def plan(self, total_steps_by_key: Mapping[str, int]) -> None: ...
    def start(self, key: str, text: str) -> None: ...
    def done(self, key: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


def start(profile: Profile, folder: Path, progress: ProgressDisplay) -> RunWriter:
    """Run a profile into a new run directory.

    A variant that fails is recorded with its reason and the others go on. Raises `StoreError` where the directory
    cannot be written, `ModelError` where no variant could be measured, and whatever the task finds wrong with its data.
    """
    return _finished(RunWriter.create(folder, _new_manifest(profile)), progress)


def resume(folder: Path, progress: ProgressDisplay) -> RunWriter:
    """Go on with an interrupted run: blocks that are kept are not run again, variants that failed are tried again."""
    writer = RunWriter.resume(folder)
    if writer.manifest["status"] == "complete":
        progress.note(f"{folder} is complete; nothing is left to run")
        writer.close()
        return writer
    writer.manifest["status"] = "running"
    return _finished(writer, progress)


def _finished(writer: RunWriter, progress: ProgressDisplay) -> RunWriter:
    with contextlib.closing(writer):
        execution = Execution(writer, progress)
        try:
            execution.run()
        except BaseException:
            # Ctrl-C included: whatever stopped the run, the manifest must not claim that it still goes on. Once the
            # tables stand, it must not deny them either: the parts they were made of are being dropped.
            if writer.manifest["status"] != "complete":
                writer.manifest["status"] = "interrupted"
                with contextlib.suppress(StoreError):  # a full disk is told of by the error that is under way
                    writer.save_manifest()
            raise
        finally:
            execution.stop()
    return writer


class Execution:
    """One run while it happens: the workers, and what is known of each variant so far."""

    def __init__(self, writer: RunWriter, progress: ProgressDisplay) -> None:
        self._writer = writer
        self._manifest = writer.manifest
        self._progress = progress
        self._profile = validate(self._manifest["profile"], source=str(writer.folder / "manifest.json"))
        self._protocol = self._profile.protocol
        self._workers: dict[str, Worker] = {}
        self._scored = 0
        self._phases: list[str] = []
        self._logs = writer.folder / "logs"

    def run(self) -> None:
        make_folder(self._logs)
        self._make_variants()
        self._load_variants()
        self._phases = self._common_phases()
        blocks = self._plan()
        self._warm_up(blocks)
        self._measure(blocks)
        self._require_some("measured")
        self._collect_notes()
        self.stop()
        self._finish()

    def stop(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()

    # -- 2. variants and data -------------------------------------------------------------------------------------

    def _make_variants(self) -> None:
        self._progress.phase("preparing", "data set")
        maker = Worker("preparation", self._logs / "prepare.log")
        try:
            answer, _ = maker.ask({"do": "prepare", "task": self._manifest["profile"]["task"]})
            self._refuse_other_data(answer)
            self._manifest |= {"task": answer["task"], "samples": answer["samples"], "notes": answer["notes"]}
            self._calibration_digest = answer["calibration_digest"]
            for note in answer["notes"]:
                self._progress.note(note)
            for entry in self._manifest["variants"]:
                self._progress.phase("preparing", f"variant {entry['name']}")
                maker = self._make(maker, entry)
        finally:
            maker.stop()
        self._manifest["packages"] |= packages(self._runtime_packages())
        self._writer.save_manifest()
        self._require_some("made")

    def _refuse_other_data(self, answer: Mapping[str, Any]) -> None:
        """On resuming: the plan of the blocks, and so what the kept ones hold, follows from the samples."""
        known = self._manifest["samples"]
        if known is None:
            return
        skipped = (self._manifest["task"]["skip"], answer["task"]["skip"])
        if known != answer["samples"] or skipped[0] != skipped[1]:
            raise DataError(
                f"{self._writer.folder}: the data set is not the one that the run began with ({known} samples then, "
                f"{answer['samples']} now); bring it back, or run anew"
            )

    def _make(self, maker: Worker, entry: dict[str, Any]) -> Worker:
        """Make one variant; returns the worker to make the next with (a new one if this one's died)."""
        request = {
            "do": "make",
            "model": {**self._manifest["profile"]["model"], "device": self._protocol.device},
            "variant": entry["section"],
            "task": self._manifest["task"],
            "calibration_digest": self._calibration_digest,
        }
        entry.update(status="ok", reason=None, notes=[])
        known = entry.get("sha256")
        try:
            answer, _ = maker.ask(request)
        except QprofError as error:
            self._fail(entry, error)
            if isinstance(error, WorkerError):
                maker.stop()
                return Worker("preparation", self._logs / "prepare.log")
            return maker
        if known is not None and known != answer["sha256"]:
            changed = f"its model file is not the one that the run began with ({answer['path']}); run anew"
            self._fail(entry, ModelError(changed))
            return maker
        entry.update(answer)
        # Importing a runtime takes seconds: this variant's worker does it while the next variant is made.
        self._new_worker(entry).post({"do": "preload", "runtime": entry["runtime"]})
        return maker

    def _new_worker(self, entry: Mapping[str, Any]) -> Worker:
        former = self._workers.pop(entry["name"], None)
        if former is not None:
            former.stop()
        worker = Worker(f"variant {entry['name']}", self._logs / f"{entry['name']}.log")
        self._workers[entry["name"]] = worker
        return worker

    # -- 3. one worker process per variant ------------------------------------------------------------------------

    def _load_variants(self) -> None:
        for entry in self._living():
            self._progress.phase("loading", f"variant {entry['name']}")
            try:
                self._load(entry)
                self._instrument(entry)
            except QprofError as error:
                self._fail(entry, error)
        self._writer.save_manifest()
        self._require_some("loaded")

    def _load(self, entry: dict[str, Any]) -> None:
        section = entry["section"]
        worker = self._workers[entry["name"]]
        task = self._manifest["task"]
        options = {
            "threads": section["threads"] or self._protocol.threads,
            "delegate": section["delegate"] or self._protocol.delegate,
            "input_shapes": self._manifest["profile"]["model"]["input_shapes"],
            "device": self._protocol.device,
            "dtype": section["dtype"],
            "kernel": section["kernel"],
            **{key: task[key] for key in ("batch", "prompt_tokens", "generated_tokens")},
            **entry["making"].get("run", {}),
        }
        request = {
            "do": "load",
            "runtime": entry["runtime"],
            "path": entry["path"],
            "options": options,
            "task": self._manifest["task"],
        }
        answer, _ = worker.ask(request, timeout_s=self._protocol.timeout_s)
        answer.pop("samples")
        self._scored = max(self._scored, answer["scored"])
        notes = [note for note in answer.pop("notes") if note not in self._manifest["notes"]]
        entry["notes"] = [*entry["notes"], *notes]
        entry.update(answer, options=options, instrumented=False, arena_bytes=None)

    def _instrument(self, entry: dict[str, Any]) -> None:
        if not self._protocol.profiled:
            return
        try:
            answer, _ = self._workers[entry["name"]].ask({"do": "instrument"}, timeout_s=self._protocol.timeout_s)
        except WorkerError as error:
            # The clean model ran: what died is the instrumentation. Latency can still be measured without it.
            entry["notes"].append(f"per-op timing is off: {error}")
            self._progress.note(f"{entry['name']}: per-op timing is off: {error}")
            self._new_worker(entry)
            self._load(entry)
            return
        ops = answer.pop("ops")
        entry["notes"] = [*entry["notes"], *answer.pop("notes")]
        entry.update(answer)
        if ops is None:
            return
        kept = self._writer.saved_ops(entry["name"])
        if kept is not None and [row["op"] for row in kept] != [row["op"] for row in ops]:
            raise ModelError("its op list is not the one that the run began with; run anew")
        self._writer.save_ops(entry["name"], ops)
        entry["instrumented"] = True

    # -- 4. warm-up, then interleaved blocks ----------------------------------------------------------------------

    def _plan(self) -> list[PlannedBlock]:
        return plan_blocks(
            variants=len(self._manifest["variants"]),
            rounds=self._protocol.rounds,
            samples=self._manifest["samples"],
            profiled=self._protocol.profiled,
            seed=self._protocol.seed,
            phases=self._phases,
            scored=self._scored,
        )

    def _common_phases(self) -> list[str]:
        """The phases of the run, which are those of every variant that was loaded. Raises `ModelError`."""
        found = {entry["name"]: [phase["name"] for phase in entry["phases"]] for entry in self._living()}
        first = next(iter(found.values()))
        for name, phases in found.items():
            if phases != first:
                raise ModelError(
                    f"variant {name} runs in {', '.join(phases)}, others in {', '.join(first)}; run it alone"
                )
        return first

    def _warm_up(self, blocks: list[PlannedBlock]) -> None:
        count = len(self._manifest["variants"])
        for position, entry in enumerate(self._manifest["variants"]):
            entry["warmup"] = {}
            for number, phase in enumerate(self._phases):
                if entry["status"] == "ok":
                    where = warmup_number(position, number, count, blocks)
                    self._warm_up_phase(entry, PlannedBlock(where, -1, position, "warmup", (), False, phase))
        self._writer.save_manifest()
        self._require_some("warmed up")

    def _warm_up_phase(self, entry: dict[str, Any], block: PlannedBlock) -> None:
        self._progress.phase("warming up", f"variant {self._key(block).removesuffix(' warmup')}")
        request = {"do": "warmup", "phase": block.phase, "max_s": self._protocol.warmup_max_s}
        try:
            answer, arrays = self._workers[entry["name"]].ask(request, timeout_s=self._protocol.timeout_s)
        except QprofError as error:
            self._fail(entry, error)
            return
        entry["warmup"][block.phase] = answer
        if not answer["steady"]:
            where = "" if block.phase == INFERENCE else f" in {block.phase}"
            entry["notes"].append(f"not steady{where} after {self._protocol.warmup_max_s:g} s: {answer['reason']}")
        self._save(block, {}, arrays)

    def _measure(self, blocks: list[PlannedBlock]) -> None:
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
        profiled = block.kind == "profiled"
        request = {
            "do": "block",
            "kind": block.kind,
            "phase": block.phase,
            "samples": list(block.samples),
            "min_ms": self._protocol.profiled_block_ms if profiled else self._protocol.block_ms,
            "keep": block.keep,
        }
        begin = time.monotonic()
        try:
            answer, arrays = self._workers[entry["name"]].ask(request, timeout_s=self._protocol.timeout_s)
        except QprofError as error:
            self._fail(entry, error)
            return
        self._save(block, answer, arrays)
        self._progress.done(self._key(block), time.monotonic() - begin)

    def _save(self, block: PlannedBlock, answer: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
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
                readings=[Reading(*fields) for fields in answer.get("readings", ())],
                facts=answer.get("facts", {}),
                phase=block.phase,
            )
        )

    def _can_run(self, block: PlannedBlock) -> bool:
        entry = self._manifest["variants"][block.variant]
        return entry["status"] == "ok" and (block.kind != "profiled" or entry["instrumented"])

    def _key(self, block: PlannedBlock) -> str:
        phase = "" if block.phase == INFERENCE or block.kind == "scored" else f" {block.phase}"
        return f"{self._manifest['variants'][block.variant]['name']}{phase} {block.kind}"

    # -- 6. scores, tables ----------------------------------------------------------------------------------------

    def _collect_notes(self) -> None:
        """What the tasks noticed while they decoded (detections dropped, images of another size)."""
        for entry in self._living():
            try:
                answer, _ = self._workers[entry["name"]].ask({"do": "notes"}, timeout_s=self._protocol.timeout_s)
            except QprofError as error:  # all that it measured is kept
                entry["notes"].append(f"what its task noticed is lost: {error}")
                continue
            entry["timing"] = answer["timing"]
            known = {*entry["notes"], *self._manifest["notes"]}
            entry["notes"] = [*entry["notes"], *(note for note in answer["notes"] if note not in known)]

    def _finish(self) -> None:
        # In processes of their own: predictions and tables are large, and the parent is to stay small.
        for entry in self._living():
            self._progress.phase("scoring", f"variant {entry['name']}")
            self._score(entry)
        self._progress.phase("writing", "tables")
        self._writer.finalize(SOURCES, self._tabulate)

    def _score(self, entry: dict[str, Any]) -> None:
        request = {
            "do": "score",
            "folder": str(self._writer.folder.absolute()),
            "variant": entry["name"],
            "task": self._manifest["task"],
        }
        with closing_worker(f"scoring of {entry['name']}", self._logs / "score.log") as scorer:
            try:
                answer, _ = scorer.ask(request)
            except StoreError:
                raise
            except QprofError as error:
                entry["notes"].append(f"not scored: {error}")
                self._progress.note(f"{entry['name']}: not scored: {error}")
                return
        if answer["columns"]:
            self._manifest["score_columns"] = answer["columns"]
        entry["notes"] += [note for note in answer["notes"] if note not in entry["notes"]]

    def _tabulate(self, folder: Path, variants: Sequence[str], sources: Sequence[str]) -> list[dict[str, Any]]:
        request = {
            "do": "tabulate",
            "folder": str(folder.absolute()),
            "variants": list(variants),
            "sources": list(sources),
        }
        with closing_worker("writing of the tables", self._logs / "score.log") as worker:
            answer, _ = worker.ask(request)
        blocks: list[dict[str, Any]] = answer["blocks"]
        return blocks

    # -- failures -------------------------------------------------------------------------------------------------

    def _fail(self, entry: dict[str, Any], error: QprofError) -> None:
        """Record why a variant is out; its kept blocks stay, the others go on."""
        entry.update(status="failed", reason=str(error))
        worker = self._workers.pop(entry["name"], None)
        if worker is not None:
            worker.stop()
        self._writer.save_manifest()
        self._progress.note(f"variant {entry['name']} failed: {error}")

    def _living(self) -> list[dict[str, Any]]:
        return [entry for entry in self._manifest["variants"] if entry["status"] == "ok"]

    def _require_some(self, step: str) -> None:
        if not self._living():
            first = self._manifest["variants"][0]
            raise ModelError(f"no variant could be {step}; {first['name']}: {first['reason']}")

    def _runtime_packages(self) -> list[str]:
        used = sorted({entry["runtime"] for entry in self._living()})
        return [package for name in used for package in registry.get(name).packages]


def _new_manifest(profile: Profile) -> dict[str, Any]:
    return {
        "status": "running",
        "name": profile.name,
        "description": profile.description,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "qprof": qprof.__version__,
        "profile": resolved(profile),
        "machine": describe_machine(),
        "packages": packages(_PACKAGES),
        "clock": {
            "source": "CLOCK_MONOTONIC",
            "resolution_ns": resolution_ns(),
            "reading_cost_ns": reading_cost_ns(),
            "wall_offset_ns": wall_offset_ns(),
        },
        "op_sources": list(SOURCES),
        "samples": None,
        "notes": [],
        "variants": [
            {"name": section["name"], "section": section, "status": "ok", "reason": None, "notes": []}
            for section in resolved(profile)["variants"]
        ],
    }


def new_run_folder(profile: Profile) -> Path:
    """A folder in the runs folder that is named for the time and the profile, and does not exist yet."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = runs_folder() / f"{stamp}-{profile.name}"
    folder, number = base, 2
    while folder.exists():
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    return folder

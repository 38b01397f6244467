"""The variants of a run and their workers: made, loaded, instrumented; the ones that fail are out, the others go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from qprof.errors import DataError, ModelError, QprofError, WorkerError
from qprof.probes.machine import packages
from qprof.run.profile import Profile
from qprof.run.progress import ProgressDisplay
from qprof.run.workers import Worker
from qprof.runtimes import registry
from qprof.store.files import make_folder
from qprof.store.writer import RunWriter


class Crew:
    """One worker process per variant, and what the manifest says of each. `scored`: samples that a text task predicts
    in passes of their own, 0 for other tasks."""

    def __init__(self, writer: RunWriter, profile: Profile, progress: ProgressDisplay) -> None:
        self._writer = writer
        self._manifest = writer.manifest
        self._protocol = profile.protocol
        self._progress = progress
        self._workers: dict[str, Worker] = {}
        self._logs = writer.folder / "logs"
        self.scored = 0
        make_folder(self._logs)

    def stop(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()

    def ask(
        self, entry: Mapping[str, Any], request: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Ask a variant's worker, within the protocol's time limit. Raises what the worker does."""
        return self._workers[entry["name"]].ask(request, timeout_s=self._protocol.timeout_s)

    def pid(self, entry: Mapping[str, Any]) -> int:
        """The process of a variant's worker."""
        return self._workers[entry["name"]].pid

    def make_all(self) -> None:
        """Prepare the data and make every variant. Raises `DataError`, and `ModelError` where none could be made."""
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
        self.require_some("made")

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
            self.fail(entry, error)
            if isinstance(error, WorkerError):
                maker.stop()
                return Worker("preparation", self._logs / "prepare.log")
            return maker
        if known is not None and known != answer["sha256"]:
            changed = f"its model file is not the one that the run began with ({answer['path']}); run anew"
            self.fail(entry, ModelError(changed))
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

    def load_all(self) -> None:
        """Load and instrument every variant in its worker. Raises `ModelError` where none could be loaded."""
        for entry in self.living():
            self._progress.phase("loading", f"variant {entry['name']}")
            try:
                self._load(entry)
                self._instrument(entry)
            except QprofError as error:
                self.fail(entry, error)
        self._writer.save_manifest()
        self.require_some("loaded")

    def _load(self, entry: dict[str, Any]) -> None:
        section = entry["section"]
        task = self._manifest["task"]
        if section.get("batch") is not None:
            task = {**task, "batch": section["batch"]}
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
            "task": task,
        }
        answer, _ = self.ask(entry, request)
        answer.pop("samples")
        self.scored = max(self.scored, answer["scored"])
        notes = [note for note in answer.pop("notes") if note not in self._manifest["notes"]]
        entry["notes"] = [*entry["notes"], *notes]
        entry.update(answer, options=options, instrumented=False, arena_bytes=None)

    def _instrument(self, entry: dict[str, Any]) -> None:
        if not self._protocol.profiled:
            return
        try:
            answer, _ = self.ask(entry, {"do": "instrument"})
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

    def fail(self, entry: dict[str, Any], error: QprofError) -> None:
        """Record why a variant is out; its kept blocks stay, the others go on."""
        entry.update(status="failed", reason=str(error))
        worker = self._workers.pop(entry["name"], None)
        if worker is not None:
            worker.stop()
        self._writer.save_manifest()
        self._progress.note(f"variant {entry['name']} failed: {error}")

    def living(self) -> list[dict[str, Any]]:
        """The manifest's entries of the variants that have not failed."""
        return [entry for entry in self._manifest["variants"] if entry["status"] == "ok"]

    def require_some(self, step: str) -> None:
        """Raise `ModelError` where every variant has failed; `step` is what none of them survived."""
        if not self.living():
            first = self._manifest["variants"][0]
            raise ModelError(f"no variant could be {step}; {first['name']}: {first['reason']}")

    def _runtime_packages(self) -> list[str]:
        used = sorted({entry["runtime"] for entry in self.living()})
        return [package for name in used for package in registry.get(name).packages]

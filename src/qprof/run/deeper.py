"""What is measured one level deeper once the blocks are over: the layers' errors, and the machine's ceilings."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qprof.errors import ModelError, QprofError, WorkerError
from qprof.probes.machine import available_memory_bytes
from qprof.run.ceilings import machine_ceilings
from qprof.run.profile import ProtocolSection
from qprof.run.progress import ProgressDisplay
from qprof.run.workers import Worker, closing_worker
from qprof.runtimes.base import OpMeta, RunOptions
from qprof.runtimes.match_ops import match_ops
from qprof.store.writer import RunWriter, layer_errors_saved, save_layer_errors

#: Two variants are held at once, with the activations of both: their files may take this part of the free memory.
_MOST_MEMORY = 0.3


class Deeper:
    """Both, for all variants that were measured; what cannot be done is a note, and costs nothing that was measured."""

    def __init__(self, writer: RunWriter, protocol: ProtocolSection, progress: ProgressDisplay) -> None:
        self._writer = writer
        self._manifest = writer.manifest
        self._protocol = protocol
        self._progress = progress

    def find_ceilings(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Of each runtime, as its first variant uses it, into the manifest."""
        found = self._manifest.setdefault("ceilings", {})
        for entry in entries if self._protocol.ceilings else ():
            runtime = entry["runtime"]
            if runtime in found:
                continue
            self._progress.phase("measuring ceilings", f"what this machine can do with {runtime}")
            try:
                ceilings = machine_ceilings(runtime, RunOptions(**entry["options"]))
            except QprofError as error:
                self._note(f"the ceilings of {runtime} are not known: {error}")
                continue
            found[runtime] = [asdict(ceiling) for ceiling in ceilings]

    def compare_layers(self, entries: Sequence[dict[str, Any]]) -> None:
        """Every variant's layers with those of the baseline, on a few samples; in one process, as long as that lives:
        what takes longest is the import of the runtime."""
        baseline = self._manifest["variants"][0]
        if not self._protocol.layer_errors or baseline["status"] != "ok":
            return
        with contextlib.ExitStack() as stack:
            worker = None
            for entry in entries:
                if entry is baseline or layer_errors_saved(self._writer.folder, entry["name"]):
                    continue
                self._progress.phase("comparing layers", f"variant {entry['name']}")
                log = self._writer.folder / "logs" / "layers.log"
                worker = worker or stack.enter_context(closing_worker("comparison of layers", log))
                try:
                    self._compare(worker, baseline, entry)
                except QprofError as error:
                    entry["notes"].append(f"its layers were not compared with the baseline's: {error}")
                    self._progress.note(f"{entry['name']}: its layers were not compared: {error}")
                    if isinstance(error, WorkerError):
                        worker = None

    def _compare(self, worker: Worker, baseline: Mapping[str, Any], entry: dict[str, Any]) -> None:
        needed, free = baseline["bytes"] + entry["bytes"], available_memory_bytes()
        if free is not None and needed > _MOST_MEMORY * free:
            raise ModelError(
                f"both files have {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free, too little to hold "
                "both with their activations; protocol.layer_errors = 0 leaves the comparison out"
            )
        request = {
            "do": "layer_errors",
            "variant": entry["name"],
            "baseline": {name: baseline[name] for name in ("runtime", "path", "options")},
            **{name: entry[name] for name in ("runtime", "path", "options")},
            "task": self._manifest["task"],
            "pairs": self._pairs(baseline["name"], entry["name"]),
            "samples": self._protocol.layer_errors,
        }
        answer, _ = worker.ask(request, timeout_s=self._protocol.timeout_s)
        save_layer_errors(self._writer.folder, entry["name"], answer["rows"])
        entry["notes"] += [note for note in answer["notes"] if note not in entry["notes"]]
        entry["layer_errors"] = {"samples": answer["samples"], "seconds": answer["seconds"]}

    def _pairs(self, baseline: str, variant: str) -> list[list[str]]:
        """Which op of the baseline is which of the variant; nothing where the ops of one were not told."""
        first, second = (_leaves(self._writer.saved_ops(name) or []) for name in (baseline, variant))
        return [[first[i].op, second[j].op] for i, j in match_ops(first, second).pairs]

    def _note(self, text: str) -> None:
        self._manifest["notes"].append(text)
        self._progress.note(text)


def _leaves(rows: Sequence[Mapping[str, Any]]) -> list[OpMeta]:
    """Ops that compute, not the partitions and layers that hold them."""
    parents = {row["parent"] for row in rows}
    return [OpMeta(**row) for row in rows if row["op"] not in parents and row["type"] != "DELEGATE"]

"""What is measured once the blocks are over, one level deeper: the baseline's settings, the layers'
errors, and the machine's ceilings."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from qprof.errors import ModelError, QprofError
from qprof.measure.parent.ceilings import machine_ceilings
from qprof.measure.parent.jobs import Jobs
from qprof.measure.parent.two_models import require_memory
from qprof.measure.parent.variants import loaded_variant
from qprof.measure.progress import ProgressDisplay
from qprof.measure.requests import CompareLayers, TryAlternatives
from qprof.record.manifest import LayersCompared, VariantEntry
from qprof.record.ops import OpMeta
from qprof.record.rows import LayerErrorRow, PlausibilityRow
from qprof.record.sections import ProtocolSection
from qprof.runtimes import registry
from qprof.runtimes.match_ops import match_ops
from qprof.store.writer import (
    RunWriter,
    layer_errors_saved,
    plausibility_saved,
    save_layer_errors,
    save_plausibility,
)
from qprof.tasks import registry as tasks

#: A check is to take no longer than this, unless already so few samples do.
_MOST_TRYING_S = 60.0


class AfterBlocks:
    """For all variants that were measured; what cannot be done is a note, and costs nothing that was measured."""

    def __init__(self, writer: RunWriter, protocol: ProtocolSection, progress: ProgressDisplay) -> None:
        self._writer = writer
        self._manifest = writer.manifest
        self._protocol = protocol
        self._progress = progress

    def find_ceilings(self, entries: Sequence[VariantEntry]) -> None:
        """Of each runtime, as its first variant uses it, into the manifest."""
        for entry in entries if self._protocol.ceilings else ():
            runtime = registry.get(str(entry.runtime))
            if runtime.name in self._manifest.ceilings or runtime.ceilings is None:
                continue
            self._progress.phase("measuring ceilings", f"what this machine can do with {runtime.name}")
            try:
                options = msgspec.convert(entry.options, runtime.options_type)
                self._manifest.ceilings[runtime.name] = machine_ceilings(runtime, options)
            except QprofError as error:
                self._note(f"the ceilings of {runtime.name} are not known: {error}")

    def compare_layers(self, jobs: Jobs, entries: Sequence[VariantEntry]) -> None:
        """Every variant's layers with those of the baseline, on a few samples."""
        baseline = self._manifest.baseline
        if not self._protocol.layer_errors or baseline.failed:
            return
        for entry in entries:
            if entry is baseline or layer_errors_saved(self._writer.folder, entry.name):
                continue
            self._progress.phase("comparing layers", f"variant {entry.name}")
            try:
                self._compare(jobs, baseline, entry)
            except QprofError as error:
                entry.notes.append(f"its layers were not compared with the baseline's: {error}")
                self._progress.note(f"{entry.name}: its layers were not compared: {error}")

    def check_baseline(self, jobs: Jobs) -> None:
        """The baseline on a few samples, with the settings of its task as they are and changed: one that is broken
        itself is no measure for the others."""
        baseline, task = self._manifest.baseline, self._manifest.task
        wanted = self._protocol.plausibility if self._protocol.scored else 0
        if not wanted or baseline.failed or task is None or not tasks.get(task.kind).settings_tried:
            return
        if plausibility_saved(self._writer.folder, baseline.name):
            return
        self._progress.phase("checking the baseline", f"variant {baseline.name} with other settings of its task")
        request = TryAlternatives(
            name=baseline.name, baseline=loaded_variant(baseline), task=task, samples=wanted, max_s=_MOST_TRYING_S
        )
        try:
            answer = jobs.ask("check of the baseline", request, timeout_s=self._protocol.timeout_s)
        except QprofError as error:
            baseline.notes.append(f"it was not checked whether it is broken itself: {error}")
            self._progress.note(f"{baseline.name}: was not checked: {error}")
            return
        baseline.plausibility = answer.facts
        baseline.notes += [note for note in answer.notes if note not in baseline.notes]
        self._writer.save_manifest()  # before the rows, which say that all of it is done
        save_plausibility(self._writer.folder, baseline.name, msgspec.convert(answer.rows, list[PlausibilityRow]))

    def _compare(self, jobs: Jobs, baseline: VariantEntry, entry: VariantEntry) -> None:
        if entry.runtime != baseline.runtime:
            raise ModelError(
                f"it is run by {entry.runtime} and the baseline by {baseline.runtime}, whose layers hold no tensors in "
                "common"
            )
        require_memory(baseline, entry, "protocol.layer_errors")
        assert self._manifest.task is not None  # it was prepared before anything was measured
        request = CompareLayers(
            name=entry.name,
            baseline=loaded_variant(baseline),
            variant=loaded_variant(entry),
            task=self._manifest.task,
            pairs=self._pairs(baseline.name, entry.name),
            samples=self._protocol.layer_errors,
        )
        answer = jobs.ask("comparison of layers", request, timeout_s=self._protocol.timeout_s)
        rows = msgspec.convert(answer.rows, list[LayerErrorRow])
        save_layer_errors(self._writer.folder, entry.name, rows)
        entry.notes += [note for note in answer.notes if note not in entry.notes]
        entry.layer_errors = LayersCompared(samples=answer.samples, seconds=answer.seconds)

    def _pairs(self, baseline: str, variant: str) -> list[tuple[str, str]]:
        """Which op of the baseline is which of the variant; nothing where the ops of one were not told."""
        first, second = (_leaves(self._writer.saved_ops(name) or []) for name in (baseline, variant))
        return [(first[i].op, second[j].op) for i, j in match_ops(first, second).pairs]

    def _note(self, text: str) -> None:
        self._manifest.notes.append(text)
        self._progress.note(text)


def _leaves(ops: Sequence[OpMeta]) -> list[OpMeta]:
    """Ops that compute, not the partitions and layers that hold them."""
    parents = {op.parent for op in ops}
    return [op for op in ops if op.op not in parents and op.type != "DELEGATE"]

"""What is measured once the blocks are over, one level deeper: the baseline's settings, the layers'
errors, and the machine's ceilings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from qprof.errors import ModelError, QprofError
from qprof.measure.parent.ceilings import machine_ceilings
from qprof.measure.parent.entries import loaded_variant
from qprof.measure.parent.jobs import Job, Jobs, at_once
from qprof.measure.parent.two_models import fit_together, require_memory
from qprof.measure.progress import ProgressDisplay
from qprof.measure.requests import ComparedAnswer, CompareLayers, PlausibilityAnswer, TryAlternatives
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

    def find_ceilings(self, entries: Sequence[VariantEntry], jobs: Jobs | None) -> None:
        """Of each runtime, as its first variant uses it, into the manifest. `jobs`: see `machine_ceilings`."""
        for entry in entries if self._protocol.ceilings else ():
            runtime = registry.get(str(entry.runtime))
            if runtime.name in self._manifest.ceilings or runtime.ceilings is None:
                continue
            self._progress.phase("measuring ceilings", f"what this machine can do with {runtime.name}")
            try:
                options = msgspec.convert(entry.options, runtime.options_type)
                self._manifest.ceilings[runtime.name] = machine_ceilings(runtime, options, jobs)
            except QprofError as error:
                self._note(f"the ceilings of {runtime.name} are not known: {error}")

    def check(self, jobs: Jobs, entries: Sequence[VariantEntry]) -> None:
        """The baseline on a few samples, with the settings of its task as they are and changed: one that is broken
        itself is no measure for the others. And every variant's layers with those of the baseline."""
        baseline = self._manifest.baseline
        asked: list[tuple[VariantEntry, Job[Any]]] = []
        if (request := self._alternatives(baseline)) is not None:
            asked.append((baseline, Job("check of the baseline", request, self._protocol.timeout_s)))
        for entry in entries if self._protocol.layer_errors and not baseline.failed else ():
            if entry is baseline or layer_errors_saved(self._writer.folder, entry.name):
                continue
            try:
                compared = self._comparison(baseline, entry)
            except QprofError as error:
                self._not_compared(entry, error)
                continue
            asked.append((entry, Job("comparison of layers", compared, self._protocol.timeout_s)))
        together = at_once() if fit_together(baseline, entries) else 1
        for (entry, _), answer in zip(asked, jobs.ask_all([job for _, job in asked], together), strict=True):
            if entry is baseline:
                self._keep_alternatives(entry, answer)
            else:
                self._keep_comparison(entry, answer)

    def _alternatives(self, baseline: VariantEntry) -> TryAlternatives | None:
        task = self._manifest.task
        wanted = self._protocol.plausibility if self._protocol.scored else 0
        if not wanted or baseline.failed or task is None or not tasks.get(task.kind).settings_tried:
            return None
        if plausibility_saved(self._writer.folder, baseline.name):
            return None
        self._progress.phase("checking the baseline", f"variant {baseline.name} with other settings of its task")
        return TryAlternatives(
            name=baseline.name, baseline=loaded_variant(baseline), task=task, samples=wanted, max_s=_MOST_TRYING_S
        )

    def _keep_alternatives(self, baseline: VariantEntry, answer: PlausibilityAnswer | QprofError) -> None:
        if isinstance(answer, QprofError):
            baseline.notes.append(f"it was not checked whether it is broken itself: {answer}")
            self._progress.note(f"{baseline.name}: was not checked: {answer}")
            return
        baseline.plausibility = answer.facts
        baseline.notes += [note for note in answer.notes if note not in baseline.notes]
        self._writer.save_manifest()  # before the rows, which say that all of it is done
        save_plausibility(self._writer.folder, baseline.name, msgspec.convert(answer.rows, list[PlausibilityRow]))

    def _comparison(self, baseline: VariantEntry, entry: VariantEntry) -> CompareLayers:
        if entry.runtime != baseline.runtime:
            raise ModelError(
                f"it is run by {entry.runtime} and the baseline by {baseline.runtime}, whose layers hold no tensors in "
                "common"
            )
        require_memory(baseline, entry, "protocol.layer_errors")
        assert self._manifest.task is not None  # it was prepared before anything was measured
        return CompareLayers(
            name=entry.name,
            baseline=loaded_variant(baseline),
            variant=loaded_variant(entry),
            task=self._manifest.task,
            pairs=self._pairs(baseline.name, entry.name),
            samples=self._protocol.layer_errors,
        )

    def _keep_comparison(self, entry: VariantEntry, answer: ComparedAnswer | QprofError) -> None:
        self._progress.phase("comparing layers", f"variant {entry.name}")
        if isinstance(answer, QprofError):
            self._not_compared(entry, answer)
            return
        rows = msgspec.convert(answer.rows, list[LayerErrorRow])
        save_layer_errors(self._writer.folder, entry.name, rows)
        entry.notes += [note for note in answer.notes if note not in entry.notes]
        entry.layer_errors = LayersCompared(samples=answer.samples, seconds=answer.seconds)

    def _not_compared(self, entry: VariantEntry, error: QprofError) -> None:
        entry.notes.append(f"its layers were not compared with the baseline's: {error}")
        self._progress.note(f"{entry.name}: its layers were not compared: {error}")

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

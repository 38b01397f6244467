"""How far the outputs of every variant are from the baseline's: asked of a worker, and made into scores."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from qprof.errors import QprofError
from qprof.measure.distance_scores import by_sample, one_answer, score_rows, sqnr_of
from qprof.measure.parent.entries import loaded_variant
from qprof.measure.parent.jobs import Jobs
from qprof.measure.parent.two_models import require_memory
from qprof.measure.progress import ProgressDisplay
from qprof.measure.requests import CompareOutputs
from qprof.record.distances import CLOSENESS, COSINE, DECIDING, KL, SAME_TOP
from qprof.record.manifest import OutputsCompared, VariantEntry
from qprof.record.rows import OutputDistanceRow
from qprof.record.sections import ProtocolSection
from qprof.store.writer import (
    RunWriter,
    save_distance_scores,
    save_output_distances,
    saved_output_distances,
)
from qprof.tasks import registry as tasks

#: Inputs that outputs are compared on, unless the profile says how many: enough to tell that of equal answers less
#: than half a point differs.
_SAMPLES = 1000
#: A comparison is to take no longer than this, unless already few inputs do.
_MOST_S = 8.0


class OutputComparison:
    """Of all variants that were measured; what cannot be compared is a note, and costs nothing that was measured."""

    def __init__(self, writer: RunWriter, protocol: ProtocolSection, progress: ProgressDisplay) -> None:
        self._writer = writer
        self._manifest = writer.manifest
        self._protocol = protocol
        self._progress = progress

    def run(self, jobs: Jobs, entries: Sequence[VariantEntry]) -> None:
        """Compare, and keep the scores."""
        baseline = self._manifest.baseline
        wanted = self._wanted()
        others = [entry for entry in entries if entry is not baseline]
        if not wanted or baseline.failed:
            return
        for entry in others:
            if saved_output_distances(self._writer.folder, entry.name) is not None:
                continue
            self._progress.phase("comparing outputs", f"variant {entry.name}")
            try:
                self._compare(jobs, baseline, entry, wanted)
            except QprofError as error:
                entry.notes.append(f"its outputs were not compared with the baseline's: {error}")
                self._progress.note(f"{entry.name}: its outputs were not compared: {error}")
        self._score(baseline, others)

    def _wanted(self) -> int:
        """How many inputs; 0 where nothing is to be compared."""
        task = self._manifest.task
        kind = tasks.of(task)
        if kind is None or kind.gives != "tensors" or not self._protocol.scored:
            return 0
        given = self._protocol.output_samples
        return given if given is not None else 0 if kind.labelled else _SAMPLES

    def _compare(self, jobs: Jobs, baseline: VariantEntry, entry: VariantEntry, wanted: int) -> None:
        require_memory(baseline, entry, "protocol.output_samples")
        assert self._manifest.task is not None  # its kind is known
        request = CompareOutputs(
            name=entry.name,
            baseline=loaded_variant(baseline),
            variant=loaded_variant(entry),
            task=self._manifest.task,
            samples=wanted,
            max_s=_MOST_S,
        )
        answer = jobs.ask("comparison of outputs", request, timeout_s=self._protocol.timeout_s)
        entry.notes += [note for note in answer.notes if note not in entry.notes]
        entry.outputs_compared = OutputsCompared(
            samples=answer.samples,
            inputs="random" if answer.random else "given",
            seconds=answer.seconds,
            same=(entry.sha256, entry.options) == (baseline.sha256, baseline.options),
        )
        self._writer.save_manifest()  # before the rows, which say that all of it is done
        rows = msgspec.convert(answer.rows, list[OutputDistanceRow])
        save_output_distances(self._writer.folder, entry.name, rows)

    def _score(self, baseline: VariantEntry, others: Sequence[VariantEntry]) -> None:
        """Of the inputs that all variants were run on: a slow one may have had fewer."""
        known = {entry.name: saved_output_distances(self._writer.folder, entry.name) for entry in others}
        tables = {name: by_sample(rows) for name, rows in known.items() if rows}
        if not tables:
            return
        common = min(len(next(iter(columns.values()))) for columns in tables.values())
        for name, columns in tables.items():
            rows = [row for row in known[name] or () if row.sample < common]
            cut = {metric: values[:common] for metric, values in columns.items()}
            save_distance_scores(self._writer.folder, name, score_rows(name, cut, sqnr_of(rows)))
        itself = {SAME_TOP: 1.0, CLOSENESS: 1.0, COSINE: 1.0, KL: 0.0}
        has = {metric for columns in tables.values() for metric in columns}
        alone = {metric: np.full(common, value) for metric, value in itself.items() if metric in has}
        save_distance_scores(self._writer.folder, baseline.name, score_rows(baseline.name, alone, None))
        if not self._manifest.score_columns:
            hollow = {SAME_TOP} if all(one_answer(known[name] or ()) for name in tables) else set()
            self._manifest.score_columns = [metric for metric in DECIDING if metric in has - hollow]

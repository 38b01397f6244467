"""Whether the baseline itself is broken: it runs a few scored samples with each setting of its task changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from time import perf_counter_ns
from typing import Any, cast

import numpy as np

from qprof.errors import DataError
from qprof.measure.channel import json_safe
from qprof.measure.requests import PlausibilityAnswer, TryAlternatives
from qprof.measure.worker.layer_errors import spread
from qprof.measure.worker.loading import load
from qprof.record.manifest import PlausibilityFacts
from qprof.record.model import LanguageModel, Model
from qprof.record.rows import PlausibilityRow
from qprof.tasks import registry as tasks
from qprof.tasks.base import Alternative, Fitted, Task

#: Samples between two looks at the clock; fewer would decide nothing, however long they take.
_CHUNK = 10

_Predictions = dict[int, Any]


def try_alternatives(request: TryAlternatives) -> PlausibilityAnswer:
    """Score some samples as the task is configured, and with each of its alternatives that fits the variant.

    Raises `QprofError` where the baseline cannot be run as it is configured.
    """
    started_ns = perf_counter_ns()
    model = load(request.baseline).model
    task = tasks.build(request.task)
    task.bind(model)
    if task.trial_score is None:
        return PlausibilityAnswer(rows=[], facts=None, notes=[])
    samples = spread(task.scored_count() or task.sample_count(), request.samples * task.trial_multiple)
    trials = _Trials(model, task, request.name, started_ns, request.max_s)
    trials.run(samples)
    facts = PlausibilityFacts(
        score=task.trial_score.name,
        unit=task.trial_score.unit,
        seconds=(perf_counter_ns() - started_ns) / 1e9,
    )
    return PlausibilityAnswer(rows=[json_safe(asdict(row)) for row in trials.rows], facts=facts, notes=trials.notes)


class _Trials:
    """The baseline under its task's settings, as they are and changed."""

    def __init__(self, model: Model, task: Task, name: str, started_ns: int, max_s: float) -> None:
        self.rows: list[PlausibilityRow] = []
        self.notes: list[str] = []
        self._model, self._task, self._name = model, task, name
        self._due_ns = started_ns + int(max_s * 1e9)
        self._given: dict[int, bytes] = {}  # sample -> digest of what the model is given as configured
        self._as_configured: _Predictions = {}

    def run(self, samples: Sequence[int]) -> None:
        """As configured first, and with it all that can be made of the same outputs."""
        fitting = [one for one in self._task.alternatives() if self._fits(one)]
        same = [one for one in fitting if one.same_inputs]
        found = self._predict(self._task, [one.task for one in same], samples, self._left_ns() // 2)
        configured = found[0]
        assert configured is not None  # what fails there is raised
        self._as_configured = configured
        self._keep("", "as configured", configured)
        for one, predictions in zip(same, found[1:], strict=True):
            self._keep_changed(one, predictions)
        untried = 0
        changed = [one for one in fitting if not one.same_inputs]
        for position, one in enumerate(changed):
            if self._left_ns() <= 0:
                untried = len(changed) - position
                break
            (predictions,) = self._predict(one.task, [], list(configured), self._left_ns() // (len(changed) - position))
            self._keep_changed(one, predictions)
        if untried:
            self.notes.append(
                f"{untried} other settings of the task were not tried on the baseline, for want of time; lower "
                "protocol.plausibility to try them on fewer samples"
            )

    def _left_ns(self) -> int:
        return self._due_ns - perf_counter_ns()

    def _fits(self, one: Alternative) -> bool:
        try:
            one.task.bind(self._model)
        except DataError:
            return False
        return True

    def _predict(
        self, task: Task, beside: Sequence[Task], samples: Sequence[int], limit_ns: int
    ) -> list[_Predictions | None]:
        """What `task` makes of the samples, or of as many as fit in the time, spread alike; and what others make of the
        same outputs. `None` for a task that cannot read them."""
        due_ns = perf_counter_ns() + limit_ns
        found: list[_Predictions | None] = [{} for _ in range(1 + len(beside))]
        chunks = -(-len(samples) // _CHUNK)
        for number in range(chunks):
            chunk = sorted(samples)[number::chunks]
            if task.scored_count():
                predictions, _ = task.predict(cast(LanguageModel, self._model), chunk)
                _add(found, 0, {sample: json_safe(value) for sample, value in predictions.items()})
            else:
                for sample in chunk:
                    self._infer(task, beside, sample, found)
            if perf_counter_ns() > due_ns:
                break
        return found

    def _infer(self, task: Task, beside: Sequence[Task], sample: int, found: list[_Predictions | None]) -> None:
        inputs = task.inputs(sample)
        digest = hashlib.sha256()
        for array in inputs:
            digest.update(np.ascontiguousarray(array).data)
        if task is self._task:
            self._given[sample] = digest.digest()
        elif self._given.get(sample) == digest.digest():  # an image that has the input's shape already, say
            _add(found, 0, {sample: self._as_configured[sample]})
            return
        if self._model.loaded.keeps_state:  # each setting, and each sample, from where the model begins
            self._model.enter(self._model.loaded.phases[0].name)
        self._model.set_inputs(inputs)
        self._model.invoke()
        outputs = self._model.outputs()
        for position, one in enumerate((task, *beside)):
            if found[position] is None:
                continue
            try:
                _add(found, position, {sample: json_safe(one.decode(sample, outputs))})
            except DataError:
                if one is self._task:
                    raise
                found[position] = None

    def _keep_changed(self, one: Alternative, predictions: _Predictions | None) -> None:
        """Unless nothing came of the change."""
        fitted = None if predictions is None else Fitted(one.setting, predictions)
        if one.fit is not None and predictions is not None:
            fitted = one.fit(predictions)
        if fitted is not None and any(fitted.predictions[n] != self._as_configured[n] for n in fitted.predictions):
            self._keep(fitted.setting, one.says, fitted.predictions)

    def _keep(self, setting: str, says: str, predictions: Mapping[int, Any]) -> None:
        parts = self._task.trial_parts(predictions)
        columns = zip(parts.samples, parts.part.tolist(), parts.whole.tolist(), strict=True)
        self.rows += [PlausibilityRow(self._name, setting, says, *values) for values in columns]


def _add(found: list[_Predictions | None], position: int, predictions: _Predictions) -> None:
    known = found[position]
    if known is not None:
        known |= predictions

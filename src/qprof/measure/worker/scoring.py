"""Scoring what a variant predicted, in a worker of its own: predictions are large, and the parent is to stay small."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qprof.measure.channel import json_safe
from qprof.measure.requests import ScoredAnswer, ScoreVariant
from qprof.record.rows import ScoreRow
from qprof.store.writer import save_predictions, save_scores, saved_predictions
from qprof.tasks import registry as tasks


def score_variant(request: ScoreVariant) -> ScoredAnswer:
    """Score what a variant predicted in the blocks of an unfinished run; keep its scores and its results file there."""
    folder, variant = Path(request.folder), request.variant
    predictions = saved_predictions(folder, variant)
    if not predictions:
        return ScoredAnswer(columns=[], notes=[])
    save_predictions(folder, variant, _results(predictions))
    scores = tasks.build(request.task).score(predictions)
    if scores is None:
        return ScoredAnswer(columns=[], notes=[])
    rows = [ScoreRow(variant, metric, None, json_safe(value)) for metric, value in scores.summary.items()]
    rows += [
        ScoreRow(variant, metric, sample, json_safe(value))
        for metric, values in scores.per_sample.items()
        for sample, value in zip(scores.samples, values.tolist(), strict=True)
    ]
    save_scores(folder, variant, rows)
    return ScoredAnswer(columns=list(scores.columns), notes=scores.notes)


def _results(predictions: Mapping[int, Any]) -> Any:
    """What a predictions file holds: one flat list where each prediction is a list (the COCO results format)."""
    values = [predictions[sample] for sample in sorted(predictions)]
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    return {str(sample): predictions[sample] for sample in sorted(predictions)}

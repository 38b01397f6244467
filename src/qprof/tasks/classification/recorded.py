"""A classifier's recorded predictions: figures of the whole set, where a score went, and what is taken for what."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.stats.intervals import FEWEST_BLOCKS, Interval, resample_weights
from qprof.stats.paired_outcomes import PairedOutcomes, paired_bootstrap
from qprof.stats.verdict import Effect, Replicates, Unbounded
from qprof.store.writer import PREDICTIONS
from qprof.tasks.base import Confusion, ErrorChange, FlipKind, PartChange, ScoreParts
from qprof.tasks.classification.outputs import Prediction
from qprof.tasks.classification.scoring import expected_calibration_error, mean_class_accuracy

if TYPE_CHECKING:
    from qprof.store.run import Run

_RESAMPLES, _SEED = 1000, 0
#: Pairs of classes that flips are told by.
_PAIRS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recorded:
    """By sample, of all that were scored: float64[n] each; `confidence` may hold NaN."""

    samples: Sequence[int]
    target: Floats
    right: Floats
    confidence: Floats

    def figure(self, metric: str, weights: Floats | None = None) -> float | None:
        """ "mean_class_accuracy" or "ece", `None` where an output was not finite."""
        if metric == "mean_class_accuracy":
            return mean_class_accuracy(self.target, self.right, weights)
        if np.isnan(self.confidence).any():
            return None
        return expected_calibration_error(self.confidence, self.right, weights)

    def to(self, other: Recorded, metric: str) -> Effect | None:
        """That figure of `other` minus that of this, the same samples resampled for both."""
        first, second = self.figure(metric), other.figure(metric)
        if first is None or second is None:
            return None
        value = second - first
        if list(self.samples) != list(other.samples):
            return Unbounded(value, f"{metric}: the two did not score the same samples")
        count = len(self.samples)
        if count < FEWEST_BLOCKS:
            return Unbounded(value, f"no interval from {count} samples: at least {FEWEST_BLOCKS} are needed")
        drawn = np.array(
            [
                (other.figure(metric, weights) or 0.0) - (self.figure(metric, weights) or 0.0)
                for weights in resample_weights(count, _RESAMPLES, _SEED).astype(np.float64)
            ]
        )
        # Both figures are biased alike in a resample (fewer samples a bin); the difference is centred on the estimate.
        return Replicates(value, drawn - (drawn.mean() - value), count, "expanded")


def recorded(run: Run, variant: str) -> Recorded:
    """What a run keeps of a variant's samples. Raises `DataError` where it was not scored."""
    target, right = run.sample_scores(variant, "target"), run.sample_scores(variant, "correct")
    if not target or target.keys() != right.keys():
        raise DataError(f"{run.folder}: {variant} has no scores by sample; run again with protocol.scored on")
    samples, confidence = sorted(target), run.sample_scores(variant, "confidence")
    columns = [[one[sample] for sample in samples] for one in (target, right)]
    return Recorded(
        samples,
        np.array(columns[0], np.float64),
        np.array(columns[1], np.float64),
        np.array([confidence.get(sample, np.nan) for sample in samples], np.float64),
    )


def predictions_of(run: Run, variant: str) -> dict[int, Prediction]:
    """The predictions that a run keeps. Raises `DataError` where they are gone."""
    path = run.folder / PREDICTIONS / f"{variant}.json"
    try:
        found = json.loads(path.read_bytes())
        return {int(sample): one for sample, one in found.items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: there are no predictions of {variant} ({error}); run again") from error


def score_parts(run: Run, a: str, b: str) -> ScoreParts:
    """Top-1 by class, kinds of error and of flip, and the figures that lead no table. Raises `DataError`."""
    first, second = predictions_of(run, a), predictions_of(run, b)
    common = sorted(first.keys() & second.keys())
    if not common:
        raise DataError(f"{run.folder}: {a} and {b} have no sample in common; run again")
    before, after = [first[sample] for sample in common], [second[sample] for sample in common]
    classes = sorted(_classes(before, after), key=lambda part: 0.0 if part.change is None else part.change.value)
    flips = list(_flips(common, before, after))
    return ScoreParts(classes, [], list(_errors(before, after)), flips, list(_others(run, a, b)))


def confusion(run: Run, variant: str) -> Confusion:
    """Samples by class and by the class they are taken for. Raises `DataError`."""
    rows = list(predictions_of(run, variant).values())
    names = _names(rows)
    outputs = sorted({row["target"] for row in rows} | {row["says"] for row in rows if row["says"] is not None})
    place = {output: n for n, output in enumerate(outputs)}
    counts = [[0] * len(outputs) for _ in outputs]
    lost = [0] * len(outputs)
    for row in rows:
        if row["says"] is None:
            lost[place[row["target"]]] += 1
        else:
            counts[place[row["target"]]][place[row["says"]]] += 1
    return Confusion([names.get(output, f"output {output}") for output in outputs], counts, lost)


def _classes(before: Sequence[Prediction], after: Sequence[Prediction]) -> Iterator[PartChange]:
    labels = np.array([row["label"] for row in before])
    right = [np.array([row["rank"] == 0 for row in rows]) for rows in (before, after)]
    for label in dict.fromkeys(labels.tolist()):
        mine = labels == label
        one, other = right[0][mine], right[1][mine]
        change = PairedOutcomes.of(one, other).interval()
        yield PartChange(label, int(mine.sum()), float(one.mean()), float(other.mean()), change)


def _errors(before: Sequence[Prediction], after: Sequence[Prediction]) -> Iterator[ErrorChange]:
    """Wrong answers by where the right class stands; each put right gains one sample."""
    kinds: list[tuple[str, range]] = [("right-class-second", range(1, 2)), ("right-class-in-top-5", range(2, 5))]
    for kind, ranks in kinds:
        counts = [sum(row["rank"] in ranks for row in rows) for rows in (before, after)]
        yield _error(kind, counts, len(before))
    far = [sum(row["rank"] is None or row["rank"] >= 5 for row in rows) for rows in (before, after)]
    if any(far):
        yield _error("right-class-beyond-top-5", far, len(before))


def _error(kind: str, counts: Sequence[int], samples: int) -> ErrorChange:
    return ErrorChange(kind, counts[0], counts[1], counts[0] / samples, counts[1] / samples, of="top1")


def _flips(samples: Sequence[int], before: Sequence[Prediction], after: Sequence[Prediction]) -> Iterator[FlipKind]:
    """Samples whose answer changed: from right to wrong with what they are taken for, back, and between wrong ones."""
    names = _names(before)
    kinds: dict[str, list[int]] = {"right -> wrong": [], "wrong -> right": [], "wrong -> otherwise wrong": []}
    answers: dict[str, list[str]] = {kind: [] for kind in kinds}
    for n, (one, other) in enumerate(zip(before, after, strict=True)):
        if one["says"] == other["says"]:
            continue
        kind = "wrong -> otherwise wrong"
        if one["rank"] == 0 or other["rank"] == 0:
            kind = "right -> wrong" if one["rank"] == 0 else "wrong -> right"
        kinds[kind].append(n)
        answers[kind].append(f"{_said(one, names)} -> {_said(other, names)}")
    for kind, places in kinds.items():
        pairs = Counter(answers[kind]).most_common(_PAIRS)
        files = [before[n]["file"] for n in places]
        yield FlipKind(kind, [samples[n] for n in places], files, answers[kind], pairs)


def _said(row: Prediction, names: dict[int, str]) -> str:
    return "not finite" if row["says"] is None else names.get(row["says"], f"output {row['says']}")


def _others(run: Run, a: str, b: str) -> Iterator[PartChange]:
    """Likelihood and calibration, which lead no table; their samples are those that both have."""
    for metric in ("nll", "brier"):
        first, second = run.sample_scores(a, metric), run.sample_scores(b, metric)
        common = sorted(first.keys() & second.keys())
        if common and run.score(a, metric) is not None and run.score(b, metric) is not None:
            change = paired_bootstrap([first[s] for s in common], [second[s] for s in common]).interval()
            yield PartChange(metric, len(common), run.score(a, metric), run.score(b, metric), change)
    one, other = recorded(run, a), recorded(run, b)
    for metric in ("ece", "mean_class_accuracy"):
        effect = one.to(other, metric)
        change_of: Interval | None = None if effect is None else effect.interval()
        yield PartChange(metric, len(one.samples), one.figure(metric), other.figure(metric), change_of)


def _names(rows: Sequence[Prediction]) -> dict[int, str]:
    """What outputs are called, of those that stand for a class of the data."""
    return {row["target"]: row["label"] for row in rows}

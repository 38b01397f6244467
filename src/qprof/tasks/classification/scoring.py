"""From predictions to the score of a variant: top-k, per class, likelihood and calibration, and every sample's part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.tasks.base import Scores
from qprof.tasks.classification.outputs import Kind, Prediction

#: Bins of equal width (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, with M = 15).
ECE_BINS = 15

#: Probabilities add up to 1 within this, apart from what a quantized output rounds away.
_SUM_TOLERANCE = 0.02
#: What lies in 0..1 up to this are shares.
_RANGE_TOLERANCE = 0.01
#: Where an output of floats says 0, its likelihood is that of the smallest normal float32.
_LEAST_FLOAT = float(np.finfo(np.float32).tiny)
#: Share of the samples of which another class is as high as the leading one, from which on that is remarked on.
_TIES_TOLD = 0.01

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the numbers of an output are: "logits", "probabilities", or "shares" (in 0..1, but they do not add up to 1);
    `says`: in words, with what speaks for it."""

    kind: str
    says: str


def meaning_of(rows: Sequence[Prediction], kind: Kind) -> Meaning:
    """By their sum and range over all samples, unless a profile has it. `rows`: of finite outputs, at least one."""
    if kind != "auto":
        return Meaning(kind, f"the outputs are taken for {kind} (output_values)")
    low, high = min(_known(rows, "low")), max(_known(rows, "high"))
    sums = np.array(_known(rows, "sum"))
    step = _step(rows)
    rounding = step * max(row["outputs"] for row in rows) / 2
    seen = f"they lie in {low:.4g}..{high:.4g} and add up to {sums.min():.4g}..{sums.max():.4g}"
    within = low >= -_RANGE_TOLERANCE and high <= 1 + max(_RANGE_TOLERANCE, step)
    if within and float(np.abs(sums - 1).max()) <= _SUM_TOLERANCE + rounding:
        return Meaning("probabilities", f"the outputs are probabilities: {seen}")
    if within:
        return Meaning(
            "shares",
            f"the outputs are neither logits nor probabilities: {seen}; likelihood and calibration take them divided "
            "by their sum (set output_values if they are logits)",
        )
    if high <= _RANGE_TOLERANCE and float(np.abs(_known(rows, "log_sum")).max()) <= _SUM_TOLERANCE:
        return Meaning("logits", f"the outputs are logarithms of probabilities: {seen}")
    return Meaning("logits", f"the outputs are logits: {seen}; probabilities are their softmax")


def scored(predictions: Mapping[int, Prediction], kind: Kind = "auto") -> Scores:
    """The scores over all predictions. An output that is not finite is wrong, and leaves no likelihood.

    `summary`: "top1", "top5" (of more than five classes), "mean_class_accuracy" over the classes that have samples,
    "nll" (mean negative log-likelihood in nats), "brier" (mean over samples of the summed squared error, 0 to 2), "ece"
    (15 bins), "confidence" (mean of the leading probability), "accuracy/CLASS". `per_sample`: "correct", which is
    "top1"; "top5", "nll", "brier", "confidence"; "target" and "says", outputs.
    """
    samples = sorted(predictions)
    rows = [predictions[sample] for sample in samples]
    finite = [row for row in rows if row["says"] is not None]
    many = max(row["outputs"] for row in rows) > 5
    right = np.array([row["rank"] == 0 for row in rows], np.float64)
    per_sample: dict[str, Floats] = {"correct": right, "top1": right}
    if many:
        per_sample["top5"] = np.array([row["rank"] is not None and row["rank"] < 5 for row in rows], np.float64)
    per_sample["target"] = np.array([row["target"] for row in rows], np.float64)
    per_sample["says"] = np.array([np.nan if row["says"] is None else row["says"] for row in rows], np.float64)
    notes = _remarks(rows, finite)
    if finite:
        meaning = meaning_of(finite, kind)
        notes.insert(0, meaning.says)
        per_sample |= _likelihoods(rows, meaning.kind)
        notes += _floor_note(finite, meaning.kind)
    summary: dict[str, float | None] = {"top1": float(right.mean())}
    if many:
        summary["top5"] = float(per_sample["top5"].mean())
    summary["mean_class_accuracy"] = mean_class_accuracy(per_sample["target"], right)
    whole = len(finite) == len(rows)
    for name in ("nll", "brier", "confidence"):
        summary[name] = float(per_sample[name].mean()) if whole else None
    summary["ece"] = expected_calibration_error(per_sample["confidence"], right) if whole else None
    summary |= _by_class(rows, right)
    return Scores(summary, per_sample, samples, ("top1", "top5") if many else ("top1",), notes)


def class_probabilities(rows: Sequence[Prediction], kind: Kind) -> Floats:
    """The probability that each prediction gives the right class, 0 where an output is not finite: float64[rows]."""
    finite = [row for row in rows if row["says"] is not None]
    if not finite:
        return np.zeros(len(rows))
    meaning = meaning_of(finite, kind).kind
    found = np.zeros(len(rows))
    for n, row in enumerate(rows):
        value, total, log_sum = row["value"], row["sum"], row["log_sum"]
        if value is None or total is None or log_sum is None:
            continue
        if meaning == "logits":
            found[n] = np.exp(value - log_sum)
        else:
            found[n] = value / total if meaning == "shares" and total > 0 else value
    return found


def mean_class_accuracy(targets: Floats, right: Floats, weights: Floats | None = None) -> float:
    """Mean over the classes that have samples of the share that is right; `weights`: how often each sample counts."""
    _, number = np.unique(targets, return_inverse=True)
    counted = np.ones(len(right)) if weights is None else weights
    have = np.bincount(number, weights=counted)
    hit = np.bincount(number, weights=counted * right)
    there = have > 0
    return float((hit[there] / have[there]).mean())


def expected_calibration_error(confidence: Floats, right: Floats, weights: Floats | None = None) -> float:
    """Sum over 15 bins (low, high] of confidence, each weighted by its share, of |accuracy - mean confidence|."""
    counted = np.ones(len(right)) if weights is None else weights
    place = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gap = np.bincount(place, weights=counted * (right - confidence), minlength=ECE_BINS)
    return float(np.abs(gap).sum() / counted.sum())


def _likelihoods(rows: Sequence[Prediction], kind: str) -> dict[str, Floats]:
    """ "nll", "brier" and "confidence" by sample, NaN where an output is not finite."""
    found = np.full((3, len(rows)), np.nan)
    least = _floor(rows)
    for n, row in enumerate(rows):
        value, high, total = row["value"], row["high"], row["sum"]
        if value is None or high is None or total is None:
            continue
        squares, soft_squares = row["squares"] or 0.0, row["soft_squares"] or 0.0
        if kind == "logits":
            log_likelihood, log_sum = row["log_likelihood"] or 0.0, row["log_sum"] or 0.0
            found[:, n] = _three(-log_likelihood, float(np.exp(log_likelihood)), soft_squares, high - log_sum)
            continue
        scale = total if kind == "shares" and total > 0 else 1.0
        share = value / scale
        surprise = -float(np.log(max(share, least / scale)))
        found[:, n] = _three(surprise, share, squares / scale**2, float(np.log(max(high / scale, _LEAST_FLOAT))))
    return dict(zip(("nll", "brier", "confidence"), found, strict=True))


def _three(surprise: float, share: float, squares: float, log_high: float) -> tuple[float, float, float]:
    return surprise, squares - 2.0 * share + 1.0, float(np.exp(log_high))


def _step(rows: Sequence[Prediction]) -> float:
    """Between neighbouring values of the outputs, 0 for floats. Behind a quantized softmax stands often a conversion to
    floats: where these are 0 at times, the least of the others is the step."""
    stored = max(row["step"] for row in rows)
    if stored or not any(row["low"] == 0.0 for row in rows):
        return stored
    return min((row["least"] for row in rows if row["least"] is not None), default=0.0)


def _floor(rows: Sequence[Prediction]) -> float:
    """What a probability of 0 may stand for at most: half a step."""
    return max(_step(rows) / 2, _LEAST_FLOAT)


def _floor_note(rows: Sequence[Prediction], kind: str) -> list[str]:
    at_floor = 0 if kind == "logits" else sum((row["value"] or 0.0) <= 0.0 for row in rows)
    if not at_floor:
        return []
    least = _floor(rows)
    return [
        f"{at_floor} of {len(rows)} samples have probability 0 of their class, as the output stores it: their "
        f"likelihood is taken for {least:.2g}, so nll of coarser outputs is comparable to no other"
    ]


def _remarks(rows: Sequence[Prediction], finite: Sequence[Prediction]) -> list[str]:
    notes = []
    if len(finite) < len(rows):
        notes.append(
            f"{len(rows) - len(finite)} of {len(rows)} samples have outputs that are not finite: they count as wrong, "
            "and there is no likelihood or calibration; look for overflow in the variant's layers"
        )
    tied = sum(row["tied"] > 0 for row in finite)
    if tied > _TIES_TOLD * len(rows):
        decided = sum(row["tied"] > 0 and row["value"] == row["high"] for row in finite)
        notes.append(
            f"in {tied} of {len(rows)} samples several classes share the highest output, and the first of them counts; "
            f"the right class is among them in {decided}"
        )
    return notes


def _by_class(rows: Sequence[Prediction], right: Floats) -> dict[str, float | None]:
    labels = np.array([row["label"] for row in rows])
    names = dict.fromkeys(sorted({(row["target"], row["label"]) for row in rows}))
    return {f"accuracy/{label}": float(right[labels == label].mean()) for _, label in names}


def _known(rows: Sequence[Prediction], name: str) -> list[float]:
    return [row[name] for row in rows]  # type: ignore[literal-required]

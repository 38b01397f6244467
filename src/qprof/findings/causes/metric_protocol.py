"""The metric, not the model: the same predictions say something else under the protocol of older write-ups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.findings.effects import paired_scores, score_difference
from qprof.stats import verdict
from qprof.stats.intervals import FEWEST_BLOCKS
from qprof.stats.paired_outcomes import paired_bootstrap
from qprof.stats.verdict import judge
from qprof.tasks.coco.analysis import DetectionBoxes, FixedThresholdScore, Overlaps, fixed_threshold_score
from qprof.tasks.detection.recorded import Evaluated, image_evidence, image_weights, recorded_detections

#: A figure that the protocol moves by less than this share of all samples misleads nobody: 4 bits of GPTQ cost 1 point.
_SHIFT = 0.05
#: A prediction from counts leaves out what else differs between the protocols, which is small beside what it counts.
_SHIFT_RANGE = (0.7, 1.3)
#: The baseline's own boxes stand for those that the variant does not have, or has elsewhere: they are others.
_RANKING_RANGE = (0.5, 1.5)
#: Verdicts of two metrics part by chance where one is near its threshold; so the protocols must part by themselves, at
#: a level that holds for some ten comparisons.
_PARTED_LEVEL = 0.995
#: What the older write-ups called precision.
_OLD_IOU = 0.01


class MetricProtocol:
    """Claims where the older protocol moves a figure by 5 points or more, or turns the verdict on two variants."""

    name = "metric_protocol"
    title = "the metric's protocol"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if not comparison.leads:
            return
        yield from _next_token_shift(comparison)
        yield from _next_token_ranking(comparison)
        yield from _old_precision_ranking(comparison)


@dataclass(frozen=True, slots=True)
class _Protocols:
    """b - a of one pair of variants under the standard metric and under the old one; `parted`: old minus standard."""

    metric: str
    old_metric: str
    standard: verdict.Effect
    old: verdict.Effect
    parted: verdict.Effect

    def verdicts(self) -> tuple[verdict.Verdict, verdict.Verdict]:
        """Under the standard metric, and under the old one."""
        return judge(self.standard, lower_is_better=False), judge(self.old, lower_is_better=False)

    @property
    def turned(self) -> bool:
        """Whether the protocol changes the verdict, and not by chance."""
        standard, old = self.verdicts()
        parted = self.parted.interval(_PARTED_LEVEL)
        if standard.kind == old.kind or parted.low is None or parted.high is None:
            return False
        return parted.low > 0.0 or parted.high < 0.0


def _next_token_shift(comparison: Comparison) -> Iterator[Hypothesis]:
    """Words of several tokens can never be hit by the comparison of one."""
    run, variant = comparison.run, comparison.variant
    right, hit = (run.sample_scores(variant, metric) for metric in ("correct", "naive_top1"))
    tokens = run.sample_scores(variant, "target_tokens")
    rows = sorted(right.keys() & hit.keys() & tokens.keys())
    if not rows:
        return
    of_several = np.array([tokens[row] > 1 for row in rows])
    first, second = (np.array([scores[row] for row in rows]) for scores in (right, hit))
    out_of_reach = float(np.mean(first * of_several))
    shift = float(np.mean(second - first))
    if abs(shift) < _SHIFT or out_of_reach == 0.0:
        return
    measured = paired_bootstrap(first, second).interval()
    prediction = Prediction(
        "accuracy",
        variant,
        f"{variant}+next-token",
        -out_of_reach * _SHIFT_RANGE[1],
        -out_of_reach * _SHIFT_RANGE[0],
    )
    baseline = _mean_of(run.sample_scores(comparison.baseline, "correct"))
    naive_baseline = _mean_of(run.sample_scores(comparison.baseline, "naive_top1"))
    beside = (
        ""
        if baseline is None or naive_baseline is None
        else (f" ({comparison.baseline}: {naive_baseline:.1%} for {baseline:.1%})")
    )
    yield Hypothesis(
        cause=CAUSE.name,
        remark=True,
        claim=f"compared by the string of one next token, as older write-ups do, {variant} is right on "
        f"{second.mean():.1%} of the rows instead of {first.mean():.1%}{beside}: {of_several.mean():.1%} of the words "
        "have several tokens, which that protocol cannot answer",
        figure="accuracy",
        effect=measured,
        evidence=(
            Evidence("words of several tokens", float(of_several.mean()), "1", "scores.parquet: target_tokens"),
            Evidence(f"such words that {variant} has right", out_of_reach, "1", "scores.parquet: correct"),
            Evidence("right as the last word", float(first.mean()), "1", "scores.parquet: correct"),
            Evidence("right as the next token", float(second.mean()), "1", "scores.parquet: naive_top1"),
        ),
        intervention=Intervention(
            "score the same predictions by the next-token protocol instead of lambada_openai",
            prediction,
            rescored=measured,
        ),
    )


def _mean_of(scores: Mapping[int, float]) -> float | None:
    return float(np.mean(list(scores.values()))) if scores else None


def _next_token_ranking(comparison: Comparison) -> Iterator[Hypothesis]:
    run, a, b = comparison.run, comparison.baseline, comparison.variant
    standard, old = score_difference(run, a, b, "accuracy"), score_difference(run, a, b, "naive_top1")
    right, hit = paired_scores(run, a, b, "correct"), paired_scores(run, a, b, "naive_top1")
    tokens, _ = paired_scores(run, a, b, "target_tokens")
    if standard is None or old is None or not len(tokens) or not len(tokens) == len(right[0]) == len(hit[0]):
        return
    parted = paired_bootstrap(right[1] - right[0], hit[1] - hit[0])
    found = _Protocols("accuracy", "accuracy of the next token", standard, old, parted)
    if not found.turned:
        return
    out_of_reach = [float(np.mean(one * (tokens > 1))) for one in right]
    yield from _ranking(
        comparison,
        found,
        expected=out_of_reach[0] - out_of_reach[1],
        why=f"words of several tokens, of which {a} has {out_of_reach[0]:.1%} of all rows right and {b} "
        f"{out_of_reach[1]:.1%}, count for nothing there",
        evidence=tuple(
            Evidence(f"words of several tokens that {name} has right", share, "1", "scores.parquet: target_tokens")
            for name, share in zip((a, b), out_of_reach, strict=True)
        ),
    )


def _old_precision_ranking(comparison: Comparison) -> Iterator[Hypothesis]:
    """Precision at IoU 0.01 of all boxes: blind to place, and the better the fewer boxes there are."""
    recorded = recorded_detections(comparison.run)
    try:
        a, b = recorded.of(comparison.baseline), recorded.of(comparison.variant)
    except DataError:
        return
    standard, images = a.to(b, "AP"), len(a.result.image_ids)
    boxes, others = a.boxes[1], b.boxes[1]
    old_a, old_b = (_old_precision(one, one.boxes[1], one.overlaps) for one in (a, b))
    if standard is None or images < FEWEST_BLOCKS or old_a.precision is None or old_b.precision is None:
        return
    weights = image_weights(images)
    old_drawn = _drawn_precision(old_b, weights) - _drawn_precision(old_a, weights)
    old = image_evidence(old_b.precision - old_a.precision, old_drawn, images)
    ap_drawn = b.drawn.column("AP", None) - a.drawn.column("AP", None)
    parted = image_evidence(old.value - standard.value, old_drawn - ap_drawn, images)
    found = _Protocols("AP", f"precision at IoU {_OLD_IOU} and score 0", standard, old, parted)
    fewer = _old_precision(a, _best(boxes, len(others))).precision if found.turned else None
    if fewer is None:
        return
    yield from _ranking(
        comparison,
        found,
        expected=fewer - old_a.precision - standard.value,
        why=f"a box needs only to touch its object there (mean IoU of what counts as right: {old_a.mean_iou or 0:.2f} "
        f"and {old_b.mean_iou or 0:.2f}), and every box counts alike ({len(boxes)} and {len(others)} are recorded)",
        evidence=(
            Evidence(f"boxes of {comparison.baseline}", len(boxes), "boxes", f"predictions/{comparison.baseline}.json"),
            Evidence(f"boxes of {comparison.variant}", len(others), "boxes", f"predictions/{comparison.variant}.json"),
            Evidence(
                f"precision at IoU {_OLD_IOU} of the {len(others)} best boxes of {comparison.baseline}",
                fewer,
                "1",
                f"predictions/{comparison.baseline}.json",
            ),
        ),
    )


def _old_precision(
    evaluated: Evaluated, boxes: DetectionBoxes, overlaps: Overlaps | None = None
) -> FixedThresholdScore:
    return fixed_threshold_score(
        evaluated.boxes[0],
        boxes,
        images=len(evaluated.result.image_ids),
        categories=len(evaluated.result.category_ids),
        iou_threshold=_OLD_IOU,
        many_to_one=True,
        overlaps=overlaps,
    )


def _best(boxes: DetectionBoxes, count: int) -> DetectionBoxes:
    """The `count` boxes with the highest scores of the whole data set."""
    kept = boxes.best_first()[:count]
    return replace(
        boxes, image=boxes.image[kept], category=boxes.category[kept], boxes=boxes.boxes[kept], score=boxes.score[kept]
    )


def _drawn_precision(score: FixedThresholdScore, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Per resample of the images int64[resamples, images], NaN without a box."""
    true, boxes = weights @ score.true_positives, weights @ (score.true_positives + score.false_positives)
    return np.where(boxes > 0, true / np.maximum(boxes, 1), np.nan)


def _ranking(
    comparison: Comparison, found: _Protocols, *, expected: float, why: str, evidence: tuple[Evidence, ...]
) -> Iterator[Hypothesis]:
    """The claim that a protocol turns the verdict; `expected`: of `parted`, from the evidence."""
    if expected == 0.0:
        return
    verdicts = found.verdicts()
    a, b = comparison.baseline, comparison.variant
    low, high = sorted(expected * share for share in _RANKING_RANGE)
    measured = found.parted.interval()
    what = partial(Evidence, unit="1", source="scores.parquet, predictions/")
    yield Hypothesis(
        cause=CAUSE.name,
        remark=True,
        claim=f"by {found.metric} {b} is {_said(verdicts[0].kind, a)} ({found.standard.value:+.4f}), by "
        f"{found.old_metric} {_said(verdicts[1].kind, a)} ({found.old.value:+.4f}) on the same predictions: {why}",
        figure=found.metric,
        effect=measured,
        evidence=(
            what(f"{found.metric}, {b} - {a}", found.standard.value, interval=verdicts[0].effect),
            what(f"{found.old_metric}, {b} - {a}", found.old.value, interval=verdicts[1].effect),
            *evidence,
        ),
        intervention=Intervention(
            f"score the same predictions by {found.old_metric} instead of {found.metric}",
            Prediction(found.metric, b, f"{b}+old-protocol", low, high),
            rescored=measured,
        ),
    )


def _said(kind: verdict.Kind, baseline: str) -> str:
    return f"{kind} than {baseline}" if kind in ("better", "worse") else f"not told from {baseline}"


CAUSE = MetricProtocol()

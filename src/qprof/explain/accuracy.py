"""Where accuracy went between two variants: classes, sizes and kinds of error of a detector, and samples that flipped.

Every part is one level below a headline metric and comes from what was recorded; nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from qprof.errors import DataError
from qprof.explain.effects import sample_scores, score_difference
from qprof.explain.recorded_detections import Evaluated, recorded_detections
from qprof.stats.intervals import Interval
from qprof.stats.paired_outcomes import PairedOutcomes
from qprof.store.run import Run
from qprof.tasks.coco.analysis import ERROR_NAMES, ErrorAnalysis, error_analysis


@dataclass(frozen=True, slots=True)
class PartChange:
    """AP of one class or size; `truths`: objects to find. `change`: b - a; `None`s where it is undefined."""

    label: str
    truths: int
    a: float | None
    b: float | None
    change: Interval | None


@dataclass(frozen=True, slots=True)
class ErrorChange:
    """One kind of error (`qprof.tasks.coco.analysis.ERROR_NAMES`): how many, and what AP at IoU 0.5 would gain without
    them (0 to 1; `None` where undefined)."""

    kind: str
    a: int
    b: int
    a_gain: float | None
    b_gain: float | None


@dataclass(frozen=True, slots=True)
class Flips:
    """Samples that come out better with one of the two: `a_only`, `b_only`, by number.

    `of`: what is compared, "right or wrong", or for a detector "objects found at IoU 0.5" (of an image more or fewer).
    `p_value`: two-sided, McNemar's mid-p of the two counts, which for more or fewer is that of the sign test.
    """

    of: str
    samples: int
    a_only: tuple[int, ...]
    b_only: tuple[int, ...]
    p_value: float


@dataclass(frozen=True, slots=True)
class AccuracyChange:
    """`figures`: headline metric -> b - a. Classes and sizes come with the largest loss first. What is not there is
    empty or `None`, with the reason in `reasons` where there is one."""

    baseline: str
    variant: str
    figures: dict[str, Interval]
    classes: list[PartChange] = field(default_factory=list)
    sizes: list[PartChange] = field(default_factory=list)
    errors: list[ErrorChange] = field(default_factory=list)
    flips: Flips | None = None
    reasons: dict[str, str] = field(default_factory=dict)


def accuracy_change(run: Run, baseline: str, variant: str) -> AccuracyChange:
    """What of the accuracy of `baseline` is lost in `variant`, or gained."""
    differences = {
        metric: score_difference(run, baseline, variant, metric) for metric in run.manifest.get("score_columns", [])
    }
    change = AccuracyChange(
        baseline,
        variant,
        {metric: found.interval() for metric, found in differences.items() if found is not None},
        flips=_flips(run, baseline, variant),
    )
    if (run.manifest.get("task") or {}).get("kind") != "detection":
        return change
    try:
        recorded = recorded_detections(run)
        a, b = recorded.of(baseline), recorded.of(variant)
    except DataError as error:
        change.reasons["classes, sizes and errors"] = str(error)
        return change
    change.classes.extend(_worst_first(_classes(a, b)))
    change.sizes.extend(_worst_first(_sizes(a, b)))
    change.errors.extend(_errors(a, b))
    return change


def _flips(run: Run, baseline: str, variant: str) -> Flips | None:
    for metric, of in (("correct", "right or wrong"), ("tp50", "objects found at IoU 0.5")):
        first, second = sample_scores(run, baseline, metric), sample_scores(run, variant, metric)
        common = sorted(first.keys() & second.keys())
        if common:
            a_only = tuple(sample for sample in common if first[sample] > second[sample])
            b_only = tuple(sample for sample in common if first[sample] < second[sample])
            outcomes = PairedOutcomes(len(common), len(a_only), len(b_only))
            return Flips(of, len(common), a_only, b_only, outcomes.mcnemar_p)
    return None


def _worst_first(parts: Iterator[PartChange]) -> list[PartChange]:
    return sorted(parts, key=lambda part: 0.0 if part.change is None else part.change.value)


def _classes(a: Evaluated, b: Evaluated) -> Iterator[PartChange]:
    pairs = zip(a.result.per_class(), b.result.per_class(), strict=True)
    for index, (first, second) in enumerate(pairs):
        difference = a.to(b, "AP", index)
        yield PartChange(
            first.name,
            first.truths or 0,
            first.figures["AP"],
            second.figures["AP"],
            None if difference is None else difference.interval(),
        )


def _sizes(a: Evaluated, b: Evaluated) -> Iterator[PartChange]:
    main = a.result.settings.main_area
    for index, area in enumerate(a.result.per_area()):
        if index != main:
            difference = a.to(b, f"AP{area.area}")
            yield PartChange(
                area.area,
                area.truths or 0,
                a.figure(f"AP{area.area}"),
                b.figure(f"AP{area.area}"),
                None if difference is None else difference.interval(),
            )


def _errors(a: Evaluated, b: Evaluated) -> Iterator[ErrorChange]:
    first, second = _analysed(a), _analysed(b)
    for kind in ERROR_NAMES:
        yield ErrorChange(kind, first.counts[kind], second.counts[kind], first.gains[kind], second.gains[kind])


def _analysed(evaluated: Evaluated) -> ErrorAnalysis:
    return error_analysis(
        *evaluated.boxes,
        images=len(evaluated.result.image_ids),
        categories=len(evaluated.result.category_ids),
        overlaps=evaluated.overlaps,
    )

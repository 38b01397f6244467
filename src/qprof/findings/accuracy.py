"""Where accuracy went between two variants: classes, sizes and kinds of error of a detector, and samples that flipped.

Every part is one level below a headline metric and comes from what was recorded; nothing is run.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qprof.errors import DataError
from qprof.findings.effects import score_difference
from qprof.stats.intervals import Interval
from qprof.stats.paired_outcomes import PairedOutcomes
from qprof.store.run import Run
from qprof.tasks import registry as tasks
from qprof.tasks.base import ErrorChange, FlipKind, PartChange


@dataclass(frozen=True, slots=True)
class Flips:
    """Samples that come out better with one of the two: `a_only`, `b_only`, by number.

    `of`: what is compared, "right or wrong", or for a detector "objects found at IoU 0.5" (of an image more or fewer).
    `p_value`: two-sided, McNemar's mid-p of the two counts, which for more or fewer is that of the sign test;
    `exact_p_value`: of McNemar's exact test.
    """

    of: str
    samples: int
    a_only: tuple[int, ...]
    b_only: tuple[int, ...]
    p_value: float
    exact_p_value: float | None = None


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
    flip_kinds: list[FlipKind] = field(default_factory=list)
    others: list[PartChange] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


def accuracy_change(run: Run, baseline: str, variant: str) -> AccuracyChange:
    """What of the accuracy of `baseline` is lost in `variant`, or gained."""
    differences = {metric: score_difference(run, baseline, variant, metric) for metric in run.manifest.score_columns}
    change = AccuracyChange(
        baseline,
        variant,
        {metric: found.interval() for metric, found in differences.items() if found is not None},
        flips=_flips(run, baseline, variant),
    )
    kind = tasks.of(run.manifest.task)
    try:
        parts = None if kind is None else kind.parts(run, baseline, variant)
    except DataError as error:
        change.reasons["classes, sizes and errors"] = str(error)
        return change
    if parts is not None:
        change.classes.extend(parts.classes)
        change.sizes.extend(parts.sizes)
        change.errors.extend(parts.errors)
        change.flip_kinds.extend(parts.flips)
        change.others.extend(parts.others)
    return change


def _flips(run: Run, baseline: str, variant: str) -> Flips | None:
    for metric, of in (("correct", "right or wrong"), ("tp50", "objects found at IoU 0.5")):
        first, second = run.sample_scores(baseline, metric), run.sample_scores(variant, metric)
        common = sorted(first.keys() & second.keys())
        if common:
            a_only = tuple(sample for sample in common if first[sample] > second[sample])
            b_only = tuple(sample for sample in common if first[sample] < second[sample])
            outcomes = PairedOutcomes(len(common), len(a_only), len(b_only))
            return Flips(of, len(common), a_only, b_only, outcomes.mcnemar_p, outcomes.mcnemar_exact_p)
    return None

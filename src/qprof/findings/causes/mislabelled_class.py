"""Mislabelled classes: a variant finds the objects of a class where the baseline does, and calls them another class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison
from qprof.stats.verdict import judge
from qprof.tasks.coco.analysis import confusion
from qprof.tasks.coco.inputs import Detections
from qprof.tasks.detection.recorded import Evaluated, image_evidence, recorded_detections

#: A class is called another one where most of its objects that the variant finds are: a label that is wrong is wrong
#: throughout, while a class that is hard to tell keeps most of its own.
_MOST = 0.5
#: Fewer objects than this say nothing of a class.
_FEWEST_OBJECTS = 10
#: The share of all lost AP that such classes must have, or the loss is of something else.
_SHARE_OF_LOSS = 0.5
#: Boxes that were false under the wrong label stay in the ranking, and objects found at a lower IoU count for less.
_RANGE = (0.6, 1.4)
_IOU = 0.5


class MislabelledClass:
    """Claims where the AP that a detector lost sits in classes whose objects it found under another label."""

    name = "mislabelled_class"
    title = "mislabelled classes"

    def hypotheses(self, comparison: Comparison) -> Iterator[Hypothesis]:
        if not comparison.leads:
            return
        try:
            recorded = recorded_detections(comparison.run)
            a, b = recorded.of(comparison.baseline), recorded.of(comparison.variant)
        except DataError:
            return
        change = a.to(b, "AP")
        if change is None or judge(change, lower_is_better=False).kind != "worse":
            return
        found = _mislabelled(a, b)
        if found is None:
            return
        corrected = None if found.back is None else recorded.evaluated(found.relabelled(b))
        yield _hypothesis(comparison, a, b, change.value, found, corrected)


@dataclass(frozen=True, eq=False)
class _Mislabelled:
    """`wrong`: class (index) -> what the variant calls it. `back`: label -> the class that it stands for, `None` where
    a label stands for two classes. `own`, `taken`: objects of each wrong class that the baseline has under their own
    label, and that the variant has under the wrong one. `classes` int[n]: those whose AP the labels touch."""

    wrong: dict[int, int]
    back: dict[int, int] | None
    own: dict[int, int]
    taken: dict[int, int]
    classes: NDArray[np.int64]

    def relabelled(self, evaluated: Evaluated) -> Detections:
        """The detections with the labels corrected."""
        ids = evaluated.result.category_ids
        assert self.back is not None  # a label that stands for two classes has no correction
        given = evaluated.result.detections
        category = np.array(given.category_id)
        for label, meant in self.back.items():
            category[given.category_id == ids[label]] = ids[meant]
        return replace(given, category_id=category)


def _mislabelled(a: Evaluated, b: Evaluated) -> _Mislabelled | None:
    """The classes that most of the objects found are called something else in; `None` where the loss is elsewhere."""
    first, second = _counts(a), _counts(b)
    wrong, own, taken = {}, {}, {}
    for label in range(len(first)):
        called = int(np.argmax(second[label]))
        most = second[label, called] >= max(_FEWEST_OBJECTS, _MOST * second[label].sum())
        rightly = first[label, label] > _MOST * first[label].sum()
        if called != label and most and rightly:
            wrong[label], own[label], taken[label] = called, int(first[label, label]), int(second[label, called])
    if not wrong:
        return None
    classes = np.unique(np.array([*wrong, *wrong.values()]))
    change = _class_ap(b) - _class_ap(a)
    if -np.nansum(change[classes]) < _SHARE_OF_LOSS * -np.nansum(change):
        return None
    return _Mislabelled(wrong, _correction(wrong, second), own, taken, classes)


def _correction(wrong: dict[int, int], counts: NDArray[np.int64]) -> dict[int, int] | None:
    back = {called: label for label, called in wrong.items()}
    kept = [called for called in back if called not in wrong and counts[called, called] >= _FEWEST_OBJECTS]
    return None if kept or len(back) < len(wrong) else back


def _counts(evaluated: Evaluated) -> NDArray[np.int64]:
    """int64[K, K]: objects of a class (row) whose best-scored box has a label (column)."""
    found = confusion(
        *evaluated.boxes,
        images=len(evaluated.result.image_ids),
        categories=len(evaluated.result.category_ids),
        iou_threshold=_IOU,
        score_threshold=-np.inf,
        order="score",
        overlaps=evaluated.overlaps,
    )
    return found.counts[:-1, :-1]


def _class_ap(evaluated: Evaluated) -> NDArray[np.float64]:
    """float64[K], NaN for a class without objects."""
    found = [figures.figures["AP"] for figures in evaluated.result.per_class()]
    return np.array([np.nan if ap is None else ap for ap in found])


def _hypothesis(
    comparison: Comparison, a: Evaluated, b: Evaluated, change: float, found: _Mislabelled, corrected: Evaluated | None
) -> Hypothesis:
    names = b.result.category_names
    said = ", ".join(
        f"{found.taken[label]} objects of {names[label]!r} are called {names[called]!r} "
        f"({found.own[label]} are called {names[label]!r} by {comparison.baseline})"
        for label, called in found.wrong.items()
    )
    lost_a, lost_b = _class_ap(a), _class_ap(b)
    measured = (lost_a - lost_b)[found.classes]
    classes = int(np.count_nonzero(~np.isnan(lost_a)))
    drawn = np.sum([b.drawn.column("AP", k) - a.drawn.column("AP", k) for k in found.classes.tolist()], axis=0)
    effect = image_evidence(-float(np.nansum(measured)) / classes, drawn / classes, len(a.result.image_ids)).interval()
    evidence = (
        *(
            Evidence(
                f"objects of {names[label]!r} called {names[called]!r}",
                found.taken[label],
                "objects",
                f"predictions/{comparison.variant}.json",
            )
            for label, called in found.wrong.items()
        ),
        *(
            Evidence(f"AP of {names[k]!r}, {comparison.variant} - {comparison.baseline}", -lost, "1", "scores.parquet")
            for k, lost in zip(found.classes.tolist(), measured.tolist(), strict=True)
            if not np.isnan(lost)
        ),
    )
    intervention, untestable = _intervention(comparison, a, b, found, corrected)
    return Hypothesis(
        cause=CAUSE.name,
        claim=f"{comparison.variant} finds objects and calls them another class: {said}; these classes are "
        f"{effect.value:+.3f} of the {change:+.3f} of AP",
        figure="AP",
        effect=effect,
        evidence=evidence,
        intervention=intervention,
        untestable=untestable,
    )


def _intervention(
    comparison: Comparison, a: Evaluated, b: Evaluated, found: _Mislabelled, corrected: Evaluated | None
) -> tuple[Intervention | None, str | None]:
    """Score the detections with the labels corrected; what must come back follows from the counts."""
    if corrected is None:
        return None, "a label stands for its own class and for another, so no change of labels can take them apart"
    ap_a, ap_b = _class_ap(a), _class_ap(b)
    back = [ap_a[k] * min(1.0, found.taken[k] / found.own[k]) - ap_b[k] for k in found.wrong]
    expected = float(np.sum(back)) / int(np.count_nonzero(~np.isnan(ap_a)))
    rescored = b.to(corrected, "AP")
    if expected <= 0.0 or rescored is None:
        return None, "from so few objects found under the wrong label, no AP can be expected back"
    names = b.result.category_names
    does = ", ".join(f"{names[label]!r} read as {names[called]!r}" for label, called in (found.back or {}).items())
    low, high = (expected * share for share in _RANGE)
    prediction = Prediction("AP", comparison.variant, f"{comparison.variant}+relabelled", low, high)
    return Intervention(f"score the recorded boxes with {does}", prediction, rescored=rescored.interval()), None


CAUSE = MislabelledClass()

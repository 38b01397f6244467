"""Where a detector's AP went between two variants: classes, sizes of objects, kinds of error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qprof.tasks.base import ErrorChange, PartChange, ScoreParts
from qprof.tasks.coco.analysis import ERROR_NAMES, ErrorAnalysis, error_analysis
from qprof.tasks.detection.recorded import Evaluated, recorded_detections

if TYPE_CHECKING:
    from qprof.store.run import Run


def score_parts(run: Run, baseline: str, variant: str) -> ScoreParts:
    """AP by class and by size, the largest loss first, and errors by kind (`ERROR_NAMES`). Raises `DataError`."""
    recorded = recorded_detections(run)
    a, b = recorded.of(baseline), recorded.of(variant)
    return ScoreParts(_worst_first(_classes(a, b)), _worst_first(_sizes(a, b)), list(_errors(a, b)))


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

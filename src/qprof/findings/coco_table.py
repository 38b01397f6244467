"""The figures of one set of detections, or of two compared, overall and by category and size, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from qprof.stats.intervals import Interval
from qprof.tasks.coco.intervals import Replicates, check_pair, figures_of, paired_figures
from qprof.tasks.coco.result import CocoResult

Scope = Literal["all", "area", "class"]

#: a, b and b - a of one figure.
_Triple = tuple[Interval | None, Interval | None, Interval | None]


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure; `None` where it is undefined, `b` and `difference` (b - a) also where one set was evaluated.

    An interval without bounds says in `reason` why; of sizes only AP and the last AR have bounds.
    """

    scope: Scope
    label: str  # the category or size; "all"
    category_id: int | None
    truths: int | None  # objects to find
    figure: str
    a: Interval | None
    b: Interval | None = None
    difference: Interval | None = None


@dataclass(frozen=True, slots=True)
class Resampling:
    """How the intervals are made; `None` resamples for none."""

    resamples: int | None = 1000
    seed: int = 0
    level: float = 0.95
    threads: int | None = None


def figure_rows(
    a: CocoResult, b: CocoResult | None, how: Resampling, *, per_class: bool = False, per_area: bool = False
) -> list[FigureRow]:
    """The figures of the summary, then those of the sizes and of the categories where asked for."""
    results = [a] if b is None else [a, b]
    if b is not None:
        check_pair(a, b)
    draws = [_draw(result, how, per_class) for result in results]
    overall = _figures(results, draws, None, [result.summary for result in results])
    counts = {area.area: area.truths for area in a.per_area()}
    rows = [
        _row("all", "all", None, counts[a.settings.area_names[a.settings.main_area]], *item) for item in overall.items()
    ]
    if per_area:
        rows += _area_rows(a, b, overall)
    if per_class:
        rows += _class_rows(results, draws)
    return rows


def _row(
    scope: Scope, label: str, category_id: int | None, truths: int | None, figure: str, values: _Triple
) -> FigureRow:
    return FigureRow(scope, label, category_id, truths, figure, *values)


def _draw(result: CocoResult, how: Resampling, per_class: bool) -> Replicates | None:
    if how.resamples is None:
        return None
    return Replicates.of(result, how.resamples, how.seed, how.level, how.threads, per_class=per_class)


def _figures(
    results: Sequence[CocoResult],
    draws: Sequence[Replicates | None],
    category: int | None,
    values: Sequence[dict[str, float | None]],
) -> dict[str, _Triple]:
    """The figures of one or two results, over all categories or of one (index)."""
    found = _bare(values[0], values[1] if len(values) > 1 else None)
    if draws[0] is None:
        return found
    of_a = figures_of(results[0], draws[0], category)
    if len(results) == 1 or draws[1] is None:
        return found | {name: (value, None, None) for name, value in of_a.items()}
    of_b = figures_of(results[1], draws[1], category)
    for name, pair in paired_figures(of_a, of_b, draws[0], draws[1], category).items():
        found[name] = (of_a[name], of_b[name], None if pair is None else pair.difference)
    return found


def _class_rows(results: Sequence[CocoResult], draws: Sequence[Replicates | None]) -> list[FigureRow]:
    classes = [result.per_class() for result in results]
    rows = []
    for k, first in enumerate(classes[0]):
        figures = _figures(results, draws, k, [of_one[k].figures for of_one in classes])
        rows += [_row("class", first.name, first.category_id, first.truths, *item) for item in figures.items()]
    return rows


def _area_rows(a: CocoResult, b: CocoResult | None, overall: dict[str, _Triple]) -> list[FigureRow]:
    areas, others = a.per_area(), b.per_area() if b is not None else None
    last_recall = f"AR{a.settings.max_dets[-1]}"
    rows = []
    for n, area in enumerate(areas):
        bare = _bare(area.figures, None if others is None else others[n].figures)
        for name, values in bare.items():
            # The summary has the interval of these under the name of the size.
            known = overall.get(f"{name[:2]}{area.area}") if name in ("AP", last_recall) else None
            known = overall[name] if n == a.settings.main_area else known
            rows.append(_row("area", area.area, None, area.truths, name, known or values))
    return rows


def _bare(a: dict[str, float | None], b: dict[str, float | None] | None) -> dict[str, _Triple]:
    found: dict[str, _Triple] = {}
    for name, value in a.items():
        other = None if b is None else b[name]
        difference = None if value is None or other is None else other - value
        found[name] = (_alone(value), _alone(other), _alone(difference))
    return found


def _alone(value: float | None) -> Interval | None:
    return None if value is None else Interval(value, None, None, 0.95, "no interval was made")

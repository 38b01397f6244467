"""Samples beside what the variants made of them, and scores by what they depend on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qprof.errors import DataError, QprofError
from qprof.report.page.data_drawn import Box, Curve, CurvePoint, Example, Picture, Said
from qprof.store.run import Run
from qprof.tasks import registry
from qprof.tasks.shown import ShownAnswer, ShownBox, ShownSample

#: Samples of a page.
_COUNT = 12


def examples(run: Run) -> tuple[list[Example], str]:
    """The samples, those that flipped first, and why there are none."""
    kind, names = registry.of(run.manifest.task), _scored(run)
    if kind is None or not names:
        return [], "nothing was predicted in this run that could be looked at"
    try:
        found = [_example(one, names[0]) for one in kind.shown(run, names, _COUNT)]
    except (QprofError, OSError) as error:
        return [], f"the samples cannot be shown: {error}"
    return found, "" if found else "this task has no predictions to look at"


def curves(run: Run) -> Iterator[Curve]:
    """None where the data of the run are gone."""
    kind, names = registry.of(run.manifest.task), _scored(run)
    if kind is None or not names:
        return
    try:
        found = list(kind.curves(run, names))
    except DataError:
        return  # `examples` says that the data are gone
    for one in found:
        if one.points:
            yield Curve(
                name=one.name,
                title=one.title,
                x=one.x,
                y=one.y,
                ordered=one.ordered,
                points=[CurvePoint(variant=point.variant, x=point.x, y=point.y) for point in one.points],
            )


def _scored(run: Run) -> list[str]:
    """The variants with predictions, the baseline first; none where the baseline has none."""
    known = {row.variant for row in run.scores}
    names = [entry.name for entry in run.manifest.living() if entry.name in known]
    return names if run.baseline in names else []


def _example(sample: ShownSample, baseline: str) -> Example:
    picture = sample.picture
    return Example(
        title=sample.title,
        truth=sample.truth,
        text=sample.text,
        picture=None
        if picture is None
        else Picture(
            image=picture.image, width_px=picture.width_px, height_px=picture.height_px, truth=_boxes(picture.truth)
        ),
        said=[
            Said(
                variant=name,
                right=said.right,
                outcome=said.outcome,
                answers=list(said.answers),
                boxes=_boxes(said.boxes),
                missed=_boxes(said.missed),
            )
            for name, said in sample.said.items()
        ],
        flipped=_flipped(sample.said, baseline),
    )


def _flipped(said: Mapping[str, ShownAnswer], baseline: str) -> dict[str, str]:
    base = said.get(baseline)
    if base is None:
        return {}
    return {
        name: f"{base.outcome} → {one.outcome}"
        for name, one in said.items()
        if name != baseline and one.outcome != base.outcome
    }


def _boxes(found: Sequence[ShownBox]) -> list[Box]:
    return [
        Box(
            label=box.label,
            x=round(box.x, 4),
            y=round(box.y, 4),
            width=round(box.width, 4),
            height=round(box.height, 4),
            score=None if box.score is None else round(box.score, 3),
            matched=box.matched,
        )
        for box in found
    ]

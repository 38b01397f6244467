"""Samples of a classifier's run with the top answers of every variant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qprof.store.run import Run
from qprof.tasks import registry
from qprof.tasks.classification.outputs import Prediction
from qprof.tasks.classification.recorded import predictions_of
from qprof.tasks.classification.task import ClassificationTask
from qprof.tasks.shown import ShownAnswer, ShownSample, changed_first, picture


def shown(run: Run, variants: Sequence[str], count: int) -> Iterator[ShownSample]:
    """See `TaskKind.shown`. Raises `DataError` where samples or predictions are gone."""
    found = {name: predictions_of(run, name) for name in variants}
    task = registry.build(run.manifest.task) if run.manifest.task is not None else None
    names = {row["target"]: row["label"] for rows in found.values() for row in rows.values()}
    merits = {name: {sample: float(row["rank"] == 0) for sample, row in rows.items()} for name, rows in found.items()}
    for sample in changed_first(merits, variants[0], count):
        row = found[variants[0]][sample]
        image = task.picture(sample) if isinstance(task, ClassificationTask) else None
        yield ShownSample(
            title=row["file"],
            truth=row["label"],
            picture=None if image is None else picture(image),
            said={name: _answer(rows[sample], names) for name, rows in found.items() if sample in rows},
        )


def _answer(row: Prediction, names: dict[int, str]) -> ShownAnswer:
    right = row["rank"] == 0
    place = (
        "no finite output" if row["rank"] is None else "right" if right else f"the right class is no. {row['rank'] + 1}"
    )
    return ShownAnswer(
        merit=float(right),
        right=right,
        outcome=place,
        answers=[f"{names.get(output, f'output {output}')} ({value:.3g})" for output, value in row["top"][:5]],
    )

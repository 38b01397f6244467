"""Passages of a language model's run with what every variant put first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from qprof.errors import DataError
from qprof.store.files import read_json
from qprof.store.run import Run
from qprof.store.writer import PREDICTIONS
from qprof.tasks.lastword.data import read_rows, split_last_word
from qprof.tasks.lastword.kind import LastWordSection
from qprof.tasks.lastword.predictions import Prediction
from qprof.tasks.shown import ShownAnswer, ShownSample, changed_first

#: Of a passage that much is shown, its end.
_CHARACTERS = 420


def shown(run: Run, variants: Sequence[str], count: int) -> Iterator[ShownSample]:
    """See `TaskKind.shown`. Raises `DataError` where texts or predictions are gone."""
    found = {name: _predictions(run, name) for name in variants}
    merits = {name: {sample: _merit(row) for sample, row in rows.items()} for name, rows in found.items()}
    chosen = changed_first(merits, variants[0], count)
    texts = _texts(run, max(chosen, default=-1) + 1)
    for sample in chosen:
        context, word = texts[sample] if sample < len(texts) else ("", "")
        row = found[variants[0]][sample]
        if word.strip() != row["target"].strip():
            raise DataError(f"{run.folder}: its texts have changed since it was made; restore them, or run again")
        yield ShownSample(
            title=f"passage {sample + 1}",
            truth=word.strip(),
            text=context if len(context) <= _CHARACTERS else f"… {context[-_CHARACTERS:].partition(' ')[2]}",
            said={name: _answer(rows[sample]) for name, rows in found.items() if sample in rows},
        )


def _predictions(run: Run, variant: str) -> dict[int, Prediction]:
    found: Any = read_json(run.folder / PREDICTIONS / f"{variant}.json")
    if not isinstance(found, dict):
        raise DataError(f"{run.folder}: the predictions of {variant} are damaged; run again")
    return {int(sample): row for sample, row in found.items()}


def _merit(row: Prediction) -> float:
    """Right before wrong; among equals, how high the word's first token stands."""
    rank = row["first_rank"]
    return float(row["greedy"]) + (0.0 if rank is None else 1e-3 / (1.0 + rank))


def _texts(run: Run, count: int) -> list[tuple[str, str]]:
    """Context and last word of the first rows that have one, as they are scored."""
    task = run.manifest.task
    if task is None:
        raise DataError(f"{run.folder}: its task was not recorded")
    section = msgspec.convert(task.section, LastWordSection)
    rows = read_rows(section.source())
    parts = (split_last_word(row.text) for row in rows.rows)
    return list(islice((part for part in parts if part is not None), count))


def _answer(row: Prediction) -> ShownAnswer:
    rank = row["first_rank"]
    if row["greedy"]:
        outcome = "right"
    elif rank is None:
        outcome = "no finite output"
    else:
        outcome = "its first token right, not all of it" if rank == 0 else f"its first token is no. {rank + 1}"
    return ShownAnswer(merit=_merit(row), right=row["greedy"], outcome=outcome, answers=row["top5"])

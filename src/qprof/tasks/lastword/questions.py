"""Rows of text as questions: a context, and the last word that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qprof.errors import DataError
from qprof.tasks.lastword.data import Row, Rows, split_last_word

#: Rows that a note on rows names.
NAMED = 3


@dataclass(frozen=True, slots=True)
class Question:
    """A row of which the last word is predicted."""

    row: Row
    context: str
    word: str


def with_last_word(data: Rows, limit: int | None) -> tuple[list[Question], list[Row]]:
    """The first `limit` rows that have a last word, and the rows before the last of them that have none."""
    where = data.source.location
    if limit is not None and limit < 1:
        raise DataError(f"limit = {limit} leaves no row of {where}: give at least 1, or no limit")
    found: list[Question] = []
    skipped: list[Row] = []
    for row in data.rows:
        if len(found) == limit:
            break
        parts = split_last_word(row.text)
        if parts is None:
            skipped.append(row)
        else:
            found.append(Question(row, *parts))
    if not found:
        raise DataError(f"{where}: none of its {len(data.rows)} rows has a word behind a space: give rows of text")
    if limit is not None and len(found) < limit:
        raise DataError(
            f"{where}: {limit} rows are to be scored, but it has {len(found)} with a last word: set limit to at most "
            f"{len(found)}, or leave it out"
        )
    return found, skipped


def without_last(rows: list[Question], reserve: int, data: Rows) -> list[Question]:
    """All but so many of the last that `reserve` rows behind them are fit for calibration (see `calibration`)."""
    cut = len(rows) - reserve
    while cut > 0:
        taken, last = {question.row.text for question in rows[:cut]}, rows[cut - 1].row.place
        behind = [row.text for row in data.rows if row.place > last]
        usable = sum(bool(text.strip()) and text not in taken for text in behind)
        if usable >= reserve:
            return rows[:cut]
        cut -= reserve - usable
    raise DataError(
        f"{data.source.location}: has {len(rows)} rows with a last word, and {reserve} are to be left to calibration: "
        "lower calibration_samples, or name other text for it (calibration_data)"
    )


def skip_notes(data: Rows, skipped: Sequence[Row]) -> list[str]:
    """What to say of rows that have no last word."""
    if not skipped:
        return []
    places = ", ".join(str(row.place) for row in skipped[:NAMED]) + (", ..." if len(skipped) > NAMED else "")
    return [
        f"{len(skipped)} rows of {data.source.location} have no last word and are left out ({data.unit} {places}): "
        "write a context, a space and a word in each"
    ]

"""The table of all scores: metrics in order, undefined ones as a dash, collapsed perplexities still readable."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from qprof.errors import StoreError
from qprof.record.manifest import Manifest, RecordedProfile, VariantEntry
from qprof.record.rows import ScoreRow
from qprof.report.scores import score_text, scores_table
from qprof.report.table import render
from qprof.report.units import MISSING
from qprof.store.scores import Scores, write_scores


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, None), (0.0, "0.000"), (0.12345, "0.123"), (9999.4, "9999.400"), (16345685.35, "1.63e+07")],
)
def test_a_score_as_text(value: float | None, text: str | None) -> None:
    assert score_text(value) == text


def run(folder: Path, scores: list[ScoreRow], columns: tuple[str, ...] = ("accuracy", "perplexity")) -> Any:
    variants = [VariantEntry(name="a"), VariantEntry(name="b")]
    manifest = Manifest(
        created="2026-01-01", profile=RecordedProfile(name="r"), variants=variants, score_columns=list(columns)
    )
    write_scores(folder / "scores.parquet", scores)
    whole = Scores(folder / "scores.parquet").whole
    return cast(Any, SimpleNamespace(name="r", variants=variants, manifest=manifest, whole_scores=whole))


def test_leading_metrics_come_first_and_samples_are_left_out(tmp_path: Path) -> None:
    rows: list[tuple[str, str, int | None, float | None]]
    rows = [("a", "naive_top1", None, 0.25), ("a", "accuracy", None, 0.5), ("b", "accuracy", None, 0.75)]
    rows += [("a", "correct", 3, 1.0), ("a", "perplexity", None, 2e9), ("b", "perplexity", None, None)]
    found = run(tmp_path, [ScoreRow(*row) for row in rows])
    lines = [line.split() for line in render(scores_table(found), width=None, color=False).splitlines()[1:]]
    assert lines == [
        ["metric", "a", "b"],
        ["accuracy", "0.500", "0.750"],
        ["perplexity", "2.00e+09", MISSING],
        ["naive_top1", "0.250", MISSING],
    ]


def test_a_run_without_scores_says_so(tmp_path: Path) -> None:
    found = run(tmp_path, [], columns=())
    assert "nothing was scored" in render(scores_table(found), width=80, color=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("sample", [None, 1])
def test_a_score_that_is_not_finite_is_damage(tmp_path: Path, sample: int | None, value: float) -> None:
    """No run writes one: what is not known is empty."""
    rows = [ScoreRow("a", "accuracy", 0, 0.5), ScoreRow("a", "accuracy", 2, None)]
    write_scores(tmp_path / "scores.parquet", [*rows, ScoreRow("a", "accuracy", sample, value)])
    found = Scores(tmp_path / "scores.parquet")
    for read in (lambda: list(found.rows()), lambda: found.by_sample("a", "accuracy")):
        with pytest.raises(StoreError, match=r"scores.parquet: damaged \(1 cells of its column value are not finite\)"):
            read()

"""Choosing by one half of the samples and telling by the other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from qprof.findings.search.halves import change, difference, half_of, is_in, score


def fake_run(rows: dict[str, dict[int, float]], baseline: str = "float32") -> Any:
    """A run whose variants have these scores by sample, whatever the metric."""
    return SimpleNamespace(
        manifest=SimpleNamespace(task=None),
        baseline=baseline,
        variants=[SimpleNamespace(name=name) for name in rows],
        sample_scores=lambda variant, metric: rows.get(variant, {}),
    )


def test_the_halves_share_no_sample_and_are_alike() -> None:
    selection = {sample for sample in range(1000) if half_of(sample, 3) == "selection"}
    report = {sample for sample in range(1000) if half_of(sample, 3) == "report"}
    assert len(selection) == len(report) == 500 and not selection & report
    assert all(len(selection & set(range(k, k + 100))) == 50 for k in range(0, 1000, 100))  # in order of the data
    assert any(sample + 1 in selection for sample in selection)  # and not every second one
    assert selection != {sample for sample in range(1000) if half_of(sample, 4) == "selection"}
    assert is_in("selection", 3)(5) is (5 in selection)


def test_a_score_is_of_its_half_alone() -> None:
    rows = {sample: float(half_of(sample, 0) == "selection") for sample in range(100)}
    run = fake_run({"int8": rows})
    assert score((run, "int8"), "accuracy", "selection", 0) == 1.0
    assert score((run, "int8"), "accuracy", "report", 0) == 0.0
    assert score((run, "other"), "accuracy", "report", 0) is None


def test_a_difference_is_paired_across_runs_on_its_half_alone() -> None:
    before = {sample: 0.0 for sample in range(200)}
    # Lucky on the half that it is chosen by, no better on the other.
    after = {sample: float(half_of(sample, 0) == "selection") for sample in range(200)}
    first, second = fake_run({"int8": before}), fake_run({"trial": after})
    flattered = difference((first, "int8"), (second, "trial"), "accuracy", "selection", 0)
    honest = difference((first, "int8"), (second, "trial"), "accuracy", "report", 0)
    assert flattered is not None and flattered.value == 1.0
    assert honest is not None and honest.value == 0.0 and honest.interval().high == 0.0


def test_a_change_is_over_the_samples_that_both_have() -> None:
    first = fake_run({"float32": {}, "int8": {sample: float(sample) for sample in range(100)}})
    fewer = fake_run({"float32": {}, "trial": {sample: sample + 0.5 for sample in range(40)}})
    pair = ((first, "int8"), (fewer, "trial"), "closeness", "selection", 0)
    assert change(*pair) == pytest.approx(0.5)
    found = difference(*pair)
    assert found is not None and found.value == pytest.approx(0.5)
    assert change((first, "other"), *pair[1:]) is None


def test_of_distances_the_baseline_is_nearest_to_itself() -> None:
    run = fake_run({"float32": {}, "int8": {sample: 0.9 + 0.001 * (sample % 7) for sample in range(60)}})
    assert score((run, "float32"), "closeness", "selection", 0) == 1.0
    found = difference((run, "float32"), (run, "int8"), "closeness", "report", 0)
    assert found is not None and found.value == pytest.approx(-0.097, abs=0.003)
    assert found.interval().high is not None and found.interval().high < 0.0

"""Ranges of a finished file that cut off what its baseline computes: told by the baseline, cut off at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planted.cases_layers import LAYERS, LayerError, layer, world
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.clipped_ranges import CAUSE
from qprof.findings.comparison import Comparison
from qprof.record.manifest import VariantEntry
from qprof.runtimes.interventions import Impossible
from qprof.runtimes.litert.interventions import LiteRTInterventions

#: More than a tenth of the layers.
MANY = range(4, 12)


def hypotheses(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    cutting: Sequence[int],
    possible: bool = True,
    finished: bool = True,
    image: LayerError | None = None,
) -> tuple[list[Hypothesis], list[list[tuple[str, str]]]]:
    """What is said of an int8 that loses 20 % of the rows, and the pairs of ops whose ranges were asked for."""
    asked: list[list[tuple[str, str]]] = []

    def within(_self: object, entry: VariantEntry, other: VariantEntry, pairs: Sequence[tuple[str, str]]) -> Any:
        assert (entry.name, other.name) == ("float32", "int8")
        asked.append(list(pairs))
        return {"name": "float32+ranges", "file": "/nowhere"} if possible else Impossible("another shape")

    monkeypatch.setattr(LiteRTInterventions, "within_ranges", within)
    made = world({number: LayerError(20.0, saturated=0.02) for number in cutting}, {}, evenly=0.2)
    made = replace(made, input=image)
    if finished:
        ready = replace(made.variants[1], section={"file": "/nowhere/int8.tflite"})
        made = replace(made, variants=[made.variants[0], ready])
    run = made.record(folder / "run")
    return list(CAUSE.hypotheses(Comparison(run, "float32", "int8", "inference"))), asked


def test_the_baseline_must_lose_as_much_when_it_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,), asked = hypotheses(tmp_path, monkeypatch, MANY)
    assert "by its ranges, which do not hold what it computes: 24 of 24 layers cut off" in found.claim
    assert sorted(asked[0]) == sorted((layer(number), layer(number)) for number in range(LAYERS))
    assert found.intervention is not None and found.effect is not None and found.intervention.replaces == LAYERS
    prediction = found.intervention.prediction
    assert (prediction.a, prediction.b) == ("float32", "float32+ranges")
    assert prediction.low == pytest.approx(1.3 * found.effect.value)
    assert prediction.high == pytest.approx(0.5 * found.effect.value) and prediction.high < 0.0


def test_one_that_is_made_again_gets_wider_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,), asked = hypotheses(tmp_path, monkeypatch, MANY, finished=False)
    assert found.intervention is not None and found.intervention.variants[0]["ranges"] == "min-max"
    assert asked == [] and found.intervention.prediction.low > 0.0


@pytest.mark.parametrize(("share", "claimed"), [(0.4, True), (0.0, False)])
def test_the_input_and_a_few_layers_are_more_than_a_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, claimed: bool
) -> None:
    found, _ = hypotheses(tmp_path, monkeypatch, range(4, 6), image=LayerError(20.0, saturated=share))
    assert bool(found) is claimed


@pytest.mark.parametrize(
    ("cutting", "possible"), [(range(4, 6), True), ((), True), (MANY, False)], ids=["a few", "none", "other files"]
)
def test_nothing_is_claimed_of_a_finished_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cutting: Sequence[int], possible: bool
) -> None:
    assert hypotheses(tmp_path, monkeypatch, cutting, possible)[0] == []

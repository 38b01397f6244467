"""When an input is said not to fit the samples, and how that is tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from planted.cases_layers import LAYERS, LayerError, LayerWorld, layer, world
from qprof.findings.calibration import uncovered
from qprof.findings.causes import bad_layer
from qprof.findings.causes.base import Cause, Hypothesis
from qprof.findings.causes.coarse_input import CAUSE
from qprof.findings.comparison import Comparison
from qprof.record.manifest import VariantEntry
from qprof.runtimes.litert.interventions import LiteRTInterventions


def hypotheses(folder: Path, made: LayerWorld, cause: Cause = CAUSE) -> list[Hypothesis]:
    return list(cause.hypotheses(Comparison(made.record(folder / "run"), "float32", "int8", "inference")))


def given(lost: float, error: LayerError | None) -> LayerWorld:
    return replace(world({}, {}, evenly=lost), input=error)


@pytest.mark.parametrize(
    ("error", "claims"),
    [
        (LayerError(1.8, saturated=0.2), 1),
        (LayerError(20.0, saturated=0.0), 1),  # steps that are too wide
        (LayerError(40.0, saturated=0.05), 1),  # a range that cuts off
        (LayerError(40.0, saturated=0.001), 0),
        (None, 0),
    ],
)
def test_what_does_not_fit(tmp_path: Path, error: LayerError | None, claims: int) -> None:
    assert len(hypotheses(tmp_path / "lost", given(0.2, error))) == claims
    assert hypotheses(tmp_path / "equal", given(0.0, error)) == []


def test_it_is_tested_behind_the_layers_that_read_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = {f"inference/{layer(n)}": ([f"inference/{layer(n - 1)}"] if n > 1 else [], []) for n in range(LAYERS)}
    asked: list[Sequence[tuple[str, str]]] = []

    def by_side(self: LiteRTInterventions, entry: VariantEntry) -> Mapping[str, tuple[list[str], list[str]]]:
        return sides

    def patched(
        self: LiteRTInterventions, entry: VariantEntry, baseline: VariantEntry, pairs: Sequence[tuple[str, str]]
    ) -> dict[str, str]:
        asked.append(pairs)
        return {"name": "patched", "file": "/x.tflite"}

    monkeypatch.setattr(LiteRTInterventions, "by_side", by_side)
    monkeypatch.setattr(LiteRTInterventions, "patched", patched)
    (found,) = hypotheses(tmp_path, given(0.2, LayerError(1.8, saturated=0.2)))
    assert asked == [[(layer(0), layer(0)), (layer(1), layer(1))]]
    assert found.effect is not None and found.intervention is not None
    lost, prediction = -found.effect.value, found.intervention.prediction
    assert (prediction.a, prediction.b) == ("int8", "patched")
    assert (prediction.low, prediction.high) == pytest.approx((0.5 * lost, 1.3 * lost))
    assert "image (1.8 dB, 20.0% cut off)" in found.claim


def test_an_input_is_no_layer_and_counts_as_other_data(tmp_path: Path) -> None:
    made = given(0.2, LayerError(1.8, saturated=0.2))
    assert hypotheses(tmp_path / "layers", made, bad_layer.CAUSE) == []
    (found,) = uncovered(made.record(tmp_path / "run"))
    assert (found.input_share, found.layers, found.compared) == (0.2, 0, LAYERS)

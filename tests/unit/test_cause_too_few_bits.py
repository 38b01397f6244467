"""A loss in all layers alike is laid to the width, unless a layer stands apart or the width is no narrow one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planted.cases_layers import LayerError, layer, world
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.too_few_bits import CAUSE
from qprof.findings.comparison import Comparison
from qprof.runtimes.interventions import Impossible, Interventions, OtherWidth


class Wider(Interventions):
    """A runtime whose variants have a next width."""

    def next_width(self, entry: Any) -> OtherWidth | Impossible:
        return OtherWidth({"name": "int8+3bit", "method": "int8"}, 2, 3)


def found(
    folder: Path,
    errors: dict[int, LayerError],
    monkeypatch: pytest.MonkeyPatch,
    bits: int = 2,
    interventions: Interventions | None = None,
) -> list[Hypothesis]:
    monkeypatch.setattr(Comparison, "interventions", interventions or Wider())
    made = world(errors, {})
    float32, int8 = made.variants
    lost = [0.0] * len(int8.sample_scores["correct"])
    ops = [replace(op, quantization=f"int{bits} weights, group 64") for op in int8.ops]
    int8 = replace(int8, ops=ops, sample_scores={"correct": lost}, summary_scores={"accuracy": 0.0})
    run = replace(made, variants=[float32, int8]).record(folder / "run")
    return list(CAUSE.hypotheses(Comparison(run, "float32", "int8", "inference")))


def test_a_loss_in_all_layers_alike_is_the_widths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hypothesis,) = found(tmp_path, {}, monkeypatch)
    assert "int8 loses its accuracy by its 2 bits, in all of 24 layers alike" in hypothesis.claim
    assert hypothesis.intervention is not None and hypothesis.intervention.prediction.b == "int8+3bit"


def test_without_a_next_width_it_is_told_untested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hypothesis,) = found(tmp_path, {}, monkeypatch, interventions=Interventions())
    assert hypothesis.intervention is None and hypothesis.untestable == "names no width, so there is no next one"


@pytest.mark.parametrize("errors", [{7: LayerError(10.0)}, {7: LayerError(12.0, saturated=0.2)}])
def test_a_layer_that_stands_apart_or_is_cut_off_is_another_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: dict[int, LayerError]
) -> None:
    assert layer(7)
    assert found(tmp_path, errors, monkeypatch) == []


def test_eight_bits_are_not_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(tmp_path, {}, monkeypatch, bits=8) == []

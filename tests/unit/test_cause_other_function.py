"""Ops in the place of others: named where a score was lost, and tried with the baseline's activations behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from planted.cases_layers import variant
from planted.world import PlantedOp, World
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.other_function import CAUSE
from qprof.findings.comparison import Comparison
from qprof.record.manifest import VariantEntry
from qprof.runtimes.interventions import Impossible
from qprof.runtimes.litert.interventions import LiteRTInterventions

BEFORE, BEHIND = (
    PlantedOp("conv0", "CONV_2D", 300.0, macs=1_000_000),
    PlantedOp("conv1", "CONV_2D", 200.0, macs=900_000),
)
SMOOTH = PlantedOp("up", "RESIZE_BILINEAR", 40.0, macs=0)
NEAREST = PlantedOp("nearest", "RESIZE_NEAREST_NEIGHBOR", 40.0, macs=0)


def chain(*ops: PlantedOp) -> dict[str, tuple[Sequence[str], Sequence[str]]]:
    """Each op reads what the one before it gives."""
    names = [f"inference/{op.name}" for op in ops]
    return {name: (names[max(0, n - 1) : n], names[n + 1 : n + 2]) for n, name in enumerate(names)}


def hypotheses(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    replacement: PlantedOp,
    right: float = 0.5,
    patchable: bool = True,
    replaced: PlantedOp = SMOOTH,
    behind: PlantedOp = BEHIND,
) -> tuple[list[Hypothesis], list[list[tuple[str, str]]]]:
    graphs = {"float32": [BEFORE, replaced, behind], "int8": [BEFORE, replacement, behind]}
    asked: list[list[tuple[str, str]]] = []

    def patched(_self: object, entry: VariantEntry, _baseline: VariantEntry, pairs: Sequence[tuple[str, str]]) -> Any:
        asked.append(list(pairs))
        return {"name": f"{entry.name}+{len(asked)}"} if patchable else Impossible("of another shape")

    def by_side(_self: object, entry: VariantEntry) -> Mapping[str, tuple[Sequence[str], Sequence[str]]]:
        return chain(*graphs[entry.name])

    monkeypatch.setattr(LiteRTInterventions, "patched", patched)
    monkeypatch.setattr(LiteRTInterventions, "by_side", by_side)
    made = [variant("float32", 0.8), variant("int8", right)]
    for one in made:
        object.__setattr__(one, "ops", graphs[one.name])
    run = World(made, rounds=5, inferences=10, manifest={"score_columns": ["accuracy"]}).record(folder / "run")
    return list(CAUSE.hypotheses(Comparison(run, "float32", "int8", "inference"))), asked


def test_the_op_is_named_and_given_what_the_baseline_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hypothesis,), asked = hypotheses(tmp_path, monkeypatch, NEAREST)
    assert "(1 RESIZE_NEAREST_NEIGHBOR for RESIZE_BILINEAR)" in hypothesis.claim
    assert asked == [[("nearest", "up")], [("conv0", "conv0")]]
    assert hypothesis.effect is not None and hypothesis.intervention is not None
    prediction = hypothesis.intervention.prediction
    assert (prediction.a, prediction.b) == ("int8+2", "int8+1")  # what they are given is not their doing
    assert prediction.low == pytest.approx(-0.5 * hypothesis.effect.value)


def test_what_cannot_be_replaced_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hypothesis,), _ = hypotheses(tmp_path, monkeypatch, NEAREST, patchable=False)
    assert hypothesis.intervention is None and hypothesis.untestable == "of another shape"


@pytest.mark.parametrize(
    ("replacement", "right"),
    [(SMOOTH, 0.5), (PlantedOp("q", "DEQUANTIZE", 40.0), 0.5), (NEAREST, 0.8)],
    ids=["the same op", "a conversion", "nothing lost"],
)
def test_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replacement: PlantedOp, right: float
) -> None:
    assert hypotheses(tmp_path, monkeypatch, replacement, right)[0] == []


SAME = {"padding": "SAME", "alpha": "0.3", "fusedActivationFunction": "RELU6", "strideW": "1"}


@pytest.mark.parametrize(
    ("between", "activations", "its", "told"),
    [
        (SMOOTH, "float32", {"fusedActivationFunction": "NONE"}, "fusedActivationFunction NONE for RELU6"),
        (SMOOTH, "int8", {"fusedActivationFunction": "NONE"}, ""),
        (SMOOTH, "int8", {"strideW": "2", "alpha": "0.1"}, "alpha 0.1 for 0.3, strideW 2 for 1"),
        (PlantedOp("pad", "PAD", 20.0, macs=0), "int8", {"padding": "VALID"}, ""),
        (SMOOTH, "float32", {}, ""),
    ],
)
def test_ops_that_are_set_otherwise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    between: PlantedOp,
    activations: str,
    its: Mapping[str, str],
    told: str,
) -> None:
    def settings_of_ops(_self: object, entry: VariantEntry) -> Mapping[str, Mapping[str, str]]:
        return {"inference/conv1": SAME | (its if entry.name == "int8" else {}), f"inference/{between.name}": {}}

    monkeypatch.setattr(LiteRTInterventions, "settings_of_ops", settings_of_ops)
    quantization = f"int8 per-channel weights, {activations} activations"
    behind = PlantedOp("conv1", "CONV_2D", 200.0, macs=900_000, quantization=quantization)
    found, asked = hypotheses(tmp_path, monkeypatch, between, replaced=between, behind=behind)
    assert [f"(1 CONV_2D with {told})" in one.claim for one in found] == [True] * bool(told)
    assert asked == ([[("conv1", "conv1")], [(between.name, between.name)]] if told else [])

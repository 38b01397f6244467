"""A part that quantization does not touch: what it withholds, and the models cut before it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tflite_builder
from planted.world import Noise, PlantedOp, PlantedVariant, World, hypotheses
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.fixed_part import CAUSE
from qprof.measure.profile_file import merged
from qprof.runtimes.litert.flatbuffer import read_model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def model(path: Path, *, first: bool) -> str:
    """features -> boxes, or boxes -> features where the fixed op comes `first`."""
    graph = tflite_builder.Graph()
    last = graph.input("image", (1, 4, 4, 2))
    kernel = graph.constant("kernel", np.ones((2, 1, 1, 2), np.float32))
    for name in ("boxes", "features") if first else ("features", "boxes"):
        last = graph.softmax(name, last) if name == "boxes" else graph.conv_2d(name, last, kernel)
    graph.outputs = [last]
    path.write_bytes(tflite_builder.build_model([graph]))
    return str(path)


def variant(name: str, features: float, boxes: float, section: dict[str, Any]) -> PlantedVariant:
    quantization = None if name == "float32" else "int8 weights per-channel, int8 activations"
    ops = [
        PlantedOp("features", "CONV_2D", features, "XNNPACK", quantization=quantization),
        PlantedOp("boxes", "CUSTOM:TFLite_Detection_PostProcess", boxes),
    ]
    return PlantedVariant(name, ops, section=section)


def found(
    folder: Path, int8: tuple[float, float], *, first: bool = False, files: bool = True, quantized: str = "int8"
) -> list[Hypothesis]:
    section = {"file": model(folder / "model.tflite", first=first)} if files else {}
    section_b = section if files else {"method": "int8"}
    variants = [variant("float32", 900.0, 600.0, section), variant(quantized, *int8, section_b)]
    return [c.hypothesis for c in hypotheses(World(variants, Noise(0.01)).record(folder / "run"), [CAUSE])]


def test_the_rest_is_to_gain_what_its_ops_say(tmp_path: Path) -> None:
    (hypothesis,) = found(tmp_path, (300.0, 610.0))
    assert hypothesis.intervention is not None and hypothesis.effect is None
    values = {evidence.what: evidence.value for evidence in hypothesis.evidence}
    assert values["speed-up of the whole"] == pytest.approx(1520.0 / 930.0, rel=0.03)
    assert values["speed-up of the rest"] == pytest.approx(920.0 / 320.0, rel=0.08)
    # Had it gained what the rest did: 610 us less 610 us / 2.9.
    assert values["what they would gain as the rest does"] == pytest.approx(610.0 * (1.0 - 320.0 / 920.0), rel=0.08)
    prediction = hypothesis.intervention.prediction
    assert prediction.relative and (prediction.a, prediction.b) == ("float32+cut", "int8+cut")
    # What remains are the features alone, and the range lies apart from the gain of the whole, which would refute it.
    assert prediction.value == pytest.approx(math.log(300.0 / 900.0), abs=0.03)
    assert prediction.low < prediction.value < prediction.high < math.log(930.0 / 1520.0)
    assert prediction.high - prediction.value < 0.1
    assert hypothesis.intervention.task == {"kind": "latency"}
    of_the_run = {"task": {"kind": "lastword", "dataset": "some/data"}}
    assert merged(of_the_run, {"task": hypothesis.intervention.task}) == {"task": {"kind": "latency"}}


def test_the_cut_models_end_before_the_part(tmp_path: Path) -> None:
    (hypothesis,) = found(tmp_path, (300.0, 610.0))
    assert hypothesis.intervention is not None
    for section in hypothesis.intervention.variants:
        (graph,) = read_model(Path(section["file"])).subgraphs
        assert [op.name for op in graph.ops] == ["features"]


def test_a_part_that_everything_follows_from_cannot_be_cut_off(tmp_path: Path) -> None:
    (hypothesis,) = found(tmp_path, (300.0, 610.0), first=True)
    assert hypothesis.intervention is None and "in the middle of the model" in str(hypothesis.untestable)


def test_what_remains_must_stand_for_the_rest(tmp_path: Path) -> None:
    graph = tflite_builder.Graph()
    kernel = graph.constant("kernel", np.ones((2, 1, 1, 2), np.float32))
    stem = graph.conv_2d("stem", graph.input("image", (1, 4, 4, 2)), kernel)
    graph.outputs = [graph.conv_2d("features", graph.softmax("boxes", stem), kernel)]
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_builder.build_model([graph]))
    variants = [
        replace(
            each, ops=[PlantedOp("stem", "CONV_2D", us, "XNNPACK", quantization=each.ops[0].quantization), *each.ops]
        )
        for each, us in (
            (variant("float32", 900.0, 600.0, {"file": str(path)}), 300.0),
            (variant("int8", 300.0, 610.0, {"file": str(path)}), 100.0),
        )
    ]
    run = World(variants, Noise(0.01)).record(tmp_path / "run")
    (claim,) = hypotheses(run, [CAUSE])
    assert claim.hypothesis.intervention is None
    assert "too little of the rest" in str(claim.hypothesis.untestable)


def test_a_model_that_is_gone_cannot_be_cut(tmp_path: Path) -> None:
    (hypothesis,) = found(tmp_path, (300.0, 610.0), files=False)
    assert hypothesis.intervention is None and "cannot be cut: /nowhere/" in str(hypothesis.untestable)


@pytest.mark.parametrize(
    "int8",
    [
        (300.0, 200.0),  # it gained, too
        (300.0, 1200.0),  # it got slower: that is another cause
        (880.0, 600.0),  # the rest gains nothing
        (4000.0, 600.0),  # the rest got slower
    ],
)
def test_what_is_no_fixed_part(tmp_path: Path, int8: tuple[float, float]) -> None:
    assert found(tmp_path, int8) == []


@pytest.mark.parametrize("formats", [(None, None), ("int8 weights", "int8 weights")])
def test_a_model_that_is_faster_but_quantized_no_further_has_no_fixed_part(
    tmp_path: Path, formats: tuple[str | None, str | None]
) -> None:
    """A layer with fewer channels: the rest is not what quantization leaves alone."""
    variants = []
    for (name, features), quantization in zip((("whole", 900.0), ("pruned", 300.0)), formats, strict=True):
        ops = [PlantedOp("features", "CONV_2D", features, quantization=quantization), PlantedOp("boxes", "ADD", 600.0)]
        variants.append(PlantedVariant(name, ops, section={"file": "/nowhere/model.tflite"}))
    assert list(hypotheses(World(variants, Noise(0.01)).record(tmp_path / "run"), [CAUSE])) == []

"""Weights that are unpacked in every inference."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planted.cases_language import linear, model, unpacking
from planted.world import PlantedVariant, World, hypotheses
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.dequantization import CAUSE
from qprof.findings.op_costs import SURROUNDINGS
from qprof.measure.profile import resolved, validate
from qprof.record.manifest import SplitFacts, Timing, VariantEntry
from qprof.runtimes.torch_lm.interventions import TorchLMInterventions

PRODUCTS = [linear(n, 40.0, macs=2_000_000, weight_bytes=400_000) for n in range(8)]
OPS = {"aten::to": 0.05, "aten::mul": 0.2, "aten::index": 0.6, "aten::sub": 0.15}
SPLIT = SplitFacts(dequantize_ops=OPS, replayed_ms=0.47)


def packed(us: float, **changes: Any) -> PlantedVariant:
    ops = [op for n, product in enumerate(PRODUCTS) for op in (unpacking(n, us), product)]
    return replace(model("gptq-4bit", ops), section={"method": "gptq-4bit", **changes})


def found(variants: list[PlantedVariant], folder: Path) -> list[Hypothesis]:
    return [claim.hypothesis for claim in hypotheses(World(variants).record(folder), [CAUSE])]


def test_the_latency_is_to_fall_by_the_time_of_the_unpacking(tmp_path: Path) -> None:
    timed = replace(packed(60.0, bits=4), timing=Timing(split={"inference": SPLIT}))
    (hypothesis,) = found([model("bfloat16", PRODUCTS), timed], tmp_path / "run")
    assert hypothesis.effect is not None and hypothesis.effect.value == pytest.approx(480.0, rel=0.08)
    assert "of 8 layers in every inference (aten::index 60%, aten::mul 20%, aten::sub 15% of it)" in hypothesis.claim
    values = {e.what: e.value for e in hypothesis.evidence}
    assert values["the unpacking run alone"] == pytest.approx(470.0)
    assert values["layers that unpack, which the baseline's do not"] == 8
    assert hypothesis.intervention is not None
    prediction = hypothesis.intervention.prediction
    assert prediction.relative and (prediction.a, prediction.b) == ("gptq-4bit", "gptq-4bit+dequantized")
    share = 480.0 / 820.0
    assert prediction.expected == pytest.approx(math.log(1.0 - share), abs=0.05)
    # What is left is the products, which are known to a tenth.
    assert (prediction.high - prediction.low) / (2 * 1.96) == pytest.approx(SURROUNDINGS * 320.0 / 340.0, rel=0.35)
    (section,) = hypothesis.intervention.variants
    assert (section["method"], section["bits"], section["kernel"]) == ("gptq-4bit", 4, "dequantized")


def test_without_counts_of_ops_the_claim_names_none(tmp_path: Path) -> None:
    (hypothesis,) = found([model("bfloat16", PRODUCTS), packed(60.0)], tmp_path / "run")
    assert "in every inference: " in hypothesis.claim and len(hypothesis.evidence) == 2


def test_what_hardly_matters_is_no_cause(tmp_path: Path) -> None:
    assert found([model("bfloat16", PRODUCTS), packed(0.5)], tmp_path / "run") == []


def test_nothing_is_claimed_against_a_baseline_that_unpacks_too(tmp_path: Path) -> None:
    baseline = replace(packed(60.0), name="gptq-8bit")
    assert found([baseline, packed(60.0)], tmp_path / "run") == []


def test_ops_that_were_not_timed_are_no_evidence(tmp_path: Path) -> None:
    world = World([model("bfloat16", PRODUCTS), packed(60.0)], manifest={"profile": {"protocol": {"profiled": False}}})
    assert not list(hypotheses(world.record(tmp_path / "run"), [CAUSE]))


def unpacked_once(**entry: Any) -> dict[str, Any]:
    after = TorchLMInterventions().unpacked_once(VariantEntry(name="q", **entry))
    assert isinstance(after, dict)
    return after


def test_what_autogptq_made_is_loaded_from_its_folder() -> None:
    section = {"name": "q", "method": "gptq", "bits": 4, "group_size": 64, "library": "autogptq", "batch": 2}
    after = unpacked_once(section=section, path="/made/q", options={"dtype": "bfloat16"})
    assert after == {
        "name": "q+dequantized",
        "file": "/made/q",
        "kernel": "dequantized",
        "dtype": "bfloat16",
        "batch": 2,
    }
    task = {"kind": "lastword", "dataset": "passages"}
    profile = validate({"name": "p", "task": task, "variants": [after]}, "test")
    assert resolved(profile).variants[0]["library"] == "gptqmodel"


def test_a_finished_file_keeps_its_name() -> None:
    after = unpacked_once(section={"name": "q", "file": "/some/folder", "library": "gptqmodel"})
    assert after == {
        "name": "q+dequantized",
        "file": "/some/folder",
        "library": "gptqmodel",
        "kernel": "dequantized",
    }

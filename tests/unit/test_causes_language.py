"""Causes of language models on known worlds: slow number formats, overflow, all layers alike, no fast kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import quantized_tensors, write_checkpoint
from planted.cases_language import linear, model, unpacking
from planted.world import PlantedOp, PlantedVariant, World, hypotheses
from qprof.findings.causes import (
    all_layers_alike,
    dequantization,
    no_fast_kernel,
    overflow,
    slow_number_format,
    too_few_bits,
    unpacks_no_more,
)
from qprof.findings.causes.base import Cause, Hypothesis
from qprof.findings.op_costs import SURROUNDINGS
from qprof.record.ceilings import COMPUTE_UNIT, Ceiling
from qprof.record.manifest import RecordedProfile, SplitFacts, Timing, VariantEntry
from qprof.record.rows import LAYER_ERROR_COLUMNS, LayerErrorRow
from qprof.runtimes.interventions import Impossible, OtherKernel, Section
from qprof.runtimes.torch_lm.interventions import TorchLMInterventions
from qprof.runtimes.torch_lm.other_forms import faster_kernel


def found(made: World, cause: Cause, folder: Path) -> list[Hypothesis]:
    return [claim.hypothesis for claim in hypotheses(made.record(folder), [cause])]


# -- float16 without fast kernels -------------------------------------------------------------------------------------


def products(us: float) -> list[PlantedOp]:
    return [linear(n, us, macs=2_000_000, weight_bytes=400_000) for n in range(8)]


def formats(half_us: float, base: str = "float32", **rates: float) -> World:
    ceilings = [asdict(Ceiling("compute", "matmul", name, COMPUTE_UNIT, "", rate)) for name, rate in rates.items()]
    variants = [model("float32", products(40.0), base), model("float16", products(half_us), "float16")]
    return World(variants, manifest={"ceilings": {"torch_lm": ceilings}})


def test_float16_is_slow_where_the_machine_multiplies_slowly_in_it(tmp_path: Path) -> None:
    (hypothesis,) = found(formats(160.0, float32=50.0, float16=12.0), slow_number_format.CAUSE, tmp_path / "run")
    assert "12 GMAC/s" in hypothesis.claim and "50 in float32" in hypothesis.claim
    assert hypothesis.mechanism == "rate" and len(hypothesis.ops) == 8
    assert hypothesis.effect is not None and hypothesis.effect.value == pytest.approx(960.0, rel=0.1)
    assert hypothesis.intervention is not None
    (section,) = hypothesis.intervention.variants
    assert (section["name"], section["method"]) == ("float16+float32", "float32")
    prediction = hypothesis.intervention.prediction
    assert prediction.relative and prediction.expected == pytest.approx(math.log(340.0 / 1300.0), abs=0.05)


@pytest.mark.parametrize(
    "made",
    [
        formats(160.0, float32=50.0, float16=40.0),  # the machine is as fast in it
        formats(160.0, float32=50.0),  # not known
        formats(41.0, float32=50.0, float16=12.0),  # nothing is slower
        formats(20.0, float32=50.0, float16=12.0),
        formats(160.0, base="float16", float32=50.0, float16=12.0),  # both compute in it
    ],
)
def test_nothing_is_said_of_a_format_that_is_not_slow(made: World, tmp_path: Path) -> None:
    assert found(made, slow_number_format.CAUSE, tmp_path / "run") == []


# -- layers -----------------------------------------------------------------------------------------------------------

ROWS, LAYERS = 60, 10
NAMES = [
    name
    for n in range(4)
    for name in (f"model.layers.{n}", f"model.layers.{n}.mlp", f"model.layers.{n}.mlp.up", f"model.layers.{n}.mlp.down")
]
NAMES = ["LlamaForCausalLM", *NAMES, "lm_head"]


@dataclass(frozen=True)
class LayersWorld(World):
    """Layers of a model by name: what is told of each."""

    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def layer_errors(self, seed: int, profile: RecordedProfile) -> list[LayerErrorRow]:
        rows = []
        for name, told in self.layers.items():
            op = f"inference/{name}"
            known = {"variant": "b", "op": op, "baseline_op": op, "name": name, "type": "Linear", "samples": 2}
            rows.append(LayerErrorRow(**(dict.fromkeys(LAYER_ERROR_COLUMNS) | known | {"count": 9} | dict(told))))
        return rows


def layered(
    layers: Mapping[str, Mapping[str, Any]], scores: Sequence[Mapping[str, Sequence[float]]], quantization: str | None
) -> LayersWorld:
    variants = [
        PlantedVariant(
            name,
            [PlantedOp(layer, "Linear", 20.0, quantization=text) for layer in layers],
            runtime="torch_lm",
            options={"dtype": "bfloat16" if name == "a" else "float16", "batch": 1},
            section={"method": "bfloat16" if name == "a" else "float16"},
            sample_scores=score,
            summary_scores={
                "accuracy": float(np.mean(score["correct"])),
                "not_finite": float(np.mean(score["not_finite"])),
            },
        )
        for name, score, text in zip("ab", scores, (None, quantization), strict=True)
    ]
    return LayersWorld(variants, rounds=5, layers=layers, manifest={"score_columns": ["accuracy"]})


def rows(right: float, broken: float = 0.0) -> dict[str, list[float]]:
    return {
        "correct": [float(n < right * ROWS) for n in range(ROWS)],
        "not_finite": [float(n < broken * ROWS) for n in range(ROWS)],
    }


def overflowing(first: str) -> dict[str, dict[str, Any]]:
    """Nothing is finite from a layer on, and in what holds one of these."""
    begin = NAMES.index(first)
    broken = set(NAMES[begin:])
    return {
        name: {"nonfinite": int(name in broken or name == NAMES[0] or any(b.startswith(f"{name}.") for b in broken))}
        for name in NAMES
    }


def test_overflow_begins_at_the_first_layer_and_its_block_is_widened(tmp_path: Path) -> None:
    made = layered(overflowing("model.layers.2.mlp.up"), [rows(0.9), rows(0.0, 0.8)], None)
    (hypothesis,) = found(made, overflow.CAUSE, tmp_path / "run")
    assert "infinities or NaN in 80.0% of the rows" in hypothesis.claim and "65504" in hypothesis.claim
    assert "begins in model.layers.2.mlp.up, a part of model.layers.2.mlp" in hypothesis.claim
    assert hypothesis.intervention is not None
    (section,) = hypothesis.intervention.variants
    assert section["wide_from"] == "model.layers.2.mlp"
    prediction = hypothesis.intervention.prediction
    assert (prediction.figure, prediction.low, prediction.high) == (
        "not_finite",
        pytest.approx(-0.88),
        pytest.approx(-0.72),
    )


def test_overflow_between_layers_is_that_of_what_holds_them(tmp_path: Path) -> None:
    """All parts of a decoder layer are finite, and what it adds up is not."""
    layers = overflowing("model.layers.3")
    for name in ("model.layers.3.mlp", "model.layers.3.mlp.up", "model.layers.3.mlp.down"):
        layers[name] = {"nonfinite": 0}
    (hypothesis,) = found(layered(layers, [rows(0.9), rows(0.0, 1.0)], None), overflow.CAUSE, tmp_path / "run")
    assert "begins in model.layers.3:" in hypothesis.claim


def test_a_baseline_that_overflows_as_well_and_sound_rows_say_nothing(tmp_path: Path) -> None:
    layers = overflowing("model.layers.2.mlp.up")
    for number, scores in enumerate(([rows(0.0, 1.0)] * 2, [rows(0.9), rows(0.8)])):
        assert found(layered(layers, scores, None), overflow.CAUSE, tmp_path / str(number)) == []


def alike(weights_db: Sequence[float], cosine: float = 0.999) -> dict[str, dict[str, Any]]:
    return {
        f"model.layers.{n}.mlp.up": {"weight_sqnr_db": db, "own_sqnr_db": db, "own_cosine": cosine, "nonfinite": 0}
        for n, db in enumerate(weights_db)
    }


INT4 = "int4 weights, group 64, bfloat16 activations"


def test_all_layers_wrong_alike_are_no_single_layer_and_no_rounding(tmp_path: Path) -> None:
    off = 20.0 * math.log10(1.0 / 1.5)  # two and a half times as large
    made = layered(alike([off + 0.01 * n for n in range(LAYERS)]), [rows(0.9), rows(0.1)], INT4)
    (hypothesis,) = found(made, all_layers_alike.CAUSE, tmp_path / "run")
    assert (
        "in all 10 quantized layers alike, not in one" in hypothesis.claim
        and "4 bits leave some 19 dB" in hypothesis.claim
    )
    assert "about 2.5 times as large" in hypothesis.claim and len(hypothesis.ops) == LAYERS
    assert found(made, too_few_bits.CAUSE, tmp_path / "again") == []


def test_outputs_that_point_elsewhere_are_another_reading(tmp_path: Path) -> None:
    made = layered(alike([1.0] * LAYERS, cosine=0.6), [rows(0.9), rows(0.1)], INT4)
    (hypothesis,) = found(made, all_layers_alike.CAUSE, tmp_path / "run")
    assert "cosine 0.60" in hypothesis.claim and "format" in hypothesis.claim


@pytest.mark.parametrize(
    ("weights", "right"),
    [
        ([20.0] * LAYERS, 0.1),  # what four bits leave
        ([-3.0, *[20.0] * (LAYERS - 1)], 0.1),  # one layer
        ([-3.0] * (LAYERS // 2) + [8.0] * (LAYERS // 2), 0.1),  # unlike one another
        ([-3.0] * LAYERS, 0.9),  # nothing was lost
        ([-3.0] * 5, 0.1),  # too few layers to speak of all
    ],
)
def test_layers_that_are_not_all_wrong_alike(weights: list[float], right: float, tmp_path: Path) -> None:
    made = layered(alike(weights), [rows(0.9), rows(right)], INT4)
    assert found(made, all_layers_alike.CAUSE, tmp_path / "run") == []


# -- kernels ----------------------------------------------------------------------------------------------------------


def packed(folder: Path, bits: int, **section: Any) -> VariantEntry:
    config = {"bits": bits, "group_size": 64, "desc_act": False, "sym": True, "quant_method": "gptq"}
    config |= {"checkpoint_format": "gptq"}
    path = write_checkpoint(folder, quantized_tensors(bits), quantization_config=config)
    made = {"name": "b", "file": str(path), "kernel": "", **section}
    return VariantEntry(
        name="b", path=str(path), section=made, options={"kernel": "torch", "dtype": "bfloat16", "device": "cpu"}
    )


def test_the_kernel_that_takes_four_bits_is_named(tmp_path: Path) -> None:
    answer = faster_kernel(packed(tmp_path / "four", 4))
    assert isinstance(answer, OtherKernel) and answer.kernel == "torch-aten" and answer.refuses == ""
    assert not isinstance(answer.section, Impossible) and answer.section["kernel"] == "torch-aten"


def test_why_no_fast_kernel_takes_two_bits(tmp_path: Path) -> None:
    answer = faster_kernel(packed(tmp_path / "two", 2))
    assert isinstance(answer, OtherKernel) and "4 bits only" in answer.refuses and answer.change == "bits 4"
    assert isinstance(answer.section, Impossible) and "ready-made" in answer.section.reason


@pytest.mark.parametrize(
    ("method", "faster"), [("gptq-2bit", "gptq-4bit"), ("rtn-2bit-g64", "rtn-4bit-g64"), ("foem-2bit", "foem-4bit")]
)
def test_what_can_be_made_again_is_made_in_a_width_that_a_fast_kernel_takes(
    tmp_path: Path, method: str, faster: str
) -> None:
    made = faster_kernel(packed(tmp_path / "made", 2, file="", method=method))
    assert isinstance(made, OtherKernel) and not isinstance(made.section, Impossible)
    assert (made.section["method"], made.section["kernel"]) == (faster, "torch-aten")


def test_a_kernel_that_does_not_unpack_has_none_that_is_faster(tmp_path: Path) -> None:
    entry = packed(tmp_path / "four", 4)
    entry.options["kernel"] = "torch-aten"
    assert isinstance(faster_kernel(entry), Impossible)


def fast_kernel(monkeypatch: pytest.MonkeyPatch, refuses: str = "") -> None:
    def answer(_: TorchLMInterventions, entry: VariantEntry) -> OtherKernel:
        section: Section = {**entry.section, "name": f"{entry.name}+torch-aten", "kernel": "torch-aten"}
        return OtherKernel(section, "torch-aten", refuses, "bits 4" if refuses else "")

    monkeypatch.setattr(TorchLMInterventions, "faster_kernel", answer)


def unpacks(alone_us: dict[str, float] | None = None) -> PlantedVariant:
    """8 linears of 60 us of unpacking and 40 us of a product, in a latency of 820 us."""
    ops = []
    for n, product in enumerate(products(40.0)):
        whole = replace(product, type="TorchLinear", us=0.0, macs=0)
        parts = replace(unpacking(n, 60.0), parent=whole.name), replace(product, name=f"{whole.name}/matmul")
        ops += [whole, *(replace(part, parent=whole.name) for part in parts)]
    timing = Timing(split={"inference": SplitFacts(how="in situ", products_us=alone_us)})
    return replace(model("gptq-2bit", ops, timing=timing), section={"method": "gptq-2bit"})


@pytest.mark.parametrize("refuses", ["", "kernel torch-aten computes 4 bits only"])
def test_the_unpacking_is_laid_to_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: str) -> None:
    fast_kernel(monkeypatch, refuses)
    variants = [model("bfloat16", products(40.0)), unpacks()]
    (hypothesis,) = found(World(variants), no_fast_kernel.CAUSE, tmp_path / "run")
    assert "torch-aten" in hypothesis.claim and (not refuses or refuses in hypothesis.claim)
    assert hypothesis.intervention is not None
    prediction = hypothesis.intervention.prediction
    # It is then as fast as with its weights unpacked once: 340 us are left, or 160 us less, which half of the products'
    # time is, as half of the bytes need not be read.
    assert prediction.relative and prediction.value == pytest.approx(math.log(260.0 / 820.0), abs=0.03)
    assert prediction.low < math.log(340.0 / 820.0) < prediction.high < math.log(480.0 / 820.0)
    nothing = [model("bfloat16", products(40.0)), model("float16", products(40.0))]
    assert found(World(nothing), no_fast_kernel.CAUSE, tmp_path / "none") == []


def test_the_linears_are_to_take_what_their_products_take_alone_in_the_other_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 820 us 800 are the linears', which take 700 alone in the kernel that need not unpack: 100 us go, no more."""
    fast_kernel(monkeypatch)
    variants = [model("bfloat16", products(40.0)), unpacks({"dequantized": 250.0, "torch-aten": 700.0})]
    (hypothesis,) = found(World(variants), no_fast_kernel.CAUSE, tmp_path / "run")
    assert hypothesis.intervention is not None and hypothesis.effect is not None
    prediction = hypothesis.intervention.prediction
    assert prediction.value == pytest.approx(math.log(720.0 / 820.0), abs=0.02)
    assert (prediction.high - prediction.low) / (2 * 1.96) == pytest.approx(SURROUNDINGS * 700.0 / 720.0, rel=0.2)
    assert hypothesis.effect.value == pytest.approx(100.0, abs=15.0)  # though 480 us are unpacking
    assert hypothesis.effect.low is not None and hypothesis.effect.low < 0.0


def test_a_kernel_that_is_slower_at_these_shapes_is_none_that_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast_kernel(monkeypatch)
    variants = [model("bfloat16", products(40.0)), unpacks({"torch-aten": 900.0})]
    assert found(World(variants), no_fast_kernel.CAUSE, tmp_path / "run") == []


def test_a_baseline_that_unpacks_is_to_take_what_plain_products_take_alone(tmp_path: Path) -> None:
    """820 us, of which the products take 320 behind the unpacking and 200 alone: 220 us are left, not 340."""
    variants = [unpacks({"dequantized": 200.0}), model("bfloat16", products(40.0))]
    (hypothesis,) = found(World(variants), unpacks_no_more.CAUSE, tmp_path / "run")
    assert hypothesis.intervention is not None
    prediction = hypothesis.intervention.prediction
    assert prediction.value == pytest.approx(math.log(220.0 / 820.0), abs=0.03)
    assert prediction.a == "gptq-2bit" and hypothesis.intervention.variants[0]["kernel"] == "dequantized"


def test_unpacked_in_another_type_the_linears_are_to_take_what_plain_products_take_alone(tmp_path: Path) -> None:
    """A baseline in float32 says nothing of products in bfloat16: they take 250 us alone, and 270 us are left."""
    other = replace(model("float32", products(90.0)), options={"dtype": "float32", "kernel": ""})
    ours = unpacks({"dequantized": 250.0})
    variants = [other, replace(ours, options={**ours.options, "dtype": "bfloat16"})]
    (hypothesis,) = found(World(variants), dequantization.CAUSE, tmp_path / "run")
    assert hypothesis.intervention is not None
    assert hypothesis.intervention.prediction.value == pytest.approx(math.log(270.0 / 820.0), abs=0.03)

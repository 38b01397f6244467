"""Other work, other settings, other kernels: which rows are claimed, and what is to bear the claims out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planted.cases_language import linear, model
from planted.litert_machine import Layer, Machine
from planted.world import Noise, PlantedOp, PlantedVariant, World, hypotheses
from qprof.findings.causes import entered_delegate, inserted_conversions, other_kernels, other_settings, other_work
from qprof.findings.causes.base import Cause, Hypothesis
from qprof.findings.op_costs import WORKERS, standard_error
from qprof.record.manifest import VariantEntry
from qprof.record.ops import FUSED
from qprof.runtimes.interventions import Impossible
from qprof.runtimes.litert.interventions import LiteRTInterventions

F32 = "Convolution (NHWC, F32) IGEMM"


def op(name: str, us: float, op_type: str = "CONV_2D", **facts: Any) -> PlantedOp:
    known = {"delegate": "XNNPACK", "kernel": F32, "macs": 1_000_000, **facts}
    return PlantedOp(name, op_type, us, **known)


def variant(name: str, ops: Sequence[PlantedOp], **options: Any) -> PlantedVariant:
    known = {"threads": 1, "delegate": "xnnpack", "device": "cpu", **options}
    return PlantedVariant(name, ops, section={"method": "int8"}, options=known)


def found(folder: Path, cause: Cause, *variants: PlantedVariant, same_file: bool = False) -> list[Hypothesis]:
    run = World(list(variants)).record(folder / "run")
    for entry in run.variants if same_file else ():
        entry.sha256 = "0" * 64
    return [claim.hypothesis for claim in hypotheses(run, [cause])]


MODEL = [op("a", 400.0), op("b", 300.0)]


def test_inserted_ops_are_claimed_with_their_time_and_told_why_they_cannot_be_cut_out(tmp_path: Path) -> None:
    mods = [op(f"mod{i}", 150.0, "FLOOR_MOD", delegate=None, kernel="builtin", macs=0) for i in range(3)]
    (hypothesis,) = found(tmp_path, other_work.CAUSE, variant("float32", MODEL), variant("int8", [*MODEL, *mods]))
    assert hypothesis.claim.startswith("int8 has 3 FLOOR_MOD that float32 has not: ")
    assert hypothesis.effect is not None and hypothesis.effect.value == pytest.approx(450.0, rel=0.05)
    assert hypothesis.mechanism == "work" and sorted(op.name for op in hypothesis.ops) == ["mod0", "mod1", "mod2"]
    assert {op.type for op in hypothesis.ops} == {"FLOOR_MOD"}
    assert hypothesis.intervention is None and "the ops cannot be cut out" in str(hypothesis.untestable)


def test_what_a_neighbour_does_as_well_goes_with_the_chain_that_it_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MAXIMUM and MINIMUM become one kernel: the first has no time, and without it the second cannot be cut out."""
    asked: list[list[str]] = []

    def bypassed(_self: object, entry: VariantEntry, names: Collection[str]) -> Any:
        asked.append(sorted(names))
        return Impossible("nothing would read it") if len(names) == 1 else {"name": "cut", "file": "cut.tflite"}

    monkeypatch.setattr(LiteRTInterventions, "bypassed", bypassed)
    chain = [op("max", 0.0, "MAXIMUM", kernel=FUSED, macs=0), op("min", 150.0, "MINIMUM", kernel="Clamp", macs=0)]
    (hypothesis,) = found(tmp_path, other_work.CAUSE, variant("float32", MODEL), variant("int8", [*MODEL, *chain]))
    assert asked == [["min"], ["max", "min"]]
    assert hypothesis.claim.startswith("int8 has 1 MINIMUM that float32 has not")
    assert hypothesis.intervention is not None and hypothesis.intervention.variants[0]["name"] == "cut"


def test_a_branch_that_nothing_reads_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer whose output is one more of the model's has nothing behind it that could read its input instead."""
    after = {"name": "cut", "file": "cut.tflite"}
    monkeypatch.setattr(LiteRTInterventions, "bypassed", lambda *_: Impossible("its output would be of another shape"))
    monkeypatch.setattr(LiteRTInterventions, "following", lambda _self, _entry, names: {*names})
    monkeypatch.setattr(LiteRTInterventions, "cut_off", lambda *_: after)
    pair = variant("float32", MODEL), variant("int8", [*MODEL, op("debug", 200.0)])
    (hypothesis,) = found(tmp_path / "a", other_work.CAUSE, *pair)
    assert hypothesis.intervention is not None and hypothesis.intervention.variants == (after,)
    assert hypothesis.intervention.does == "cut off the inserted ops of int8"
    monkeypatch.setattr(LiteRTInterventions, "following", lambda _self, _entry, names: {*names, "b"})
    (hypothesis,) = found(tmp_path / "b", other_work.CAUSE, *pair)
    assert hypothesis.intervention is None and hypothesis.untestable == "its output would be of another shape"


def test_nothing_is_foretold_to_get_slower_by_doing_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiteRTInterventions, "bypassed", lambda *_: {"name": "cut", "file": "cut.tflite"})
    pair = variant("float32", MODEL), variant("int8", [*MODEL, op("mod", 60.0, "FLOOR_MOD", macs=0)])
    (hypothesis,) = found(tmp_path / "a", other_work.CAUSE, *pair)
    assert hypothesis.intervention is not None and hypothesis.intervention.prediction.high < 0.0
    monkeypatch.setattr(other_work, "with_their_train", lambda *_: (-240.0, 1.0))
    (hypothesis,) = found(tmp_path / "b", other_work.CAUSE, *pair)
    assert hypothesis.intervention is None and "in the other direction" in str(hypothesis.untestable)


def test_where_nothing_else_differs_the_whole_difference_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 us are the op's own; 30 us more lie between the ops, which it divides. All 90 us go, and no more need be known
    of them than how exactly the difference of the clean latencies was measured."""
    monkeypatch.setattr(LiteRTInterventions, "bypassed", lambda *_: {"name": "cut", "file": "cut.tflite"})
    longer = replace(variant("int8", [*MODEL, op("mod", 60.0, "FLOOR_MOD", macs=0)]), outside_us=50.0)
    for a, b in ((variant("float32", MODEL), longer), (replace(longer, name="float32"), variant("int8", MODEL))):
        run = World([a, b], Noise(0.003)).record(tmp_path / a.name / str(len(a.ops)))
        (claim,) = hypotheses(run, [other_work.CAUSE])
        assert claim.hypothesis.intervention is not None
        prediction = claim.hypothesis.intervention.prediction
        assert prediction.value == pytest.approx(math.log(720.0 / 810.0), abs=0.012)
        found = claim.comparison.decomposition
        assert found is not None
        left_us = claim.comparison.latency.a.value if b is longer else claim.comparison.latency.b.value  # type: ignore
        error = math.hypot(standard_error(found.difference_us) / left_us, WORKERS)
        assert prediction.high - prediction.value == pytest.approx(1.96 * error, rel=0.05)


def test_what_stands_in_an_ops_place_is_cut_out_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A HARD_SWISH of 50 us is made of three ops of 60 us, the last of which gives the tensor that it gave."""
    monkeypatch.setattr(LiteRTInterventions, "bypassed", lambda *_: {"name": "cut", "file": "cut.tflite"})
    whole = [*MODEL, op("swish", 50.0, "HARD_SWISH", macs=0)]
    parts = [op(name, 60.0, kind, macs=0) for name, kind in (("add", "ADD"), ("six", "MINIMUM"), ("swish", "MUL"))]
    claims = found(tmp_path, other_work.CAUSE, variant("float32", whole), variant("int8", [*MODEL, *parts]))
    left = {}
    for claim in claims:
        assert claim.intervention is not None and claim.intervention.prediction.value is not None
        left[claim.intervention.prediction.a] = math.exp(claim.intervention.prediction.value)
    assert left["int8"] == pytest.approx(720.0 / 900.0, abs=0.02)
    assert left["float32"] == pytest.approx(720.0 / 770.0, abs=0.02)


def test_beside_other_causes_an_op_takes_its_share_of_what_no_op_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 us and 180 us of another op are known, 40 us lie between the ops: a quarter of them goes."""
    monkeypatch.setattr(LiteRTInterventions, "bypassed", lambda *_: {"name": "cut", "file": "cut.tflite"})
    slower = op("b", 480.0, kernel="QS8", quantization="int8 weights, int8 activations")
    longer = replace(variant("int8", [MODEL[0], slower, op("mod", 60.0, "FLOOR_MOD", macs=0)]), outside_us=60.0)
    run = World([variant("float32", MODEL), longer], Noise(0.003)).record(tmp_path / "run")
    (claim,) = [one for one in hypotheses(run, [other_work.CAUSE]) if "FLOOR_MOD" in one.hypothesis.claim]
    assert claim.hypothesis.intervention is not None
    prediction = claim.hypothesis.intervention.prediction
    assert prediction.value == pytest.approx(math.log(930.0 / 1000.0), abs=0.012)
    # What it leaves is three quarters of 40 us in doubt, one standard error.
    assert prediction.high - prediction.value == pytest.approx(1.96 * 30.0 / 930.0, rel=0.35)


def test_ops_that_are_gone_make_the_variant_faster(tmp_path: Path) -> None:
    (hypothesis,) = found(tmp_path, other_work.CAUSE, variant("float32", MODEL), variant("int8", MODEL[:1]))
    assert hypothesis.claim.startswith("float32 has 1 CONV_2D that int8 has not: ")
    assert hypothesis.effect is not None and hypothesis.effect.value == pytest.approx(-300.0, rel=0.06)


def test_more_work_in_the_same_op_is_told_and_cannot_be_taken_back(tmp_path: Path) -> None:
    wider = [op("a", 1600.0, macs=4_000_000), MODEL[1]]
    (hypothesis,) = found(tmp_path, other_work.CAUSE, variant("float32", MODEL), variant("int8", wider))
    assert "1 CONV_2D of int8 do more work than in float32" in hypothesis.claim
    assert hypothesis.effect is not None and hypothesis.effect.value == pytest.approx(1200.0, rel=0.06)
    assert hypothesis.intervention is None


def test_the_same_work_is_no_other_work(tmp_path: Path) -> None:
    slower = [op("a", 800.0, kernel="other"), MODEL[1]]
    assert found(tmp_path, other_work.CAUSE, variant("float32", MODEL), variant("int8", slower)) == []


def test_one_file_with_more_threads_is_to_be_the_baseline_again_with_as_many(tmp_path: Path) -> None:
    halved = [op("a", 210.0), op("b", 160.0)]
    pair = variant("float32", MODEL), variant("int8", halved, threads=2)
    (hypothesis,) = found(tmp_path, other_settings.CAUSE, *pair, same_file=True)
    assert "int8 is run with threads 2 instead of 1" in hypothesis.claim and hypothesis.mechanism == "settings"
    assert hypothesis.effect is not None and hypothesis.effect.value == pytest.approx(-330.0, rel=0.06)
    assert hypothesis.intervention is not None
    (section,) = hypothesis.intervention.variants
    assert section["threads"] == 1
    prediction = hypothesis.intervention.prediction
    assert prediction.expected == pytest.approx(math.log(720.0 / 390.0), rel=0.05) and prediction.low > 0.4


def test_another_delegate_is_flipped_back(tmp_path: Path) -> None:
    slow = [op("a", 1400.0, delegate=None, kernel="builtin"), op("b", 900.0, delegate=None, kernel="builtin")]
    pair = variant("float32", MODEL), variant("int8", slow, delegate="none")
    (hypothesis,) = found(tmp_path, other_settings.CAUSE, *pair, same_file=True)
    assert hypothesis.intervention is not None
    assert hypothesis.intervention.variants[0]["delegate"] == "xnnpack"
    assert hypothesis.intervention.prediction.expected == pytest.approx(math.log(720.0 / 2320.0), rel=0.05)


def test_other_files_with_other_settings_are_told_to_be_undecided(tmp_path: Path) -> None:
    pair = variant("float32", MODEL), variant("int8", [op("a", 210.0, kernel="x"), op("b", 160.0)], threads=2)
    (hypothesis,) = found(tmp_path, other_settings.CAUSE, *pair)
    assert hypothesis.intervention is None and "the files differ as well" in str(hypothesis.untestable)


def test_another_optimization_of_one_file_is_taken_back_with_the_ops_that_it_made(tmp_path: Path) -> None:
    apart = [*MODEL, op("erf", 200.0, "Erf", macs=0), op("cast", 60.0, "Cast", macs=0)]
    pair = variant("float32", MODEL, optimization="all"), variant("int8", apart, optimization="none")
    settings, work, inserted = (
        found(tmp_path / name, cause, *pair, same_file=True)
        for name, cause in (("a", other_settings.CAUSE), ("b", other_work.CAUSE), ("c", inserted_conversions.CAUSE))
    )
    assert not work and not inserted  # the settings' doing is claimed once
    (hypothesis,) = settings
    assert hypothesis.effect is not None and hypothesis.effect.value == pytest.approx(260.0, rel=0.06)
    assert hypothesis.intervention is not None
    assert hypothesis.intervention.variants[0]["optimization"] == "all"
    assert hypothesis.intervention.prediction.expected == pytest.approx(math.log(720.0 / 980.0), rel=0.05)


def test_ops_in_a_file_of_their_own_are_work_whatever_the_settings(tmp_path: Path) -> None:
    pair = variant("float32", MODEL), variant("int8", [*MODEL, op("erf", 200.0, "Erf", macs=0)], threads=2)
    (hypothesis,) = found(tmp_path, other_work.CAUSE, *pair)
    assert hypothesis.claim.startswith("int8 has 1 Erf that float32 has not")


def test_equal_settings_are_no_cause(tmp_path: Path) -> None:
    pair = variant("float32", MODEL), variant("int8", [op("a", 210.0, kernel="x"), op("b", 160.0)])
    assert found(tmp_path, other_settings.CAUSE, *pair) == []


def test_faster_kernels_are_claimed_and_left_in_float(tmp_path: Path) -> None:
    """Static int8: 400 us each become 150 us; the two conversions at the border tell what one costs."""
    table = {"float": 400.0, "static": 150.0}
    layers = [Layer(f"c{i}", "CONV_2D", table, table) for i in range(3)]
    run = Machine(layers, conversion_us=2.0).world("int8").record(tmp_path / "run")
    (hypothesis,) = [claim.hypothesis for claim in hypotheses(run, [other_kernels.CAUSE])]
    assert hypothesis.mechanism == "rate" and "do the same work faster in int8" in hypothesis.claim
    assert hypothesis.effect is not None and hypothesis.effect.value < 0.0
    assert hypothesis.untestable is None or "conversions" in hypothesis.untestable


def test_kernels_that_quantize_at_run_time_have_a_cause_of_their_own(tmp_path: Path) -> None:
    dynamic = [op("a", 900.0, kernel="Fully Connected (NC, QDU8, F32, QC8W) GEMM"), MODEL[1]]
    assert found(tmp_path, other_kernels.CAUSE, variant("float32", MODEL), variant("int8", dynamic)) == []


def test_products_in_the_place_of_others_are_one_claim_with_their_sum(tmp_path: Path) -> None:
    """A depthwise convolution that is gone made nothing faster: another layer came in its place."""
    before = [*MODEL, op("dw", 50.0, "DEPTHWISE_CONV_2D", macs=10_000)]
    after = [*MODEL, op("dense0", 900.0, "TRANSPOSE_CONV", macs=9_000_000), op("mod", 60.0, "FLOOR_MOD", macs=0)]
    found_ = found(tmp_path, other_work.CAUSE, variant("float32", before), variant("int8", after))
    replaced, inserted = found_
    assert replaced.claim.startswith("int8 has 1 TRANSPOSE_CONV in the place of 1 DEPTHWISE_CONV_2D of float32: +8")
    assert replaced.effect is not None and replaced.effect.value == pytest.approx(850.0, rel=0.06)
    assert replaced.intervention is None
    assert "FLOOR_MOD" in inserted.claim


def fitting(monkeypatch: pytest.MonkeyPatch, fits: Collection[str], beside: Mapping[str, Sequence[str]]) -> None:
    """The baseline's ops fit into the place of exactly these; `beside` as the runtime tells it, by name."""

    def part_from(_self: object, _entry: object, _baseline: object, out: Sequence[str], *_: object) -> Any:
        return {"name": "with-part"} if set(out) == set(fits) else Impossible("the part does not fit")

    def by_id(_self: object, _entry: object) -> dict[str, list[str]]:
        return {f"inference/{name}": [f"inference/{other}" for other in others] for name, others in beside.items()}

    monkeypatch.setattr(LiteRTInterventions, "part_from", part_from)
    monkeypatch.setattr(LiteRTInterventions, "beside", by_id)


def test_the_baselines_ops_are_put_in_the_place_of_those_that_do_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting(monkeypatch, ["b"], {})
    pair = variant("float32", MODEL), variant("int8", [MODEL[0], op("b", 600.0, macs=2_000_000)])
    (hypothesis,) = found(tmp_path, other_work.CAUSE, *pair)
    assert hypothesis.claim.startswith("1 CONV_2D of int8 do more work than in float32: +")
    assert hypothesis.intervention is not None
    assert hypothesis.intervention.does == "put float32's ops in the place of these"
    assert hypothesis.intervention.task == {"kind": "latency"}
    assert hypothesis.intervention.prediction.value == pytest.approx(math.log(720.0 / 1020.0), abs=0.03)


def test_ops_that_fit_together_alone_are_one_claim_and_others_are_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is made larger before an op, and smaller behind it; a FLOOR_MOD stands elsewhere."""
    fitting(monkeypatch, ["large", "b", "small"], {"b": ["large", "small", "a"], "a": ["mod", "b"], "mod": ["a"]})
    added = [op("large", 90.0, "RESIZE_BILINEAR", macs=0), op("small", 60.0, "AVERAGE_POOL_2D", macs=0)]
    mod = op("mod", 150.0, "FLOOR_MOD", macs=0)
    after = variant("int8", [mod, MODEL[0], added[0], op("b", 600.0, macs=2_000_000), added[1]])
    together, alone = found(tmp_path, other_work.CAUSE, variant("float32", MODEL), after)
    assert together.claim.startswith("int8 has 1 CONV_2D, 1 RESIZE_BILINEAR and 1 AVERAGE_POOL_2D in the place of 1")
    assert together.effect is not None and together.effect.value == pytest.approx(450.0, rel=0.06)
    assert together.intervention is not None and together.intervention.variants == ({"name": "with-part"},)
    assert together.intervention.prediction.value == pytest.approx(math.log(870.0 / 1320.0), abs=0.03)
    assert alone.claim.startswith("int8 has 1 FLOOR_MOD that float32 has not")


def split_swish() -> tuple[PlantedVariant, PlantedVariant]:
    """HARD_SWISH as four ops, of which one is done by its neighbour; the last gives what HARD_SWISH gave."""
    chain = [
        op("plus", 40.0, "ADD", macs=0),
        op("max", 0.0, "MAXIMUM", kernel=FUSED, macs=0),
        op("min", 60.0, "MINIMUM", macs=0),
        op("swish", 90.0, "MUL", macs=0),
    ]
    before = [*MODEL, op("swish", 30.0, "HARD_SWISH", macs=0)]
    return variant("float32", before), variant("int8", [*MODEL, *chain, op("mod", 80.0, "FLOOR_MOD", macs=0)])


CHAIN = {"swish": ["min", "b"], "min": ["swish", "max"], "max": ["min", "plus"], "plus": ["max", "a"], "mod": ["a"]}


def test_what_went_and_what_gives_its_output_now_are_one_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two claims of other signs would be told to be about the same ops, and chance would say which counts."""
    fitting(monkeypatch, ["plus", "max", "min", "swish"], CHAIN)
    together, alone = found(tmp_path, other_work.CAUSE, *split_swish())
    assert together.claim.startswith("int8 has 1 MUL, 1 MINIMUM and 1 ADD in the place of 1 HARD_SWISH of float32: +1")
    assert together.effect is not None and together.effect.value == pytest.approx(160.0, rel=0.06)
    assert together.intervention is not None and together.intervention.variants == ({"name": "with-part"},)
    assert alone.claim.startswith("int8 has 1 FLOOR_MOD that float32 has not")


def test_where_the_ops_that_went_do_not_fit_each_kind_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitting(monkeypatch, [], CHAIN)
    claims = [claim.claim for claim in found(tmp_path, other_work.CAUSE, *split_swish())]
    assert ["float32 has 1 HARD_SWISH" in claim for claim in claims] == [False, True]
    assert claims[0].startswith("int8 has 1 MUL, 1 FLOOR_MOD, 1 MINIMUM and 1 other that float32 has not")


def test_ops_that_do_not_fit_together_either_are_told_kind_by_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting(monkeypatch, [], {"b": ["large"]})
    added = [op("large", 90.0, "RESIZE_BILINEAR", macs=0), op("b", 600.0, macs=2_000_000)]
    claims = found(tmp_path, other_work.CAUSE, variant("float32", MODEL), variant("int8", [MODEL[0], *added]))
    assert ["has 1 RESIZE" in claim.claim for claim in claims] == [True, False]
    assert claims[1].untestable == "the part does not fit"


def test_layers_that_a_language_model_has_more_of_are_named(tmp_path: Path) -> None:
    """A quantized linear's own extra work is no such thing: the model is the same one."""
    plain = model("shallow", [linear(n, 100.0, macs=2_000_000) for n in range(4)])
    deeper = model("deeper", [linear(n, 100.0, macs=2_000_000) for n in range(8)])
    (hypothesis,) = [
        claim.hypothesis for claim in hypotheses(World([plain, deeper]).record(tmp_path / "a"), [other_work.CAUSE])
    ]
    assert "deeper has 4 Conv1D that shallow has not" in hypothesis.claim and hypothesis.untestable
    rest = PlantedOp("model.layers.0.mlp.up_proj/other", "other in linear", 60.0)
    packed = model("packed", [*plain.ops, rest])
    assert not list(hypotheses(World([plain, packed]).record(tmp_path / "b"), [other_work.CAUSE]))


def test_the_same_format_at_another_rate_is_not_put_down_to_the_format(tmp_path: Path) -> None:
    """float32 on both sides: a layer without its activation fused is faster, and no number format made it so."""
    alike = variant("float32", MODEL), variant("int8", [op("a", 250.0, kernel="GEMM"), MODEL[1]])
    (hypothesis,) = found(tmp_path / "a", other_kernels.CAUSE, *alike)
    assert "in the same number format" in hypothesis.claim and "kernels of" not in hypothesis.claim
    assert hypothesis.intervention is None and "in float in both" in str(hypothesis.untestable)
    integers = op("a", 150.0, kernel="QS8", quantization="int8 weights, int8 activations")
    (hypothesis,) = found(tmp_path / "b", other_kernels.CAUSE, alike[0], variant("int8", [integers, MODEL[1]]))
    assert "in the kernels of int8 weights, int8 activations instead of float" in hypothesis.claim


def test_kernels_that_quantize_at_run_time_and_are_faster_are_claimed_here(tmp_path: Path) -> None:
    """int8 weights are a quarter of the bytes: a layer that is bound by them gains, whatever its activations cost."""
    kernel = "Fully Connected (NC, QD8, F32, QC8W) GEMM"
    faster = op("a", 60.0, kernel=kernel, quantization="int8 per-channel weights")
    (hypothesis,) = found(
        tmp_path / "a", other_kernels.CAUSE, variant("float32", MODEL), variant("int8", [faster, MODEL[1]])
    )
    assert "do the same work faster in int8" in hypothesis.claim
    assert hypothesis.effect is not None and hypothesis.effect.value == pytest.approx(-340.0, rel=0.06)
    assert hypothesis.intervention is not None  # nothing is converted around them, so their float form is foretold
    slower = op("a", 900.0, kernel=kernel, quantization="int8 per-channel weights")
    pair = variant("float32", MODEL), variant("int8", [slower, MODEL[1]])
    assert found(tmp_path / "b", other_kernels.CAUSE, *pair) == []


def test_ops_that_enter_the_delegate_are_claimed_and_the_gain_is_to_go_without_it(tmp_path: Path) -> None:
    outside = op("a", 900.0, delegate=None, kernel="builtin")
    pair = variant("float32", [outside, MODEL[1]]), variant("int8", MODEL)
    (hypothesis,) = found(tmp_path, entered_delegate.CAUSE, *pair)
    assert "1 op (CONV_2D) runs inside XNNPACK in int8 and outside of it in float32" in hypothesis.claim
    assert hypothesis.effect is not None and hypothesis.effect.value == pytest.approx(-500.0, rel=0.06)
    assert hypothesis.intervention is not None
    prediction = hypothesis.intervention.prediction
    assert prediction.versus == ("float32", "int8")
    assert prediction.expected == pytest.approx(math.log(1220.0 / 720.0), rel=0.05)
    assert [section["delegate"] for section in hypothesis.intervention.variants] == ["none", "none"]


def test_nothing_enters_a_delegate_that_the_baseline_is_run_without(tmp_path: Path) -> None:
    slow = [op("a", 1400.0, delegate=None, kernel="builtin"), op("b", 900.0, delegate=None, kernel="builtin")]
    pair = variant("float32", slow, delegate="none"), variant("int8", MODEL)
    assert found(tmp_path, entered_delegate.CAUSE, *pair, same_file=True) == []

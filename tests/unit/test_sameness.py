"""Two variants are one model where they do the same multiplications, and are said not to be where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planted.world import PlantedOp, PlantedVariant, World
from qprof.findings.comparison import Comparison
from qprof.findings.op_runs import per_inference
from qprof.findings.sameness import Sameness, _common, sameness
from qprof.record.ops import OpMeta
from qprof.record.rows import LayerErrorRow


def conv(name: str, macs: int | None = 1_000_000) -> PlantedOp:
    return PlantedOp(name, "CONV_2D", 100.0, macs=macs)


def found(folder: Path, first: Sequence[PlantedOp], second: Sequence[PlantedOp], **errors: float) -> Sameness | None:
    run = World([PlantedVariant("float32", first), PlantedVariant("int8", second)]).record(folder / "run")
    run.__dict__["layer_errors"] = [error_row(name, db) for name, db in errors.items()]
    return sameness(Comparison(run, "float32", "int8", "inference"))


def error_row(name: str, weight_sqnr_db: float, own_cosine: float | None = None) -> LayerErrorRow:
    empty = dict.fromkeys(LayerErrorRow.__dataclass_fields__)
    known = {"variant": "int8", "op": name, "name": name, "type": "CONV_2D", "samples": 1}
    return LayerErrorRow(**{**empty, **known, "weight_sqnr_db": weight_sqnr_db, "own_cosine": own_cosine})  # type: ignore[arg-type]


def given(name: str, **known: object) -> LayerErrorRow:
    """What an op gives in use, and its weights, of two models that are compared."""
    return replace(error_row(name, 0.0), **{"op": f"inference/{name}", "weight_sqnr_db": None, "samples": 8, **known})  # type: ignore[arg-type]


LAYERS = [conv("a"), conv("b", 4_000_000), PlantedOp("relu", "RELU", 5.0, macs=0)]


def test_other_names_and_inserted_conversions_are_the_same_model(tmp_path: Path) -> None:
    quantized = [PlantedOp("q", "QUANTIZE", 3.0, macs=0), conv("x"), conv("y", 4_000_000)]
    same = found(tmp_path, LAYERS, quantized)
    assert same is not None and same.same and same.common == 1.0
    assert same.says == "float32 and int8 are the same model: 100% of the work is done in ops of the same size"


def test_a_wider_model_is_another(tmp_path: Path) -> None:
    same = found(tmp_path, LAYERS, [conv("a", 4_000_000), conv("b", 16_000_000)])
    assert same is not None and not same.same
    assert same.says.startswith("float32 and int8 are not the same model: int8 does 4 times the work of float32")


def test_a_model_with_a_layer_less_is_another(tmp_path: Path) -> None:
    same = found(tmp_path, LAYERS, [conv("b", 4_000_000)])
    assert same is not None and not same.same and same.common == pytest.approx(0.8)


def test_other_weights_are_another_model_and_rounded_ones_are_not(tmp_path: Path) -> None:
    other = found(tmp_path, LAYERS, LAYERS, a=-3.0, b=-2.0)
    assert other is not None and not other.same and "with other weights" in other.says and "-2 dB" in other.says
    rounded = found(tmp_path / "2", LAYERS, LAYERS, a=8.0, b=30.0)
    assert rounded is not None and rounded.same


@pytest.mark.parametrize(("cosine", "same"), [(0.99, True), (0.64, False), (0.0, False), (None, False)])
def test_weights_of_another_scale_are_the_same_model(tmp_path: Path, cosine: float | None, same: bool) -> None:
    """Twice as large, they are 0 dB near the baseline's; what they give points the same way."""
    run = World([PlantedVariant("float32", LAYERS), PlantedVariant("int8", LAYERS)]).record(tmp_path / "run")
    run.__dict__["layer_errors"] = [error_row(name, -0.1, cosine) for name in "ab"]
    told = sameness(Comparison(run, "float32", "int8", "inference"))
    assert told is not None and told.same is same


@pytest.mark.parametrize(("spoiled", "same"), [("a", True), ("ab", True), ("abc", False)])
def test_a_few_layers_with_other_weights_make_no_other_model(tmp_path: Path, spoiled: str, same: bool) -> None:
    """Of weights that are the baseline's bit by bit no distance is known, and they count as much as the others."""
    layers = [conv(name) for name in "abcde"]
    run = World([PlantedVariant("float32", layers), PlantedVariant("int8", layers)]).record(tmp_path / "run")
    run.__dict__["layer_errors"] = [
        error_row(name, -3.0) if name in spoiled else given(name, weight_identical=True) for name in "abcde"
    ]
    told = sameness(Comparison(run, "float32", "int8", "inference"))
    assert told is not None and told.same is same


@pytest.mark.parametrize(
    ("last", "same"), [({"identical": True}, True), ({"sqnr_db": 126.0}, True), ({"sqnr_db": 60.0}, False), ({}, False)]
)
def test_what_gives_the_same_numbers_is_the_same_model(tmp_path: Path, last: dict[str, object], same: bool) -> None:
    """Channels in another order between two layers; a kernel padded with zeros does more work in another graph."""
    wider = [conv("a", 9_000_000), conv("b", 4_000_000), PlantedOp("end", "SOFTMAX", 5.0, macs=0)]
    for number, second in enumerate((LAYERS, wider)):
        run = World([PlantedVariant("float32", LAYERS), PlantedVariant("int8", second)]).record(tmp_path / str(number))
        run.__dict__["layer_errors"] = [
            given("a", weight_sqnr_db=-3.0, sqnr_db=-1.0),
            given("b", weight_sqnr_db=-3.0, **last),
            given("end", identical=True),
        ]
        told = sameness(Comparison(run, "float32", "int8", "inference"))
        assert told is not None and told.same_numbers is same
        assert told.same is (same and second is LAYERS)
        if same and second is LAYERS:
            assert told.says == "float32 and int8 are the same model: b gives the same numbers in both, of 8 inputs"
        elif same:
            assert "compute the same numbers by graphs that differ: int8 does 2.6 times" in told.says


@pytest.mark.parametrize("structure", ["modules", "graph"])
def test_modules_were_compared_in_one_phase_for_all(tmp_path: Path, structure: str) -> None:
    wider = [conv("a", 9_000_000), conv("b", 4_000_000)]
    run = World([PlantedVariant("float32", LAYERS), PlantedVariant("int8", wider)]).record(tmp_path / "run")
    run.__dict__["layer_errors"] = [given("b", op="prefill/b", identical=True)]
    for entry in run.variants:
        entry.structure = structure  # type: ignore[assignment]
    told = sameness(Comparison(run, "float32", "int8", "inference"))
    assert told is not None and told.same_numbers is (structure == "modules")


def between(*types: str, after: Sequence[str] = ()) -> list[PlantedOp]:
    """Ops of these types between two products, and others behind the last."""
    middle = [PlantedOp(f"{kind}{n}", kind, 5.0, macs=0) for n, kind in enumerate(types)]
    return [conv("a"), *middle, conv("b"), *(PlantedOp(f"end{n}", kind, 5.0, macs=0) for n, kind in enumerate(after))]


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        # Swish in the place of a ReLU that is part of the product's op, and the other way round.
        (between(), between("LOGISTIC", "MUL"), "int8 computes 1 LOGISTIC, and float32 none of such functions"),
        (between("TANH", "TANH"), between(), "float32 computes 2 TANH, and int8 none of such functions"),
        (between(*["LOGISTIC"] * 9), between("LOGISTIC"), "float32 computes 9 LOGISTIC, and int8 1 of such functions"),
    ],
)
def test_another_function_between_the_products_is_another_model(
    tmp_path: Path, first: list[PlantedOp], second: list[PlantedOp], says: str
) -> None:
    other = found(tmp_path, first, second)
    assert other is not None and not other.same and other.common == 1.0
    assert other.says == f"float32 and int8 are not the same model: between the ops that multiply, {says}"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (between("HARD_SWISH"), between("ADD", "MAXIMUM", "MINIMUM", "MUL", "MUL")),
        (between("GELU"), between("MUL", "TANH", "ADD", "MUL")),
        (between("SOFTMAX"), between("EXP", "SUM", "DIV")),
        (between("LOGISTIC", "MUL"), between("DEQUANTIZE", "LOGISTIC", "QUANTIZE", "MUL")),
        # What stands at the end of one file alone, a loop or a cell that computes what it will.
        (between(after=["SOFTMAX"]), between()),
        (between("UNIDIRECTIONAL_SEQUENCE_LSTM"), between("LOGISTIC", "TANH", "MUL")),
        (between("RELU"), between()),
    ],
)
def test_a_function_that_is_written_otherwise_is_the_same_model(
    tmp_path: Path, first: list[PlantedOp], second: list[PlantedOp]
) -> None:
    same = found(tmp_path, first, second)
    assert same is not None and same.same


def test_models_that_multiply_nothing_are_told_by_their_types(tmp_path: Path) -> None:
    ops = [PlantedOp("p", "PAD", 5.0), PlantedOp("q", "ADD", 5.0)]
    same = found(tmp_path, ops, ops)
    assert same is not None and same.same
    other = found(tmp_path / "2", ops, [*ops, PlantedOp("r", "ADD", 5.0)])
    assert other is not None and not other.same


def test_ops_that_are_not_known_tell_nothing(tmp_path: Path) -> None:
    world = World(
        [PlantedVariant("float32", LAYERS), PlantedVariant("int8", LAYERS)],
        manifest={"profile": {"protocol": {"profiled": False}}},
    )
    assert sameness(Comparison(world.record(tmp_path / "run"), "float32", "int8", "inference")) is None


def test_one_file_twice_is_one_model_without_a_look_at_its_ops(tmp_path: Path) -> None:
    run = World([PlantedVariant("float32", LAYERS), PlantedVariant("int8", [conv("z", 7)])]).record(tmp_path / "run")
    for entry in run.variants:
        entry.sha256 = "0" * 64
    same = sameness(Comparison(run, "float32", "int8", "inference"))
    assert same is not None and same.same and same.says == "float32 and int8 are the same file"
    assert replace(same, same=False) != same


def op(name: str, macs: int, runs: float | None = None) -> OpMeta:
    return OpMeta(op=f"decode/{name}", name=name, type="Linear", index=0, macs=macs, runs=runs)


ATTENTION = op("layers.0.attn", 1000)
EXPERTS = [
    ATTENTION,
    *(op(f"layers.0.mlp.experts.{n}.{part}", 500, float(n < 2)) for n in range(4) for part in ("up", "down")),
]


@pytest.mark.parametrize(
    ("a", "b", "common"),
    [
        # Two of four experts ran: those that did not have done nothing.
        ([ATTENTION, op("layers.0.mlp.experts", 2000)], EXPERTS, 1.0),
        ([ATTENTION, op("layers.0.mlp.gate_up", 800)], [ATTENTION, *(op(f"layers.0.mlp.{n}", 400) for n in "gu")], 1.0),
        ([ATTENTION, op("layers.0.mlp.experts", 3000)], EXPERTS, 1000 / 4000),
        # The same sum, of other modules.
        (
            [op("layers.0.attn", 3000), op("layers.1.mlp", 1000)],
            [op("layers.0.attn", 1000), op("layers.1.mlp", 3000)],
            1,
        ),
        ([op("a.b.c.d.e.f", 3000)], [op("a.x", 3000), op("a.y", 10)], 3000 / 3010),
        ([op("a.b.c.d.e.f", 3000)], [op("a.x", 2000), op("a.y", 1000)], 0.0),
    ],
)
def test_what_stands_in_one_op_or_in_several_is_compared_in_sum(
    a: Sequence[OpMeta], b: Sequence[OpMeta], common: float
) -> None:
    assert _common(a, b, modules=True)[0] == pytest.approx(common)


def test_experts_count_as_often_as_they_ran() -> None:
    ops = [op("attn", 1000), op("experts.0.up", 500, 1.0), op("experts.1.up", 500, 0.0)]
    counts = np.array([[1, 2, 0], [1, 0, 0], [1, 1, 1]], float)
    found = per_inference(ops, counts, np.array([0, 0, 1]), "modules")
    assert [one.macs for one in found] == [1000, 500, 250] and [one.runs for one in found] == [None, 1.0, 0.5]
    # Elsewhere an op that stands in no subgraph runs once, whatever its kernel left of it.
    assert [one.macs for one in per_inference(ops, counts, np.array([0, 0, 1]))] == [1000, 500, 500]

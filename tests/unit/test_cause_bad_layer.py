"""When layers stand apart, what is claimed of them, and what must come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planted.cases_layers import LayerError, LayerWorld, layer, world
from qprof.findings import float_layers
from qprof.findings.causes import bad_layer, saturated_activations
from qprof.findings.causes.bad_layer import CAUSE, apart
from qprof.findings.causes.base import Cause, Hypothesis
from qprof.findings.comparison import Comparison


def hypotheses(folder: Path, made: LayerWorld, cause: Cause = CAUSE) -> list[Hypothesis]:
    return list(cause.hypotheses(Comparison(made.record(folder / "run"), "float32", "int8", "inference")))


@pytest.mark.parametrize(
    ("own", "count"),
    [
        ([15.0, *[38.0] * 9], 1),
        ([15.0, 16.0, 20.0, *[38.0] * 9], 3),
        ([15.0, 16.0, 17.0, 18.0, *[38.0] * 9], 0),  # four of thirteen are not few
        ([15.0, 16.0, 17.0, 18.0, *[38.0] * 40], 4),  # of forty-four they are
        ([15.0, 16.0, 17.0, 18.0, 19.0, *[38.0] * 40], 0),
        ([29.0, *[38.0] * 9], 0),  # not ten times the noise
        ([26.0, 28.0, 30.0, 32.0, 34.0, *[38.0] * 9], 0),  # no gap: the end of a row
        ([-762.0, 0.0, *[200.0] * 9], 2),  # one's weights are tiny, and the next one's huge to make up for it
        ([-20.0, *[5.0] * 9], 1),  # a wrong scale among two bits
        ([-12.0, *[-2.0] * 9], 0),  # all are others
        ([15.0, *[38.0] * 6], 0),  # too few layers to speak of others
    ],
)
def test_what_stands_apart(own: list[float], count: int) -> None:
    layers = [
        float_layers.LayerError(str(n), str(n), str(n), "CONV_2D", db, 0.0, (str(n),)) for n, db in enumerate(own)
    ]
    assert apart(layers) == layers[:count]


def test_the_claim_and_what_must_come_back(tmp_path: Path) -> None:
    (found,) = hypotheses(tmp_path, world({7: LayerError(14.0)}, {7: 0.2}))
    assert found.effect is not None and found.intervention is not None and found.untestable is None
    lost, prediction = -found.effect.value, found.intervention.prediction
    assert (prediction.figure, prediction.a, prediction.b) == ("accuracy", "int8", "int8+without-bad-layer")
    assert (prediction.low, prediction.high) == pytest.approx((0.5 * lost, 1.3 * lost))
    (section,) = found.intervention.variants
    assert (section["method"], section["skip_layers"]) == ("int8", [layer(7)])
    assert "in 1 of 24 layers" in found.claim and f"{layer(7)} (14.0 dB)" in found.claim
    noise = [one.value for one in found.evidence if "all layers' own noise" in one.what]
    assert 0.9 < noise[0] < 1.0


def test_of_two_float_models_one_spoiled_layer_stands_apart_from_those_that_compute_alike(tmp_path: Path) -> None:
    """A bias that was lost, a batch normalization folded wrongly: nothing is quantized, and one layer is to blame."""
    made = world({7: LayerError(3.0)}, {7: 0.2})
    float32, int8 = made.variants
    unquantized = replace(int8, ops=[replace(op, quantization=None) for op in int8.ops])
    (found,) = hypotheses(tmp_path / "spoiled", replace(made, variants=[float32, unquantized]))
    assert "in 1 of 24 layers" in found.claim and f"{layer(7)} (3.0 dB)" in found.claim
    sound = replace(made, variants=[float32, unquantized], errors={})
    assert hypotheses(tmp_path / "sound", sound) == []
    assert len(float_layers.layer_errors(sound.record(tmp_path / "run"), "int8")) == 0  # nothing to leave in float


def test_layers_that_compute_the_same_have_no_decibels(tmp_path: Path) -> None:
    made = world({7: LayerError(3.0)}, {7: 0.2})
    float32, int8 = made.variants
    unquantized = replace(int8, ops=[replace(op, quantization=None) for op in int8.ops])
    run = replace(made, variants=[float32, unquantized]).record(tmp_path / "run")
    (rounded,) = CAUSE.hypotheses(Comparison(run, "float32", "int8", "inference"))
    assert "dB in the middle" in rounded.claim
    spoiled = f"inference/{layer(7)}"
    run.__dict__["layer_errors"] = [
        row if row.op == spoiled else replace(row, own_identical=True, own_sqnr_db=None) for row in run.layer_errors
    ]
    (found,) = CAUSE.hypotheses(Comparison(run, "float32", "int8", "inference"))
    assert "the others (most of which give the same numbers of the same inputs, bit by bit): " in found.claim
    evidence = {one.what: one.value for one in found.evidence}
    assert evidence["layers that give the same, bit by bit"] == 23
    assert "own SQNR of the layer in the middle" not in evidence


@pytest.mark.parametrize(
    ("weights", "bias", "says"),
    [
        (False, False, "(3.0 dB, other weights)"),
        (True, False, "(3.0 dB, another bias)"),
        (
            True,
            True,
            "(3.0 dB, with the same weights and bias: a setting differs, such as its activation function or padding)",
        ),
        (True, None, "(3.0 dB, with the same weights: its bias or a setting differs, such as its activation function"),
        (None, None, "(3.0 dB)"),
    ],
)
@pytest.mark.parametrize("quantized", [False, True])
def test_what_of_a_float_layer_differs(
    tmp_path: Path, weights: bool | None, bias: bool | None, says: str, quantized: bool
) -> None:
    made = world({7: LayerError(3.0)}, {7: 0.2})
    float32, int8 = made.variants
    if not quantized:
        int8 = replace(int8, ops=[replace(op, quantization=None) for op in int8.ops])
    run = replace(made, variants=[float32, int8]).record(tmp_path / "run")
    run.__dict__["layer_errors"] = [
        replace(row, weight_identical=weights, bias_identical=bias, own_identical=False) for row in run.layer_errors
    ]
    (found,) = CAUSE.hypotheses(Comparison(run, "float32", "int8", "inference"))
    assert f"{layer(7)} {'(3.0 dB)' if quantized else says}" in found.claim


def test_one_layer_is_one_layer(tmp_path: Path) -> None:
    comparison = Comparison(world({}, {}).record(tmp_path / "run"), "float32", "int8", "inference")
    told = [float_layers.weights_into(comparison, count) for count in (1, 2)]
    assert told == ["put float32's weights into 1 layer of int8", "put float32's weights into 2 layers of int8"]


def test_a_layer_that_saturates_is_left_to_the_other_cause(tmp_path: Path) -> None:
    made = world({4: LayerError(9.0, saturated=0.2)}, {4: 0.2})
    assert hypotheses(tmp_path / "bad", made) == []
    (found,) = hypotheses(tmp_path / "saturated", made, saturated_activations.CAUSE)
    assert found.intervention is not None and found.intervention.variants[0]["skip_layers"] == [layer(4)]
    assert f"{layer(4)} (20.0%)" in found.claim


@pytest.mark.parametrize("cause", [bad_layer.CAUSE, saturated_activations.CAUSE])
def test_nothing_is_said_without_a_loss_or_without_errors(tmp_path: Path, cause: Cause) -> None:
    made = world({7: LayerError(14.0), 9: LayerError(12.0, saturated=0.1)}, {7: 0.0})
    assert hypotheses(tmp_path / "equal", made, cause) == []
    lost = world({7: LayerError(14.0), 9: LayerError(12.0, saturated=0.1)}, {7: 0.2})
    assert len(hypotheses(tmp_path / "lost", lost, cause)) == 1
    uncompared = replace(lost, manifest={"profile": {"protocol": {"layer_errors": 0}}})
    assert hypotheses(tmp_path / "uncompared", uncompared, cause) == []


def test_a_ready_made_file_is_not_made_anew_but_patched_where_it_is_there(tmp_path: Path) -> None:
    made = world({7: LayerError(14.0)}, {7: 0.2})
    float32, int8 = made.variants
    (found,) = hypotheses(tmp_path, replace(made, variants=[float32, replace(int8, section={"file": "/x.tflite"})]))
    assert found.intervention is None and "its activations cannot be replaced" in (found.untestable or "")

"""How far outputs are apart, against formulas written down a second time; what outputs are taken for; the scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.measure.distance_scores import by_sample, noise_arrays, one_answer, score_rows, sqnr_of
from qprof.measure.worker.output_distances import matched_outputs
from qprof.measure.worker.shared_inputs import same_inputs
from qprof.record.rows import OutputDistanceRow
from qprof.record.tensors import TensorSpec
from qprof.stats import output_distance as module
from qprof.stats.output_distance import output_distance, output_meanings, relative_error, sqnr_db, sqnr_interval


def softmax(rows: NDArray[Any]) -> NDArray[np.float64]:
    powers = np.exp(rows.astype(np.float64))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def pair(shape: tuple[int, ...] = (3, 10), noise: float = 0.3) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    reference = rng.normal(size=shape).astype(np.float32)
    return reference, (reference + noise * rng.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("block", [7, 1 << 18])
def test_logits_against_plain_formulas(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    a, b = pair((40, 10), 1.0)
    found = output_distance(a, b, "logits")
    p, q = softmax(a), softmax(b)
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    assert found.kl == pytest.approx((p * np.log(p / q)).sum(axis=1).mean())
    assert found.same_top == int((a.argmax(1) == b.argmax(1)).sum())
    assert 0 < found.same_top < found.rows == 40
    assert found.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    assert found.relative_error == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(x))
    assert (found.elements, found.identical, found.nonfinite, found.tied) == (400, False, 0, 0)


def test_probabilities_are_compared_as_they_are() -> None:
    a, b = (softmax(side).astype(np.float32) for side in pair())
    found = output_distance(a, b, "probabilities")
    p, q = a.astype(np.float64), b.astype(np.float64)
    assert found.kl == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-5)
    assert found.kl != pytest.approx(output_distance(a, b, "logits").kl, rel=0.1)


def test_a_probability_stored_as_zero_is_half_a_step() -> None:
    p = np.array([[0.7, 0.3]], np.float32)
    q = np.array([[1.0, 0.0]], np.float32)
    step = 1 / 256
    share = np.array([1.0, step / 2]) / (1.0 + step / 2)
    expected = 0.7 * math.log(0.7 / share[0]) + 0.3 * math.log(0.3 / share[1])
    assert output_distance(p, q, "probabilities", step).kl == pytest.approx(expected, rel=1e-6)
    without = output_distance(p, q, "probabilities").kl
    assert without is not None and math.isfinite(without) and without > expected
    assert output_distance(q, p, "probabilities").kl == pytest.approx(math.log(1 / 0.7), rel=1e-6)


def test_the_same_output_is_exactly_as_near_as_can_be() -> None:
    a, _ = pair()
    a[0, 0], a[1, 1] = np.nan, -np.inf
    found = output_distance(a, a.copy(), "logits")
    assert (found.identical, found.relative_error, found.cosine, found.kl) == (True, 0.0, 1.0, 0.0)
    assert (found.same_top, found.rows) == (3, 3)


def test_ties_go_to_the_first_and_are_counted() -> None:
    a = np.array([[1.0, 1.0, 0.0], [3.0, 0.0, 0.0], [0.0, 2.0, 1.0]], np.float32)
    b = np.array([[0.9, 1.0, 0.0], [3.0, 3.0, 0.0], [0.0, 2.0, 1.5]], np.float32)
    found = output_distance(a, b, "logits")
    assert (found.same_top, found.rows, found.tied) == (2, 3, 2)


def test_masked_logits_are_no_fault() -> None:
    a = np.array([[1.0, -np.inf, 2.0]], np.float32)
    b = np.array([[1.5, -np.inf, 2.0]], np.float32)
    found = output_distance(a, b, "logits")
    p, q = softmax(a[:, [0, 2]]), softmax(b[:, [0, 2]])
    assert found.kl == pytest.approx((p * np.log(p / q)).sum())
    assert (found.nonfinite, found.same_top) == (0, 1)


def test_what_is_lost_to_nan_is_an_error_and_not_left_out() -> None:
    a = np.array([[3.0, 4.0]], np.float32)
    found = output_distance(a, np.array([[3.0, np.nan]], np.float32), "logits")
    assert (found.nonfinite, found.same_top, found.kl) == (1, 0, None)
    assert found.relative_error == pytest.approx(4 / 5)
    there = output_distance(np.array([[3.0, np.nan]], np.float32), a, "values")
    assert (there.nonfinite, there.relative_error) == (1, 0.0)
    assert output_distance(a, a * np.nan, "values").relative_error == 1.0


def test_an_infinite_divergence_is_none() -> None:
    a, b = np.array([[0.0, 0.0]], np.float32), np.array([[0.0, -np.inf]], np.float32)
    assert output_distance(a, b, "logits").kl is None


def test_no_signal() -> None:
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert output_distance(zero, one, "values").relative_error == 1.0
    assert output_distance(zero, one, "values").cosine is None
    assert output_distance(zero, zero, "values").relative_error == 0.0
    assert output_distance(zero, zero, "values").cosine == 1.0
    assert relative_error(0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])),
        (np.array([b"a", b"b", b"c", b"d"], object), np.array([b"a", b"b", b"c", b"x"], object)),
        (np.array([True, True, False, True]), np.array([True, True, False, False])),
    ],
)
def test_exact_outputs_are_equal_or_not(a: NDArray[Any], b: NDArray[Any]) -> None:
    found = output_distance(a, b, "exact")
    assert (found.relative_error, found.identical, found.signal, found.same_top) == (0.25, False, None, None)
    assert output_distance(a, a, "exact").relative_error == 0.0


def test_outputs_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 values for 4"):
        output_distance(np.zeros(4, np.float32), np.zeros(3, np.float32), "values")


# -- what an output stands for ----------------------------------------------------------------------------------------


def meanings(*outputs: NDArray[Any], steps: float = 0.0, tokens: tuple[int, ...] = ()) -> list[str]:
    return list(output_meanings([outputs, outputs], [steps] * len(outputs), tokens))


def test_what_outputs_are_taken_for() -> None:
    logits, _ = pair((1, 10))
    shares = softmax(logits).astype(np.float32)
    unit = (logits / np.linalg.norm(logits)).astype(np.float32)
    boxes, _ = pair((1, 20, 4))
    tokens, _ = pair((1, 16, 50))
    assert meanings(logits) == ["logits"]
    assert meanings(logits.reshape(1, 1, 1, 10)) == ["logits"]
    assert meanings(np.tile(shares, (5, 1))) == ["probabilities"]
    assert meanings(unit) == ["values"]
    assert meanings(np.array([[0.3]], np.float32)) == ["values"]
    assert meanings(boxes) == ["values"]
    assert meanings(boxes, pair((1, 20))[0]) == ["values", "values"]
    assert meanings(logits, shares) == ["logits", "probabilities"]
    assert meanings(tokens, tokens=(16,)) == ["logits"]
    assert meanings(tokens, tokens=(8,)) == ["values"]
    assert meanings(np.array([[3]])) == ["exact"]


def test_quantized_probabilities_add_up_to_one_but_for_rounding() -> None:
    shares = softmax(pair((1, 100))[0])
    step = 1 / 256
    stored = (np.round(shares / step) * step).astype(np.float32)
    assert abs(stored.sum() - 1.0) > 0.01
    assert meanings(stored, steps=step) == ["probabilities"]
    # A thousand classes at that step: most are stored as 0, and the sum is far below 1.
    many = softmax(3 * pair((1, 1001))[0])
    stored = (np.round(many / step) * step).astype(np.float32)
    assert stored.sum() < 0.95
    assert meanings(stored, steps=step) == ["probabilities"]
    assert meanings(stored, steps=step * 1.5) == ["logits"]
    assert meanings(np.zeros((1, 1001), np.float32), steps=step) == ["logits"]
    assert meanings(np.full((1, 1001), 4 * step, np.float32), steps=step) == ["logits"]


# -- over inputs ------------------------------------------------------------------------------------------------------


def test_the_ratio_of_all_inputs_and_its_interval() -> None:
    rng = np.random.default_rng(2)
    signals = rng.uniform(50, 150, (200, 2)) * [1.0, 1e6]
    noises = signals * rng.uniform(0.5e-3, 1.5e-3, (200, 2))
    value = -10 * math.log10((noises.sum(0) / signals.sum(0)).mean())
    found = sqnr_interval(signals, noises)
    assert sqnr_db(signals, noises) == pytest.approx(value)
    assert found is not None and found.low is not None and found.high is not None
    assert found.value == pytest.approx(value) and found.low < value < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread(signals, noises), rel=0.25)


def spread(signals: NDArray[np.float64], noises: NDArray[np.float64]) -> float:
    """Standard error of the ratio in dB by the delta method (linearized at the sums)."""
    share = noises.sum(0) / signals.sum(0)
    influence = ((noises - share * signals) / signals.mean(0)).mean(axis=1)
    return float(10 / math.log(10) * influence.std() / math.sqrt(len(signals)) / share.mean())


def test_a_ratio_without_noise_is_undefined() -> None:
    signals = np.ones((20, 1))
    assert sqnr_db(signals, np.zeros((20, 1))) is None
    assert sqnr_interval(signals, np.zeros((20, 1))) is None
    assert sqnr_db(np.zeros((20, 1)), signals) is None
    rare = np.zeros((20, 1))
    rare[3] = 0.1
    found = sqnr_interval(signals, rare)
    assert found is not None and found.low is None and found.reason is not None


def row(sample: int, output: str = "out", **figures: Any) -> OutputDistanceRow:
    known: dict[str, Any] = dict.fromkeys(OutputDistanceRow.__slots__)
    known |= {"variant": "b", "meaning": "logits", "elements": 4, "identical": False, "nonfinite": 0}
    known |= {"output": output, "baseline_output": output, "sample": sample, "relative_error": 0.1}
    return OutputDistanceRow(**{**known, **figures})


def test_every_output_counts_alike() -> None:
    rows = [row(0, relative_error=0.2, rows=4, same_top=3, kl=0.1, signal=4.0, noise=0.04)]
    rows += [row(0, "boxes", relative_error=0.4, signal=1e6, noise=1e5)]
    rows += [row(1, relative_error=0.0, rows=4, same_top=4, kl=None, signal=4.0, noise=0.04)]
    rows += [row(1, "boxes", relative_error=0.0, signal=1e6, noise=1e5)]
    columns = by_sample(rows)
    assert columns["closeness"].tolist() == pytest.approx([0.7, 1.0])
    assert columns["same_top"].tolist() == [0.75, 1.0]
    assert columns["kl"][0] == pytest.approx(0.1) and np.isnan(columns["kl"][1])
    assert "cosine" not in columns
    assert noise_arrays(rows)[0].tolist() == [[4.0, 1e6], [4.0, 1e6]]
    assert sqnr_of(rows) == pytest.approx(-10 * math.log10((0.01 + 0.1) / 2))
    scores = {(one.metric, one.sample): one.value for one in score_rows("b", columns, 12.5)}
    assert scores["same_top", None] == pytest.approx(0.875) and scores["same_top", 0] == 0.75
    assert scores["kl", None] is None and scores["kl", 1] is None
    assert scores["sqnr_db", None] == 12.5


def test_one_answer_to_everything_says_nothing() -> None:
    same = [row(sample, rows=1, same_top=1, baseline_top=3) for sample in range(5)]
    assert one_answer(same)
    assert not one_answer([*same, row(5, rows=1, same_top=1, baseline_top=4)])
    assert not one_answer(same[:1])
    assert not one_answer([row(sample, rows=4, same_top=4) for sample in range(5)])
    other = [row(sample, "second", rows=1, same_top=1, baseline_top=sample) for sample in range(5)]
    assert not one_answer([*same, *other])


# -- which goes with which --------------------------------------------------------------------------------------------


def spec(name: str, shape: list[int], dtype: str = "float32", scale: float | None = None, zero: int = 0) -> TensorSpec:
    return TensorSpec(name, shape, dtype, scale, zero if scale else None)


def test_outputs_go_together_by_name_then_by_shape_in_order() -> None:
    a = [spec("boxes", [1, 10, 4]), spec("x", [1, 10]), spec("y", [1, 10]), spec("count", [1])]
    b = [spec("p", [1, 10], "int8", 0.1), spec("y", [1, 10]), spec("boxes", [1, 10, 4]), spec("n", [1], "int32")]
    pairs, notes = matched_outputs(a, b, "int8")
    assert [(i, j) for i, j, _, _ in pairs] == [(0, 2), (1, 0), (2, 1)]
    assert notes == [
        "outputs without a counterpart were not compared: count [1] of the baseline, n [1] of int8",
    ]
    swapped, _ = matched_outputs(
        [spec("x", [1, 10]), spec("y", [1, 10])], [spec("y", [1, 10]), spec("x", [1, 10])], "b"
    )
    assert [(i, j) for i, j, _, _ in swapped] == [(0, 1), (1, 0)]
    with pytest.raises(DataError, match="none of its outputs"):
        matched_outputs([spec("a", [1, 5])], [spec("a", [1, 6])], "int8")


def test_random_inputs_are_the_same_real_numbers() -> None:
    quantized, real = spec("in_int8", [1, 4], "int8", 1.0, -128), spec("in", [1, 4])
    stored = np.array([[-128, 0, 5, 127]], np.int8)
    mine, its = same_inputs([real], [quantized], [np.zeros((1, 4), np.float32)], [stored])
    assert mine[0].tolist() == [[0.0, 128.0, 133.0, 255.0]] and mine[0].dtype == np.float32
    assert its[0] is stored
    mine, its = same_inputs([quantized], [real], [stored], [np.zeros((1, 4), np.float32)])
    assert its[0].tolist() == [[0.0, 128.0, 133.0, 255.0]]
    ids, numbers = spec("ids", [1, 4], "int64"), np.array([[5, 6, 7, 300]])
    _, its = same_inputs([ids], [spec("ids", [1, 4], "int32")], [numbers], [numbers * 0])
    assert its[0].tolist() == numbers.tolist() and its[0].dtype == np.int32
    with pytest.raises(DataError, match="cannot hold all of int64"):
        same_inputs([ids], [spec("ids", [1, 4], "uint8")], [numbers], [numbers])
    with pytest.raises(DataError, match="no random number is the same in both"):
        same_inputs([ids], [real], [numbers], [numbers])
    with pytest.raises(DataError, match="not the same"):
        same_inputs([real], [spec("in", [1, 5])], [stored], [stored])

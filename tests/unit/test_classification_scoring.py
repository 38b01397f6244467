"""Scores against formulas written out over whole arrays, for logits, probabilities and coarse outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import binomtest

from qprof.stats.paired_outcomes import PairedOutcomes
from qprof.tasks.classification.outputs import Prediction, prediction
from qprof.tasks.classification.scoring import class_probabilities, meaning_of, scored

SAMPLES, CLASSES = 400, 7


def made(kind: str, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, SAMPLES)
    logits = rng.normal(0, 1.5, (SAMPLES, CLASSES)) + 2.0 * np.eye(CLASSES)[labels]
    values = logits if kind == "logits" else np.exp(log_softmax(logits, axis=1))
    return values.astype(np.float32), labels


def rows_of(values: NDArray[np.float32], labels: NDArray[np.int64], step: float = 0.0) -> dict[int, Prediction]:
    return {
        n: prediction(row, int(label), step, f"{n}.png", f"class{label}")
        for n, (row, label) in enumerate(zip(values, labels, strict=True))
    }


def written_out(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    """Guo et al. 2017 for ECE, Brier 1950 for his score; a loop over bins, as papers write it."""
    lead, said = probabilities.max(axis=1), probabilities.argmax(axis=1)
    right = said == labels
    ece = 0.0
    for low in range(15):
        inside = (lead > low / 15) & (lead <= (low + 1) / 15)
        if inside.any():
            ece += inside.mean() * abs(right[inside].mean() - lead[inside].mean())
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return {
        "top1": right.mean(),
        "top5": (order[:, :5] == labels[:, None]).any(axis=1).mean(),
        "mean_class_accuracy": float(np.mean([right[labels == k].mean() for k in range(CLASSES)])),
        "nll": -np.log(probabilities[np.arange(len(labels)), labels]).mean(),
        "brier": np.square(probabilities - np.eye(CLASSES)[labels]).sum(axis=1).mean(),
        "ece": ece,
        "confidence": lead.mean(),
    }


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_figures_are_those_of_the_formulas(kind: str) -> None:
    values, labels = made(kind)
    probabilities = np.exp(log_softmax(values.astype(np.float64), axis=1)) if kind == "logits" else values.astype(float)
    found = scored(rows_of(values, labels))
    for name, expected in written_out(probabilities, labels).items():
        assert found.summary[name] == pytest.approx(expected, abs=2e-6), name
    for label in range(CLASSES):
        mine = labels == label
        assert found.summary[f"accuracy/class{label}"] == (probabilities.argmax(axis=1) == labels)[mine].mean()
    assert found.per_sample["correct"].mean() == found.summary["top1"]
    assert found.per_sample["nll"].mean() == pytest.approx(found.summary["nll"])
    assert kind in found.notes[0]
    right = probabilities[np.arange(SAMPLES), labels]
    assert class_probabilities(list(rows_of(values, labels).values()), "auto") == pytest.approx(right, abs=1e-6)


def test_top5_is_for_more_than_five_classes() -> None:
    assert "top5" not in scored(rows_of(np.eye(5, dtype=np.float32), np.arange(5))).columns
    assert "top5" in scored(rows_of(np.eye(6, dtype=np.float32), np.arange(6))).columns


@pytest.mark.parametrize(
    ("rows", "step", "expected"),
    [
        ([[0.2, 0.8], [0.5, 0.5]], 0.0, "probabilities"),
        ([[0.19, 0.8], [0.99, 0.02]], 1 / 256, "probabilities"),
        ([[0.0] * 1001, [0.0] * 1000 + [0.7]], 1 / 256, "probabilities"),  # the rest is rounded away
        ([[0.9, 0.8], [0.1, 0.2]], 0.0, "shares"),
        ([[-0.105, -2.303], [-0.693, -0.693]], 0.0, "logits"),
        ([[3.0, -1.0], [0.2, 0.1]], 0.0, "logits"),
    ],
)
def test_what_an_output_is_is_found(rows: list[list[float]], step: float, expected: str) -> None:
    values = np.array(rows, np.float32)
    predictions = list(rows_of(values, np.zeros(len(rows), np.int64), step).values())
    assert meaning_of(predictions, "auto").kind == expected
    assert meaning_of(predictions, "logits").kind == "logits"


def test_a_probability_of_zero_is_half_a_step_of_a_coarse_output() -> None:
    values = np.array([[1.0, 0.0], [0.75, 0.25]], np.float32)
    found = scored(rows_of(values, np.array([1, 1]), 1 / 256))
    assert found.per_sample["nll"].tolist() == pytest.approx([math.log(512), math.log(4)])
    assert any("1 of 2 samples have probability 0" in note for note in found.notes)


def test_floats_behind_a_quantized_softmax_are_coarse_too() -> None:
    values = np.array([[255 / 256, 0.0], [3 / 256, 252 / 256], [1 / 256, 254 / 256]], np.float32)
    found = scored(rows_of(values, np.array([1, 1, 1])))
    assert found.per_sample["nll"][0] == pytest.approx(math.log(512))
    many = np.zeros((2, 1001), np.float32)  # what is rounded away is missing in the sum
    many[:, 0], many[:, 1] = 200 / 256, 1 / 256
    assert meaning_of(list(rows_of(many, np.array([0, 0])).values()), "auto").kind == "probabilities"


def test_what_is_not_finite_is_wrong_and_has_no_likelihood() -> None:
    values = np.array([[np.nan, 1.0], [2.0, 1.0], [0.0, np.inf]], np.float32)
    found = scored(rows_of(values, np.array([1, 0, 1])))
    assert found.summary["top1"] == pytest.approx(1 / 3)
    assert found.summary["nll"] is None and found.summary["ece"] is None
    assert any("2 of 3 samples have outputs that are not finite" in note for note in found.notes)


def test_ties_go_to_the_lower_index_and_are_told() -> None:
    values = np.array([[0.5, 0.5], [0.5, 0.5]], np.float32)
    found = scored(rows_of(values, np.array([0, 1]), 1 / 256))
    assert found.per_sample["correct"].tolist() == [1.0, 0.0]
    assert any("in 2 of 2 samples several classes share the highest output" in note for note in found.notes)


def test_mcnemars_exact_test_is_scipys() -> None:
    outcomes = PairedOutcomes(1000, 19, 31)
    assert outcomes.mcnemar_exact_p == pytest.approx(binomtest(19, 50).pvalue)


def test_predictions_are_what_json_holds() -> None:
    import json

    rows: dict[int, Any] = dict(rows_of(*made("logits")))
    assert scored({int(k): v for k, v in json.loads(json.dumps(rows)).items()}).summary == scored(rows).summary

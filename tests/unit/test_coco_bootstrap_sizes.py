"""Resampled COCO figures where they are computed in another way: many objects, large weights, many thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_coco_bootstrap import FIGURES, busy_case, figures, resampled

from coco_oracle import Case, by_core


def by_evaluation(case: Case, weights: NDArray[Any]) -> NDArray[np.float64]:
    """The evaluation of the data sets whose images are really there several times."""
    rows = []
    for row in weights:
        found = by_core(resampled(case, row))
        rows.append(figures({"precision": found.precision, "recall": found.recall}, FIGURES))
    return np.array(rows)


def large_case(objects: int, images: int = 8) -> Case:
    """One category with that many objects side by side, found well, badly, twice or not at all; scores often tie."""
    rng = np.random.default_rng(objects)
    case = Case(images=list(range(1, images + 1)), categories=[1])
    case.settings = {"max_dets": [1, 100, 4 * objects]}
    for n in range(objects):
        image, side = 1 + n % images, float(rng.choice([20.0, 60.0, 120.0]))
        box = [300.0 * (n // images), 0.0, side, side]
        case.truth(image, 1, box, crowd=int(rng.random() < 0.02))
        for _ in range(int(rng.integers(0, 3))):
            moved = [box[0] + float(rng.integers(0, 8)), *box[1:]]
            case.result(image, 1, moved, int(rng.integers(1, 400)) / 400)
    return case


@pytest.mark.parametrize("objects", [300, 2500])
def test_few_and_many_objects_of_a_category(objects: int) -> None:
    case = large_case(objects)
    weights = np.array([[1] * 8, [2, 0, 1, 1, 0, 3, 1, 0], [0, 0, 1, 0, 0, 0, 0, 0], [3, 2, 1, 1, 0, 0, 1, 2]])
    found = by_core(case, keep=True).bootstrap(weights, FIGURES)
    np.testing.assert_allclose(found, by_evaluation(case, weights), rtol=0, atol=1e-13)


@pytest.mark.parametrize("most", [15, 16, 300])
def test_an_image_many_times(most: int) -> None:
    case = busy_case(5, 20, images=4)
    weights = np.array([[most, 1, 0, 2], [0, 0, most, 0], [1, 2, 0, 1]])
    kept = by_core(case, keep=True)
    found = kept.bootstrap(weights, FIGURES)
    np.testing.assert_allclose(found, by_evaluation(case, weights), rtol=0, atol=1e-13)
    # Of the others, to the last bit.
    assert np.array_equal(found[2:], kept.bootstrap(weights[2:], FIGURES), equal_nan=True)


@pytest.mark.parametrize("thresholds", [255, 256, 1000])
def test_more_recall_thresholds_than_a_byte_counts(thresholds: int) -> None:
    case = busy_case(6, 20)
    case.settings = {"recall_thresholds": np.linspace(0, 1, thresholds)}
    weights = np.random.default_rng(6).multinomial(6, [1 / 6] * 6, 5)
    found = by_core(case, keep=True).bootstrap(weights, FIGURES)
    np.testing.assert_allclose(found, by_evaluation(case, weights), rtol=0, atol=1e-13)

"""Resampled COCO figures against pycocotools on data sets whose images are really there several times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coco_oracle import Case, by_core, by_pycocotools

#: The 12 figures of `COCOeval.summarize` for the default settings.
FIGURES: list[tuple[str, int | None, int, int]] = [
    ("precision", None, 0, 2),
    ("precision", 0, 0, 2),
    ("precision", 5, 0, 2),
    ("precision", None, 1, 2),
    ("precision", None, 2, 2),
    ("precision", None, 3, 2),
    ("recall", None, 0, 0),
    ("recall", None, 0, 1),
    ("recall", None, 0, 2),
    ("recall", None, 1, 2),
    ("recall", None, 2, 2),
    ("recall", None, 3, 2),
]


def figures(tables: dict[str, NDArray[np.float64]], metrics: list[tuple[str, int | None, int, int]]) -> list[float]:
    """What pycocotools' summary would say, NaN where it says -1."""
    found = []
    for kind, iou, area, limit in metrics:
        values = tables[kind][..., area, limit] if iou is None else tables[kind][iou, ..., area, limit]
        defined = values[values > -1]
        found.append(float(defined.mean()) if defined.size else np.nan)
    return found


def resampled(case: Case, weights: NDArray[Any]) -> Case:
    """The data set in which image i is there weights[i] times, its copies with adjacent ids."""
    copies: dict[int, list[int]] = {}
    for rank, (image, weight) in enumerate(zip(sorted(case.images), weights, strict=True)):
        copies[image] = [rank * 1000 + copy for copy in range(weight)]
    larger = Case(images=[copy for ids in copies.values() for copy in ids], categories=case.categories)
    larger.settings = case.settings
    for truth in case.truths:
        for copy in copies[truth["image_id"]]:
            larger.truths.append({**truth, "image_id": copy, "id": len(larger.truths) + 1})
    for result in case.results:
        for copy in copies[result["image_id"]]:
            larger.results.append({**result, "image_id": copy})
    return larger


def by_resampling(case: Case, weights: NDArray[Any], metrics: list[tuple[str, int | None, int, int]]) -> Any:
    rows = []
    for row in weights:
        larger = resampled(case, row)
        # pycocotools cannot do without images.
        rows.append(figures(by_pycocotools(larger).eval, metrics) if larger.images else [np.nan] * len(metrics))
    return np.array(rows)


def busy_case(seed: int, levels: int, images: int = 6) -> Case:
    """Crowded images with that many different scores: with few of them, ties everywhere."""
    rng = np.random.default_rng(seed)
    case = Case(images=rng.choice(500, images, replace=False).tolist(), categories=[1, 2, 3])
    for image in rng.choice(case.images, 5 * images):
        box = [*rng.uniform(0, 80, 2), *rng.choice([20.0, 50.0, 120.0], 2)]
        case.truth(int(image), int(rng.integers(1, 3)), np.round(box, 1).tolist(), crowd=int(rng.random() < 0.1))
    for _ in range(20 * images):
        near = case.truths[int(rng.integers(len(case.truths)))]
        box = np.round(np.array(near["bbox"]) + rng.normal(0, 6, 4), 1).tolist()
        case.result(near["image_id"], near["category_id"], box, (1 + int(rng.integers(levels))) / levels)
    return case


@pytest.mark.parametrize(("seed", "levels"), [(0, 10**6), (1, 20), (2, 3), (3, 1)])
def test_equals_pycocotools_on_copied_images(seed: int, levels: int) -> None:
    case = busy_case(seed, levels)
    rng = np.random.default_rng(seed)
    weights = np.vstack([rng.multinomial(6, [1 / 6] * 6, 12), np.ones((1, 6), int), [[0, 0, 7, 0, 0, 0]]])
    found = by_core(case, keep=True).bootstrap(weights, FIGURES)
    assert found.shape == (len(weights), len(FIGURES))
    np.testing.assert_allclose(found, by_resampling(case, weights, FIGURES), rtol=0, atol=1e-14)


def tied_cases(draw: st.DrawFn) -> tuple[Case, NDArray[np.int64]]:
    """Groups of equal scores in one image, hits and misses in any order, and weights up to 4."""
    case = Case(images=[1, 2, 3], categories=[1])
    for image in draw(st.lists(st.sampled_from(case.images), min_size=1, max_size=6)):
        side = draw(st.sampled_from([20.0, 50.0]))
        case.truth(image, 1, [200.0 * len(case.truths), 0, side, side], crowd=draw(st.sampled_from([0, 0, 0, 1])))
    for _ in range(draw(st.integers(1, 14))):
        near = draw(st.sampled_from(case.truths))
        x, y, width, height = near["bbox"]
        box = [x + draw(st.sampled_from([0.0, 1.0, 6.0, 90.0])), y, width, height]
        image = draw(st.sampled_from([near["image_id"], near["image_id"], 1]))
        case.result(image, 1, box, draw(st.sampled_from([0.5, 0.5, 0.25, 0.75])))
    case.settings = {
        "iou_thresholds": [0.5, 0.75],
        "recall_thresholds": draw(st.sampled_from([[-0.5, 0.0, 0.2, 0.5, 1.0, 1.1], np.linspace(0, 1, 11)])),
        "area_ranges": [[0, 1e10], [0, 1000]],
        "max_dets": [1, 2, 30],
    }
    weights = draw(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=3))
    return case, np.array(weights)


TIED_FIGURES: list[tuple[str, int | None, int, int]] = [
    (kind, iou, area, limit)
    for kind in ("precision", "recall")
    for iou in (None, 0, 1)
    for area in (0, 1)
    for limit in (0, 1, 2)
]


@given(st.composite(tied_cases)())
@settings(max_examples=200, deadline=None)
def test_equal_scores_of_copied_images_alternate_as_in_pycocotools(drawn: tuple[Case, NDArray[np.int64]]) -> None:
    case, weights = drawn
    found = by_core(case, keep=True).bootstrap(weights, TIED_FIGURES)
    np.testing.assert_allclose(found, by_resampling(case, weights, TIED_FIGURES), rtol=0, atol=1e-14)


def test_alternation_by_hand() -> None:
    """A hit and then a miss of equal score, twice: precisions 1/1, 2/3; not 1/1, 2/2 as if the hits came first."""
    case = Case(images=[1], categories=[1], settings={"recall_thresholds": [0.5, 1.0], "max_dets": [10]})
    case.truth(1, 1, [0, 0, 10, 10]).result(1, 1, [0, 0, 10, 10], 0.5).result(1, 1, [50, 0, 10, 10], 0.5)
    found = by_core(case, keep=True).bootstrap(np.array([[2]]), [("precision", 0, 0, 0)])
    assert found[0, 0] == pytest.approx((1 + 2 / 3) / 2, abs=1e-15)


def test_more_resamples_than_lanes_and_threads_change_nothing() -> None:
    case = busy_case(7, 30, images=30)
    kept = by_core(case, keep=True)
    weights = np.random.default_rng(7).multinomial(30, [1 / 30] * 30, 53)
    found = kept.bootstrap(weights, FIGURES)
    for threads in (2, 5):
        assert np.array_equal(found, kept.bootstrap(weights, FIGURES, threads=threads), equal_nan=True)
    alone = np.vstack([kept.bootstrap(row[None], FIGURES) for row in weights])
    assert np.array_equal(found, alone, equal_nan=True)
    assert len(np.unique(found[:, 0])) > 40


def test_classes() -> None:
    case = busy_case(8, 50)
    kept = by_core(case, keep=True)
    means, classes = kept.bootstrap(np.ones((1, 6), np.uint16), FIGURES, per_class=True)
    assert classes.shape == (1, len(FIGURES), 3)
    assert np.isnan(classes[0, :, 2]).all(), "the third category has no ground truth"
    for number, (kind, iou, area, limit) in enumerate(FIGURES):
        table = getattr(kept, kind)
        values = table[..., area, limit] if iou is None else table[[iou], ..., area, limit]
        for category in range(2):
            expected = np.take(values, category, axis=-1).mean()
            expected = np.nan if expected == -1 else expected
            assert classes[0, number, category] == pytest.approx(expected, abs=1e-14, nan_ok=True)
    assert np.nanmean(classes[0], axis=1) == pytest.approx(means[0], abs=1e-14)


def test_undefined_is_not_a_number() -> None:
    """pycocotools says -1, which a mean or a quantile would take for a value."""
    case = Case(images=[1, 2], categories=[1]).truth(1, 1, [0, 0, 10, 10]).result(1, 1, [0, 0, 10, 10], 0.5)
    found = by_core(case, keep=True).bootstrap(np.array([[0, 2], [2, 0]]), [("precision", None, 0, 2)])
    assert np.isnan(found[0, 0]) and found[1, 0] == pytest.approx(1.0)


def test_without_categories() -> None:
    case = busy_case(9, 5)
    case.settings = {"use_cats": False}
    weights = np.random.default_rng(9).multinomial(6, [1 / 6] * 6, 5)
    found = by_core(case, keep=True).bootstrap(weights, FIGURES)
    np.testing.assert_allclose(found, by_resampling(case, weights, FIGURES), rtol=0, atol=1e-14)


def test_no_resamples_and_no_metrics() -> None:
    kept = by_core(busy_case(1, 5), keep=True)
    assert kept.bootstrap(np.zeros((0, 6), np.uint16), FIGURES).shape == (0, len(FIGURES))
    assert kept.bootstrap(np.zeros((3, 6), np.uint16), []).shape == (3, 0)


@pytest.mark.parametrize(
    ("weights", "metrics", "options", "message"),
    [
        (np.ones((1, 5), int), FIGURES, {}, r"weights: shape \(1, 5\)"),
        (np.ones(6, int), FIGURES, {}, "weights: shape"),
        (np.ones((1, 6)), FIGURES, {}, "weights: float64 values"),
        (np.full((1, 6), -1), FIGURES, {}, "0..65535"),
        (np.full((1, 6), 65536), FIGURES, {}, "0..65535"),
        (np.ones((1, 6), int), [("f1", None, 0, 0)], {}, "metrics: 'f1'"),
        (np.ones((1, 6), int), [("recall", 10, 0, 0)], {}, "iou: index 10"),
        (np.ones((1, 6), int), [("recall", None, 4, 0)], {}, "area: index 4"),
        (np.ones((1, 6), int), [("recall", None, 0, 3)], {}, "max_dets: index 3"),
        (np.ones((1, 6), int), FIGURES, {"threads": 0}, "threads: 0"),
    ],
)
def test_bad_input(weights: Any, metrics: Any, options: dict[str, Any], message: str) -> None:
    kept = by_core(busy_case(1, 5), keep=True)
    with pytest.raises(ValueError, match=message):
        kept.bootstrap(weights, metrics, **options)


def test_a_resample_too_large_to_count() -> None:
    case = Case(images=[1], categories=[1])
    for _ in range(2100):
        case.result(1, 1, [0, 0, 1, 1], 0.5)
    case.settings = {"max_dets": [10**6]}
    with pytest.raises(ValueError, match="resample 1: more than"):
        by_core(case, keep=True).bootstrap(np.array([[1], [65535]]), [("recall", None, 0, 0)])


def test_needs_kept_matches_and_ascending_recall_thresholds() -> None:
    case = busy_case(1, 5)
    with pytest.raises(ValueError, match="keep=True"):
        by_core(case).bootstrap(np.ones((1, 6), int), FIGURES)
    case.settings = {"recall_thresholds": [0.5, 0.1]}
    with pytest.raises(ValueError, match="ascend"):
        by_core(case, keep=True).bootstrap(np.ones((1, 6), int), FIGURES)


def test_same_weights_pair_two_detectors() -> None:
    """The difference of two detectors varies less than either: what one image does to one it does to the other."""
    case = busy_case(11, 1000, images=40)
    worse = Case(case.truths, [dict(r) for r in case.results], case.images, case.categories)
    for number, result in enumerate(worse.results):
        if number % 11 == 0:
            result["score"] = 0.001
    weights = np.random.default_rng(0).multinomial(40, [1 / 40] * 40, 300)
    first, second = (by_core(c, keep=True).bootstrap(weights, FIGURES)[:, 0] for c in (case, worse))
    assert first.std() > 0 and second.std() > 0
    assert (first - second).std() < 0.7 * np.hypot(first.std(), second.std())

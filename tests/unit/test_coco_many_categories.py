"""Curves that are drawn when they are asked for, and resamples of many categories: what is done piece by piece to save
time and memory gives what is done at once."""

from __future__ import annotations

import numpy as np
import pytest

from coco_oracle import Case, assert_equal_matches, assert_equal_tables, by_core, by_pycocotools
from qprof.core import _coco
from qprof.stats.intervals import resample_weights
from qprof.tasks.coco.intervals import DRAWN_AT_ONCE, FEW_IMAGES, _image_weights

METRICS: list[tuple[str, int | None, int, int]] = [
    ("precision", None, 0, 2),
    ("precision", 5, 1, 2),
    ("recall", None, 0, 0),
    ("recall", 0, 0, 2),
]


def categories_case(categories: int, seed: int = 0) -> Case:
    """Categories with few objects each, some with none, and detections in no order of images or scores."""
    rng = np.random.default_rng(seed)
    case = Case(images=rng.choice(900, 12, replace=False).tolist(), categories=list(range(1, categories + 1)))
    for image in rng.choice(case.images, 6 * categories):
        box = np.round([*rng.uniform(0, 50, 2), *rng.uniform(10, 110, 2)], 1).tolist()
        case.truth(int(image), int(rng.integers(1, categories)), box, crowd=int(rng.random() < 0.05))
    for _ in range(20 * categories):
        near = case.truths[int(rng.integers(len(case.truths)))]
        box = np.round(np.array(near["bbox"]) + rng.normal(0, 4, 4), 1).tolist()
        wrong = rng.random() < 0.1
        category = int(rng.integers(1, categories + 1)) if wrong else near["category_id"]
        case.result(near["image_id"], category, box, int(rng.integers(1, 40)) / 40)
    return case


@pytest.mark.parametrize("categories", [2, 8, 9, 21])
@pytest.mark.parametrize("use_cats", [True, False])
def test_equals_pycocotools_with_any_number_of_categories(categories: int, use_cats: bool) -> None:
    case = categories_case(categories)
    case.settings = {"use_cats": use_cats, "max_dets": [1, 3, 50]}
    oracle = by_pycocotools(case)
    for threads in (1, 3):
        kept = by_core(case, keep=True, threads=threads)
        assert_equal_tables(kept, oracle)
        assert_equal_matches(kept, case, oracle)


def test_a_column_of_the_precision_is_that_of_the_whole_table() -> None:
    case = categories_case(11)
    whole = by_core(case).precision
    alone = by_core(case)
    for area in range(4):
        for limit in range(3):
            assert np.array_equal(alone.precision_at(area, limit), whole[..., area, limit])
    assert alone.precision_at(0, 2) is alone.precision_at(0, 2), "drawn once"
    assert np.array_equal(alone.precision, whole)
    assert np.array_equal(alone.precision_at(1, 1), whole[..., 1, 1])
    for area, limit in ((4, 0), (0, 3), (-1, 0)):
        with pytest.raises(ValueError, match="index"):
            alone.precision_at(area, limit)


def test_tables_may_be_asked_for_in_any_order() -> None:
    case = categories_case(11)
    first, second = by_core(case), by_core(case)
    scores = first.scores
    assert np.array_equal(second.precision, first.precision)
    assert np.array_equal(second.scores, scores)
    assert first.scores is scores


def test_curves_do_not_need_the_caller_to_leave_the_input_alone() -> None:
    case = categories_case(5)
    expected = by_core(case)
    scores = np.array([row["score"] for row in case.results])
    changed = by_core(case, dt_score=scores)
    scores[:] = -7.0
    assert np.array_equal(changed.scores, expected.scores)


def crowded(categories: int, objects: int, images: int) -> _coco.Evaluation:
    """Every object found, at some thresholds, amid false alarms."""
    rng = np.random.default_rng(3)
    count = categories * objects
    boxes = np.round(np.column_stack([rng.uniform(0, 9e5, (count, 2)), rng.uniform(20, 90, (count, 2))]), 1)
    found = boxes + np.round(rng.normal(0, 2, (count, 4)), 1)
    image = rng.integers(0, images, count).astype(np.int32)
    category = np.repeat(np.arange(categories, dtype=np.int32), objects)
    return _coco.evaluate(
        gt_image=image,
        gt_category=category,
        gt_boxes=boxes,
        gt_area=boxes[:, 2] * boxes[:, 3],
        gt_crowd=np.zeros(count, np.uint8),
        gt_ignore=None,
        gt_id=np.arange(1, count + 1),
        dt_image=np.concatenate([image, image]),
        dt_category=np.concatenate([category, category]),
        dt_boxes=np.vstack([found, found + 1e6]),
        dt_area=None,
        dt_score=rng.random(2 * count),
        images=images,
        categories=categories,
        iou_thresholds=np.linspace(0.5, 0.95, 10),
        recall_thresholds=np.linspace(0.0, 1.0, 101),
        area_ranges=[[0, 1e10], [0, 32.0**2], [32.0**2, 96.0**2], [96.0**2, 1e10]],
        max_dets=[1, 10, 10_000],
        keep=True,
    )


def test_resamples_of_more_classes_than_are_planned_at_once() -> None:
    """Of thousands of objects, too: more than the tables of recalls that are made beforehand reach to."""
    kept = crowded(categories=4, objects=12_000, images=8)
    ones = np.ones((1, 8), np.uint16)
    means, classes = kept.bootstrap(ones, METRICS, per_class=True)
    for number, (kind, iou, area, limit) in enumerate(METRICS):
        table = getattr(kept, kind)[..., area, limit]
        expected = (table if iou is None else table[[iou]]).reshape(-1, 4)
        assert classes[0, number] == pytest.approx(expected.mean(axis=0), abs=1e-13)
        assert means[0, number] == pytest.approx(expected.mean(axis=0).mean(), abs=1e-13)
    weights = np.random.default_rng(1).multinomial(8, [1 / 8] * 8, 19)
    found = kept.bootstrap(weights, METRICS)
    assert np.array_equal(found, kept.bootstrap(weights, METRICS, threads=3))
    assert np.array_equal(found[7:8], kept.bootstrap(weights[7:8], METRICS))


@pytest.mark.parametrize("images", [FEW_IMAGES - 1, FEW_IMAGES + 1])
def test_resamples_that_are_drawn_in_parts_are_those_that_are_drawn_at_once(images: int) -> None:
    resamples = DRAWN_AT_ONCE * 2 + 3
    drawn = _image_weights(images, resamples, 4)
    assert drawn.dtype == np.uint16
    assert np.array_equal(drawn, resample_weights(images, resamples, 4))

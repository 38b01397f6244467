"""The compiled COCO evaluation: bit for bit what pycocotools says, and what it says where pycocotools is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from coco_oracle import Case, assert_equal_matches, assert_equal_tables, by_core, by_pycocotools, core_arguments
from qprof.core import _coco

WHOLE = {"iou_thresholds": [0.5], "recall_thresholds": [0.0, 0.5, 1.0], "area_ranges": [[0, 1e10]], "max_dets": [100]}


def ground_truth_alone() -> Case:
    return Case().truth(1, 1, [0, 0, 10, 10])


def detections_alone() -> Case:
    return Case().result(1, 1, [0, 0, 10, 10], 0.5).result(2, 1, [0, 0, 10, 10], 0.5)


def all_crowd() -> Case:
    case = Case().truth(1, 1, [0, 0, 50, 50], crowd=1).truth(1, 1, [20, 20, 50, 50], crowd=1)
    return case.result(1, 1, [5, 5, 20, 20], 0.9).result(1, 1, [25, 25, 20, 20], 0.8).result(1, 1, [99, 9, 5, 5], 0.7)


def crowd_beside_object() -> Case:
    """The object comes first although the crowd overlaps more; the second detection falls to the crowd."""
    case = Case().truth(1, 1, [0, 0, 40, 40], crowd=1).truth(1, 1, [0, 0, 20, 20])
    return case.result(1, 1, [0, 0, 20, 24], 0.9).result(1, 1, [0, 0, 20, 22], 0.8).result(1, 1, [0, 0, 18, 20], 0.7)


def equal_scores() -> Case:
    case = Case(images=[5, 3, 9]).truth(3, 1, [0, 0, 10, 10]).truth(9, 1, [0, 0, 10, 10]).truth(5, 1, [0, 0, 10, 10])
    for image, x in ((9, 50), (5, 0), (9, 0), (3, 50), (3, 0), (5, 50)):
        case.result(image, 1, [x, 0, 10, 10], 0.5)
    return case


def equal_overlaps() -> Case:
    """Two objects overlap equally: the later one is matched."""
    case = Case().truth(1, 1, [0, 0, 10, 10]).truth(1, 1, [0, 0, 10, 10]).truth(1, 1, [0, 0, 10, 10])
    return case.result(1, 1, [0, 0, 10, 10], 0.9).result(1, 1, [0, 0, 10, 10], 0.8)


def zero_and_negative_boxes() -> Case:
    case = Case().truth(1, 1, [10, 10, 0, 10]).truth(1, 1, [10, 10, 10, 10]).truth(1, 1, [30, 30, -10, 10])
    for box in ([10, 10, 0, 0], [20, 20, -10, -10], [10, 10, 10, 10], [30, 30, -10, 10], [10, 10, 0, 10]):
        case.result(1, 1, box, 0.5)
    return case


def boxes_near_the_limits_of_float() -> Case:
    """0 / 0 and infinity / infinity: pycocotools takes an IoU of NaN for a match at every threshold."""
    case = Case().truth(1, 1, [0, 0, 1e-200, 1e-200]).truth(1, 1, [0, 0, 1e-200, 1e-200])
    case.truth(2, 1, [0, 0, 1e200, 1e200]).truth(2, 1, [0, 0, 10, 10])
    case.result(1, 1, [0, 0, 1e-200, 1e-200], 0.5).result(1, 1, [0, 0, 1e-200, 1e-200], 0.6)
    return case.result(2, 1, [0, 0, 1e200, 1e200], 0.5).result(2, 1, [0, 0, 10, 10], 0.4)


def more_than_a_hundred_detections() -> Case:
    case = Case().truth(1, 1, [0, 0, 10, 10]).truth(1, 1, [40, 0, 10, 10])
    for i in range(130):
        case.result(1, 1, [i % 7, 0, 10, 10], 1 - i // 3 / 100)
    return case.result(1, 1, [40, 0, 10, 10], 0.001)


def ids_of_64_bits() -> Case:
    large = 2**53 + 10
    case = Case(images=[large, 7, 3 * large], categories=[90, 1, 2**40])
    case.truth(large, 2**40, [0, 0, 10, 10], id=large + 1).truth(3 * large, 90, [0, 0, 10, 10], id=2**62)
    return case.result(large, 2**40, [0, 0, 10, 9], 0.3).result(3 * large, 90, [1, 0, 10, 10], 0.2)


def areas_at_their_bounds() -> Case:
    case = Case()
    for side, area in ((32, 1024.0), (32, 1023.5), (96, 9216.0), (96, 9216.5), (10, 1e11)):
        case.truth(1, 1, [side * 2, 0, side, side], area=area)
        case.result(1, 1, [side * 2, 0, side, side], 0.5 + side / 1000).result(1, 1, [side * 9, 0, side, side], 0.9)
    return case


def object_in_another_area() -> Case:
    """A detection inside an area whose object is outside of it, and the reverse."""
    case = Case().truth(1, 1, [0, 0, 40, 40], area=900.0).truth(1, 1, [100, 0, 30, 30], area=2000.0)
    return case.result(1, 1, [0, 0, 40, 40], 0.9).result(1, 1, [100, 0, 30, 30], 0.8).result(1, 1, [0, 0, 39, 40], 0.7)


def zeros_of_both_signs() -> Case:
    case = Case().truth(2, 1, [0, 0, 10, 10]).truth(1, 1, [0, 0, 10, 10])
    case.result(2, 1, [0, 0, 10, 10], 0.0).result(1, 1, [0, 0, 10, 10], -0.0).result(1, 1, [50, 0, 10, 10], 0.0)
    return case.result(1, 1, [0, 0, 10, 10], -3.0).result(2, 1, [50, 0, 10, 10], float("inf"))


def other_settings() -> Case:
    case = crowd_beside_object()
    case.result(1, 2, [0, 0, 20, 20], 0.95).truth(2, 2, [0, 0, 20, 20])
    case.settings = {
        "iou_thresholds": [0.9, 0.0, 1.0, 0.3],
        "recall_thresholds": [0.5, -1.0, 0.0, 1.0, 2.0, 0.1],
        "area_ranges": [[0, 300], [100, 1e5]],
        "max_dets": [0, 1, 1, 2, 1000],
    }
    return case


def without_categories() -> Case:
    case = equal_scores()
    case.truth(3, 2, [2, 0, 10, 10]).result(3, 2, [2, 0, 10, 10], 0.5).result(5, 2, [0, 0, 10, 10], 0.5)
    case.result(5, 1, [0, 0, 10, 10], 0.5)
    case.settings = {"use_cats": False, "max_dets": [1, 2, 3]}
    return case


def thresholds_of_one() -> Case:
    """Equal boxes whose IoU is rounded to a little less than 1."""
    case = Case(settings={"iou_thresholds": [1.0, 1 - 1e-12]})
    for x, y, width, height in np.random.default_rng(0).uniform(0.1, 60, (40, 4)).tolist():
        case.truth(1, 1, [x, y, width, height]).result(1, 1, [x, y, width, height], width)
    return case


def most_thresholds() -> Case:
    case = crowd_beside_object()
    case.settings = {"iou_thresholds": np.linspace(0.05, 1.0, 32)}
    return case


CASES = {
    function.__name__: function
    for function in (
        Case,
        ground_truth_alone,
        detections_alone,
        all_crowd,
        crowd_beside_object,
        equal_scores,
        equal_overlaps,
        zero_and_negative_boxes,
        boxes_near_the_limits_of_float,
        more_than_a_hundred_detections,
        ids_of_64_bits,
        areas_at_their_bounds,
        object_in_another_area,
        zeros_of_both_signs,
        other_settings,
        without_categories,
        thresholds_of_one,
        most_thresholds,
    )
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_equals_pycocotools(name: str) -> None:
    case = CASES[name]()
    oracle = by_pycocotools(case)
    assert_equal_tables(by_core(case), oracle)
    kept = by_core(case, keep=True, threads=2)
    assert_equal_tables(kept, oracle)
    assert_equal_matches(kept, case, oracle)


def cases(draw: st.DrawFn) -> Case:
    """Few images, categories, places and scores, so that everything meets everything else."""
    case = Case(images=draw(st.lists(st.integers(1, 2**60), min_size=1, max_size=3, unique=True)))
    place = st.sampled_from([0.0, 1.0, 2.5, 10.0, 12.0])
    size = st.sampled_from([-4.0, 0.0, 0.1, 8.0, 10.0, 31.9, 32.0, 40.0, 100.0])
    score = st.sampled_from([-0.0, 0.0, 0.1, 0.5, 0.5000000000000001, 0.9]) | st.floats(allow_nan=False)
    where = st.tuples(st.sampled_from(case.images), st.sampled_from(case.categories))
    boxes = st.tuples(place, place, size, size).map(list)
    for image, category in draw(st.lists(where, max_size=10)):
        area = draw(st.sampled_from([0.0, 100.0, 1024.0, 2000.0, 9216.0, 1e5]))
        case.truth(image, category, draw(boxes), crowd=draw(st.sampled_from([0, 0, 0, 1])), area=area)
    taken = st.sampled_from([truth["bbox"] for truth in case.truths]) if case.truths else boxes
    for image, category in draw(st.lists(where, max_size=25)):
        case.result(image, category, list(draw(boxes | taken)), draw(score))
    if draw(st.booleans()):
        share = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.55, 0.75, 0.9, 1.0])
        case.settings = {
            "iou_thresholds": draw(st.lists(share, min_size=1, max_size=4)),
            "recall_thresholds": draw(st.lists(share | st.just(1.5), min_size=1, max_size=6)),
            "area_ranges": draw(st.sampled_from([[[0, 1e5]], [[100, 1100], [0, 100], [1024, 1024]]])),
            "max_dets": sorted(draw(st.lists(st.integers(0, 9), min_size=1, max_size=3))),
            "use_cats": draw(st.booleans()),
        }
    return case


@given(st.composite(cases)())
@settings(max_examples=250, deadline=None)
def test_equals_pycocotools_on_any_case(case: Case) -> None:
    oracle = by_pycocotools(case)
    kept = by_core(case, keep=True)
    assert_equal_tables(kept, oracle)
    assert_equal_tables(by_core(case), oracle)
    assert_equal_matches(kept, case, oracle)


def many_detections(scores: np.ndarray[Any, Any], seed: int) -> Case:
    """Enough detections of one category, in no order of images, for the radix sort and for several threads."""
    rng = np.random.default_rng(seed)
    case = Case(images=rng.choice(10**6, 40, replace=False).tolist(), categories=[3, 1, 2])
    for image in rng.choice(case.images, 300):
        x, y, w, h = np.round(rng.uniform(1, 60, 4), 1).tolist()
        case.truth(int(image), 1 + int(rng.integers(3) > 1), [x, y, w, h], crowd=int(rng.random() < 0.05))
    for score in scores:
        near = case.truths[int(rng.integers(len(case.truths)))]
        box = (np.array(near["bbox"]) + np.round(rng.normal(0, 2, 4), 1)).tolist()
        case.result(near["image_id"], near["category_id"], box, float(score))
    return case


@pytest.mark.parametrize(
    ("seed", "scores"),
    [
        (0, np.random.default_rng(0).random(4000)),
        (1, np.random.default_rng(1).integers(0, 256, 4000) / 256),
        # Equal in the upper half of their bits: the radix sort alone cannot tell them apart.
        (2, 0.5 + np.random.default_rng(2).integers(-500, 500, 4000) * 2.0**-53),
        (3, np.random.default_rng(3).normal(0, 1, 4000)),
        (4, np.full(2500, 0.25)),
        # Enough for the sort with the larger digits.
        (5, np.random.default_rng(5).random(13_000).astype(np.float32).astype(float)),
    ],
)
def test_equals_pycocotools_with_many_detections(seed: int, scores: np.ndarray[Any, Any]) -> None:
    case = many_detections(scores, seed)
    oracle = by_pycocotools(case)
    for threads in (1, 3):
        kept = by_core(case, threads=threads, keep=True)
        assert_equal_tables(kept, oracle)
    assert_equal_matches(kept, case, oracle)
    case.settings = {"use_cats": False, "max_dets": [1, 5, 20]}
    assert_equal_tables(by_core(case, threads=2), by_pycocotools(case))


def test_equals_pycocotools_on_its_own_fixture(qprof_data: Path) -> None:
    folder = qprof_data / "coco_fake100"
    truths = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    case = Case(
        truths["annotations"], results, [i["id"] for i in truths["images"]], [c["id"] for c in truths["categories"]]
    )
    oracle = by_pycocotools(case)
    kept = by_core(case, threads=2, keep=True)
    assert_equal_tables(kept, oracle)
    assert assert_equal_matches(kept, case, oracle) > 1_000
    expected = json.loads((folder / "expected_stats.json").read_text())["bbox"]
    precision = kept.precision[..., 0, 2]
    assert precision[precision > -1].mean() == pytest.approx(expected[0], abs=1e-10)


def test_known_curve() -> None:
    """Right, wrong, right of three objects: precision 1 up to a third, 2/3 up to two thirds, then 0."""
    case = Case(settings=WHOLE | {"recall_thresholds": [0.0, 1 / 3, 0.34, 2 / 3, 0.67]})
    case.truth(1, 1, [0, 0, 10, 10]).truth(1, 1, [50, 0, 10, 10]).truth(2, 1, [0, 0, 10, 10])
    case.result(1, 1, [0, 0, 10, 10], 0.9).result(1, 1, [80, 0, 10, 10], 0.8).result(2, 1, [0, 0, 10, 10], 0.7)
    found = by_core(case)
    assert found.precision[0, :, 0, 0, 0].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3, 0], abs=1e-15)
    assert found.scores[0, :, 0, 0, 0].tolist() == [0.9, 0.9, 0.7, 0.7, 0.0]
    assert found.recall[0, :, 0, 0].tolist() == [2 / 3, -1]
    assert (found.precision[0, :, 1] == -1).all()


def case_with_id_zero() -> Case:
    case = Case(settings=WHOLE).truth(1, 1, [0, 0, 10, 10], id=0).truth(1, 1, [50, 0, 10, 10], id=1)
    return case.result(1, 1, [0, 0, 10, 10], 0.9).result(1, 1, [50, 0, 10, 10], 0.8)


def test_a_match_to_annotation_id_zero_counts() -> None:
    case = case_with_id_zero()
    found = by_core(case, keep=True)
    assert found.recall[0, 0, 0, 0] == 1.0
    assert found.assignments(0)[0].tolist() == [0, 1]


def test_id_zero_as_in_pycocotools_on_demand() -> None:
    case = case_with_id_zero()
    oracle = by_pycocotools(case)
    assert oracle.eval["recall"][0, 0, 0, 0] == 0.5
    found = by_core(case, keep=True, id_zero="pycocotools")
    assert_equal_tables(found, oracle)
    assert_equal_matches(found, case, oracle)
    assert found.assignments(0)[0].tolist() == [-1, 1]


@given(st.composite(cases)())
@settings(max_examples=60, deadline=None)
def test_id_zero_as_in_pycocotools_on_any_case(case: Case) -> None:
    for number, truth in enumerate(case.truths):
        truth["id"] = number
    oracle = by_pycocotools(case)
    found = by_core(case, keep=True, id_zero="pycocotools")
    assert_equal_tables(found, oracle)
    assert_equal_matches(found, case, oracle)


def test_ignored_object_is_neither_found_nor_missed() -> None:
    case = Case(settings=WHOLE).truth(1, 1, [0, 0, 10, 10]).truth(1, 1, [50, 0, 10, 10])
    case.result(1, 1, [0, 0, 10, 10], 0.9).result(1, 1, [0, 0, 10, 10], 0.8).result(1, 1, [50, 0, 10, 10], 0.7)
    found = by_core(case, gt_ignore=np.array([1, 0], dtype=np.uint8), keep=True)
    assert found.truth_counts().tolist() == [[1], [0]]
    truths, ignored = found.assignments(0)
    # Unlike a crowd it can be taken once only: the second detection of it is wrong.
    assert truths.tolist() == [0, -1, 1]
    assert ignored.tolist() == [True, False, False]
    assert found.precision[0, :, 0, 0, 0].tolist() == [0.5, 0.5, 0.5]


def test_assignments_name_what_was_left_out() -> None:
    case = Case(settings=WHOLE | {"max_dets": [1, 2]}).truth(1, 1, [0, 0, 10, 10])
    case.result(1, 1, [70, 0, 10, 10], 0.1).result(1, 1, [0, 0, 10, 10], 0.2).result(1, 1, [80, 0, 10, 10], 0.3)
    case.result(99, 1, [0, 0, 10, 10], 0.9).result(1, 77, [0, 0, 10, 10], 0.9)
    arguments = core_arguments(case)
    assert arguments["dt_image"].tolist() == [0, 0, 0, -1, 0]
    assert arguments["dt_category"].tolist() == [0, 0, 0, 0, -1]
    found = by_core(case, keep=True)
    assert found.assignments(0)[0].tolist() == [-2, 0, -1, -2, -2]
    assert found.recall[0, 0, 0].tolist() == [0.0, 1.0]


def test_given_areas_replace_width_times_height() -> None:
    case = Case(settings=WHOLE | {"area_ranges": [[0, 50]]}).truth(1, 1, [0, 0, 10, 10], area=20.0)
    case.result(1, 1, [0, 0, 10, 10], 0.9).result(1, 1, [70, 0, 10, 10], 0.95)
    assert by_core(case).precision[0, 0, 0, 0, 0] == pytest.approx(1.0)
    found = by_core(case, dt_area=np.array([10.0, 20.0]))
    assert found.precision[0, 0, 0, 0, 0] == 0.5


def test_columns_of_a_table_need_no_copy_and_give_the_same() -> None:
    case = many_detections(np.random.default_rng(5).random(500), 5)
    arguments = core_arguments(case)
    whole = _coco.evaluate(**arguments)
    table = np.zeros((len(case.results), 9))
    table[:, 1:5], table[:, 6] = arguments["dt_boxes"], arguments["dt_score"]
    others = [
        {"dt_boxes": table[:, 1:5], "dt_score": table[:, 6]},
        {"dt_boxes": np.asfortranarray(arguments["dt_boxes"])},
        {name: arguments[name].astype(np.int64) for name in ("gt_image", "gt_category", "dt_image", "dt_category")},
        {"dt_boxes": arguments["dt_boxes"].tolist(), "gt_crowd": arguments["gt_crowd"].astype(bool)},
    ]
    for other in others:
        found = _coco.evaluate(**arguments | other)
        assert np.array_equal(whole.precision, found.precision) and np.array_equal(whole.scores, found.scores)


def replaced(index: Any, value: Any) -> Any:
    def replace(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        changed = array.copy()
        changed[index] = value
        return changed

    return replace


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dt_score", replaced(4, np.nan), "detection 4: the score is NaN"),
        ("dt_boxes", replaced((3, 2), np.nan), "detection 3: the box has a value that is NaN or infinite"),
        ("dt_boxes", replaced((0, 0), np.inf), "detection 0: the box"),
        ("dt_area", np.array([1, 1, 1, 1, 1, np.nan]), "detection 5: the area is NaN"),
        ("gt_boxes", replaced((1, 3), -np.inf), "ground truth 1: the box"),
        ("gt_area", replaced(2, np.nan), "ground truth 2: the area is NaN"),
        ("dt_image", replaced(1, 3), "detection 1: image index 3 is not below 3"),
        ("dt_image", replaced(1, -2), "detection 1: image index -2"),
        ("dt_category", replaced(0, 9), "detection 0: category index 9 is not below 2"),
        ("gt_category", replaced(0, 2), "ground truth 0: category index 2"),
        ("gt_image", replaced(2, -7), "ground truth 2: image index -7"),
        ("dt_score", lambda a: a[:-1], "dt_score: 5 values where 6 are expected"),
        ("dt_boxes", lambda a: a[:, :3], "dt_boxes: shape"),
        ("gt_id", lambda a: a.astype(float), "gt_id: float64 values where whole numbers"),
        ("dt_image", lambda a: a.astype(np.int64) + 2**40, "dt_image: a value is out of range for int32"),
        ("dt_score", lambda a: a.astype(str), "dt_score"),
        ("iou_thresholds", [np.nan], "iou_thresholds: a value is NaN"),
        ("iou_thresholds", np.linspace(0, 1, 33), "iou_thresholds: 33 where at most 32"),
        ("recall_thresholds", [0.0, np.nan], "recall_thresholds: a value is NaN"),
        ("area_ranges", np.zeros((17, 2)), "area_ranges: shape"),
        ("area_ranges", [1.0, 2.0], "area_ranges: shape"),
        ("max_dets", [10, 1], "max_dets: .* ascending"),
        ("max_dets", [-1], "max_dets"),
        ("threads", 0, "threads: 0"),
        ("id_zero", "skip", "id_zero: 'skip'"),
        ("images", -1, "negative"),
    ],
)
def test_bad_input_is_a_value_error_that_names_it(name: str, value: Any, message: str) -> None:
    arguments = core_arguments(equal_scores())
    with pytest.raises(ValueError, match=message):
        _coco.evaluate(**arguments | {name: value(arguments[name]) if callable(value) else value})


def test_the_matches_must_have_been_kept() -> None:
    found = by_core(equal_scores())
    assert not found.kept
    for ask in (lambda: found.category_matches(0), lambda: found.assignments(0), lambda: found.truth_counts()):
        with pytest.raises(ValueError, match="keep=True"):
            ask()


def test_an_index_beyond_the_settings_is_an_error() -> None:
    found = by_core(equal_scores(), keep=True)
    with pytest.raises(ValueError, match="category: index 2"):
        found.category_matches(2)
    with pytest.raises(ValueError, match="area: index 4"):
        found.category_matches(0, 4)
    with pytest.raises(ValueError, match="iou: index -1"):
        found.assignments(-1)


def test_an_evaluation_is_made_by_evaluate_only() -> None:
    with pytest.raises(TypeError, match="evaluate"):
        _coco.Evaluation()


@given(st.composite(cases)())
@settings(max_examples=60, deadline=None)
def test_best_overlaps_equal_a_search_by_hand(case: Case) -> None:
    arguments = core_arguments(case)
    names = [f"{side}_{name}" for side in ("gt", "dt") for name in ("image", "category", "boxes")] + ["gt_crowd"]
    chosen = {name: arguments[name] for name in (*names, "images", "categories")}
    found = _coco.best_overlaps(**chosen, threads=2)
    for number, result in enumerate(case.results):
        best: dict[str, tuple[float, int]] = {"same": (0.0, -1), "other": (0.0, -1)}
        for position, truth in enumerate(case.truths):
            if truth["image_id"] != result["image_id"]:
                continue
            kind = "same" if truth["category_id"] == result["category_id"] else "other"
            crowd = [int(truth["iscrowd"])]
            iou = mask.iou(np.array([result["bbox"]]), np.array([truth["bbox"]], dtype=np.float64), crowd)[0, 0]
            if iou > best[kind][0]:
                best[kind] = (iou, position)
        for kind, expected in best.items():
            assert (found[f"{kind}_iou"][number], found[f"{kind}_gt"][number]) == expected  # type: ignore[literal-required]


def test_best_overlaps_leave_out_what_has_no_image() -> None:
    box, none = np.array([[0.0, 0, 10, 10]]), np.array([-1])
    for gt_image, dt_image in ((none, none + 1), (none + 1, none)):
        found = _coco.best_overlaps(gt_image, none + 1, box, none + 1, dt_image, none + 1, box, images=1, categories=1)
        assert found["same_iou"].tolist() == [0.0] and found["same_gt"].tolist() == [-1]
    with pytest.raises(ValueError, match="detection 0: the box"):
        _coco.best_overlaps(none, none, box, none + 1, none, none, box * np.nan, images=1, categories=1)
    with pytest.raises(ValueError, match="ground truth 0: category index 5"):
        _coco.best_overlaps(none, none + 6, box, none + 1, none, none, box, images=1, categories=1)


@pytest.mark.parametrize("known", [[-5, 3, 4, 900], [-(2**63), 0, 2**62, 2**63 - 1], []])
def test_index_of(known: list[int]) -> None:
    asked = [*known, 5, 0, -(2**63), 2**63 - 1, 901, -6]
    places = {number: place for place, number in enumerate(known)}
    expected = [places.get(number, -1) for number in asked]
    for threads in (1, 2):
        found, missing = _coco.index_of(np.array(asked), np.array(known, dtype=np.int64), threads=threads)
        assert found.tolist() == expected and found.dtype == np.int32
        assert missing == expected.count(-1)


def test_index_of_a_float_column_takes_whole_numbers_only() -> None:
    found, missing = _coco.index_of(np.array([3.0, 3.5, np.nan, np.inf, -4e300, 7.0]), np.array([3, 7]))
    assert found.tolist() == [0, -1, -1, -1, -1, 1] and missing == 4


def test_index_of_many_in_several_threads() -> None:
    rng = np.random.default_rng(0)
    known = np.unique(rng.integers(0, 10**12, 3000))
    asked = np.concatenate([rng.choice(known, 150_000), rng.integers(0, 10**12, 50_000)])
    found, missing = _coco.index_of(asked, known, threads=2)
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    expected = np.where(known[place] == asked, place, -1)
    assert np.array_equal(found, expected) and missing == (expected < 0).sum()


def test_index_of_needs_ascending_ids() -> None:
    with pytest.raises(ValueError, match="sorted_ids"):
        _coco.index_of(np.array([1]), np.array([2, 2]))

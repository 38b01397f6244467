"""One-threshold scores, confusion, kinds of errors and calibration: known answers, oracles, and counts that add up."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qprof.errors import DataError
from qprof.tasks.coco import analysis
from qprof.tasks.coco.analysis import (
    DetectionBoxes,
    DetectionKind,
    TruthBoxes,
    TruthKind,
    boxes,
    calibration,
    confusion,
    error_analysis,
    find_overlaps,
    fixed_threshold_score,
)
from qprof.tasks.coco.analysis.average_precision import average_precision

#: A ground truth, and detections of it with an IoU of height / 10.
OBJECT = (0, 0, 10, 10)
OTHER = (100, 100, 10, 10)
FAR = (500, 500, 10, 10)
SIZES = {"images": 3, "categories": 3}
Box = tuple[float, float, float, float]


def part(tenths: float, of: Box = OBJECT) -> Box:
    return (of[0], of[1], 10, tenths)


def truths(*rows: tuple[int, int, Box] | tuple[int, int, Box, bool]) -> TruthBoxes:
    """Rows of image, category, box, and whether it is a crowd."""
    return TruthBoxes(
        np.array([row[0] for row in rows], dtype=np.int32),
        np.array([row[1] for row in rows], dtype=np.int32),
        np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4),
        np.array([len(row) > 3 and row[3] for row in rows], dtype=np.bool_),
    )


def detections(*rows: tuple[int, int, Box, float]) -> DetectionBoxes:
    """Rows of image, category, box, score."""
    return DetectionBoxes(
        np.array([row[0] for row in rows], dtype=np.int32),
        np.array([row[1] for row in rows], dtype=np.int32),
        np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4),
        np.array([row[3] for row in rows], dtype=np.float64),
    )


def random_case(seed: int, *, truth_count: int = 30, detection_count: int = 90) -> tuple[TruthBoxes, DetectionBoxes]:
    """Small integer boxes, so that IoUs tie and areas vanish, few scores, so that they tie, and many crowds."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> tuple[Any, Any, Any]:
        place = rng.integers(0, 12, (count, 2))
        return rng.integers(0, 3, count), rng.integers(0, 3, count), np.hstack([place, rng.integers(0, 9, (count, 2))])

    found = TruthBoxes(*draw(truth_count), rng.random(truth_count) < 0.2)
    return found, DetectionBoxes(*draw(detection_count), rng.integers(1, 20, detection_count) / 20)


@st.composite
def cases(draw: st.DrawFn) -> tuple[TruthBoxes, DetectionBoxes]:
    return random_case(
        draw(st.integers(0, 10_000)),
        truth_count=draw(st.integers(0, 25)),
        detection_count=draw(st.integers(0, 40)),
    )


def coco_evaluation(found: TruthBoxes, seen: DetectionBoxes, use_categories: bool = True) -> Any:
    """pycocotools at IoU 0.5 with as many detections as there are."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        data, results = coco.COCO(), coco.COCO()
        ids = {"images": [{"id": i} for i in range(3)], "categories": [{"id": k} for k in range(3)]}
        data.dataset = {
            **ids,
            "annotations": [_entry(found, a, iscrowd=int(found.crowd[a])) for a in range(len(found))],
        }
        seen_entries = [_entry(seen, a, score=float(seen.score[a]), iscrowd=0) for a in range(len(seen))]
        results.dataset = {**ids, "annotations": seen_entries}
        data.createIndex()
        results.createIndex()
        evaluation = cocoeval.COCOeval(data, results, "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.maxDets = [1000]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.useCats = int(use_categories)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _entry(these: boxes.Boxes, row: int, **more: Any) -> dict[str, Any]:
    box = these.boxes[row].tolist()
    place = {"image_id": int(these.image[row]), "category_id": int(these.category[row])}
    return {"id": row + 1, **place, "bbox": box, "area": box[2] * box[3], **more}


# Boxes and overlaps


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"boxes": np.zeros((2, 3))}, r"boxes has the shape \(2, 3\), not \(2, 4\)"),
        ({"category": np.zeros(3, dtype=int)}, r"category has the shape \(3,\), not \(2,\)"),
        ({"image": np.array([0, -1])}, "image holds a negative index"),
        ({"category": np.array([0.0, 1.5])}, "category holds float64, not integers"),
        ({"boxes": np.array([[0, 0, 1, 1], [0, np.inf, 1, 1]])}, r"boxes\[1\] is not a finite number"),
        ({"score": np.array([0.5, np.nan])}, r"score\[1\] is not a finite number"),
        ({"score": ["high", "low"]}, "score cannot be read as float64 numbers"),
    ],
)
def test_bad_arrays_are_named(wrong: dict[str, Any], message: str) -> None:
    good = {"image": np.zeros(2, int), "category": np.zeros(2, int), "boxes": np.ones((2, 4)), "score": np.ones(2)}
    DetectionBoxes(**good)
    with pytest.raises(DataError, match=f"DetectionBoxes.{message}"):
        DetectionBoxes(**(good | wrong))


def test_truths_without_crowd_and_area_have_none_and_width_by_height() -> None:
    given_boxes = np.array([[0.0, 0.0, 3.0, 4.0]])
    found = TruthBoxes(np.zeros(1, np.int32), np.zeros(1, np.int32), given_boxes)
    assert found.crowd.tolist() == [False] and found.area.tolist() == [12.0]


@pytest.mark.parametrize("analyse", [fixed_threshold_score, confusion, calibration, error_analysis])
def test_indices_and_thresholds_out_of_range_are_errors(analyse: Any) -> None:
    threshold = "upper_iou" if analyse is error_analysis else "iou_threshold"
    with pytest.raises(DataError, match=r"TruthBoxes.image\[0\] is 3, but there are only 3"):
        analyse(truths((3, 0, OBJECT)), detections(), **SIZES)
    with pytest.raises(DataError, match=r"DetectionBoxes.category\[1\] is 7, but there are only 3"):
        analyse(truths(), detections((0, 0, OBJECT, 0.5), (0, 7, OBJECT, 0.5)), **SIZES)
    for value in (0.0, 1.01, float("nan")):
        with pytest.raises(DataError, match=f"{threshold} is {value}"):
            analyse(truths(), detections(), **SIZES, **{threshold: value})


def test_iou_equals_the_coco_api_bit_for_bit() -> None:
    mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(5)
    left = np.vstack([rng.random((200, 4)) * 30 - 5, rng.integers(0, 6, (200, 4)), [[0, 0, 1e-200, 1e-200]]])
    right = np.vstack([rng.random((200, 4)) * 30 - 5, rng.integers(0, 6, (200, 4)), [[0, 0, 5, 5]]])
    crowd = rng.random(401) < 0.3
    expected = [mask.iou([a], [b], [int(c)])[0, 0] for a, b, c in zip(left, right, crowd, strict=True)]
    got = boxes.iou(left.astype(float), right.astype(float), crowd)
    assert got.tolist()[:-1] == expected[:-1]
    assert got[-1] == 0.0  # an area that underflows; bbIou may divide 0 by 0
    assert np.count_nonzero(got) > 50


def test_iou_of_sizes_lost_in_rounding_is_no_match() -> None:
    # At 1e16 neighbouring numbers are 2 apart: the intersection comes out larger than both areas together.
    box = np.array([[1e16, 1e16, 1.0000001, 1.0000001]])
    assert boxes.iou(box, box, np.array([False])).tolist() == [0.0]


def test_best_overlap_is_the_first_of_equal_ones() -> None:
    pairs = boxes.Overlaps(np.array([0, 0, 0, 2]), np.array([3, 5, 7, 1]), np.array([0.2, 0.6, 0.6, 0.1]))
    value, truth = pairs.best(3)
    assert value.tolist() == [0.6, 0.0, 0.1] and truth.tolist() == [5, -1, 1]


@pytest.mark.parametrize("at_once", [1, 7, 1_000_000])
def test_overlaps_are_all_pairs_of_an_image_whatever_the_portion(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "PAIRS_AT_ONCE", at_once)
    found, seen = random_case(1)
    expected = [
        (d, t, value)
        for d in range(len(seen))
        for t in range(len(found))
        if seen.image[d] == found.image[t]
        and (value := boxes.iou(seen.boxes[[d]], found.boxes[[t]], found.crowd[[t]])[0]) > 0
    ]
    got = find_overlaps(found, seen)
    assert list(zip(got.detection.tolist(), got.truth.tolist(), got.iou.tolist(), strict=True)) == expected


# One threshold


def test_fixed_threshold_counts_one_to_one() -> None:
    found = truths((0, 0, OBJECT), (0, 1, OTHER), (2, 0, OBJECT))
    seen = detections(
        (0, 0, part(6), 0.7), (0, 0, part(9), 0.9), (0, 0, part(9, OTHER), 0.8), (1, 0, FAR, 0.6), (0, 0, FAR, 0.1)
    )
    score = fixed_threshold_score(found, seen, **SIZES, score_threshold=0.5)
    assert score.true_positives.tolist() == [1, 0, 0]
    assert score.false_positives.tolist() == [2, 1, 0]
    assert score.missed.tolist() == [1, 0, 1]
    assert score.precision == pytest.approx(1 / 4) and score.recall == pytest.approx(1 / 3)
    assert score.f1 == pytest.approx(2 / (4 + 3))
    assert score.mean_iou == pytest.approx(0.9)
    np.testing.assert_array_equal(score.image_precision, [1 / 3, 0.0, np.nan])
    np.testing.assert_array_equal(score.image_recall, [1 / 2, np.nan, 0.0])
    np.testing.assert_allclose(score.image_f1, [0.4, np.nan, np.nan])
    np.testing.assert_array_equal(score.image_mean_iou, [0.9, np.nan, np.nan])

    whatever = fixed_threshold_score(found, seen, **SIZES, score_threshold=0.5, same_category=False)
    assert whatever.true_positives.tolist() == [2, 0, 0]
    assert fixed_threshold_score(found, seen, **SIZES, score_threshold=0.95).precision is None


def test_naive_protocol_flatters_boxes_that_hardly_touch() -> None:
    found = truths((0, 0, OBJECT))
    coarse = detections((0, 0, part(1), 0.9), (0, 0, part(0.5), 0.8), (0, 0, part(2), 0.7))
    naive = fixed_threshold_score(found, coarse, **SIZES, iou_threshold=0.01, many_to_one=True)
    assert (naive.precision, naive.recall, naive.f1) == (1.0, 1.0, 1.0)
    assert naive.true_positives[0] == 3 and naive.found[0] == 1
    assert naive.mean_iou == pytest.approx((0.1 + 0.05 + 0.2) / 3)
    assert fixed_threshold_score(found, coarse, **SIZES, iou_threshold=0.01).precision == pytest.approx(1 / 3)
    assert fixed_threshold_score(found, coarse, **SIZES, iou_threshold=0.5).precision == 0.0
    assert fixed_threshold_score(found, coarse, **SIZES, iou_threshold=0.5).f1 == 0.0


def test_a_crowd_excuses_one_to_one_and_is_an_object_in_the_naive_protocol() -> None:
    found = truths((0, 0, (0, 0, 100, 100), True))
    seen = detections((0, 0, OBJECT, 0.9), (0, 1, OBJECT, 0.8), (0, 0, (0, 0, 100, 60), 0.7))
    score = fixed_threshold_score(found, seen, **SIZES)
    assert (score.ignored[0], score.false_positives[0], score.missed[0]) == (2, 1, 0)
    assert score.precision == 0.0 and score.recall is None and score.f1 is None and score.mean_iou is None
    assert fixed_threshold_score(found, seen, **SIZES, same_category=False).ignored[0] == 3
    naive = fixed_threshold_score(found, seen, **SIZES, many_to_one=True, overlaps=find_overlaps(found, seen))
    assert (naive.ignored[0], naive.true_positives[0], naive.found[0]) == (0, 1, 1)
    assert naive.mean_iou == pytest.approx(0.6)


@pytest.mark.parametrize("use_categories", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_matches_equal_pycocotools(seed: int, use_categories: bool) -> None:
    found, seen = random_case(seed)
    images = [image for image in coco_evaluation(found, seen, use_categories).evalImgs if image is not None]
    expected_true = np.zeros(3, dtype=int)
    expected_ignored = np.zeros(3, dtype=int)
    for image in images:
        expected_true[image["image_id"]] += int((image["dtMatches"] > 0)[~image["dtIgnore"]].sum())
        expected_ignored[image["image_id"]] += int(image["dtIgnore"].sum())
    score = fixed_threshold_score(found, seen, **SIZES, same_category=use_categories)
    assert score.true_positives.tolist() == expected_true.tolist()
    assert score.ignored.tolist() == expected_ignored.tolist()
    if use_categories:
        kinds = error_analysis(found, seen, **SIZES, max_detections=None)
        matched = {d: t for image in images for d, t in zip(image["dtIds"], image["dtMatches"][0], strict=True)}
        for row in range(len(seen)):
            truth = int(matched[row + 1]) - 1
            correct = truth >= 0 and not found.crowd[truth]
            assert (kinds.detection_kind[row] == DetectionKind.CORRECT) == correct
            assert not correct or kinds.detection_truth[row] == truth
            assert (kinds.detection_kind[row] == DetectionKind.IGNORED) == (truth >= 0 and not correct)


def test_an_iou_threshold_of_one_admits_rounding() -> None:
    box = (0.7, 0.4, 0.1, 0.1)
    assert find_overlaps(truths((0, 0, box)), detections((0, 0, box, 1.0))).iou[0] < 1.0
    assert fixed_threshold_score(truths((0, 0, box)), detections((0, 0, box, 1.0)), **SIZES, iou_threshold=1.0).f1 == 1


def test_of_equal_overlaps_the_last_truth_is_taken_as_in_pycocotools() -> None:
    found, seen = truths((0, 0, OBJECT), (0, 0, OBJECT)), detections((0, 0, part(8), 0.9))
    assert error_analysis(found, seen, **SIZES).detection_truth.tolist() == [1]
    image = next(image for image in coco_evaluation(found, seen).evalImgs if image is not None)
    assert image["dtMatches"].tolist() == [[2]]  # ids count from 1


# Confusion


def test_confusion_rows_are_truths_and_columns_are_detections() -> None:
    found = truths((0, 0, OBJECT), (0, 1, OTHER), (1, 2, OBJECT), (1, 1, (300, 300, 50, 50), True))
    seen = detections(
        (0, 0, part(9), 0.9),
        (0, 2, part(8, OTHER), 0.8),
        (0, 2, FAR, 0.7),
        (1, 0, (310, 310, 10, 10), 0.6),
        (1, 2, OBJECT, 0.1),
    )
    result = confusion(found, seen, **SIZES)
    assert result.counts.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert result.ignored == 1
    assert result.most_confused() == [(1, 2, 1)]
    np.testing.assert_array_equal(result.shares[1], [0, 0, 1, 0])
    empty = confusion(truths(), detections(), **SIZES)
    assert empty.counts.shape == (4, 4) and not empty.counts.any() and np.isnan(empty.shares).all()
    assert empty.most_confused() == []


def test_confusion_order_decides_between_the_surer_and_the_closer() -> None:
    found = truths((0, 0, OBJECT))
    seen = detections((0, 1, part(6), 0.9), (0, 0, part(9), 0.3))
    assert confusion(found, seen, **SIZES).counts[0, 0] == 1
    assert confusion(found, seen, **SIZES, order="score").counts[0, 1] == 1


@pytest.mark.parametrize("seed", range(10))
def test_confusion_by_iou_equals_a_plain_greedy_loop(seed: int) -> None:
    found, seen = random_case(seed)
    pairs = find_overlaps(found, seen)
    rank = {int(d): place for place, d in enumerate(np.lexsort((seen.image, -seen.score)))}
    candidates = sorted(
        (-value, rank[d], -t, d, t)
        for d, t, value in zip(pairs.detection.tolist(), pairs.truth.tolist(), pairs.iou.tolist(), strict=True)
        if value >= 0.3 and not found.crowd[t]
    )
    expected = np.zeros((3, 3), dtype=int)
    used: set[tuple[str, int]] = set()
    for *_, d, t in candidates:
        if ("d", d) not in used and ("t", t) not in used:
            used |= {("d", d), ("t", t)}
            expected[found.category[t], seen.category[d]] += 1
    got = confusion(found, seen, **SIZES, iou_threshold=0.3, score_threshold=0.0).counts
    assert got[:3, :3].tolist() == expected.tolist()


# Kinds of errors


def kinds_of(found: TruthBoxes, seen: DetectionBoxes, **options: Any) -> list[str]:
    return [DetectionKind(kind).name for kind in error_analysis(found, seen, **SIZES, **options).detection_kind]


@pytest.mark.parametrize(
    ("category", "box", "kind"),
    [
        (0, part(8), "CORRECT"),
        (0, part(5), "CORRECT"),
        (0, part(4), "LOCALIZATION"),
        (0, part(1), "LOCALIZATION"),
        (0, part(0.9), "BACKGROUND"),
        (0, FAR, "BACKGROUND"),
        (0, part(0), "BACKGROUND"),
        (1, part(8), "CLASS"),
        (1, part(5), "CLASS"),
        (1, part(4), "BOTH"),
        (1, part(1.1), "BOTH"),
        (1, part(1), "BACKGROUND"),
    ],
)
def test_kind_of_a_single_detection(category: int, box: Box, kind: str) -> None:
    result = error_analysis(truths((0, 0, OBJECT)), detections((0, category, box, 0.9)), **SIZES)
    assert DetectionKind(result.detection_kind[0]).name == kind
    state = {"CORRECT": TruthKind.FOUND, "LOCALIZATION": TruthKind.NEARLY, "CLASS": TruthKind.NEARLY}
    assert result.truth_kind[0] == state.get(kind, TruthKind.MISSED)
    assert result.detection_truth[0] == (0 if kind in state else -1)
    assert result.false_positives == (kind != "CORRECT") and result.false_negatives == (kind != "CORRECT")
    assert result.counts["missed"] == (state.get(kind) is None)


def test_kind_of_a_second_detection() -> None:
    found = truths((0, 0, OBJECT))
    for second in (part(8), part(5)):  # the second: at an IoU of exactly the threshold
        seen = detections((0, 0, second, 0.8), (0, 0, part(6), 0.9))
        result = error_analysis(found, seen, **SIZES)
        assert result.detection_kind.tolist() == [DetectionKind.DUPLICATE, DetectionKind.CORRECT]
        assert result.detection_truth.tolist() == [0, 0]
    # A poor second box of a found object is a localization error, and its fix can only remove it.
    result = error_analysis(found, detections((0, 0, part(3), 0.99), (0, 0, part(8), 0.5)), **SIZES)
    assert result.detection_kind.tolist() == [DetectionKind.LOCALIZATION, DetectionKind.CORRECT]
    assert result.truth_kind.tolist() == [TruthKind.FOUND]
    assert result.gains["localization"] == pytest.approx(0.5)
    two = truths((0, 0, OBJECT), (0, 0, OTHER))
    result = error_analysis(two, detections((0, 0, part(3), 0.99), (0, 0, part(8), 0.5)), **SIZES)
    assert result.gains["localization"] == pytest.approx(51 / 101 * 0.5)
    # Of two right-looking readings, the class error comes before the duplicate.
    both = truths((0, 0, OBJECT), (0, 1, part(9)))
    assert kinds_of(both, detections((0, 0, part(10), 0.9), (0, 0, part(9), 0.8))) == ["CORRECT", "CLASS"]


def test_crowds_excuse_their_own_category_alone() -> None:
    found = truths((0, 0, (0, 0, 100, 100), True), (0, 0, OTHER))
    seen = detections(
        (0, 0, OBJECT, 0.9), (0, 1, OBJECT, 0.8), (0, 0, (95, 0, 10, 10), 0.7), (0, 0, (96, 0, 10, 10), 0.6)
    )
    result = error_analysis(found, seen, **SIZES)
    expected = [DetectionKind.IGNORED, DetectionKind.BACKGROUND, DetectionKind.IGNORED, DetectionKind.BACKGROUND]
    assert result.detection_kind.tolist() == expected
    assert result.truth_kind.tolist() == [TruthKind.CROWD, TruthKind.MISSED]


def test_limits_leave_the_best_of_each_image() -> None:
    found = truths((0, 0, OBJECT), (1, 0, OBJECT))
    seen = detections((0, 0, FAR, 0.2), (0, 0, OBJECT, 0.9), (0, 1, FAR, 0.9), (1, 0, OBJECT, 0.1))
    assert kinds_of(found, seen, max_detections=2) == ["UNUSED", "CORRECT", "BACKGROUND", "CORRECT"]
    assert kinds_of(found, seen, max_detections=1) == ["UNUSED", "CORRECT", "UNUSED", "CORRECT"]
    assert error_analysis(found, seen, **SIZES, max_detections=1).average_precision == 1.0
    assert error_analysis(found, seen, **SIZES).average_precision == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert kinds_of(found, seen, score_threshold=0.2) == ["BACKGROUND", "CORRECT", "BACKGROUND", "UNUSED"]


def gains(found: TruthBoxes, seen: DetectionBoxes) -> tuple[float | None, dict[str, float | None]]:
    """AP, and the gains that are not 0."""
    result = error_analysis(found, seen, **SIZES)
    assert set(result.gains) == {*analysis.ERROR_NAMES, "false_positive", "false_negative"}
    return result.average_precision, {name: gain for name, gain in result.gains.items() if gain != 0}


def test_gain_of_a_localization_fix() -> None:
    one = truths((0, 0, OBJECT))
    assert gains(one, detections((0, 0, part(3), 0.9))) == (0.0, {"localization": 1.0})
    # Of two about the same object the surer becomes correct and the other goes.
    assert gains(one, detections((0, 0, part(4), 0.8), (0, 0, part(3), 0.9))) == (0.0, {"localization": 1.0})


def test_gain_of_a_class_fix_goes_to_the_right_category() -> None:
    assert gains(truths((0, 2, OBJECT)), detections((0, 1, part(8), 0.9))) == (
        0.0,
        {"class": 1.0, "false_negative": None},
    )
    # The surer of a class and a localization error about one object is the one that can be fixed.
    found = truths((0, 0, OBJECT))
    assert gains(found, detections((0, 0, part(3), 0.8), (0, 1, part(8), 0.9))) == (0.0, {"class": 1.0})
    assert gains(found, detections((0, 0, part(3), 0.9), (0, 1, part(8), 0.8))) == (0.0, {"localization": 1.0})


def test_gain_of_a_background_fix() -> None:
    seen = detections((0, 0, FAR, 0.9), (0, 0, OBJECT, 0.8))
    assert gains(truths((0, 0, OBJECT)), seen) == (0.5, {"background": 0.5, "false_positive": 0.5})


def test_gain_of_a_duplicate_fix() -> None:
    seen = detections((0, 0, OBJECT, 0.9), (0, 0, part(8), 0.8), (0, 0, OTHER, 0.7))
    base, by_kind = gains(truths((0, 0, OBJECT), (0, 0, OTHER)), seen)
    assert base == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert by_kind == {"duplicate": pytest.approx(1 - base), "false_positive": pytest.approx(1 - base)}


def test_gains_of_both_and_of_missed() -> None:
    found = truths((0, 0, OBJECT), (0, 1, OTHER))
    seen = detections((0, 1, part(3), 0.9), (0, 1, OTHER, 0.8))
    expected = {"both": 0.25, "missed": 0.25, "false_positive": 0.25, "false_negative": 0.25}
    assert gains(found, seen) == (0.25, expected)
    # Half of one category is missed: recall ends at 1/2, where 51 of the 101 points lie.
    base, by_kind = gains(truths((0, 0, OBJECT), (0, 0, OTHER)), detections((0, 0, OBJECT, 0.9)))
    assert base == pytest.approx(51 / 101)
    assert by_kind == {"missed": pytest.approx(50 / 101), "false_negative": pytest.approx(50 / 101)}


def test_what_is_undefined_is_none() -> None:
    nothing = error_analysis(truths(), detections((0, 0, OBJECT, 0.9)), **SIZES)
    assert nothing.average_precision is None and set(nothing.gains.values()) == {None}
    assert nothing.counts["background"] == 1 and nothing.false_negatives == 0
    unseen = error_analysis(truths((0, 0, OBJECT)), detections(), **SIZES)
    assert unseen.average_precision == 0.0 and unseen.counts["missed"] == 1
    assert unseen.gains["missed"] is None and unseen.gains["background"] == 0.0
    crowds = error_analysis(truths((0, 0, OBJECT, True)), detections((0, 0, OBJECT, 0.9)), **SIZES)
    assert crowds.average_precision is None and crowds.false_positives == 0


def test_thresholds_of_errors_must_be_ordered() -> None:
    with pytest.raises(DataError, match=r"lower_iou is 0\.5: give less than upper_iou, 0\.5"):
        error_analysis(truths(), detections(), **SIZES, lower_iou=0.5)


@pytest.mark.parametrize("seed", range(25))
def test_average_precision_equals_pycocotools(seed: int) -> None:
    found, seen = random_case(100 + seed)
    precision = coco_evaluation(found, seen).eval["precision"]
    result = error_analysis(found, seen, **SIZES, max_detections=None)
    assert result.average_precision == pytest.approx(precision[precision > -1].mean(), abs=1e-12)


def test_average_precision_takes_the_best_precision_at_higher_recall() -> None:
    right = np.array([False, True, True, True])
    assert average_precision(right, 4) == pytest.approx(76 * 0.75 / 101)
    assert average_precision(right, 0) == 0.0


# Calibration


def test_calibration_known_answer() -> None:
    found = truths((0, 0, OBJECT))
    seen = detections((0, 0, OBJECT, 0.9), (0, 0, part(8), 0.8), (1, 1, OBJECT, 0.3))
    result = calibration(found, seen, **SIZES, by_category=True)
    overall = result.overall
    assert overall.count == 3 and overall.brier == pytest.approx((0.01 + 0.64 + 0.09) / 3)
    table = overall.equal_width
    assert table.count.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 1, 1]
    np.testing.assert_array_equal(table.precision, [np.nan] * 3 + [0] + [np.nan] * 4 + [0, 1])
    np.testing.assert_array_equal(table.confidence, [np.nan] * 3 + [0.3] + [np.nan] * 4 + [0.8, 0.9])
    assert table.expected_error == pytest.approx((0.1 + 0.8 + 0.3) / 3)
    assert table.overconfidence == pytest.approx((-0.1 + 0.8 + 0.3) / 3)
    assert table.maximum_error == pytest.approx(0.8)
    one_bin = calibration(found, seen, **SIZES, bins=1).overall
    assert one_bin.equal_width.expected_error == pytest.approx(1 / 3)
    assert one_bin.equal_mass.expected_error == pytest.approx(1 / 3)

    assert result.by_category is not None and [part.count for part in result.by_category] == [2, 1, 0]
    assert result.by_category[0].brier == pytest.approx(0.65 / 2)
    assert result.by_category[2].brier is None
    assert calibration(found, seen, **SIZES).by_category is None
    assert calibration(found, seen, **SIZES, score_threshold=0.8).overall.count == 2


def test_equal_mass_bins_hold_equal_counts_and_keep_ties_together() -> None:
    spread = detections(*[(0, 0, FAR, score) for score in (0.5, 0.1, 0.2, 0.9, 0.3, 1.0)])
    table = calibration(truths(), spread, **SIZES, bins=3).overall.equal_mass
    assert table.edges.tolist() == [0.0, 0.3, 0.9, 1.0] and table.count.tolist() == [2, 2, 2]
    np.testing.assert_allclose(table.confidence, [0.15, 0.4, 0.95])
    tied = detections(*[(0, 0, FAR, 0.5)] * 5, (0, 0, FAR, 0.7))
    table = calibration(truths(), tied, **SIZES, bins=3).overall.equal_mass
    assert table.count.tolist() == [6]
    table = calibration(truths(), tied, **SIZES, bins=6).overall.equal_mass
    assert table.count.tolist() == [5, 1]


def test_calibration_at_the_ends_and_without_detections() -> None:
    sure = calibration(truths((0, 0, OBJECT)), detections((0, 0, OBJECT, 1.0), (0, 0, FAR, 0.0)), **SIZES).overall
    assert sure.equal_width.count.tolist() == [1, *[0] * 8, 1]
    assert sure.equal_width.expected_error == 0.0 and sure.equal_mass.expected_error == 0.0 and sure.brier == 0.0
    none = calibration(truths((0, 0, OBJECT)), detections(), **SIZES).overall
    assert none.count == 0 and none.brier is None
    for table in (none.equal_width, none.equal_mass):
        assert (table.expected_error, table.maximum_error, table.overconfidence) == (None, None, None)
    crowd = calibration(truths((0, 0, OBJECT, True)), detections((0, 0, OBJECT, 0.5)), **SIZES).overall
    assert (crowd.count, crowd.ignored, crowd.brier) == (0, 1, None)


def test_calibration_needs_probabilities_and_bins() -> None:
    with pytest.raises(DataError, match=r"score\[1\] is 3.5: calibration needs scores in \[0, 1\]"):
        calibration(truths(), detections((0, 0, FAR, 0.5), (0, 0, FAR, 3.5)), **SIZES)
    with pytest.raises(DataError, match="bins is 0"):
        calibration(truths(), detections(), **SIZES, bins=0)


@pytest.mark.parametrize("seed", range(5))
def test_equal_width_bins_are_those_of_numpy_histogram(seed: int) -> None:
    found, seen = random_case(seed, detection_count=500)
    table = calibration(found, seen, **SIZES, bins=20).overall
    kept = error_analysis(found, seen, **SIZES, max_detections=None).detection_kind
    score = seen.score[kept != DetectionKind.IGNORED]
    right = kept[kept != DetectionKind.IGNORED] == DetectionKind.CORRECT
    count, _ = np.histogram(score, bins=table.equal_width.edges)
    hits, _ = np.histogram(score, bins=table.equal_width.edges, weights=right.astype(float))
    sums, _ = np.histogram(score, bins=table.equal_width.edges, weights=score)
    assert table.equal_width.count.tolist() == count.tolist()
    assert table.equal_width.expected_error == pytest.approx(np.abs(hits - sums).sum() / len(score))
    assert table.equal_mass.count.sum() == len(score) and (table.equal_mass.count > 0).all()


# Counts add up


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([0.1, 0.3, 0.5, 1.0]), st.sampled_from([0.0, 0.5]), st.booleans(), st.booleans())
def test_every_detection_and_truth_is_counted_once(
    case: tuple[TruthBoxes, DetectionBoxes], iou: float, lowest: float, same_category: bool, many_to_one: bool
) -> None:
    found, seen = case
    options = {**SIZES, "iou_threshold": iou, "score_threshold": lowest}
    used = np.bincount(seen.image[seen.score >= lowest], minlength=3)
    score = fixed_threshold_score(found, seen, **options, same_category=same_category, many_to_one=many_to_one)
    assert (score.true_positives + score.false_positives + score.ignored).tolist() == used.tolist()
    to_find = np.bincount(found.image[~found.crowd | many_to_one], minlength=3)
    assert (score.found + score.missed).tolist() == to_find.tolist()
    if not many_to_one:
        assert score.found.tolist() == score.true_positives.tolist()
        assert (score.iou_sum >= (iou - 1e-9) * score.true_positives).all()

    for order in ("iou", "score"):
        matrix = confusion(found, seen, **options, order=order)
        assert matrix.counts[:3].sum(axis=1).tolist() == np.bincount(found.category[~found.crowd], minlength=3).tolist()
        assert matrix.counts[:, :3].sum() + matrix.ignored == used.sum()
        assert matrix.counts[3, 3] == 0

    table = calibration(found, seen, **options).overall
    assert table.count + table.ignored == used.sum()
    assert table.equal_width.count.sum() == table.equal_mass.count.sum() == table.count


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([0.0, 0.5]), st.sampled_from([None, 3]))
def test_every_detection_and_truth_has_one_kind(
    case: tuple[TruthBoxes, DetectionBoxes], lowest: float, limit: int | None
) -> None:
    found, seen = case
    result = error_analysis(found, seen, **SIZES, score_threshold=lowest, max_detections=limit)
    kinds, states = result.detection_kind, result.truth_kind
    per_image = np.bincount(seen.image[seen.score >= lowest], minlength=3)
    expected = per_image.sum() if limit is None else np.minimum(per_image, limit).sum()
    assert (kinds != DetectionKind.UNUSED).sum() == expected
    correct, ignored = (kinds == DetectionKind.CORRECT).sum(), (kinds == DetectionKind.IGNORED).sum()
    assert result.false_positives + correct + ignored == expected
    assert result.false_positives == sum(result.counts.values()) - result.counts["missed"]
    assert (states == TruthKind.FOUND).sum() == correct
    assert correct + result.false_negatives == (~found.crowd).sum()
    assert ((states == TruthKind.CROWD) == found.crowd).all()
    about = result.detection_truth[kinds == DetectionKind.CORRECT]
    assert len(set(about.tolist())) == len(about)
    gained = result.gains["false_positive"]
    assert (gained is None) == (result.average_precision is None) and (gained is None or gained >= -1e-12)


@settings(max_examples=30, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_order_of_the_ground_truth_and_of_images_does_not_matter(
    case: tuple[TruthBoxes, DetectionBoxes], random: Any
) -> None:
    found, seen = case
    jitter = np.random.default_rng(random.randrange(1000))
    # No equal scores and no equal IoUs, for which the order is meant to matter.
    seen = DetectionBoxes(
        seen.image, seen.category, seen.boxes + jitter.random((len(seen), 4)), jitter.random(len(seen))
    )
    rows = jitter.permutation(len(found))
    shuffled = TruthBoxes(found.image[rows], found.category[rows], found.boxes[rows], found.crowd[rows])
    places = jitter.permutation(len(seen))
    moved = DetectionBoxes(seen.image[places], seen.category[places], seen.boxes[places], seen.score[places])
    first, second = error_analysis(found, seen, **SIZES), error_analysis(shuffled, moved, **SIZES)
    assert first.counts == second.counts and first.gains == second.gains
    assert first.detection_kind[places].tolist() == second.detection_kind.tolist()
    assert first.truth_kind[rows].tolist() == second.truth_kind.tolist()

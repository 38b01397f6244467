"""`qprof.coco`: every form of input, what is said of bad ones, figures, matches and intervals."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coco_oracle import Case, by_pycocotools
from qprof import coco
from qprof.errors import DataError

TRUTH: dict[str, Any] = {
    "images": [{"id": 7}, {"id": 3}, {"id": 2**40}],
    "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 2, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 2, "bbox": [50, 10, 50, 50], "area": 2500, "iscrowd": 0},
        {"id": 3, "image_id": 7, "category_id": 5, "bbox": [0, 0, 200, 200], "area": 40000, "iscrowd": 0},
        {"id": 4, "image_id": 7, "category_id": 5, "bbox": [0, 0, 300, 300], "area": 90000, "iscrowd": 1},
    ],
}
FOUND: list[dict[str, Any]] = [
    {"image_id": 3, "category_id": 2, "bbox": [11, 10, 20, 20], "score": 0.9},
    {"image_id": 3, "category_id": 2, "bbox": [80, 80, 20, 20], "score": 0.8},
    {"image_id": 7, "category_id": 5, "bbox": [0, 0, 200, 190], "score": 0.7},
    {"image_id": 7, "category_id": 5, "bbox": [210, 210, 50, 50], "score": 0.6},
]


def case_of(truth: dict[str, Any], found: list[dict[str, Any]]) -> Case:
    return Case(
        truths=truth["annotations"],
        results=found,
        images=[image["id"] for image in truth["images"]],
        categories=[category["id"] for category in truth["categories"]],
    )


def changed(part: str, position: int, **members: Any) -> dict[str, Any]:
    truth = copy.deepcopy(TRUTH)
    truth[part][position].update(members)
    return truth


def detected(position: int, **members: Any) -> list[dict[str, Any]]:
    found = copy.deepcopy(FOUND)
    found[position].update(members)
    return found


def stats_by_pycocotools(truth: dict[str, Any], found: list[dict[str, Any]]) -> Any:
    evaluation = by_pycocotools(case_of(truth, found))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    return evaluation.stats


def busy_case(seed: int, images: int = 8) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Truth and detections that overlap, miss, repeat and tie."""
    rng = np.random.default_rng(seed)
    ids = (rng.permutation(images) * 13 + 2).tolist()
    truth: dict[str, Any] = {
        "images": [{"id": i} for i in ids],
        "categories": [{"id": i, "name": f"c{i}"} for i in (9, 4, 6)],
        "annotations": [],
    }
    for number in range(1, 6 * images):
        box = np.round([*rng.uniform(0, 90, 2), *rng.choice([20.0, 50.0, 120.0], 2)], 1).tolist()
        truth["annotations"].append(
            {
                "id": number,
                "image_id": int(rng.choice(ids)),
                "category_id": int(rng.choice([9, 4])),
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": int(rng.random() < 0.1),
            }
        )
    found = []
    for _ in range(20 * images):
        near = truth["annotations"][int(rng.integers(len(truth["annotations"])))]
        box = np.round(np.array(near["bbox"]) + rng.normal(0, 6, 4), 1).tolist()
        entry = {"image_id": near["image_id"], "category_id": near["category_id"], "bbox": box}
        found.append({**entry, "score": float(rng.integers(1, 30)) / 30})
    return truth, found


# -- forms of input -----------------------------------------------------------------------------------------------


def columns() -> dict[str, Any]:
    rows = TRUTH["annotations"]
    names = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    return {
        "images": {"id": np.array([7, 3, 2**40])},
        "categories": {"id": np.array([5, 2]), "name": ["dog", "cat"]},
        "annotations": {name: np.array([row[name] for row in rows]) for name in names},
    }


def found_columns() -> dict[str, Any]:
    return {name: np.array([row[name] for row in FOUND]) for name in ("image_id", "category_id", "bbox", "score")}


def table(dtype: Any = np.float64) -> Any:
    return np.array([[f["image_id"], *f["bbox"], f["score"], f["category_id"]] for f in FOUND], dtype=dtype)


def as_coco(truth: dict[str, Any]) -> Any:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        made = COCO()
        made.dataset = copy.deepcopy(truth)
        made.createIndex()
    return made


def loaded(truth: Any, found: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return truth.loadRes(copy.deepcopy(found))


@pytest.mark.parametrize("truth_form", ["path", "text", "bytes", "dict", "coco", "columns", "read"])
@pytest.mark.parametrize("found_form", ["path", "bytes", "list", "coco", "columns", "table", "dataset", "read"])
def test_every_form_of_input_gives_the_same(truth_form: str, found_form: str, tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(json.dumps(TRUTH))
    (tmp_path / "dt.json").write_text(json.dumps(FOUND))
    truths: dict[str, Any] = {
        "path": tmp_path / "gt.json",
        "text": str(tmp_path / "gt.json"),
        "bytes": json.dumps(TRUTH).encode(),
        "dict": TRUTH,
        "coco": as_coco(TRUTH),
        "columns": columns(),
        "read": coco.read_ground_truth(TRUTH),
    }
    founds: dict[str, Any] = {
        "path": tmp_path / "dt.json",
        "bytes": json.dumps(FOUND).encode(),
        "list": FOUND,
        "coco": loaded(as_coco(TRUTH), FOUND),
        "columns": found_columns(),
        "table": table(),
        "dataset": {"annotations": FOUND},
        "read": coco.read_detections(FOUND),
    }
    result = coco.evaluate(truths[truth_form], founds[found_form])
    assert np.array_equal(result.stats, stats_by_pycocotools(TRUTH, FOUND))
    assert 0 < result.stats[0] < 1
    assert result.notes == []
    assert result.category_names == ["cat", "dog"]
    assert result.image_ids.tolist() == [3, 7, 2**40]


def test_inputs_are_left_as_they_were() -> None:
    truth, found, rows = copy.deepcopy(TRUTH), copy.deepcopy(FOUND), table()
    coco.evaluate(truth, found)
    coco.evaluate(truth, rows)
    assert truth == TRUTH and found == FOUND and np.array_equal(rows, table())


def test_single_precision_tables_are_sized_as_pycocotools_sizes_them() -> None:
    # 31.99999 x 32.00001 is below 1024 in double precision and 1024 in single: small in both, medium in single alone.
    sides = np.array([31.99999, 32.00001, 32.0, 31.999998, 95.99999, 96.00001], dtype=np.float32)
    truth = {**TRUTH, "annotations": []}
    rows = []
    for n, (w, h) in enumerate([(a, b) for a in sides for b in sides], start=1):
        box = [float(n), 0.0, float(w), float(h)]
        truth["annotations"].append(
            {"id": n, "image_id": 3, "category_id": 2, "bbox": box, "area": 1000.0 + n, "iscrowd": 0}
        )
        rows.append([3, n + 300, 0, w, h, n / 64, 2])
    rows32 = np.array(rows, dtype=np.float32)
    result = coco.evaluate(truth, rows32)
    reference = loaded(as_coco(truth), rows32)
    evaluation = coco.evaluate(truth, reference)
    assert np.array_equal(result.detections.area, [a["area"] for a in reference.dataset["annotations"]])
    assert np.array_equal(result.precision, evaluation.precision)


def test_no_detections_at_all_is_not_an_error() -> None:
    for empty in ([], np.empty((0, 7)), np.empty(0), b"[]", {k: v[:0] for k, v in found_columns().items()}):
        result = coco.evaluate(TRUTH, empty)
        assert result.summary["AP"] == 0.0 and result.summary["AR100"] == 0.0
        assert result.notes == [f"{result.detections.source}: no detections at all"]


def test_no_ground_truth_is_undefined_and_said() -> None:
    result = coco.evaluate({**TRUTH, "annotations": []}, FOUND)
    assert set(result.summary.values()) == {None} and (result.stats == -1).all()
    assert "nothing to find" in result.notes[0]
    assert coco.bootstrap(result, resamples=10)["AP"] is None


@pytest.mark.parametrize(
    ("truth", "found", "said"),
    [
        (changed("images", 0, id=3), FOUND, "image id 3 is there more than once"),
        (changed("categories", 0, id=2), FOUND, "category id 2 is there more than once"),
        (changed("annotations", 0, id=4), FOUND, "annotation id 4 is there more than once"),
        (changed("annotations", 1, id="x"), FOUND, "annotations: id of entry 1 is 'x': give an integer"),
        (changed("annotations", 1, id=2**64), FOUND, "give an integer of 64 bits"),
        (changed("annotations", 1, id=1.5), FOUND, "id of entry 1 is '1.5'"),
        (changed("annotations", 2, bbox=[1, 2, 3]), FOUND, "bbox of entry 2 is [1, 2, 3]: give x, y, width, height"),
        (changed("annotations", 2, bbox=[1, 2, 3, "4"]), FOUND, "bbox of entry 2"),
        (changed("annotations", 2, bbox=[1, 2, 3, np.nan]), FOUND, "bbox of annotation 2 (counted from 0)"),
        (changed("annotations", 2, area=np.nan), FOUND, "area of annotation 2 (counted from 0) is NaN"),
        (changed("annotations", 2, area="big"), FOUND, "area of entry 2 is 'big': give a number"),
        (changed("annotations", 2, iscrowd="no"), FOUND, "iscrowd is not 0 or 1"),
        ({"images": [], "categories": []}, FOUND, "has no list 'annotations'"),
        ({**TRUTH, "annotations": [{"id": 1}]}, FOUND, "annotations: entry 0 has no bbox: add it"),
        ({**TRUTH, "annotations": [3]}, FOUND, "annotations: entry 0 is not an object"),
        ([1, 2], FOUND, "the ground truth is a list"),
        (TRUTH, detected(1, score=np.nan), "score of detection 1 (counted from 0) is NaN"),
        (TRUTH, detected(1, score="high"), "score of entry 1 is 'high': give a number"),
        (TRUTH, detected(2, bbox=[0, 0, np.inf, 1]), "bbox of detection 2 (counted from 0)"),
        (TRUTH, [{"image_id": 3, "category_id": 2, "bbox": [0, 0, 1, 1]}], "entry 0 has no score: add it"),
        (TRUTH, detected(0, image_id=None), "image_id of entry 0 is 'None'"),
        (TRUTH, [7], "the detections: entry 0 is not an object"),
        (TRUTH, np.zeros((3, 6)), "shape (3, 6) is no table of detections"),
        (TRUTH, np.full((1, 7), np.nan), "bbox of detection 0 (counted from 0)"),
        (TRUTH, {"image_id": [3]}, "no column 'bbox'"),
        (TRUTH, 5, "a int is no list of detections"),
        ("missing.json", FOUND, "missing.json"),
        (TRUTH, "missing.json", "missing.json"),
        (b"[1]", FOUND, "not a COCO annotation file"),
        (TRUTH, b"{}", "not a COCO results file"),
    ],
)
def test_bad_input_is_one_line_that_says_where(truth: Any, found: Any, said: str) -> None:
    with pytest.raises(DataError) as error:
        coco.evaluate(truth, found)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "bbox"]), inner, max_size=2),
    max_leaves=6,
)
MEMBERS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "score", "name")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_is_given_is_evaluated_or_refused_in_words(data: st.DataObject) -> None:
    truth, found = copy.deepcopy(TRUTH), copy.deepcopy(FOUND)
    place = data.draw(st.sampled_from(["images", "categories", "annotations", "found", "columns", "whole"]))
    junk = data.draw(JSON)
    if place == "whole":
        truth, found = data.draw(st.sampled_from([(junk, found), (truth, junk), ({**truth, "images": junk}, found)]))
    elif place == "columns":
        found = {**found_columns(), data.draw(st.sampled_from(MEMBERS)): junk}  # type: ignore[assignment]
        truth = columns()
        truth["annotations"][data.draw(st.sampled_from(MEMBERS))] = data.draw(JSON)
    else:
        rows = found if place == "found" else truth[place]
        row = data.draw(st.integers(0, len(rows) - 1))
        if data.draw(st.booleans()):
            rows[row][data.draw(st.sampled_from(MEMBERS))] = junk
        else:
            rows[row] = junk
    if isinstance(truth, str) or isinstance(found, str):
        return  # the name of a file
    try:
        result = coco.evaluate(truth, found)
    except DataError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
    else:
        assert result.stats.shape == (12,)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_dets": ()}, "max_dets"),
        ({"max_dets": (0, 10)}, "max_dets"),
        ({"max_dets": (1.5,)}, "max_dets"),
        ({"iou_thresholds": []}, "iou_thresholds"),
        ({"recall_thresholds": [np.nan]}, "recall_thresholds"),
        ({"area_ranges": {}}, "area_ranges"),
        ({"area_ranges": {"all": (0, np.nan)}}, "area_ranges"),
        ({"image_ids": [3, 99]}, "the ground truth has no image 99"),
        ({"category_ids": [1]}, "the ground truth has no category 1"),
        ({"threads": 0}, "threads = 0"),
        ({"id_zero": "other"}, "id_zero"),
    ],
)
def test_bad_settings_are_refused(options: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        coco.evaluate(TRUTH, FOUND, **options)


# -- decisions ----------------------------------------------------------------------------------------------------


def test_results_of_unknown_images_and_categories_are_counted_and_named() -> None:
    more = [*FOUND, *detected(0, image_id=99)[:1] * 3, *detected(0, image_id=98)[:1], *detected(0, category_id=77)[:1]]
    result = coco.evaluate(TRUTH, more)
    assert np.array_equal(result.stats, coco.evaluate(TRUTH, FOUND).stats)
    assert result.notes == [
        "the detections: 4 of 9 detections are of images that the ground truth does not list (98, 99) and were left "
        "out: give results of the same data set",
        "the detections: 1 of 9 detections are of categories that the ground truth does not list (77) and were left "
        "out: check how classes map to category ids",
    ]
    with pytest.raises(DataError, match=r"4 of 9 detections .* \(98, 99\)"):
        coco.evaluate(TRUTH, more, strict=True)
    with pytest.raises(DataError, match=r"1 of 5 detections .* \(77\)"):
        coco.evaluate(TRUTH, [*FOUND, more[-1]], strict=True)


def test_unknown_ids_of_a_table_are_named_as_numbers() -> None:
    rows = table()
    rows[0, 0], rows[1, 0], rows[2, 0] = 2.5, np.nan, 1234567
    assert "(2.5, 1234567, nan)" in coco.evaluate(TRUTH, rows).notes[0]


def test_images_that_were_not_chosen_are_not_unknown() -> None:
    result = coco.evaluate(TRUTH, FOUND, image_ids=[3], strict=True)
    assert result.notes == [] and result.image_ids.tolist() == [3]
    assert result.summary["APlarge"] is None
    only = {**TRUTH, "images": [{"id": 3}], "annotations": TRUTH["annotations"][:2]}
    assert np.array_equal(result.stats, coco.evaluate(only, FOUND[:2]).stats)
    assert coco.evaluate(TRUTH, FOUND, category_ids=[5]).precision.shape == (10, 101, 1, 4, 3)


def test_annotations_of_unlisted_images_are_left_out_and_said() -> None:
    truth = changed("annotations", 1, image_id=4)
    result = coco.evaluate(truth, FOUND)
    assert "1 of 4 annotations are of images that it does not list (4)" in result.notes[0]
    assert (
        result.summary["AR100"]
        == coco.evaluate(
            {**TRUTH, "annotations": [*truth["annotations"]][:1] + truth["annotations"][2:]}, FOUND
        ).summary["AR100"]
    )


def test_the_annotation_of_id_zero() -> None:
    truth = changed("annotations", 0, id=0)
    correct = coco.evaluate(truth, FOUND)
    assert np.array_equal(correct.stats, coco.evaluate(TRUTH, FOUND).stats)
    theirs = coco.evaluate(truth, FOUND, id_zero="pycocotools")
    assert np.array_equal(theirs.stats, stats_by_pycocotools(truth, FOUND))
    assert theirs.stats[0] < correct.stats[0]
    assert "id 0" in correct.notes[0] and "counted as found" in correct.notes[0]
    assert "id_zero" in theirs.notes[0]
    assert coco.evaluate(truth, FOUND, image_ids=[7]).notes == []


def test_other_numbers_of_detections_change_the_figures_and_their_names() -> None:
    truth, found = busy_case(1, images=2)
    many = coco.evaluate(truth, found, max_dets=(300, 1, 10))
    assert list(many.summary)[6:9] == ["AR1", "AR10", "AR300"]
    assert many.stats[0] == coco.evaluate(truth, found, max_dets=(1, 2, 3, 300)).stats[0]
    few = coco.evaluate(truth, found, max_dets=(3,))
    assert len(few.stats) == 10 and "AR3" in few.summary
    assert few.summary["AP"] is not None and many.summary["AP"] is not None
    assert 0 < few.summary["AP"] < many.summary["AP"]
    reference = coco.evaluate(truth, found, max_dets=(1, 3, 100))
    assert few.summary["AP"] == reference.precision[..., 0, 1][reference.precision[..., 0, 1] > -1].mean()


def test_areas_without_annotated_area_are_those_of_the_boxes_and_said() -> None:
    truth = copy.deepcopy(TRUTH)
    for annotation in truth["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    expected = coco.evaluate(truth, FOUND).stats
    del truth["annotations"][1]["area"]
    result = coco.evaluate(truth, FOUND)
    assert np.array_equal(result.stats, expected)
    assert "1 annotations state no area" in result.notes[0]
    assert coco.evaluate(json.dumps(truth).encode(), FOUND).notes == result.notes


def test_areas_of_other_names_and_bounds() -> None:
    result = coco.evaluate(TRUTH, FOUND, area_ranges={"all": (0, 1e10), "tiny": (0, 500), "huge": (1e4, 1e10)})
    assert list(result.summary)[3:5] == ["APtiny", "APhuge"]
    assert result.summary["APtiny"] == pytest.approx(0.9)  # 19/21 overlap: 9 of 10 thresholds
    pairs = coco.evaluate(TRUTH, FOUND, area_ranges=[[0, 1e10], [0, 500], [0, 1024]])
    assert pairs.settings.area_names == ("all", "0..500", "small")
    assert pairs.summary["AP0..500"] == result.summary["APtiny"]


# -- results ------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(1, 8), use_cats=st.booleans())
def test_figures_and_tables_equal_pycocotools(seed: int, images: int, use_cats: bool) -> None:
    truth, found = busy_case(seed, images)
    case = case_of(truth, found)
    case.settings = {"use_cats": use_cats}
    reference = by_pycocotools(case)
    with contextlib.redirect_stdout(io.StringIO()):
        reference.summarize()
    result = coco.evaluate(truth, found, use_cats=use_cats, threads=2)
    assert np.array_equal(result.stats, reference.stats)
    for name in ("precision", "recall", "scores"):
        assert np.array_equal(getattr(result, name), reference.eval[name])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_fake_boxes_of_pycocotools_give_the_published_figures(qprof_data: Path, threads: int) -> None:
    folder = qprof_data / "coco_fake100"
    found = folder / "instances_val2014_fakebbox100_results.json"
    result = coco.evaluate(folder / "instances_val2014_100.json", found, threads=threads)
    expected = json.loads((folder / "expected_stats.json").read_text())["bbox"]
    assert result.stats == pytest.approx(expected, abs=1e-12)
    assert result.notes == []


def test_real_detections_on_coco_images(qprof_data: Path) -> None:
    folder = qprof_data / "coco_val_images"
    result = coco.evaluate(folder / "test_coco.json", folder / "test_coco_det_AP_H_56.json")
    figures = [result.summary[name] for name in ("AP", "AP50", "AR100")]
    assert figures == pytest.approx([0.7891, 0.9824, 0.8429], abs=5e-5)
    assert result.image_counts().tp.sum() + result.image_counts().fn.sum() == 14


def test_figures_of_classes_and_sizes_are_those_of_their_parts() -> None:
    truth, found = busy_case(3)
    result = coco.evaluate(truth, found)
    for figures in result.per_class():
        alone = coco.evaluate(truth, found, category_ids=[figures.category_id or 0])
        assert figures.figures == alone.summary
    assert [c.name for c in result.per_class()] == ["c4", "c6", "c9"]
    assert result.per_class()[1].figures["AP"] is None and result.per_class()[1].truths == 0
    plain = [a for a in truth["annotations"] if not a["iscrowd"]]
    assert [c.truths for c in result.per_class()] == [sum(a["category_id"] == k for a in plain) for k in (4, 6, 9)]
    for size in result.per_area():
        assert size.truths == sum(size.low <= a["area"] <= size.high for a in plain)
    small = result.per_area()[1]
    assert (small.area, small.figures["AP"]) == ("small", result.summary["APsmall"])
    assert small.figures["AR100"] == result.summary["ARsmall"]
    assert result.per_area()[0].figures["AP50"] == result.summary["AP50"]


def test_categories_that_are_one() -> None:
    result = coco.evaluate(TRUTH, detected(0, category_id=5), use_cats=False)
    assert [(c.category_id, c.name) for c in result.per_class()] == [(None, "all categories")]
    assert result.per_class()[0].figures == result.summary
    assert result.image_matches(3).truth_matches[0].tolist() == [0, -1]


def test_matches_of_one_image() -> None:
    result = coco.evaluate(TRUTH, FOUND)
    found = result.image_matches(3, 2)
    assert found.detections.tolist() == [0, 1] and found.scores.tolist() == [0.9, 0.8]
    assert found.truth_ids.tolist() == [1, 2]
    assert found.detection_matches[0].tolist() == [0, -1] and found.truth_matches[0].tolist() == [0, -1]
    assert found.detection_matches[9].tolist() == [-1, -1]  # 19/21 is below .95
    crowd = result.image_matches(7, 5)
    assert crowd.truth_ids.tolist() == [3, 4] and crowd.truth_ignored.tolist() == [False, True]
    assert crowd.detection_ignored[0].tolist() == [False, True]
    small = result.image_matches(3, 2, "small")
    assert small.truth_ids.tolist() == [1, 2] and small.truth_ignored.tolist() == [False, True]
    for arguments, said in (((4, 2), "image 4"), ((3, 1), "category 1"), ((3,), "category_id"), ((3, 2, "x"), "area")):
        with pytest.raises(DataError, match=said):
            result.image_matches(*arguments)


def test_counts_of_every_image() -> None:
    counts = coco.evaluate(TRUTH, FOUND).image_counts(0.5)
    assert (counts.tp.tolist(), counts.fp.tolist(), counts.fn.tolist()) == ([1, 1, 0], [1, 0, 0], [1, 0, 0])
    large = coco.evaluate(TRUTH, FOUND).image_counts(0.5, "large")
    assert (large.tp.tolist(), large.fp.tolist(), large.fn.tolist()) == ([0, 1, 0], [0, 0, 0], [0, 0, 0])
    # What is beyond the largest number of detections is no false positive.
    best = coco.evaluate(TRUTH, [*FOUND, *detected(1, image_id=99)[1:2]], max_dets=(1,)).image_counts()
    assert (best.tp.tolist(), best.fp.tolist()) == ([1, 1, 0], [0, 0, 0])
    with pytest.raises(DataError, match=r"IoU 0\.42"):
        coco.evaluate(TRUTH, FOUND).image_counts(0.42)


def test_what_was_not_kept_is_refused_in_words() -> None:
    result = coco.evaluate(TRUTH, FOUND, keep=False)
    assert result.summary == coco.evaluate(TRUTH, FOUND).summary
    assert result.per_class()[0].truths is None
    for ask in (lambda: result.image_matches(3, 2), lambda: result.image_counts(), lambda: coco.bootstrap(result)):
        with pytest.raises(DataError, match="keep=True"):
            ask()


def test_boxes_for_the_analysis_leave_out_what_was_left_out() -> None:
    result = coco.evaluate(TRUTH, [*detected(0, image_id=99)[:1], *FOUND])
    truths, found = result.boxes()
    assert len(truths) == 4 and truths.crowd.tolist() == [False, False, False, True]
    assert found.score.tolist() == [0.9, 0.8, 0.7, 0.6] and found.image.tolist() == [0, 0, 1, 1]
    analysis = coco.error_analysis(truths, found, images=3, categories=2)
    assert analysis is not None


# -- intervals ----------------------------------------------------------------------------------------------------


def test_intervals_are_percentiles_of_resampled_evaluations() -> None:
    truth, found = busy_case(11, images=120)
    result = coco.evaluate(truth, found)
    intervals = coco.bootstrap(result, resamples=200, seed=4, level=0.9)
    assert list(intervals) == list(result.summary)
    ap = intervals["AP"]
    assert ap is not None and ap.low is not None and ap.high is not None
    assert ap.value == result.summary["AP"] and ap.low < ap.high and ap.level == 0.9
    assert intervals == coco.bootstrap(result, resamples=200, seed=4, level=0.9, threads=1)
    assert intervals != coco.bootstrap(result, resamples=200, seed=5, level=0.9)
    wider = coco.bootstrap(result, resamples=200, seed=4, level=0.99)["AP"]
    assert wider is not None and wider.low is not None and wider.low < ap.low


def test_intervals_lie_around_the_value_and_inside_the_possible() -> None:
    truth, found = busy_case(15, images=40)
    for interval in coco.bootstrap(coco.evaluate(truth, found), resamples=100).values():
        assert interval is not None and interval.low is not None and interval.high is not None
        assert 0 <= interval.low < interval.value < interval.high <= 1
    perfect = [{**a, "score": 0.5} for a in truth["annotations"] if not a["iscrowd"]]
    every = coco.bootstrap(coco.evaluate(truth, perfect), resamples=100)["AR100"]
    assert every is not None and (every.low, every.high) == pytest.approx((every.value, every.value), abs=0.05)
    assert every.high is not None and every.high <= 1


def test_intervals_of_classes() -> None:
    truth, found = busy_case(12, images=30)
    result = coco.evaluate(truth, found)
    classes = coco.bootstrap_per_class(result, resamples=100)
    assert len(classes) == 3 and set(classes[1].values()) == {None}
    ap = classes[0]["AP"]
    alone = coco.bootstrap(coco.evaluate(truth, found, category_ids=[4]), resamples=100)["AP"]
    assert ap is not None and alone is not None
    assert (ap.value, ap.low, ap.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-12)


def test_too_few_images_have_no_interval_and_say_why() -> None:
    ap = coco.bootstrap(coco.evaluate(TRUTH, FOUND))["AP"]
    assert ap is not None and ap.low is None
    assert ap.reason == "no interval from 3 images: at least 5 needed"


def test_a_figure_that_few_images_define_has_no_interval() -> None:
    truth, found = busy_case(13, images=20)
    for annotation in truth["annotations"]:
        annotation["area"] = 5000.0
    truth["annotations"][0].update(area=100.0, iscrowd=0)
    small = coco.bootstrap(coco.evaluate(truth, found), resamples=200)["ARsmall"]
    assert small is not None and small.low is None and small.reason is not None
    assert "of 200 resamples" in small.reason


def test_two_detectors_are_compared_on_the_same_resamples() -> None:
    truth, found = busy_case(14, images=40)
    worse = copy.deepcopy(found)
    for entry in worse:
        entry["bbox"][0] += 8.0
    a, b = coco.evaluate(truth, found), coco.evaluate(truth, worse)
    ap = coco.paired_bootstrap(a, b, resamples=200)["AP"]
    assert ap is not None and ap.difference.low is not None and ap.difference.high is not None
    assert ap.difference.value == ap.b.value - ap.a.value < 0
    assert ap.difference.high < 0
    assert ap.a == coco.bootstrap(a, resamples=200)["AP"]
    # Alone, the two intervals are far wider than that of the difference.
    assert ap.a.low is not None and ap.a.high is not None
    assert ap.difference.high - ap.difference.low < ap.a.high - ap.a.low
    same = coco.paired_bootstrap(a, a, resamples=50)["AP"]
    assert same is not None and (same.difference.low, same.difference.high) == (0.0, 0.0)


def test_only_evaluations_of_the_same_truth_are_compared() -> None:
    result = coco.evaluate(TRUTH, FOUND)
    others = {
        "images or categories": coco.evaluate(TRUTH, FOUND, image_ids=[3]),
        "objects": coco.evaluate(changed("annotations", 0, bbox=[1, 1, 2, 2]), FOUND),
        "settings": coco.evaluate(TRUTH, FOUND, max_dets=(1, 10, 50)),
    }
    for said, other in others.items():
        with pytest.raises(DataError, match=said):
            coco.paired_bootstrap(result, other)


@pytest.mark.parametrize(("resamples", "level"), [(0, 0.95), (10, 0.0), (10, 1.0)])
def test_bad_settings_of_the_bootstrap(resamples: int, level: float) -> None:
    with pytest.raises(DataError, match="resamples"):
        coco.bootstrap(coco.evaluate(TRUTH, FOUND), resamples=resamples, level=level)

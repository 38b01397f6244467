"""`qprof.coco.COCOeval` does what pycocotools' does: same calls, same arrays, same dicts, same text."""

from __future__ import annotations

import contextlib
import copy
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval as Reference

from qprof.coco import COCOeval, Params
from qprof.errors import DataError


def quiet(call: Any, *arguments: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments)


def made(dataset: dict[str, Any]) -> Any:
    coco = COCO()
    coco.dataset = copy.deepcopy(dataset)
    quiet(coco.createIndex)
    return coco


def data(seed: int, images: int = 5, first_id: int = 1) -> tuple[Any, Any]:
    """Ground truth and detections that overlap, miss, repeat and tie, as pycocotools `COCO` objects."""
    rng = np.random.default_rng(seed)
    ids = (rng.permutation(images) * 7 + 3).tolist()
    annotations = []
    for number in range(first_id, first_id + 6 * images):
        box = np.round([*rng.uniform(0, 90, 2), *rng.choice([0.0, 20.0, 50.0, 120.0], 2)], 1).tolist()
        more = {"area": box[2] * box[3] * 0.8, "iscrowd": int(rng.random() < 0.15), "ignore": 1}
        place = {"image_id": int(rng.choice(ids)), "category_id": int(rng.choice([8, 2]))}
        annotations.append({"id": number, "bbox": box, **place, **more})
    results = []
    for _ in range(25 * images):
        near = annotations[int(rng.integers(len(annotations)))]
        box = np.round(np.array(near["bbox"]) + rng.normal(0, 5, 4), 1).tolist()
        category = int(rng.choice([8, 2, 4], p=[0.45, 0.45, 0.1]))
        score = float(rng.integers(1, 25)) / 25
        results.append({"image_id": near["image_id"], "category_id": category, "bbox": box, "score": score})
    categories = [{"id": 8, "name": "a"}, {"id": 2, "name": "b"}, {"id": 4, "name": "c"}]
    truth = made({"info": {}, "images": [{"id": i} for i in ids], "categories": categories, "annotations": annotations})
    return truth, quiet(truth.loadRes, results)


def both(truth: Any, found: Any, change: Any = None, **options: Any) -> tuple[Any, Any]:
    """The reference and ours, summarized."""
    evaluations = []
    for kind in (Reference, COCOeval):
        evaluation = kind(copy.deepcopy(truth), copy.deepcopy(found), "bbox", **(options if kind is COCOeval else {}))
        if change is not None:
            change(evaluation.params)
        for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
            quiet(step)
        evaluations.append(evaluation)
    return evaluations[0], evaluations[1]


def assert_same(theirs: Any, ours: Any) -> None:
    for name in ("precision", "recall", "scores"):
        assert np.array_equal(theirs.eval[name], ours.eval[name]), name
    assert theirs.eval["counts"] == ours.eval["counts"]
    assert np.array_equal(theirs.stats, ours.stats)
    assert set(theirs.eval) == set(ours.eval)


def assert_same_images(theirs: Any, ours: Any) -> int:
    """Every dict of `evalImgs`, the types of its members too; how many there were."""
    assert len(theirs.evalImgs) == len(ours.evalImgs)
    compared = 0
    for expected, entry in zip(theirs.evalImgs, ours.evalImgs, strict=True):
        assert (expected is None) == (entry is None)
        if expected is None:
            continue
        assert list(expected) == list(entry)
        for key, value in expected.items():
            if isinstance(value, np.ndarray):
                assert np.array_equal(value, entry[key]) and value.shape == entry[key].shape, key
                assert value.dtype == entry[key].dtype or value.size == 0, key
            else:
                assert value == entry[key], key
                # pycocotools' ids come from numpy.unique, ours can be written as JSON.
                assert type(entry[key]) is (int if key.endswith("_id") else type(value)), key
        compared += 1
    return compared


def assert_same_overlaps(theirs: Any, ours: Any) -> None:
    assert set(theirs.ious) == set(ours.ious)
    for key, expected in theirs.ious.items():
        assert np.array_equal(np.asarray(expected), np.asarray(ours.ious[key])), key


@budget(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(1, 6))
def test_everything_is_the_same(seed: int, images: int) -> None:
    theirs, ours = both(*data(seed, images))
    assert_same(theirs, ours)
    assert assert_same_images(theirs, ours) > 0
    assert_same_overlaps(theirs, ours)


def no_categories(p: Any) -> None:
    p.useCats = 0


def some_ids(p: Any) -> None:
    p.imgIds, p.catIds = [10, 3, 10], [2]


def other_grids(p: Any) -> None:
    p.iouThrs, p.recThrs, p.maxDets = np.array([0.3, 0.5, 0.75]), np.linspace(0, 1, 11), [100, 2, 5]


def other_areas(p: Any) -> None:
    p.areaRng = [[0, 1e10], [0, 1000], [500, 3000], [3000, 1e10]]


@pytest.mark.parametrize("change", [no_categories, some_ids, other_grids, other_areas])
def test_parameters_do_the_same(change: Any) -> None:
    theirs, ours = both(*data(5), change)
    assert_same(theirs, ours)
    assert assert_same_images(theirs, ours) > 0
    assert_same_overlaps(theirs, ours)
    assert theirs.params.imgIds == ours.params.imgIds and list(theirs.params.maxDets) == list(ours.params.maxDets)


def spoken(evaluation: Any) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return re.sub(r"t=\d+\.\d\ds", "t=s", text.getvalue())


@pytest.mark.parametrize("change", [None, some_ids, other_areas])
def test_the_text_printed_is_the_same(change: Any) -> None:
    texts = []
    for kind in (Reference, COCOeval):
        evaluation = kind(*data(6), "bbox")
        if change is not None:
            change(evaluation.params)
        texts.append(spoken(evaluation))
    assert texts[0] == texts[1]
    assert "Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0." in texts[1]


def test_the_text_is_that_of_the_summary() -> None:
    _, ours = both(*data(6))
    assert len(str(ours).splitlines()) == 12
    assert spoken(ours).endswith(str(ours) + "\n")
    assert "COCOeval" in str(COCOeval(*data(6), "bbox"))


def test_the_fake_boxes_of_pycocotools(qprof_data: Path) -> None:
    folder = qprof_data / "coco_fake100"
    truth = quiet(COCO, folder / "instances_val2014_100.json")
    found = quiet(truth.loadRes, str(folder / "instances_val2014_fakebbox100_results.json"))
    theirs, ours = both(truth, found)
    assert_same(theirs, ours)
    assert assert_same_images(theirs, ours) > 1000
    assert_same_overlaps(theirs, ours)


def test_other_max_dets_are_summarized_instead_of_minus_one() -> None:
    def change(p: Any) -> None:
        p.maxDets = [1, 3, 7]

    theirs, ours = both(*data(7), change)
    assert theirs.stats[0] == -1
    precision = ours.eval["precision"][:, :, :, 0, 2]
    assert ours.stats[0] == precision[precision > -1].mean() > 0
    assert np.array_equal(theirs.stats[1:], ours.stats[1:])
    assert "maxDets=  7 ]" in str(ours).splitlines()[0]
    assert np.array_equal(theirs.eval["precision"], ours.eval["precision"])


@pytest.mark.parametrize("max_dets", [[5], [1, 5], [1, 5, 10, 20]])
def test_any_number_of_max_dets_can_be_summarized(max_dets: list[int]) -> None:
    ours = COCOeval(*data(7), "bbox")
    ours.params.maxDets = max_dets
    spoken(ours)
    found = ours.eval["recall"][:, :, 0]
    recalls = [found[..., place][found[..., place] > -1].mean() for place in range(len(max_dets))]
    assert len(ours.stats) == 12
    for place, figure in enumerate(ours.stats[6:9]):
        assert figure == -1 if place >= len(max_dets) else figure == pytest.approx(recalls[place])
    assert ours.stats[9] > 0, "the small objects are where pycocotools has them"
    assert "maxDets=  5 ]" in str(ours)


def test_the_annotation_of_id_zero() -> None:
    truth, found = data(8, first_id=0)
    theirs, switched = both(truth, found, id_zero="pycocotools")
    assert_same(theirs, switched)
    _, ours = both(truth, found)
    renumbered, _ = both(*data(8, first_id=1))
    assert np.array_equal(ours.stats, renumbered.stats)
    assert ours.stats[0] > theirs.stats[0]


def test_the_interface_accumulates_by_other_parameters() -> None:
    truth, found = data(9)
    ours = COCOeval(truth, found, "bbox")
    quiet(ours.evaluate)
    other = copy.deepcopy(ours.params)
    other.maxDets, other.areaRng, other.areaRngLbl = [10], [[0, 1e10]], ["all"]
    quiet(ours.accumulate, other)
    assert ours.eval["params"] is other and ours.eval["precision"].shape == (10, 101, 3, 1, 1)
    some = ours.eval["precision"]
    quiet(ours.accumulate)
    assert np.array_equal(ours.eval["precision"][..., :1, 1:2], some)


def test_paths_and_tables_are_taken_too() -> None:
    truth, found = data(10)
    rows = np.array([[f["image_id"], *f["bbox"], f["score"], f["category_id"]] for f in found.dataset["annotations"]])
    theirs, _ = both(truth, found)
    ours = COCOeval(truth.dataset, rows, "bbox", threads=1)
    spoken(ours)
    assert np.array_equal(theirs.stats, ours.stats)


def test_detection_ids_are_those_given() -> None:
    truth, found = data(11)
    for n, annotation in enumerate(found.dataset["annotations"]):
        annotation["id"] = 5000 - n
    theirs, ours = both(truth, made(found.dataset))
    assert assert_same_images(theirs, ours) > 0


def test_results_replace_those_of_an_earlier_call() -> None:
    ours = COCOeval(*data(12), "bbox")
    assert ours.evalImgs == [] and ours.ious == {}
    quiet(ours.evaluate)
    first = ours.evalImgs
    assert ours.evalImgs is first
    ours.params.imgIds = ours.params.imgIds[:1]
    quiet(ours.evaluate)
    assert len(ours.evalImgs) == len(first) / 5 and ours.eval == {}


def test_calls_in_the_wrong_order_and_other_kinds_are_refused() -> None:
    ours = COCOeval(*data(13), "bbox")
    with pytest.raises(DataError, match="accumulate"):
        ours.summarize()
    with pytest.raises(DataError, match="evaluate"):
        quiet(ours.accumulate)
    with pytest.raises(DataError, match="'panoptic' is unknown"):
        COCOeval(*data(13), "panoptic")
    with pytest.raises(DataError, match="no detections"):
        quiet(COCOeval(data(13)[0], None, "bbox").evaluate)


def test_parameters_start_as_those_of_pycocotools() -> None:
    from pycocotools.cocoeval import Params as ReferenceParams

    for kind in ("bbox", "segm", "keypoints"):
        theirs, ours = vars(ReferenceParams(kind)), vars(Params(kind))
        assert set(theirs) == set(ours)
        for key, value in theirs.items():
            assert np.array_equal(value, ours[key]), key

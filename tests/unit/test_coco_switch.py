"""Programs that are written for pycocotools do the same after their import is switched: what evaluators of detection
libraries do with the classes, beyond the three calls."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from pycocotools.coco import COCO as ReferenceCOCO
from pycocotools.cocoeval import COCOeval as Reference

from qprof import coco
from qprof.coco import COCO, COCOeval
from qprof.errors import DataError

SWITCHED = [(ReferenceCOCO, Reference), (COCO, COCOeval)]


def quiet(call: Any, *arguments: Any, **options: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return call(*arguments, **options)


def content(seed: int, images: int = 6) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An annotation file and results that overlap, miss, repeat and tie."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for number in range(1, 5 * images + 1):
        box = np.round([*rng.uniform(0, 90, 2), *rng.choice([0.0, 20.0, 50.0, 120.0], 2)], 1).tolist()
        place = {"image_id": int(rng.integers(1, images + 1)), "category_id": int(rng.choice([8, 2]))}
        crowd = int(rng.random() < 0.15)
        annotations.append({"id": number, "bbox": box, "area": box[2] * box[3] * 0.8, "iscrowd": crowd, **place})
    for _ in range(15 * images):
        near = annotations[int(rng.integers(len(annotations)))]
        box = np.round(np.array(near["bbox"]) + rng.normal(0, 5, 4), 1).tolist()
        category, score = int(rng.choice([8, 2, 4])), float(rng.integers(1, 25)) / 25
        results.append({"image_id": near["image_id"], "category_id": category, "bbox": box, "score": score})
    pictures = [{"id": n, "height": 200, "width": 200, "file_name": f"{n}.jpg"} for n in range(images, 0, -1)]
    kinds = [{"id": n, "name": f"kind {n}", "supercategory": "even"} for n in (8, 2, 4)]
    return {"info": {"year": 1}, "images": pictures, "categories": kinds, "annotations": annotations}, results


def loaded(kind: Any, given: tuple[dict[str, Any], list[dict[str, Any]]]) -> tuple[Any, Any]:
    """The data set and the results as objects of `kind`, of rows of their own."""
    truth = kind()
    truth.dataset = copy.deepcopy(given[0])
    quiet(truth.createIndex)
    return truth, quiet(truth.loadRes, copy.deepcopy(given[1]))


def finished(evaluation: Any) -> Any:
    for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
        quiet(step)
    return evaluation


def assert_same(theirs: Any, ours: Any) -> None:
    for name in ("precision", "recall", "scores"):
        assert np.allclose(theirs.eval[name], ours.eval[name], rtol=0, atol=1e-12), name
    assert np.allclose(theirs.stats, ours.stats, rtol=0, atol=1e-12)


def run_both(action: Callable[[Any, Any, Any], Any], seed: int = 3) -> list[Any]:
    """What `action(COCO, truth and results, COCOeval)` gives, theirs and ours."""
    return [action(kind, loaded(kind, content(seed)), evaluator) for kind, evaluator in SWITCHED]


def image_by_image(evaluation: Any) -> Any:
    """Has a step of its own, that does what it did: so it is run."""
    own = evaluation.computeIoU
    evaluation.computeIoU = lambda image, category: own(image, category)
    return evaluation


@budget(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), images=st.integers(1, 5), use_cats=st.booleans())
def test_image_by_image_is_the_same_to_the_last_bit(seed: int, images: int, use_cats: bool) -> None:
    given = content(seed, images)
    theirs = Reference(*loaded(ReferenceCOCO, given), "bbox")
    slow = image_by_image(COCOeval(*loaded(COCO, given), "bbox"))
    fast = COCOeval(*loaded(COCO, given), "bbox")
    for evaluation in (theirs, slow, fast):
        evaluation.params.useCats = int(use_cats)
        finished(evaluation)
    assert slow.result is None and fast.result is not None, "one by image, one compiled"
    for ours in (slow, fast):
        for name in ("precision", "recall", "scores"):
            assert np.array_equal(theirs.eval[name], ours.eval[name]), name
        assert np.array_equal(theirs.stats, ours.stats)
        for expected, entry in zip(theirs.evalImgs, ours.evalImgs, strict=True):
            assert (expected is None) == (entry is None)
            for key in expected or ():
                assert np.array_equal(expected[key], entry[key]), key
        assert set(theirs.ious) == set(ours.ious)
        assert all(np.array_equal(theirs.ious[key], ours.ious[key]) for key in theirs.ious)


def test_changed_entries_of_eval_images_count() -> None:
    def change(_: Any, sides: Any, evaluator: Any) -> Any:
        e = evaluator(*sides, "bbox")
        quiet(e.evaluate)
        for n, entry in enumerate(e.evalImgs):
            if entry is not None and n % 3 == 0:
                entry["dtIgnore"][:] = True
            if entry is not None and n % 4 == 0:
                entry["dtMatches"][:] = 0
        quiet(e.accumulate)
        quiet(e.summarize)
        return e

    theirs, ours = run_both(change)
    assert_same(theirs, ours)
    untouched = finished(COCOeval(*loaded(COCO, content(3)), "bbox"))
    assert not np.array_equal(untouched.stats, ours.stats), "the change does something"


def test_parts_are_merged_as_distributed_evaluators_do_it() -> None:
    def merged(kind: Any, sides: Any, evaluator: Any) -> Any:
        truth, found = sides
        parts, images = [], []
        for half in ([1, 3, 5], [6, 2, 4]):
            e = evaluator(truth, iouType="bbox")
            e.cocoDt = quiet(
                kind.loadRes, truth, [row for row in found.dataset["annotations"] if row["image_id"] in half]
            )
            e.params.imgIds = half
            quiet(e.evaluate)
            shape = (-1, len(e.params.areaRng), len(e.params.imgIds))
            parts.append(np.asarray(e.evalImgs).reshape(shape))
            images.extend(e.params.imgIds)
        order = np.argsort(images)
        e = evaluator(truth, iouType="bbox")
        e.evalImgs = list(np.concatenate(parts, 2)[..., order].flatten())
        e.params.imgIds = np.array(images)[order].tolist()
        e._paramsEval = copy.deepcopy(e.params)
        quiet(e.accumulate)
        quiet(e.summarize)
        return e

    theirs, ours = run_both(merged)
    assert_same(theirs, ours)
    whole = finished(COCOeval(*loaded(COCO, content(3)), "bbox"))
    assert np.array_equal(whole.stats, ours.stats)


def test_a_step_of_a_subclass_is_run() -> None:
    def halved(_: Any, sides: Any, base: Any) -> Any:
        class Half(base):  # type: ignore[misc]
            def computeIoU(self, imgId: Any, catId: Any) -> Any:
                found = super().computeIoU(imgId, catId)
                return found * 0.7 if len(found) else found

        return finished(Half(*sides, "bbox"))

    def without_small(_: Any, sides: Any, base: Any) -> Any:
        class Large(base):  # type: ignore[misc]
            def _prepare(self) -> None:
                super()._prepare()
                for rows in self._gts.values():
                    for row in rows:
                        row["ignore"] = row["ignore"] or row["area"] < 900

        return finished(Large(*sides, "bbox"))

    def strict(_: Any, sides: Any, base: Any) -> Any:
        class Few(base):  # type: ignore[misc]
            def evaluateImg(self, imgId: Any, catId: Any, aRng: Any, maxDet: Any) -> Any:
                return super().evaluateImg(imgId, catId, aRng, 2)

        return finished(Few(*sides, "bbox"))

    plain = finished(COCOeval(*loaded(COCO, content(3)), "bbox"))
    for action in (halved, without_small, strict):
        theirs, ours = run_both(action)
        assert_same(theirs, ours)
        assert not np.array_equal(plain.stats, ours.stats), action.__name__


def test_steps_by_hand_as_detr_does_them() -> None:
    def by_hand(_: Any, sides: Any, evaluator: Any) -> Any:
        e = evaluator(*sides, "bbox")
        p = e.params
        p.imgIds, p.catIds = list(np.unique(p.imgIds)), list(np.unique(p.catIds))
        e._prepare()
        e.ious = {(i, k): e.computeIoU(i, k) for i in p.imgIds for k in p.catIds}
        for table in e.ious.values():
            if len(table):
                table *= 0.9
        e.evalImgs = [e.evaluateImg(i, k, a, 100) for k in p.catIds for a in p.areaRng for i in p.imgIds]
        e._paramsEval = copy.deepcopy(p)
        quiet(e.accumulate)
        quiet(e.summarize)
        return e

    theirs, ours = run_both(by_hand)
    assert_same(theirs, ours)
    assert sorted(map(len, theirs._gts.values())) == sorted(map(len, ours._gts.values()))


def test_steps_by_hand_after_an_evaluation() -> None:
    def after(_: Any, sides: Any, evaluator: Any) -> Any:
        e = finished(evaluator(*sides, "bbox"))
        groups = {key: [row["id"] for row in rows] for key, rows in e._dts.items() if rows}
        alone = e.evaluateImg(1, 2, [0, 1e10], 3)
        e._prepare()
        again = e.evaluateImg(1, 2, [0, 1e10], 3)
        return groups, alone["dtIds"], alone["dtMatches"].tolist(), again["dtScores"], e.computeIoU(1, 2).tolist()

    theirs, ours = run_both(after)
    assert theirs == ours


def test_what_is_changed_between_evaluations_is_seen() -> None:
    def changed(_: Any, sides: Any, evaluator: Any) -> Any:
        e = finished(evaluator(*sides, "bbox"))
        first = e.stats
        for n, row in enumerate(sides[1].dataset["annotations"]):
            row["score"] = 1.0 - row["score"] if n % 2 else row["score"]
            row["bbox"][0] += 3
        for row in list(sides[0].anns.values())[::3]:
            row["iscrowd"] = 1
        return first, finished(e)

    (before, theirs), (_, ours) = run_both(changed)
    assert_same(theirs, ours)
    assert not np.array_equal(before, ours.stats)


def test_the_text_of_an_evaluation_fills_its_figures() -> None:
    ours = COCOeval(*loaded(COCO, content(3)), "bbox")
    quiet(ours.evaluate)
    quiet(ours.accumulate)
    assert len(ours.stats) == 0
    assert len(str(ours).splitlines()) == len(ours.stats) == 12
    assert ours.stats_as_dict["AP_all"] == ours.stats[0] and ours.stats_as_dict["AR_large"] == ours.stats[11]


def test_lines_go_to_the_function_that_was_given() -> None:
    lines: list[str] = []
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        finished(COCOeval(*loaded(COCO, content(3)), "bbox", print_function=lines.append))
    assert len(lines) == 17 and text.getvalue() == ""


def test_class_by_class() -> None:
    def one_by_one(_: Any, sides: Any, evaluator: Any) -> Any:
        e, found = evaluator(*sides, "bbox"), []
        for category in (8, 4, 2):
            e.params.catIds = [category]
            found.append(finished(e).stats.tolist())
        return found

    theirs, ours = run_both(one_by_one)
    assert theirs == ours


def rename(given: Any, names: Callable[[Any], Any]) -> Any:
    truth, results = given
    for image in truth["images"]:
        image["id"] = names(image["id"])
    for row in truth["annotations"] + results:
        row["image_id"] = names(row["image_id"])
    return truth, results


@pytest.mark.parametrize("names", [lambda n: f"image {n}", float, lambda n: n + 2**70], ids=["text", "float", "huge"])
def test_image_ids_may_be_whatever_can_be_a_key(names: Any, tmp_path: Path) -> None:
    given = rename(content(4), names)
    theirs = finished(Reference(*loaded(ReferenceCOCO, given), "bbox"))
    ours = finished(COCOeval(*loaded(COCO, given), "bbox"))
    assert_same(theirs, ours)
    assert ours.result is not None, "compiled all the same"
    (tmp_path / "gt.json").write_text(json.dumps(given[0]))
    (tmp_path / "dt.json").write_text(json.dumps(given[1]))
    truth = quiet(COCO, tmp_path / "gt.json")
    assert_same(theirs, finished(COCOeval(truth, quiet(truth.loadRes, str(tmp_path / "dt.json")), "bbox")))


def test_ids_that_are_there_twice_do_what_they_do_in_pycocotools() -> None:
    given = content(5)
    given[0]["images"] += given[0]["images"][:2]
    for row in given[0]["annotations"][::4]:
        row["id"] = 3
    theirs = finished(Reference(*loaded(ReferenceCOCO, given), "bbox"))
    text = io.StringIO()
    ours = COCOeval(*loaded(COCO, given), "bbox")
    with contextlib.redirect_stdout(text):
        ours.evaluate()
        ours.evaluate()
    assert_same(theirs, finished(ours))
    assert text.getvalue().count("have an id that a later one has too") == 1


def test_no_detections_as_an_empty_object() -> None:
    def empty(kind: Any, sides: Any, evaluator: Any) -> Any:
        e = evaluator(sides[0], kind(), "bbox")
        quiet(e.evaluate)
        entries = sum(entry is not None for entry in e.evalImgs)
        quiet(e.accumulate)
        quiet(e.summarize)
        return e, entries

    (theirs, expected), (ours, entries) = run_both(empty)
    assert_same(theirs, ours)
    assert entries == expected > 0
    truth, _ = loaded(COCO, content(3))
    assert np.array_equal(finished(COCOeval(truth, quiet(truth.loadRes, []), "bbox")).stats, ours.stats)


def test_objects_of_pycocotools_are_taken_too() -> None:
    theirs = finished(Reference(*loaded(ReferenceCOCO, content(6)), "bbox"))
    assert_same(theirs, finished(COCOeval(*loaded(ReferenceCOCO, content(6)), "bbox")))


def test_look_ups_of_a_subclass_are_used() -> None:
    def filtered(base: Any, _: Any, evaluator: Any) -> Any:
        class Large(base):  # type: ignore[misc]
            def getAnnIds(self, *arguments: Any, **options: Any) -> Any:
                return [n for n in super().getAnnIds(*arguments, **options) if self.anns[n]["area"] > 900]

        return finished(evaluator(*loaded(Large, content(3)), "bbox"))

    theirs, ours = run_both(filtered)
    assert_same(theirs, ours)
    assert not np.array_equal(ours.stats, finished(COCOeval(*loaded(COCO, content(3)), "bbox")).stats)


def test_scores_and_boxes_that_are_no_numbers_are_said_and_evaluated() -> None:
    given = content(7)
    given[1][3]["score"] = float("nan")
    given[1][5]["bbox"][2] = float("inf")
    theirs = finished(Reference(*loaded(ReferenceCOCO, given), "bbox"))
    ours, text = COCOeval(*loaded(COCO, given), "bbox"), io.StringIO()
    with contextlib.redirect_stdout(text):
        ours.evaluate()
    assert_same(theirs, finished(ours))
    assert "Note: the detections: bbox of detection 5" in text.getvalue()


def test_more_thresholds_than_a_word_has_bits() -> None:
    def many(_: Any, sides: Any, evaluator: Any) -> Any:
        e = evaluator(*sides, "bbox")
        e.params.iouThrs = np.linspace(0.2, 0.99, 80)
        return finished(e)

    theirs, ours = run_both(many)
    assert_same(theirs, ours)
    assert ours.result is not None
    for expected, entry in zip(theirs.evalImgs, ours.evalImgs, strict=True):
        for key in expected or ():
            assert np.array_equal(expected[key], entry[key]), key


def test_a_joined_evaluation_answers_as_one() -> None:
    grid = np.linspace(0.3, 0.95, 40)
    truth, results = content(8)
    many = coco.evaluate(truth, results, iou_thresholds=grid, threads=1)
    some = coco.evaluate(truth, results, iou_thresholds=grid[35:], threads=1)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 3, (5, 6))
    metrics = [("precision", None, 0, 2), ("precision", 36, 0, 2), ("recall", 2, 0, 1)]
    assert np.array_equal(
        many.evaluation.bootstrap(weights, metrics[1:2]),
        some.evaluation.bootstrap(weights, [("precision", 1, 0, 2)]),
    )
    each = many.evaluation.bootstrap(weights, [("precision", n, 0, 2) for n in range(40)])
    means, per_class = many.evaluation.bootstrap(weights, metrics, per_class=True)
    assert np.allclose(means[:, 0], each.mean(axis=1), atol=1e-12) and per_class.shape == (5, 3, 3)
    assert np.array_equal(many.evaluation.assignments(36)[0], some.evaluation.assignments(1)[0])
    assert np.array_equal(
        many.evaluation.category_matches(1)["dt_matches"][35:], some.evaluation.category_matches(1)["dt_matches"]
    )
    with pytest.raises(ValueError, match="iou"):
        many.evaluation.assignments(40)


def test_the_type_may_be_set_later_and_parameters_anew() -> None:
    truth, found = loaded(COCO, content(3))
    expected = finished(COCOeval(truth, found, "bbox")).stats
    later = COCOeval(truth, found)
    later.params.iouType = "bbox"
    assert np.array_equal(finished(later).stats, expected)
    deprecated = COCOeval(truth, found)
    deprecated.params.useSegm = 0
    assert np.array_equal(finished(deprecated).stats, expected)
    again = COCOeval(truth, found, "bbox")
    images, categories = again.params.imgIds, again.params.catIds
    again.params.iouThrs = np.array([0.5])
    again.params.setDetParams()
    assert again.params.imgIds == [] and len(again.params.iouThrs) == 10
    again.params.imgIds, again.params.catIds = images, categories
    assert np.array_equal(finished(again).stats, expected)


def test_areas_and_labels_that_do_not_fit() -> None:
    def other(_: Any, sides: Any, evaluator: Any) -> Any:
        e = evaluator(*sides, "bbox")
        e.params.areaRng = [[0, 1e10], [0, 400], [0, 1e10], [900, 1e10], [30, 40]]
        e.params.areaRngLbl = ["all", "tiny", "small", "small"]
        return finished(e)

    theirs, ours = run_both(other)
    assert_same(theirs, ours)
    assert ours.stats[4] == -1 and ours.stats[3] > 0


def test_results_and_evaluators_can_be_copied_and_pickled() -> None:
    truth, results = content(9)
    result = coco.evaluate(truth, results, iou_thresholds=np.linspace(0.1, 0.9, 40))
    evaluation = finished(COCOeval(*loaded(COCO, content(9)), "bbox"))
    for copied in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert np.array_equal(copied.precision, result.precision) and copied.summary == result.summary
        assert np.array_equal(copied.evaluation.assignments(33)[0], result.evaluation.assignments(33)[0])
    for other in (copy.deepcopy(evaluation), pickle.loads(pickle.dumps(evaluation))):
        assert len(other.evalImgs) == len(evaluation.evalImgs) > 0
        assert_same(evaluation, finished(other))


# ---- the class COCO


def on_disk(given: Any, folder: Path) -> tuple[str, str]:
    (folder / "gt.json").write_text(json.dumps(given[0]))
    (folder / "dt.json").write_text(json.dumps(given[1]))
    return str(folder / "gt.json"), str(folder / "dt.json")


def test_files_are_read_by_columns_until_dicts_are_asked_for(tmp_path: Path) -> None:
    truth_path, found_path = on_disk(content(10), tmp_path)
    theirs_truth = quiet(ReferenceCOCO, truth_path)
    theirs = finished(Reference(theirs_truth, quiet(theirs_truth.loadRes, found_path), "bbox"))
    truth = quiet(COCO, truth_path)
    found = quiet(truth.loadRes, found_path)
    ours = finished(COCOeval(truth, found, "bbox"))
    assert truth._made is None and found._made is None, "no dict was made"
    unseen = quiet(ReferenceCOCO, truth_path)
    (tmp_path / "gt.json").unlink()
    (tmp_path / "dt.json").unlink()
    assert_same(theirs, ours)
    assert found.dataset == theirs.cocoDt.dataset and truth.dataset == unseen.dataset
    for name in ("anns", "cats", "imgs", "imgToAnns", "catToImgs"):
        assert getattr(found, name) == getattr(theirs.cocoDt, name), name
        assert list(getattr(truth, name)) == list(getattr(theirs.cocoGt, name)), name
    for row in found.anns.values():
        row["score"] = 0.25
    assert not np.array_equal(finished(COCOeval(truth, found, "bbox")).eval["scores"], ours.eval["scores"])


def test_the_look_ups_are_the_same(tmp_path: Path) -> None:
    truth_path, _ = on_disk(content(11), tmp_path)
    theirs, ours = quiet(ReferenceCOCO, truth_path), quiet(COCO, truth_path)
    assert ours._made is None and ours.getImgIds() == theirs.getImgIds() and ours.getCatIds() == theirs.getCatIds()
    assert ours._made is None
    for call in (
        lambda c: c.getAnnIds(),
        lambda c: c.getAnnIds(imgIds=[2, 99, 1], catIds=8),
        lambda c: c.getAnnIds(imgIds=3, areaRng=[100, 3000]),
        lambda c: c.getAnnIds(iscrowd=True),
        lambda c: c.getCatIds(catNms=["kind 2", "kind 4"]),
        lambda c: c.getCatIds(supNms="even", catIds=[8]),
        lambda c: sorted(c.getImgIds(catIds=[8, 2])),
        lambda c: sorted(c.getImgIds(imgIds=[1, 2], catIds=8)),
        lambda c: c.loadAnns([3, 1]) + c.loadCats(8) + c.loadImgs([2]),
        lambda c: c.annToMask({"image_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]}).sum(),
        lambda c: c.loadNumpyAnnotations(np.array([[1.0, 2, 3, 4, 5, 0.5, 8]]))[0]["bbox"],
    ):
        assert quiet(call, ours) == quiet(call, theirs)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        ours.info()
    assert text.getvalue() == "year: 1\n"


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_results_as_a_table(kind: Any) -> None:
    given = content(12)
    rows = [[r["image_id"], *r["bbox"], r["score"], r["category_id"]] for r in given[1]]
    table = np.array(rows, dtype=kind)
    stats = []
    for dataset, evaluator in SWITCHED:
        truth, _ = loaded(dataset, given)
        found = quiet(truth.loadRes, table)
        stats.append(finished(evaluator(truth, found, "bbox")).stats)
        assert [row["id"] for row in found.dataset["annotations"]] == list(range(1, len(rows) + 1))
        if dataset is COCO:
            assert np.array_equal(finished(evaluator(truth, found, "bbox")).stats, stats[0]), "by rows as by columns"
    assert np.array_equal(stats[0], stats[1])


def test_results_of_other_images_are_refused_as_an_assertion() -> None:
    truth, _ = loaded(COCO, content(3))
    row = {"image_id": 77, "category_id": 8, "bbox": [0, 0, 1, 1], "score": 1.0}
    for results in ([row], np.array([[77.0, 0, 0, 1, 1, 1, 8]])):
        with pytest.raises(AssertionError, match="it has no images 77"):
            quiet(truth.loadRes, results)
        with pytest.raises(DataError):
            quiet(truth.loadRes, results)


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("bbox", None, "bbox of entry 2"),
        ("bbox", [1, 2, 3], "bbox of entry 2"),
        ("bbox", ["1", "2", "3", "4"], "bbox of entry 2"),
        ("score", "0.9", "score of entry 2"),
        ("score", ..., "has no score"),
        ("category_id", ..., "no category_id"),
    ],
)
def test_a_row_at_fault_is_named(member: str, value: Any, said: str) -> None:
    given = content(3)
    if value is ...:
        del given[1][2][member]
    else:
        given[1][2][member] = value
    with pytest.raises(DataError, match=said):
        finished(COCOeval(*loaded(COCO, given), "bbox"))


def test_what_was_left_out_is_said_once() -> None:
    given = content(3)
    for row in given[1][:4]:
        row["category_id"] = 77
    for dataset in (COCO, ReferenceCOCO):
        text = io.StringIO()
        ours = COCOeval(*loaded(dataset, given), "bbox")
        with contextlib.redirect_stdout(text):
            ours.evaluate()
            ours.evaluate()
        assert text.getvalue().count("4 are of categories that the ground truth does not list (77)") == 1


def test_id_zero_stays_found_where_entries_were_looked_at() -> None:
    given = content(13)
    given[0]["annotations"][4]["id"] = 0
    ours = COCOeval(*loaded(COCO, given), "bbox")
    expected = finished(ours).stats
    assert any(entry is not None and 0 in entry["gtIds"] for entry in ours.evalImgs)
    quiet(ours.accumulate)
    quiet(ours.summarize)
    assert np.array_equal(ours.stats, expected)
    assert np.array_equal(finished(image_by_image(COCOeval(*loaded(COCO, given), "bbox"))).stats, expected)
    theirs = finished(Reference(*loaded(ReferenceCOCO, given), "bbox"))
    switched = finished(image_by_image(COCOeval(*loaded(COCO, given), "bbox", id_zero="pycocotools")))
    assert_same(theirs, switched)
    assert not np.array_equal(theirs.stats, expected)


@pytest.mark.parametrize("kind", ["segm", "keypoints"])
def test_masks_and_keypoints_image_by_image(kind: str) -> None:
    given = content(14)
    rng = np.random.default_rng(1)
    for row in given[0]["annotations"] + given[1]:
        x, y, w, h = (abs(v) + 1 for v in row["bbox"])
        row["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
        points = np.c_[x + rng.uniform(0, w, 17), y + rng.uniform(0, h, 17), rng.integers(0, 3, 17)]
        row["keypoints"] = points.round(1).ravel().tolist()
        row["num_keypoints"] = int((points[:, 2] > 0).sum()) * int(rng.random() > 0.1)
    for n, row in enumerate(given[1]):
        near = given[0]["annotations"][n % len(given[0]["annotations"])]
        row["keypoints"], row["image_id"], row["category_id"] = near["keypoints"], near["image_id"], near["category_id"]
        row["keypoints"] = [value + float(rng.normal(0, 2)) * (k % 3 < 2) for k, value in enumerate(row["keypoints"])]
    stats = [finished(evaluator(*loaded(dataset, given), kind)) for dataset, evaluator in SWITCHED]
    assert_same(*stats)
    assert stats[1].stats[0] > 0


def test_the_import_of_others_can_be_switched(tmp_path: Path) -> None:
    truth_path, found_path = on_disk(content(15), tmp_path)
    theirs_truth = quiet(ReferenceCOCO, truth_path)
    theirs = finished(Reference(theirs_truth, quiet(theirs_truth.loadRes, found_path), "bbox"))
    program = f"""
import qprof.coco
qprof.coco.init_as_pycocotools()
qprof.coco.init_as_pycocotools()
import pycocotools.mask
import pycocotools.cocoeval as module
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params
assert COCO is qprof.coco.COCO and COCOeval is module.COCOeval is qprof.coco.COCOeval and Params is qprof.coco.Params
truth = COCO({truth_path!r})
e = COCOeval(truth, truth.loadRes({found_path!r}), "bbox")
e.evaluate(); e.accumulate(); e.summarize()
print(e.stats.tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == theirs.stats.tolist()

"""Masks, boundaries and keypoints, and LVIS's rules: the figures, curves and matches of the reference code."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as reference_mask
from pycocotools.cocoeval import COCOeval as Reference

from coco_shapes import CATEGORIES, Rows, by_reference, equal_bits, results_with, shaped_content
from qprof import coco
from qprof.coco import COCO, COCOeval
from qprof.core import _coco
from qprof.errors import DataError

SEEDS = range(8)
#: What results state of where they are, and what is compared.
FORMS = [
    ("segm", ("segmentation",)),
    ("segm", ("segmentation", "bbox")),
    ("segm", ("bbox",)),
    ("keypoints", ("keypoints",)),
    ("keypoints", ("keypoints", "bbox")),
]


def assert_same(result: Any, theirs: Reference) -> None:
    for name in ("precision", "recall", "scores"):
        assert equal_bits(getattr(result, name), theirs.eval[name]), name


@pytest.mark.parametrize(("kind", "members"), FORMS)
@pytest.mark.parametrize("seed", SEEDS)
def test_curves_are_those_of_pycocotools_to_the_last_bit(seed: int, kind: Any, members: tuple[str, ...]) -> None:
    truth, results = shaped_content(seed)
    given = results_with(results, *members)
    limits = [3] if kind == "keypoints" else [1, 2, 4]
    theirs = by_reference(truth, given, kind, maxDets=limits)
    for threads in (1, 3):
        found = coco.evaluate(truth, given, iou_type=kind, max_dets=limits, threads=threads)
        assert_same(found, theirs)
    assert (found.precision > 0).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_categories_that_are_one(seed: int) -> None:
    truth, results = shaped_content(seed)
    given = results_with(results, "segmentation")
    theirs = by_reference(truth, given, "segm", useCats=0)
    assert_same(coco.evaluate(truth, given, iou_type="segm", use_cats=False), theirs)


def test_the_default_figures_are_those_of_pycocotools(tmp_path: Path) -> None:
    truth, results = shaped_content(20, images=12)
    for kind, member, figures in (("segm", "segmentation", 12), ("keypoints", "keypoints", 10)):
        given = results_with(results, member)
        theirs = by_reference(truth, given, kind)
        with contextlib.redirect_stdout(io.StringIO()):
            theirs.summarize()
        files = tmp_path / "truth.json", tmp_path / "results.json"
        files[0].write_text(json.dumps(truth))
        files[1].write_text(json.dumps(given, default=lambda text: text.decode()))
        for sides in ((truth, given), [str(file) for file in files], [file.read_bytes() for file in files]):
            found = coco.evaluate(*sides, iou_type=kind)  # type: ignore[arg-type]
            assert np.array_equal(found.stats, theirs.stats) and len(found.stats) == figures
    assert list(found.summary) == [
        *("AP", "AP50", "AP75", "APmedium", "APlarge", "AR", "AR50", "AR75", "ARmedium", "ARlarge")
    ]


def test_other_numbers_of_keypoints_take_their_own_sigmas() -> None:
    truth, results = shaped_content(21)
    given = results_with(results, "keypoints")
    for row in [*truth["annotations"], *given]:
        row["keypoints"] = row["keypoints"][:42]
        if "num_keypoints" in row:
            row["num_keypoints"] = int((np.array(row["keypoints"][2::3]) > 0).sum())
    sigmas = np.linspace(0.02, 0.1, 14)
    theirs = by_reference(truth, given, "keypoints", kpt_oks_sigmas=sigmas)
    assert_same(coco.evaluate(truth, given, iou_type="keypoints", sigmas=sigmas), theirs)
    with pytest.raises(DataError, match="42 values where x, y, visibility of 17 keypoints"):
        coco.evaluate(truth, given, iou_type="keypoints")


class BoundaryReference(Reference):
    """pycocotools with Boundary IoU, as its authors put it there: the smaller IoU, but of a crowd that of the masks."""

    ratio = 0.05

    def computeIoU(self, imgId: int, catId: int) -> Any:
        ious = super().computeIoU(imgId, catId)
        if not len(ious):
            return ious
        truths, found = self._gts[imgId, catId], self._dts[imgId, catId]
        order = np.argsort([-row["score"] for row in found], kind="mergesort")[: self.params.maxDets[-1]]
        near = [[self.near(row["segmentation"]) for row in rows] for rows in ([found[n] for n in order], truths)]
        crowd = np.array([row["iscrowd"] for row in truths])
        return np.where(crowd == 1, ious, np.minimum(ious, reference_mask.iou(*near, crowd.tolist())))

    def near(self, rle: dict[str, Any]) -> dict[str, Any]:
        pixels = reference_mask.decode(rle)
        height, width = pixels.shape
        reach = max(1, round(self.ratio * float(np.sqrt(height**2 + width**2))))
        padded = np.pad(pixels, reach)
        kept = np.ones_like(pixels)
        for dy in range(2 * reach + 1):
            for dx in range(2 * reach + 1):
                kept &= padded[dy : dy + height, dx : dx + width]
        return reference_mask.encode(np.asfortranarray(pixels - kept))


@pytest.mark.parametrize("seed", SEEDS)
def test_boundary_iou_is_that_of_its_authors(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, results = shaped_content(seed)
    given = results_with(results, "segmentation")
    monkeypatch.setattr("coco_shapes.COCOeval", BoundaryReference)
    theirs = by_reference(truth, given, "segm")
    found = coco.evaluate(truth, given, iou_type="boundary", dilation_ratio=0.05)
    assert_same(found, theirs)
    plain = coco.evaluate(truth, given, iou_type="segm")
    assert not np.array_equal(found.precision, plain.precision)


def through_face(truth: Any, results: Rows, kind: str, **settings: Any) -> COCOeval:
    objects = COCO()
    objects.dataset = copy.deepcopy(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        objects.createIndex()
        evaluation = COCOeval(objects, objects.loadRes(copy.deepcopy(results)), kind)
        for name, value in settings.items():
            setattr(evaluation.params, name, value)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


@pytest.mark.parametrize(("kind", "members"), FORMS)
def test_the_classes_match_masks_and_keypoints_in_the_core(kind: str, members: tuple[str, ...]) -> None:
    truth, results = shaped_content(22)
    given = results_with(results, *members)
    theirs, ours = by_reference(truth, given, kind), through_face(truth, given, kind)
    assert ours.result is not None, "matched image by image"
    assert_same(ours.result, theirs)
    assert set(ours.ious) == set(theirs.ious)
    for cell, table in theirs.ious.items():
        assert np.array_equal(np.asarray(ours.ious[cell]), np.asarray(table))
    for one, other in zip(ours.evalImgs, theirs.evalImgs, strict=True):
        assert (one is None) == (other is None)
        for key in ("dtIds", "gtIds", "dtMatches", "gtMatches", "gtIgnore", "dtIgnore") if one else ():
            assert np.array_equal(one[key], other[key]), key


def test_boundaries_through_the_classes() -> None:
    truth, results = shaped_content(23)
    given = results_with(results, "segmentation")
    found = coco.evaluate(truth, given, iou_type="boundary", dilation_ratio=0.05)
    ours = through_face(truth, given, "boundary", dilation_ratio=0.05)
    assert ours.result is not None and equal_bits(ours.eval["precision"], found.precision)

    class Own(COCOeval):
        def computeIoU(self, imgId: Any, catId: Any) -> Any:
            return super().computeIoU(imgId, catId)

    objects = COCO()
    objects.dataset = copy.deepcopy(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        objects.createIndex()
        own = Own(objects, objects.loadRes(copy.deepcopy(given)), "boundary")
        own.params.dilation_ratio = 0.05
        own.evaluate()
        own.accumulate()
    assert own.result is None and equal_bits(own.eval["precision"], found.precision)


def test_intervals_differences_and_copies_work_on_masks() -> None:
    truth, results = shaped_content(24, images=30)
    given = results_with(results, "segmentation")
    found = coco.evaluate(truth, given, iou_type="segm")
    interval = coco.bootstrap(found, 200)["AP"]
    assert interval is not None and interval.low is not None and interval.high is not None
    assert interval.low < found.summary["AP"] < interval.high  # type: ignore[operator]
    same = coco.paired_bootstrap(found, coco.evaluate(truth, given, iou_type="segm"), 50)["AP"]
    assert same is not None and same.difference.value == 0
    with pytest.raises(DataError, match="other settings"):
        coco.paired_bootstrap(found, coco.evaluate(truth, given, iou_type="boundary"), 50)
    again = pickle.loads(pickle.dumps(found))
    assert equal_bits(again.precision, found.precision)


def test_analyses_go_by_masks_where_masks_were_evaluated() -> None:
    truth, results = shaped_content(29)
    given = results_with(results, "segmentation")
    sizes = {"images": len(truth["images"]), "categories": len(CATEGORIES)}
    found = coco.evaluate(truth, given, iou_type="segm")
    truths, detections = found.boxes()
    by_masks = coco.error_analysis(truths, detections, overlaps=found.overlaps(), **sizes)
    matched = found.image_counts(0.5).tp.sum()
    assert (by_masks.detection_kind == coco.DetectionKind.CORRECT).sum() == matched
    boxes = coco.evaluate(truth, results_with(results, "bbox"), iou_type="bbox")
    pairs, of_boxes = boxes.overlaps(), coco.error_analysis(*boxes.boxes(), **sizes)
    assert len(pairs.iou) > 0 and not np.array_equal(of_boxes.detection_kind, by_masks.detection_kind)


def test_results_with_masks_alone_are_sized_by_their_pixels() -> None:
    truth, results = shaped_content(25)
    found = coco.evaluate(truth, results_with(results, "segmentation"), iou_type="segm")
    pixels = [int(reference_mask.decode(row["segmentation"]).sum()) for row in results]
    assert found.detections.area is not None and found.detections.area.tolist() == pixels


@pytest.mark.parametrize("member", ["segmentation", "keypoints"])
def test_boxes_of_results_that_state_none(member: str) -> None:
    truth, results = shaped_content(30)
    given = results_with(results, member)
    theirs = by_reference(truth, given, "bbox")
    found = coco.evaluate(truth, given)
    assert_same(found, theirs)
    with pytest.raises(DataError, match="bbox"):
        coco.evaluate(truth, results_with(results))


def test_what_annotations_lack_is_taken_from_their_masks() -> None:
    truth, results = shaped_content(26)
    bare = copy.deepcopy(truth)
    for row in bare["annotations"]:
        del row["bbox"], row["area"]
    found = coco.evaluate(bare, results_with(results, "segmentation"), iou_type="segm")
    whole = coco.evaluate(truth, results_with(results, "segmentation"), iou_type="segm")
    assert found.summary["AP"] == whole.summary["AP"]
    pixels = [
        reference_mask.area(reference_mask.merge(reference_mask.frPyObjects(row["segmentation"], *size)))
        for row in truth["annotations"]
        if isinstance(row["segmentation"], list)
        for size in [(truth["images"][0]["height"], truth["images"][0]["width"])]
    ]
    ours = [
        a
        for a, row in zip(found.truth.area, truth["annotations"], strict=True)
        if isinstance(row["segmentation"], list)
    ]
    assert ours == pixels


def damaged(where: str, n: int, **members: Any) -> tuple[Any, Rows]:
    truth, results = shaped_content(27)
    given = results_with(results, "segmentation", "keypoints")
    row = truth["annotations"][n] if where == "truth" else given[n]
    for key, value in members.items():
        if value is None:
            del row[key]
        else:
            row[key] = value
    return truth, given


@pytest.mark.parametrize(
    ("kind", "where", "members", "message"),
    [
        ("segm", "truth", {"segmentation": None}, "the ground truth: entry 3 has no segmentation"),
        ("segm", "found", {"segmentation": None}, "the detections: entry 3 has no segmentation"),
        ("segm", "found", {"segmentation": "x"}, "the detections: segmentation 3 .*: a str"),
        ("segm", "found", {"segmentation": {"size": [9, 9], "counts": [82]}}, "segmentation 3 .*beyond the 9 x 9"),
        ("boundary", "truth", {"segmentation": [[1, 2, 3, "4"]]}, "the ground truth: segmentation 3 .*coordinate"),
        ("keypoints", "found", {"keypoints": None}, "the detections: entry 3 has no keypoints"),
        ("keypoints", "found", {"keypoints": [1.0] * 50}, "keypoints of entry 3: 50 values"),
        ("keypoints", "truth", {"keypoints": [float("nan")] * 51}, "keypoints of entry 3 are not finite"),
    ],
)
def test_damaged_shapes_are_one_clear_error(kind: Any, where: str, members: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        coco.evaluate(*damaged(where, 3, **members), iou_type=kind)


def test_polygons_need_the_size_of_their_image() -> None:
    truth, given = damaged("truth", 3, segmentation=[[1, 1, 9, 1, 9, 9]])
    del truth["images"][truth["annotations"][3]["image_id"] - 1]["height"]
    with pytest.raises(DataError, match="size of its image is not known"):
        coco.evaluate(truth, given, iou_type="segm")


def test_masks_without_pixels_are_noted() -> None:
    truth, given = damaged("truth", 3, segmentation=[])
    found = coco.evaluate(truth, given, iou_type="segm")
    assert any("1 annotations have a mask without a pixel" in note for note in found.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iou_type": "panoptic"}, "iou_type"),
        ({"iou_type": "keypoints", "sigmas": [0.1, -1]}, "sigmas"),
        ({"iou_type": "boundary", "dilation_ratio": 2}, "dilation_ratio"),
        ({"style": "pascal"}, "style"),
        ({"style": "lvis"}, "neg_category_ids"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    truth, results = shaped_content(28)
    with pytest.raises(DataError, match=message):
        coco.evaluate(truth, results_with(results, "bbox"), **settings)


def test_fewer_figures_than_ground_truths_are_an_error() -> None:
    boxes = np.array([[0.0, 0, 9, 9]] * 2)
    zeros, areas = np.zeros(2, np.int32), np.full(2, 81.0)
    sides = (zeros, zeros, boxes, areas, zeros, None, [1, 2], zeros, zeros, boxes, areas, [0.9, 0.8])
    settings: dict[str, Any] = {"images": 1, "categories": 1, "iou_thresholds": [0.5], "recall_thresholds": [0.0]}
    settings |= {"area_ranges": [[0, 1e9]], "max_dets": [5], "keep": True}
    found = _coco.evaluate(*sides, given_begin=[0, 2], given_ious=[0.1, 0.7, 0.8, 0.6], **settings)  # type: ignore[arg-type]
    assert found.category_matches(0)["dt_matches"].tolist() == [[1, 0]]
    none = _coco.evaluate(*sides, given_begin=[-1, -1], given_ious=[], **settings)  # type: ignore[arg-type]
    assert none.category_matches(0)["dt_matches"].tolist() == [[-1, -1]]
    for begin in ([0, 3], [4, 5], [2**62, 0]):
        with pytest.raises(ValueError, match="fewer IoUs"):
            _coco.evaluate(*sides, given_begin=begin, given_ious=[0.1] * 4, **settings)  # type: ignore[arg-type]


def federated(negative: list[int], not_exhaustive: list[int]) -> dict[str, Any]:
    """One image with one object of category 2."""
    image = {"id": 1, "height": 100, "width": 100, "neg_category_ids": negative}
    kinds = [{"id": n, "name": str(n), "frequency": f} for n, f in zip(CATEGORIES, "rcf", strict=True)]
    truth = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [10, 10, 20, 20], "area": 400}
    images = [{**image, "not_exhaustive_category_ids": not_exhaustive}]
    return {"images": images, "categories": kinds, "annotations": [truth]}


def result_of(category: int, score: float, x: float = 10.0) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "bbox": [x, 10.0, 20.0, 20.0], "score": score}


def wrong(truth: Any, results: Rows, **settings: Any) -> list[int]:
    """Per category, how many detections are wrong."""
    found = coco.evaluate(truth, results, style="lvis", **settings)
    counts = []
    for k in range(3):
        matches = found.category_matches(k)
        counts.append(int(((matches["dt_matches"][0] < 0) & ~matches["dt_ignored"][0]).sum()))
    return counts


def test_detections_of_categories_that_nobody_looked_for_do_not_count() -> None:
    results = [result_of(2, 0.9, 60), result_of(5, 0.9), result_of(7, 0.9)]
    assert wrong(federated([], []), results) == [1, 0, 0]
    assert wrong(federated([5], []), results) == [1, 1, 0]


def test_where_not_all_objects_are_annotated_an_unmatched_detection_is_ignored() -> None:
    results = [result_of(2, 0.9, 60), result_of(2, 0.8), result_of(5, 0.9)]
    assert wrong(federated([5], [2]), results) == [0, 1, 0]
    assert wrong(federated([5], []), results) == [1, 1, 0]
    assert coco.evaluate(federated([], [2]), results, style="lvis").summary["APr"] == pytest.approx(1)


def test_the_best_detections_of_an_image_count_whatever_their_category() -> None:
    results = [result_of(7, 0.9, 60 + n / 100) for n in range(299)] + [result_of(2, 0.8), result_of(2, 0.7, 60)]
    assert wrong(federated([], []), results) == [0, 0, 0]
    assert wrong(federated([], []), results, max_dets=[301]) == [1, 0, 0]


def test_frequencies_have_figures_of_their_own() -> None:
    truth = federated([], [])
    truth["annotations"].append({**truth["annotations"][0], "id": 2, "category_id": 7})
    found = coco.evaluate(truth, [result_of(2, 0.9)], style="lvis")
    assert found.summary["APr"] == pytest.approx(1) and found.summary["APf"] == 0 and found.summary["APc"] is None
    assert found.summary["AP"] == pytest.approx(0.5) and "AR300" in found.summary
    truth["categories"][0]["frequency"] = "x"
    with pytest.raises(DataError, match="category 2 has the frequency 'x'"):
        coco.evaluate(truth, [result_of(2, 0.9)], style="lvis")


def test_crowds_do_not_exist_in_lvis_and_ignore_does() -> None:
    truth = federated([], [])
    results = [result_of(2, 0.9), result_of(2, 0.8)]
    truth["annotations"][0]["iscrowd"] = 1
    assert wrong(truth, results) == [1, 0, 0]
    truth["annotations"][0]["ignore"] = 1
    assert coco.evaluate(truth, results, style="lvis").summary["AP"] is None


def test_an_lvis_file_that_is_evaluated_as_coco_is_noted(tmp_path: Path) -> None:
    truth = federated([5], [])
    found = coco.evaluate(truth, [result_of(2, 0.9)], iou_type="bbox")
    assert any("style='lvis'" in note for note in found.notes)
    many = copy.deepcopy(truth)
    many["categories"] += [{"id": n, "name": str(n), "frequency": "r"} for n in range(10, 500)]
    file = tmp_path / "lvis.json"
    file.write_text(json.dumps(many))
    for given in (str(file), file.read_bytes()):
        assert any("style='lvis'" in note for note in coco.evaluate(given, [result_of(2, 0.9)]).notes)

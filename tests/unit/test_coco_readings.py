"""An AP near 0 is explained, and results are read as people keep them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qprof.cli.main import main
from qprof.errors import DataError
from qprof.tasks.coco import files
from qprof.tasks.coco.analysis.plausible import crowded_images, empty_boxes, readings
from qprof.tasks.coco.evaluate import evaluate

IMAGES, CATEGORIES = 30, [2, 3, 5, 7]
Box = list[float]


def world(seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations of 30 images of unlike sizes, and detections that are off by a pixel or two."""
    random = np.random.default_rng(seed)
    images = [{"id": n, "width": 300 + 10 * n, "height": 500 - 10 * n} for n in range(1, IMAGES + 1)]
    annotations: list[dict[str, Any]] = []
    for image in images:
        for _ in range(6):
            size = random.uniform(20, 90, 2)
            corner = random.uniform(0, 1, 2) * (np.array([image["width"], image["height"]]) - size)
            box = [*corner.tolist(), *size.tolist()]
            category = int(random.choice(CATEGORIES))
            row = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category, "bbox": box}
            annotations.append(row | {"area": box[2] * box[3], "iscrowd": 0})
    truth = {"images": images, "categories": [{"id": n} for n in CATEGORIES], "annotations": annotations}
    found = [
        {
            "image_id": row["image_id"],
            "category_id": row["category_id"],
            "bbox": (np.array(row["bbox"]) + random.normal(0, 1, 4)).tolist(),
            "score": float(random.uniform(0.3, 1)),
        }
        for row in annotations
    ]
    return truth, found


def boxes(change: Callable[[Box, dict[str, Any]], Box]) -> Callable[[dict[str, Any], list[dict[str, Any]]], None]:
    def mistake(truth: dict[str, Any], found: list[dict[str, Any]]) -> None:
        images = {image["id"]: image for image in truth["images"]}
        for row in found:
            row["bbox"] = change(row["bbox"], images[row["image_id"]])

    return mistake


def categories(change: Callable[[int], int]) -> Callable[[dict[str, Any], list[dict[str, Any]]], None]:
    def mistake(truth: dict[str, Any], found: list[dict[str, Any]]) -> None:
        for row in found:
            row["category_id"] = change(row["category_id"])

    return mistake


def truths_as_corners(truth: dict[str, Any], found: list[dict[str, Any]]) -> None:
    for row in truth["annotations"]:
        x, y, width, height = row["bbox"]
        row["bbox"] = [x, y, x + width, y + height]


def truths_of_negative_height(truth: dict[str, Any], found: list[dict[str, Any]]) -> None:
    for row in truth["annotations"]:
        row["bbox"][3] *= -1


MISTAKES = {
    "boxes of the detections are corners (x1, y1, x2, y2)": boxes(lambda b, _: [b[0], b[1], b[0] + b[2], b[1] + b[3]]),
    "boxes of the detections are centres (cx, cy, width, height)": boxes(
        lambda b, _: [b[0] + b[2] / 2, b[1] + b[3] / 2, b[2], b[3]]
    ),
    "boxes of the detections are y, x, height, width": boxes(lambda b, _: [b[1], b[0], b[3], b[2]]),
    "boxes of the detections are corners (y1, x1, y2, x2)": boxes(lambda b, _: [b[1], b[0], b[1] + b[3], b[0] + b[2]]),
    "boxes of the detections are shares of the image": boxes(
        lambda b, i: [b[0] / i["width"], b[1] / i["height"], b[2] / i["width"], b[3] / i["height"]]
    ),
    "boxes of the detections are shares of the image, as centres (cx, cy, width, height)": boxes(
        lambda b, i: [
            (b[0] + b[2] / 2) / i["width"],
            (b[1] + b[3] / 2) / i["height"],
            b[2] / i["width"],
            b[3] / i["height"],
        ]
    ),
    "boxes of the annotations are corners (x1, y1, x2, y2)": truths_as_corners,
    "boxes of the detections have sizes of the wrong sign": boxes(lambda b, _: [b[0], b[1], -b[2], b[3]]),
    "boxes of the detections are given from another corner, with sizes below 0": boxes(
        lambda b, _: [b[0] + b[2], b[1] + b[3], -b[2], -b[3]]
    ),
    "boxes of the annotations have sizes of the wrong sign": truths_of_negative_height,
    "category ids of the detections are smaller by 1": categories(lambda n: n - 1),
    "category ids of the detections count the annotations' categories from 0": categories(CATEGORIES.index),
    "category ids of the detections stand for others (2 for 5, 3 for 2, 5 for 7, 7 for 3)": categories(
        {5: 2, 2: 3, 7: 5, 3: 7}.__getitem__
    ),
}


@pytest.mark.parametrize("says", MISTAKES)
def test_a_mistake_is_named_and_what_mending_it_gives_is_told(says: str) -> None:
    truth, found = world()
    right = evaluate(truth, found).summary["AP"]
    MISTAKES[says](truth, found)
    wrong = evaluate(truth, found)
    best = readings(wrong)[0]
    assert best.says == says
    # Where boxes change, the areas of COCO's sizes may; AP over all sizes does not.
    assert best.ap == pytest.approx(right, abs=1e-6) and right is not None and right > 0.6
    assert best.given == wrong.summary["AP"] and best.given < 0.25


def test_a_sound_detector_and_a_useless_one_are_left_in_peace() -> None:
    truth, found = world()
    assert readings(evaluate(truth, found)) == []
    random = np.random.default_rng(5)
    for row in found:
        row["bbox"] = random.uniform(5, 200, 4).tolist()
    assert readings(evaluate(truth, found)) == []
    assert readings(evaluate(truth, [])) == []


def test_more_objects_than_detections_are_counted() -> None:
    truth, found = world()
    assert crowded_images(evaluate(truth, found))[0] == 0
    images, most = crowded_images(evaluate(truth, found, max_dets=(1, 2, 3)))
    counts: dict[tuple[int, int], int] = {}
    for row in truth["annotations"]:
        key = row["image_id"], row["category_id"]
        counts[key] = counts.get(key, 0) + 1
    assert (images, most) == (len({i for (i, _), n in counts.items() if n > 3}), max(counts.values()))


def test_boxes_without_size_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = world()
    assert empty_boxes(evaluate(truth, found)) == (0, 0)
    truth["annotations"][3]["bbox"][2] = 0.0
    truth["annotations"][4] |= {"iscrowd": 1, "bbox": [1.0, 1.0, 0.0, 5.0]}  # nobody is to find a crowd
    found[7]["bbox"][3] = 0.0
    found[8]["bbox"][2] = -4.0
    assert empty_boxes(evaluate(truth, found)) == (1, 2)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(found))
    assert main(["eval", "coco", str(tmp_path / "gt.json"), str(tmp_path / "dt.json"), "--no-intervals"]) == 0
    told = capsys.readouterr().out
    assert "gt.json: 1 annotations have a box whose width or height is 0 or less" in told
    assert "dt.json: 2 detections have a box whose width or height is 0 or less, so that they find nothing" in told


def test_masks_need_no_boxes() -> None:
    truth, found = world()
    for row in (*truth["annotations"], *found):
        x, y, width, height = row["bbox"]
        row["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        row["bbox"] = [0.0, 0.0, 0.0, 0.0]
    assert empty_boxes(evaluate(truth, found, iou_type="segm")) == (0, 0)


def test_the_command_tells_it_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = world()
    boxes(lambda b, _: [b[0], b[1], b[0] + b[2], b[1] + b[3]])(truth, found)
    paths = [tmp_path / "truth.json", tmp_path / "found.json"]
    for path, content in zip(paths, (truth, found), strict=True):
        path.write_text(json.dumps(content))
    arguments = ["eval", "coco", *map(str, paths), "--no-intervals"]
    assert main(arguments) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "LOW AP" in first and "corners (x1, y1, x2, y2)" in first and "write x, y, width, height" in first
    assert main([*arguments, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["readings"].values()
    assert told[0]["says"].endswith("corners (x1, y1, x2, y2)")


def test_results_of_other_images_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = world()
    for row in found:
        row["image_id"] += 1000
    paths = [tmp_path / "truth.json", tmp_path / "found.json"]
    for path, content in zip(paths, (truth, found), strict=True):
        path.write_text(json.dumps(content))
    assert main(["eval", "coco", *map(str, paths)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "none of its 180 detections is of an image" in error


@pytest.mark.parametrize("form", ["lines", "annotations", "detections", "one", "bom", "gzip", "gzip lines"])
def test_forms_of_results(tmp_path: Path, form: str) -> None:
    truth, found = world()
    path = tmp_path / "found.json"
    lines = "\n".join(json.dumps(row) for row in found)
    text = {
        "lines": lines,
        "annotations": json.dumps({"info": {}, "annotations": found}, indent=1),
        "detections": json.dumps({"detections": found}),
        "one": json.dumps(found[0]),
        "bom": "\ufeff\n" + json.dumps(found),
        "gzip": json.dumps(found),
        "gzip lines": lines,
    }[form]
    path.write_bytes(gzip.compress(text.encode()) if form.startswith("gzip") else text.encode())
    expected = found[:1] if form == "one" else found
    result, plain = evaluate(truth, path), evaluate(truth, expected)
    assert np.array_equal(result.stats, plain.stats)
    assert len(result.detections.score) == len(expected)


def test_packed_annotations(tmp_path: Path) -> None:
    truth, found = world()
    path = tmp_path / "truth.json.gz"
    path.write_bytes(gzip.compress(json.dumps(truth).encode()))
    assert np.array_equal(evaluate(path, found).stats, evaluate(truth, found).stats)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"a": [1], "b": 2}', r"it is an object with the members a, b, and not a list of detections"),
        (b'{"image_id": 1,\n', "is not a COCO results file|is not valid JSON"),
        (gzip.compress(b"[]" * 1000)[:-12], "is no sound gzip file"),
        (b"\x1f\x8b\x00\x00", "is no sound gzip file"),
    ],
)
def test_what_is_none_of_these(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "found.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=told):
        evaluate(world()[0], path)


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    path = tmp_path / "found.json"
    path.write_bytes(gzip.compress(b" " * (40 << 20)))
    with pytest.raises(DataError, match="uncompressed: unpack it"):
        evaluate(world()[0], path)

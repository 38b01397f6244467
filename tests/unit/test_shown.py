"""Samples beside what the variants made of them: which come first, and what is told of each."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from planted.detector import Detector, DetectorWorld
from qprof.errors import DataError
from qprof.record.manifest import PreparedTask
from qprof.report.page.sections.examples import curves as page_curves
from qprof.report.page.sections.examples import examples
from qprof.store.run import Run
from qprof.tasks.classification import shown as classification
from qprof.tasks.detection import shown as detection
from qprof.tasks.lastword import shown as lastword
from qprof.tasks.shown import PICTURE_PX, changed_first, picture

PLANTED = DetectorWorld.of({"float32": Detector(), "int8": Detector(found=0.6), "twin": Detector()})
WORLD = replace(PLANTED, variants=[replace(each, section={"method": "float32"}) for each in PLANTED.variants])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("shown")
    recorded = WORLD.record(folder / "run")
    for image in (folder / "data").glob("*.png"):  # the world's own are empty: nobody looks at them
        Image.new("RGB", (320, 320), (90, 120, 150)).save(image)
    return recorded


def test_samples_that_changed_most_come_first() -> None:
    merits = {
        "a": {0: 1.0, 1: 1.0, 2: 1.0, 3: 0.0},
        "b": {0: 1.0, 1: 0.0, 2: 0.5, 3: 0.0},
        "c": {0: 1.0, 1: 0.0, 2: 0.0},
    }
    assert changed_first(merits, "a", 4) == [1, 2, 0, 3]
    assert changed_first(merits, "a", 1) == [1]
    assert changed_first({"a": {5: 1.0}}, "a", 3) == [5]


def test_pictures_are_small_and_tiny_ones_exact() -> None:
    large = picture(Image.new("RGB", (1200, 600), (200, 30, 30)))
    assert (large.width_px, large.height_px) == (PICTURE_PX, PICTURE_PX // 2)
    assert large.image.startswith("data:image/jpeg;base64,") and len(large.image) < 20_000
    tiny = picture(Image.new("RGB", (32, 32), (1, 2, 3)))
    kind, _, data = tiny.image.partition(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).getpixel((0, 0)) == (1, 2, 3)


# -- a detector -------------------------------------------------------------------------------------------------------


def test_boxes_are_matched_and_missed_objects_are_told(run: Run) -> None:
    found = list(detection.shown(run, ["float32", "int8"], 5))
    assert len(found) == 5
    for sample in found:
        assert sample.picture is not None
        truths = len(sample.picture.truth)
        for said in sample.said.values():
            right = [box for box in said.boxes if box.matched]
            wrong = [box for box in said.boxes if not box.matched]
            assert len(right) + len(said.missed) == truths
            assert said.outcome.startswith(f"{len(right)} of {truths} found")
            assert said.merit == len(right) - 0.5 * len(wrong)
            assert all(box.score is not None and box.score >= 0.5 for box in said.boxes)
        assert all(0.0 <= box.x <= 1.0 and 0.0 <= box.y <= 1.0 and box.width <= 1.0 for box in sample.picture.truth)
    changes = [abs(sample.said["int8"].merit - sample.said["float32"].merit) for sample in found]
    assert changes == sorted(changes, reverse=True) and changes[0] > 0


def test_ap_falls_with_the_iou_threshold_and_means_what_the_run_recorded(run: Run) -> None:
    by_iou, by_area, recall = detection.curves(run, ["float32", "int8"])
    mine = [point.y for point in by_iou.points if point.variant == "int8"]
    assert len(mine) == 10 and mine == sorted(mine, reverse=True)
    assert sum(mine) / 10 == pytest.approx(run.score("int8", "AP"))
    whole = next(point.y for point in by_area.points if (point.variant, point.x) == ("int8", "all"))
    assert whole == pytest.approx(run.score("int8", "AP"))
    last = next(point.y for point in recall.points if (point.variant, point.x) == ("int8", "all"))
    assert last == pytest.approx(run.score("int8", "AR100"))


def test_the_page_says_which_changed(run: Run) -> None:
    found, why = examples(run)
    assert why == "" and found[0].flipped.keys() == {"int8"}
    assert "found →" in found[0].flipped["int8"]
    assert {curve.name for curve in page_curves(run)} == {"ap-iou", "ap-area", "ar-area"}


def test_lost_images_leave_the_page_with_a_reason(tmp_path: Path) -> None:
    lost = WORLD.record(tmp_path / "run")
    for image in (tmp_path / "data").glob("*.png"):
        image.unlink()
    found, why = examples(lost)
    assert found == [] and "cannot be shown" in why


# -- a classifier and a language model --------------------------------------------------------------------------------


def stored(folder: Path, section: dict[str, Any] | None, **predictions: dict[int, Any]) -> Any:
    """What of a run is asked for."""
    (folder / "predictions").mkdir()
    for name, rows in predictions.items():
        (folder / "predictions" / f"{name}.json").write_text(json.dumps(rows))
    task = None if section is None else PreparedTask(section=section)
    return SimpleNamespace(folder=folder, manifest=SimpleNamespace(task=task))


def answer(rank: int | None, top: list[tuple[int, float]]) -> dict[str, Any]:
    return {"file": "cat/1.png", "label": "cat", "target": 3, "rank": rank, "top": top}


def test_a_classifier_tells_its_top_answers(tmp_path: Path) -> None:
    run = stored(
        tmp_path,
        None,
        a={0: answer(0, [(3, 0.9), (4, 0.1)]), 1: answer(0, [(3, 0.8)])},
        b={0: answer(0, [(3, 0.7)]), 1: answer(2, [(4, 0.5), (5, 0.3), (3, 0.2)])},
    )
    first, second = classification.shown(run, ["a", "b"], 2)
    assert first.said["b"].outcome == "the right class is no. 3" and not first.said["b"].right
    assert first.said["b"].answers == ["output 4 (0.5)", "output 5 (0.3)", "cat (0.2)"]
    assert second.said["a"].right and second.said["b"].right and second.picture is None


def passage(greedy: bool, rank: int | None) -> dict[str, Any]:
    return {"target": " mat", "greedy": greedy, "first_rank": rank, "top5": ["mat", "rug"]}


def test_a_passage_ends_before_the_word_that_is_asked_for(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    rows = ["the dog lay on the mat", "one", f"{'long ' * 200}the cat sat on the mat"]
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    section = {"kind": "lastword", "data": str(texts)}
    run = stored(
        tmp_path,
        section,
        a={0: passage(True, 0), 1: passage(True, 0)},
        b={0: passage(True, 0), 1: passage(False, 6)},
    )
    first, second = lastword.shown(run, ["a", "b"], 2)
    assert first.title == "passage 2" and first.truth == "mat"
    assert first.text is not None and first.text.startswith("… ") and first.text.endswith("the cat sat on the")
    assert first.said["b"].outcome == "its first token is no. 7" and first.said["b"].answers == ["mat", "rug"]
    assert second.text == "the dog lay on the" and second.said["b"].right


def test_texts_that_changed_are_not_shown_as_what_was_asked(tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": "the dog lay on the sofa"}) + "\n")
    run = stored(tmp_path, {"kind": "lastword", "data": str(texts)}, a={0: passage(True, 0)})
    with pytest.raises(DataError, match="texts have changed"):
        list(lastword.shown(run, ["a"], 1))

"""COCO figures of published fixtures, and the counts of single images by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qprof.tasks.base import Scores
from qprof.tasks.detection.dataset import (
    CocoAnnotations,
    CocoBox,
    CocoImage,
    Detection,
    load_annotations,
    load_detections,
)
from qprof.tasks.detection.scoring import METRICS, CoreScorer, DetectionScorer, PycocotoolsScorer

SCORER: DetectionScorer = CoreScorer()


@pytest.fixture(params=[CoreScorer, PycocotoolsScorer], autouse=True)
def scorer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every case is scored by both."""
    monkeypatch.setitem(globals(), "SCORER", request.param())


def annotations(*boxes: CocoBox, images: int = 2, names: tuple[str, ...] = ("cat", "dog")) -> CocoAnnotations:
    return CocoAnnotations(
        Path("gt.json"),
        {n: CocoImage(n, f"{n}.png", 100, 100) for n in range(1, images + 1)},
        list(boxes),
        {n: name for n, name in enumerate(names, start=1)},
    )


def truth(number: int, image: int, box: tuple[float, ...], category: int = 1, crowd: bool = False) -> CocoBox:
    return CocoBox(number, image, category, (box[0], box[1], box[2], box[3]), box[2] * box[3], crowd)


def found(image: int, box: tuple[float, ...], score: float = 0.9, category: int = 1) -> Detection:
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


def score(data: CocoAnnotations, *detections: Detection, ids: tuple[int, ...] = (1, 2)) -> Scores:
    return SCORER.score(data, detections, ids)


BOX = (10.0, 10.0, 40.0, 40.0)


def test_the_fake_boxes_of_pycocotools_give_the_published_figures(qprof_data: Path, capsys: Any) -> None:
    folder = qprof_data / "coco_fake100"
    data = load_annotations(folder / "instances_val2014_100.json")
    detections = load_detections(folder / "instances_val2014_fakebbox100_results.json", data)
    result = SCORER.score(data, detections, list(data.images))
    expected = json.loads((folder / "expected_stats.json").read_text())["bbox"]
    assert [result.summary[name] for name in METRICS] == pytest.approx(expected, abs=1e-12)
    assert capsys.readouterr().out == ""


def test_real_detections_on_coco_images(qprof_data: Path) -> None:
    data = load_annotations(qprof_data / "coco_val_images/test_coco.json")
    detections = load_detections(qprof_data / "coco_val_images/test_coco_det_AP_H_56.json", data)
    result = SCORER.score(data, detections, list(data.images))
    figures = {name: result.summary[name] for name in ("AP", "AP50", "AR100")}
    assert figures == pytest.approx({"AP": 0.7891, "AP50": 0.9824, "AR100": 0.8429}, abs=5e-5)
    assert result.summary["AP/person"] == result.summary["AP"]
    assert sum(result.per_sample["tp50"]) + sum(result.per_sample["fn50"]) == 14


def test_counts_of_each_image_follow_the_order_asked_for() -> None:
    data = annotations(truth(1, 1, BOX), truth(2, 1, (60, 60, 30, 30)), truth(3, 2, BOX, 2))
    detections = (found(1, BOX), found(1, (0, 0, 5, 5), 0.3), found(2, BOX, 0.8, 1), found(2, BOX, 0.7, 2))
    result = score(data, *detections, ids=(2, 1))
    assert result.samples == [2, 1]
    assert {name: list(values) for name, values in result.per_sample.items()} == {
        "tp50": [1, 1],
        "fp50": [1, 1],
        "fn50": [0, 1],
    }


def test_crowds_and_what_matches_them_count_nowhere() -> None:
    data = annotations(truth(1, 1, (0, 0, 100, 100), crowd=True), truth(2, 1, BOX))
    result = score(data, found(1, BOX), found(1, (50, 50, 20, 20), 0.5), found(1, (60, 60, 20, 20), 0.4))
    assert [result.per_sample[name][0] for name in ("tp50", "fp50", "fn50")] == [1, 0, 0]
    assert result.summary["AP"] == pytest.approx(1.0)
    assert score(annotations(truth(1, 1, BOX, crowd=True))).per_sample["fn50"].tolist() == [0, 0]


def test_what_is_undefined_is_none_and_what_was_missed_is_zero() -> None:
    result = score(annotations(truth(1, 1, BOX)))
    assert result.summary["AP"] == 0.0 and result.summary["AR100"] == 0.0
    assert result.summary["APsmall"] is None and result.summary["ARlarge"] is None  # 40 x 40 is medium
    assert result.summary["AP/cat"] == 0.0 and result.summary["AP/dog"] is None
    assert result.summary["n_detections"] == 0 and result.summary["n_images"] == 2
    assert list(result.per_sample["fn50"]) == [1, 0]
    assert result.columns == ("AP", "AP50")


def test_no_ground_truth_at_all_is_undefined_and_said() -> None:
    result = score(annotations(), found(1, BOX))
    assert all(result.summary[name] is None for name in METRICS)
    assert "AP and AR are undefined" in result.notes[0]
    assert list(result.per_sample["fp50"]) == [1, 0]


def test_only_the_images_asked_for_are_scored() -> None:
    data = annotations(truth(1, 1, BOX), truth(2, 2, BOX))
    result = score(data, found(1, BOX), found(2, (0, 0, 5, 5), 0.99), ids=(1,))
    assert result.summary["AP"] == pytest.approx(1.0)
    assert result.summary["n_detections"] == 1 and len(result.per_sample["tp50"]) == 1


def test_categories_without_labels_are_not_errors_but_said() -> None:
    data = annotations(truth(1, 1, BOX))
    result = score(data, found(1, BOX), found(1, BOX, 0.99, 77))
    assert result.summary["AP"] == pytest.approx(1.0) and result.summary["n_detections"] == 1
    assert "1 of 2 detections are of categories" in result.notes[0]
    assert "check categories.rule" in score(data, found(1, BOX, 0.99, 77)).notes[0]


def test_an_annotation_of_id_zero_can_be_found_and_is_remarked() -> None:
    result = score(annotations(truth(0, 1, BOX), truth(1, 2, BOX)), found(1, BOX), found(2, BOX))
    assert result.summary["AP"] == pytest.approx(1.0)
    assert list(result.per_sample["tp50"]) == [1, 1]
    assert "id 0" in result.notes[0]


def test_categories_of_one_name_are_told_apart() -> None:
    data = annotations(truth(1, 1, BOX), truth(2, 1, BOX, 2), names=("cat", "cat"))
    result = score(data, found(1, BOX))
    assert result.summary["AP/cat (1)"] == pytest.approx(1.0) and result.summary["AP/cat (2)"] == 0.0


def test_inputs_are_left_as_they_were() -> None:
    data, detection = annotations(truth(1, 1, BOX)), found(1, BOX)
    score(data, detection)
    assert detection == found(1, BOX) and data == annotations(truth(1, 1, BOX))


def test_both_scorers_say_the_same() -> None:
    rng = np.random.default_rng(5)

    def box() -> tuple[float, ...]:
        return tuple(rng.integers(0, 8, 2) * 5.0) + tuple(rng.choice([20.0, 40.0, 110.0], 2))

    boxes = [
        truth(n, int(rng.integers(1, 9)), box(), int(rng.integers(1, 3)), crowd=bool(rng.random() < 0.1))
        for n in range(60)
    ]
    data = annotations(*boxes, images=9)
    detections = [
        found(int(rng.integers(1, 10)), box(), float(rng.integers(1, 6)) / 6, int(rng.integers(1, 4)))
        for _ in range(300)
    ]
    ids = [9, 2, 5, 7, 1, 3]
    core, reference = (s.score(data, detections, ids) for s in (CoreScorer(), PycocotoolsScorer()))
    assert core.summary == reference.summary
    assert core.summary["AP"] is not None and 0 < core.summary["AP"] < 1
    for name, counts in reference.per_sample.items():
        assert counts.sum() > 0
        assert core.per_sample[name].tolist() == counts.tolist()
    assert core.notes == reference.notes and core.samples == reference.samples


def test_the_core_scores_where_it_is_built_and_pycocotools_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from qprof.tasks.detection import scoring

    assert isinstance(scoring.default_scorer(), CoreScorer)
    monkeypatch.setattr(scoring.importlib.util, "find_spec", lambda name: None)
    assert isinstance(scoring.default_scorer(), PycocotoolsScorer)

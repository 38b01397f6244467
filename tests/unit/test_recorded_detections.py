"""Recorded predictions evaluated again: the figures of the run, their differences by image, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planted.detector import Detector, DetectorWorld, called
from qprof.errors import DataError
from qprof.findings.effects import score_difference
from qprof.record.manifest import PreparedTask
from qprof.stats.verdict import Unbounded, judge
from qprof.store.run import Run
from qprof.tasks.coco import intervals as coco_intervals
from qprof.tasks.detection.recorded import image_evidence, recorded_detections

PLANTED = DetectorWorld.of(
    {"float32": Detector(), "int8": Detector(found=0.75), "twin": Detector(), "odd": Detector(relabel=called(2, 5))}
)
WORLD = replace(PLANTED, variants=[replace(each, section={"method": "float32"}) for each in PLANTED.variants])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return WORLD.record(tmp_path / "run")


def test_figures_are_those_that_were_recorded(run: Run) -> None:
    recorded = recorded_detections(run)
    for name in ("float32", "int8", "odd"):
        for metric in ("AP", "AP50", "AR100"):
            assert recorded.of(name).figure(metric) == pytest.approx(run.score(name, metric), abs=1e-12)


def test_difference_is_that_of_the_paired_bootstrap(run: Run) -> None:
    recorded = recorded_detections(run)
    wanted = coco_intervals.paired_bootstrap(recorded.of("float32").result, recorded.of("int8").result)["AP"]
    found = score_difference(run, "float32", "int8", "AP")
    assert wanted is not None and found is not None
    interval = found.interval()
    assert interval.low is not None and interval.high is not None
    assert interval.value == pytest.approx(wanted.difference.value, abs=1e-12)
    # The same resamples, whose percentiles are taken a little further out for 60 images in both.
    assert interval.low == pytest.approx(wanted.difference.low, abs=1e-9)
    assert interval.high == pytest.approx(wanted.difference.high, abs=1e-9)
    assert judge(found, lower_is_better=False).kind == "worse"


def test_difference_of_one_class_stays_in_that_class(run: Run) -> None:
    recorded = recorded_detections(run)
    a, b = recorded.of("float32"), recorded.of("odd")
    changed = {k for k in range(8) if (found := a.to(b, "AP", k)) is not None and found.value != 0.0}
    assert changed == {1, 4}  # classes 2 and 5


def test_equal_predictions_differ_by_nothing(run: Run) -> None:
    found = score_difference(run, "float32", "twin", "AP")
    assert found is not None
    assert found.interval().low == found.interval().high == 0.0
    assert judge(found, 0.005, lower_is_better=False).kind == "equivalent"


def test_each_variant_is_evaluated_once(run: Run) -> None:
    assert recorded_detections(run).of("int8") is recorded_detections(run).of("int8")
    assert recorded_detections(Run(run.folder)) is not recorded_detections(run)


@pytest.mark.parametrize("lost", ["annotations.json", "images"])
def test_lost_ground_truth_leaves_the_value_and_says_why(run: Run, lost: str) -> None:
    data = run.folder.parent / "data"
    for path in [data / lost] if lost != "images" else list(data.glob("*.png")):
        path.unlink()
    found = score_difference(run, "float32", "int8", "AP")
    assert isinstance(found, Unbounded)
    assert found.value == pytest.approx(run.score("int8", "AP") - run.score("float32", "AP"))  # type: ignore[operator]
    assert found.interval().low is None and "annotations.json" in (found.interval().reason or "")
    assert judge(found, 0.01).kind == "inconclusive"


def test_changed_ground_truth_is_refused(run: Run) -> None:
    annotations = run.folder.parent / "data" / "annotations.json"
    content = json.loads(annotations.read_text())
    content["annotations"] = content["annotations"][:-40]
    annotations.write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotations have changed"):
        recorded_detections(run).of("int8")


def test_lost_predictions_and_other_tasks_are_refused(run: Run) -> None:
    (run.folder / "predictions" / "int8.json").unlink()
    with pytest.raises(DataError, match="no predictions of int8"):
        recorded_detections(run).of("int8")
    other = Run(run.folder)
    other.manifest.task = PreparedTask(section={"kind": "latency"})
    with pytest.raises(DataError, match="not detection"):
        recorded_detections(other).of("float32")


def test_evidence_needs_images_in_which_the_figure_is_defined() -> None:
    drawn = np.random.default_rng(0).normal(0.1, 0.01, 1000)
    assert image_evidence(0.2, drawn, 4).interval().reason is not None
    assert image_evidence(0.2, np.where(np.arange(1000) < 60, np.nan, drawn), 50).interval().low is None
    shifted = image_evidence(0.2, np.where(np.arange(1000) < 40, np.nan, drawn), 50).interval()
    assert shifted.low is not None and shifted.high is not None and shifted.low < 0.2 < shifted.high

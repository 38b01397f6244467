"""Which labels count as wrong, what correcting them must bring back, and losses that are not of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planted.detector import Detector, DetectorWorld, Relabel, called, exchanged, truth
from qprof.findings.causes.base import Finding
from qprof.findings.causes.mislabelled_class import CAUSE
from qprof.findings.comparison import Comparison
from qprof.findings.judgement import findings
from qprof.findings.verify import Claim
from qprof.tasks.detection.recorded import recorded_detections


def found(folder: Path, detector: Detector) -> list[Finding]:
    run = DetectorWorld.of({"float32": Detector(), "int8": detector}).record(folder / "run")
    comparison = Comparison(run, "float32", "int8", run.phase())
    return findings([Claim(comparison, one) for one in CAUSE.hypotheses(comparison)], {})


def shifted(labels: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Off by one: every class is called the next, the last one something that is not labelled at all."""
    return labels + 1


def scattered(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One class is called several others, each more often than itself, and none most of the time."""
    return np.where(labels == 2, rng.choice([2, 5, 7, 8], len(labels), p=[0.1, 0.4, 0.25, 0.25]), labels)


@pytest.mark.parametrize("relabel", [exchanged(2, 5), shifted])
def test_labels_that_are_exchanged_or_shifted_come_back(tmp_path: Path, relabel: Relabel) -> None:
    (finding,) = found(tmp_path, Detector(relabel=relabel))
    assert finding.status == "consistent"
    assert finding.measured is not None and finding.hypothesis.effect is not None
    if relabel is shifted:
        return  # the boxes of the last class are nowhere
    # All of what was lost was lost by the labels, and all of it comes back.
    assert finding.measured.value == pytest.approx(-finding.hypothesis.effect.value)
    assert "'class-2' are called 'class-5'" in finding.hypothesis.claim


def test_counts_foretell_how_much_of_it_comes_back(tmp_path: Path) -> None:
    """Where fewer objects are found at all, the labels bring back that many, not everything."""
    (finding,) = found(tmp_path, Detector(relabel=exchanged(2, 5), found=0.75))
    assert finding.status == "consistent" and finding.hypothesis.intervention is not None
    prediction = finding.hypothesis.intervention.prediction
    assert finding.hypothesis.effect is not None
    assert (prediction.low + prediction.high) / 2 < 0.95 * -finding.hypothesis.effect.value


def test_objects_in_the_wrong_place_refute(tmp_path: Path) -> None:
    """The labels are exchanged, but that is not why AP is low: the boxes of those classes are poor as well."""

    class Poor(Detector):
        def boxes(self, content):  # type: ignore[no-untyped-def]
            made = Detector(relabel=exchanged(2, 5)).boxes(content)
            for one in made:
                if one["category_id"] in (2, 5) and one["score"] > 0.3:
                    x, y, width, height = one["bbox"]
                    one["bbox"] = [x, y, 1.6 * width, height]
            return made

    (finding,) = found(tmp_path, Poor())
    assert finding.status == "refuted"


def test_a_label_that_stands_for_two_classes_cannot_be_corrected(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, Detector(relabel=called(2, 5)))
    assert finding.status == "hypothesis" and "a label stands for its own class" in finding.because


@pytest.mark.parametrize(
    "detector",
    [
        Detector(),
        Detector(seed=7),
        Detector(found=0.6),
        Detector(jitter=0.15),
        Detector(relabel=called(2, 5, share=0.3)),
        Detector(relabel=scattered),
    ],
    ids=["equal", "scatter", "missed", "moved", "hard to tell", "scattered"],
)
def test_losses_that_are_not_of_labels(tmp_path: Path, detector: Detector) -> None:
    assert found(tmp_path, detector) == []


def test_a_small_part_of_the_loss_is_not_claimed(tmp_path: Path) -> None:
    assert found(tmp_path, Detector(relabel=exchanged(2, 5), found=0.2, jitter=0.1)) == []


def test_labels_that_the_baseline_has_wrong_too_are_no_difference(tmp_path: Path) -> None:
    detectors = {"float32": Detector(relabel=called(2, 5, share=0.6)), "int8": Detector(relabel=called(2, 5))}
    run = DetectorWorld.of(detectors).record(tmp_path / "run")
    recorded = recorded_detections(run)
    change = recorded.of("float32").to(recorded.of("int8"), "AP")
    assert change is not None and change.value < 0.0
    assert list(CAUSE.hypotheses(Comparison(run, "float32", "int8", run.phase()))) == []


def test_nothing_is_said_where_the_ground_truth_is_gone(tmp_path: Path) -> None:
    run = DetectorWorld.of({"float32": Detector(), "int8": Detector(relabel=exchanged(2, 5))}).record(tmp_path / "run")
    (tmp_path / "data" / "annotations.json").unlink()
    assert list(CAUSE.hypotheses(Comparison(run, "float32", "int8", run.phase()))) == []


def test_recorded_labels_are_left_as_they_are(tmp_path: Path) -> None:
    run = DetectorWorld.of({"float32": Detector(), "int8": Detector(relabel=exchanged(2, 5))}).record(tmp_path / "run")
    list(CAUSE.hypotheses(Comparison(run, "float32", "int8", run.phase())))
    labels = recorded_detections(run).of("int8").result.detections.category_id
    assert labels.tolist() == [one["category_id"] for one in Detector(relabel=exchanged(2, 5)).boxes(truth())]

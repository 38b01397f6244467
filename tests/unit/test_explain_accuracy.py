"""Where accuracy went: classes, sizes, kinds of error, and samples that flipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from planted.detector import Detector, DetectorWorld, exchanged
from planted.world import PlantedOp, PlantedVariant, World
from qprof.findings.accuracy import accuracy_change
from qprof.stats.paired_outcomes import PairedOutcomes


def test_classes_that_lost_come_first_and_the_errors_say_how(tmp_path: Path) -> None:
    run = DetectorWorld.of({"float32": Detector(), "int8": Detector(relabel=exchanged(2, 5))}).record(tmp_path / "run")
    change = accuracy_change(run, "float32", "int8")
    assert {part.label for part in change.classes[:2]} == {"class-2", "class-5"}
    assert len(change.classes) == 8 and sum(part.truths for part in change.classes) == 360
    worst = change.classes[0]
    assert worst.change is not None and worst.change.high is not None and worst.change.high < 0.0
    assert worst.a is not None and worst.b is not None and worst.change.value == pytest.approx(worst.b - worst.a)
    errors = {error.kind: error for error in change.errors}
    assert errors["class"].b - errors["class"].a > 60
    assert errors["class"].b_gain is not None and errors["class"].b_gain > 0.15
    assert errors["missed"].a == errors["missed"].b
    assert change.figures["AP"].value == pytest.approx(run.score("int8", "AP") - run.score("float32", "AP"))  # type: ignore[operator]
    assert change.reasons == {}


def test_sizes_have_their_own_figures(tmp_path: Path) -> None:
    run = DetectorWorld.of({"float32": Detector(), "int8": Detector(found=0.6)}).record(tmp_path / "run")
    sizes = {part.label: part for part in accuracy_change(run, "float32", "int8").sizes}
    assert set(sizes) == {"small", "medium", "large"}
    assert sizes["medium"].a == pytest.approx(run.score("float32", "APmedium"))
    assert sizes["large"].truths == 0 and sizes["large"].change is None


def test_lost_ground_truth_is_a_reason(tmp_path: Path) -> None:
    run = DetectorWorld.of({"float32": Detector(), "int8": Detector(found=0.6)}).record(tmp_path / "run")
    (tmp_path / "data" / "annotations.json").unlink()
    change = accuracy_change(run, "float32", "int8")
    assert change.classes == [] and "annotations.json" in change.reasons["classes, sizes and errors"]
    assert change.figures["AP"].low is None


@pytest.mark.parametrize("metric", ["correct", "tp50"])
def test_flips_name_the_samples_and_test_their_counts(tmp_path: Path, metric: str) -> None:
    ops, section = [PlantedOp("linear", "LINEAR", 100.0)], {"method": "float32"}
    factor = 1.0 if metric == "correct" else 3.0
    first = PlantedVariant("a", ops, section=section, sample_scores={metric: [factor, factor, 0.0, factor, 0.0] * 4})
    second = PlantedVariant("b", ops, section=section, sample_scores={metric: [factor, 0.0, factor, 0.0, 0.0] * 4})
    flips = accuracy_change(World([first, second], rounds=5).record(tmp_path / "run"), "a", "b").flips
    assert flips is not None and flips.samples == 20
    assert flips.a_only == (1, 3, 6, 8, 11, 13, 16, 18) and flips.b_only == (2, 7, 12, 17)
    assert flips.p_value == PairedOutcomes(20, 8, 4).mcnemar_p


def test_a_run_without_labels_has_nothing(tmp_path: Path) -> None:
    ops = [PlantedOp("conv", "CONV_2D", 100.0)]
    variants = [PlantedVariant(name, ops, section={"method": "float32"}) for name in ("a", "b")]
    change = accuracy_change(World(variants, rounds=5).record(tmp_path / "run"), "a", "b")
    assert change.flips is None and change.figures == {} and change.classes == []

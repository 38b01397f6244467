"""A baseline that is broken itself: every fault is planted into a real detector's task, and found by what mends it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import tflite_builder
from qprof import embedded
from qprof.errors import DataError
from qprof.findings.plausibility import LEAST_GAIN, Mend, mends_of, plausibility
from qprof.measure.requests import LoadedVariant, PlausibilityAnswer, TryAlternatives
from qprof.measure.worker.plausibility import try_alternatives
from qprof.record.manifest import Manifest, PlausibilityFacts, PreparedTask, RecordedProfile, VariantEntry
from qprof.record.ops import SOURCES
from qprof.record.rows import PlausibilityRow
from qprof.report.plausibility import plausibility_lines
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.stats.intervals import Interval
from qprof.store.manifests import write_manifest
from qprof.store.run import Run
from qprof.store.writer import write_run_tables
from qprof.tasks.detection.dataset import CocoAnnotations, Detection, load_annotations
from qprof.tasks.detection.scenes import CLASSES, write_split
from qprof.tasks.detection.trials import ClassNames, f1_parts

SCENES = 24
IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
SOUND = "task.preprocess.mean = 127.5, task.preprocess.std = 127.5"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded detector's scenes, none of them seen in training."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_split(folder, "val", SCENES)
    return folder


def tried(scenes: Path, annotations: str = "annotations.json", **changes: Mapping[str, Any]) -> PlausibilityAnswer:
    """The embedded detector under a task with some of its settings wrong."""
    section: dict[str, Any] = {
        "kind": "detection",
        "annotations": str(scenes / annotations),
        "images": str(scenes / "images"),
        "head": {"kind": "centernet"},
    }
    for key, values in changes.items():
        section[key] = {**section.get(key, {}), **values}
    return asked(PreparedTask(section=section), embedded.path("shapes_detector.tflite"))


def asked(task: PreparedTask, path: Path, samples: int = SCENES, max_s: float = 600.0) -> PlausibilityAnswer:
    variant = LoadedVariant(runtime="litert", path=str(path), options={})
    return try_alternatives(TryAlternatives(name="float32", baseline=variant, task=task, samples=samples, max_s=max_s))


def run_with(folder: Path, rows: Sequence[PlausibilityRow], facts: PlausibilityFacts | None) -> Run:
    """A finished run that has nothing but this."""
    entry = VariantEntry(name="float32", plausibility=facts)
    manifest = Manifest(status="complete", created="", profile=RecordedProfile(name="x"), variants=[entry])
    folder.mkdir(exist_ok=True)
    write_manifest(folder, manifest)
    write_run_tables(folder, [], {}, [], [], SOURCES, rows)
    return Run(folder)


def mends(folder: Path, answer: PlausibilityAnswer) -> list[Mend]:
    return plausibility(run_with(folder, msgspec.convert(answer.rows, list[PlausibilityRow]), answer.facts))


def settings(answer: PlausibilityAnswer) -> list[str]:
    return list(dict.fromkeys(row["setting"] for row in answer.rows))


def relabelled(scenes: Path, name: str, new: Sequence[int]) -> str:
    """Annotations in which the n-th class is called the `new[n]`-th."""
    content = json.loads((scenes / "annotations.json").read_text())
    ids = sorted(category["id"] for category in content["categories"])
    for one in content["annotations"]:
        one["category_id"] = ids[new[ids.index(one["category_id"])]]
    (scenes / name).write_text(json.dumps(content))
    return name


def test_a_sound_baseline_gives_nothing(scenes: Path, tmp_path: Path) -> None:
    answer = tried(scenes)
    assert mends(tmp_path, answer) == []
    assert answer.facts is not None and answer.facts.unit == "share" and answer.facts.seconds > 0
    known = settings(answer)
    assert known[0] == "" and len(known) > 8
    assert {row["sample"] for row in answer.rows} == set(range(SCENES))
    # The images are as square as the input: how they would be resized changes nothing, and was not tried.
    assert not [setting for setting in known if "resize" in setting]


FAULTS: dict[str, tuple[dict[str, dict[str, Any]], str, float]] = {
    "pixels 0..255": ({"preprocess": {"mean": 0.0, "std": 1.0}}, SOUND, 0.4),
    "raw pixels": ({"preprocess": {"raw_pixels": True}}, f"{SOUND}, task.preprocess.raw_pixels = false", 0.4),
    "pairs swapped": ({"head": {"pair_order": "yx"}}, 'task.head.pair_order = "xy"', 0.15),
    "sizes swapped": ({"head": {"size_order": "yx"}}, 'task.head.size_order = "xy"', 0.05),
    "sizes in pixels": ({"head": {"size_units": "pixels"}}, 'task.head.size_units = "cells"', 0.5),
    "score threshold": ({"head": {"score_threshold": 0.8}}, "task.head.score_threshold = 0.001", 0.2),
    "one detection": ({"head": {"max_detections": 1}}, "task.head.max_detections = 100", 0.3),
    "classes from 1": (
        {"categories": {"rule": "list", "ids": [2, 3, 4, 5, 6, 1]}},
        'task.categories.rule = "order"',
        0.5,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_by_what_mends_it(scenes: Path, tmp_path: Path, fault: str) -> None:
    changes, setting, least = FAULTS[fault]
    best, *others = mends(tmp_path, tried(scenes, **changes))
    assert best.setting == setting
    assert best.gain.value == pytest.approx(best.changed - best.configured) and best.gain.value > least
    assert best.gain.low is not None and best.gain.low > LEAST_GAIN["share"]
    assert best.samples == SCENES and all(other.gain.value <= best.gain.value for other in others)


@pytest.mark.parametrize("shift", [1, -1, 2])
def test_labels_off_by_some_in_the_annotations_are_found(scenes: Path, tmp_path: Path, shift: int) -> None:
    new = [(n + shift) % len(CLASSES) for n in range(len(CLASSES))]
    best, *_ = mends(tmp_path, tried(scenes, relabelled(scenes, f"shift{shift}.json", new)))
    ids = [n + 1 for n in new]
    assert best.setting == f'task.categories.rule = "list", task.categories.ids = {ids}'
    assert best.gain.value > 0.5
    words = {1: "every class is the one behind it", -1: "every class is the one before it"}
    assert best.says == words.get(shift, "every class is the one behind it, by two")


def test_classes_that_are_mixed_up_are_named_by_what_they_lie_on(scenes: Path, tmp_path: Path) -> None:
    new = [1, 0, 2, 4, 5, 3]
    best, *_ = mends(tmp_path, tried(scenes, relabelled(scenes, "mixed.json", new)))
    assert best.setting == f'task.categories.rule = "list", task.categories.ids = {[n + 1 for n in new]}'
    assert best.gain.value > 0.4
    assert "found on" in best.says


def test_one_setting_is_named_once() -> None:
    rows = [*rows_of("", [0.1] * 9), *rows_of("a", [0.6] * 9), *rows_of("b", [0.55] * 9)]
    rows += [replace(row, says="by another way") for row in rows_of("a", [0.5] * 9)]
    assert [(found.setting, found.says) for found in mends_of(rows, SHARE)] == [("a", "a!"), ("b", "b!")]


def boxes(sample: int, *found: tuple[int, float, float]) -> list[Detection]:
    """(category, x, score) each, 10 pixels wide and high."""
    return [
        {"image_id": sample + 1, "category_id": category, "bbox": [x, 0.0, 10.0, 10.0], "score": score}
        for category, x, score in found
    ]


def truth(folder: Path, objects: Mapping[int, Sequence[tuple[int, float]]]) -> CocoAnnotations:
    """Sample -> (category, x) of its objects; categories 1 and 2."""
    listed = [
        {"image_id": sample + 1, "category_id": category, "bbox": [x, 0, 10, 10], "area": 100, "iscrowd": 0}
        for sample, found in objects.items()
        for category, x in found
    ]
    content = {
        "images": [{"id": n + 1, "file_name": f"{n}.png", "width": 99, "height": 10} for n in objects],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "hat"}],
        "annotations": [{"id": n, **one} for n, one in enumerate(listed, 1)],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    return load_annotations(folder / "truth.json")


def test_the_score_is_f1_at_its_best_threshold(tmp_path: Path) -> None:
    annotations = truth(tmp_path, {0: [(1, 0.0), (2, 50.0)], 1: [(1, 0.0)]})
    predictions = {
        # Right, false, right, and a false one below what is best: 2 TP of 3.
        0: boxes(0, (1, 0.0, 0.9), (1, 50.0, 0.8), (2, 50.0, 0.7), (2, 80.0, 0.1)),
        1: boxes(1, (1, 2.0, 0.75)),  # IoU 2/3: right at four of ten thresholds
    }
    parts = f1_parts(annotations, predictions, {0: 1, 1: 2})
    assert parts.samples == [0, 1]
    assert parts.part.tolist() == pytest.approx([4.0, 0.8])
    assert parts.whole.tolist() == [5.0, 2.0]
    assert f1_parts(annotations, {0: [], 1: []}, {0: 1, 1: 2}).part.tolist() == [0.0, 0.0]


def test_each_half_is_named_by_the_other(tmp_path: Path) -> None:
    """The first class lies on hats in one half of the samples and on cups in the other."""
    places = [0.0, 20.0, 40.0, 60.0]
    annotations = truth(tmp_path, {0: [(2, x) for x in places], 1: [(1, x) for x in places[:3]]})
    predictions = {sample: boxes(sample, *((0, x, 0.9) for x in places)) for sample in (0, 1)}
    fitted = ClassNames(annotations, {0: 1, 1: 2}, [1, 2])(predictions)
    assert fitted is not None and fitted.setting.endswith("ids = [2, 1]")
    assert {one["category_id"] for one in fitted.predictions[0]} == {1}
    assert {one["category_id"] for one in fitted.predictions[1]} == {2}
    assert ClassNames(annotations, {0: 1, 1: 2}, [2, 1])(predictions) is None


def test_the_same_numbers_are_not_run_again(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours and three ranges of pixels are other inputs; other ways to resize, labels and boxes are not."""
    runs = []
    invoke = LiteRTModel.invoke
    monkeypatch.setattr(LiteRTModel, "invoke", lambda self: (runs.append(self), invoke(self))[1])
    tried(scenes)
    assert len(runs) == SCENES * (1 + 1 + 3)


def test_names_are_not_fitted_to_the_boxes_that_they_are_judged_by(scenes: Path, tmp_path: Path) -> None:
    """Labels without any order: a renaming fits some of them by chance, and must not gain by it."""
    content = json.loads((scenes / "annotations.json").read_text())
    rng = np.random.default_rng(3)
    for one in content["annotations"]:
        one["category_id"] = int(rng.integers(1, len(CLASSES) + 1))
    (scenes / "noise.json").write_text(json.dumps(content))
    assert mends(tmp_path, tried(scenes, "noise.json")) == []


def test_a_small_fault_is_no_broken_baseline(scenes: Path, tmp_path: Path) -> None:
    """Swapped colours cost this detector a point: less than the two that must be gained for certain."""
    answer = tried(scenes, preprocess={"color": "bgr"})
    assert 'task.preprocess.color = "rgb"' in settings(answer)
    assert mends(tmp_path, answer) == []


def test_what_a_variant_cannot_be_run_with_is_not_tried(scenes: Path) -> None:
    """The rules of COCO have other numbers of classes than the detector."""
    assert not [setting for setting in settings(tried(scenes)) if "coco" in setting]


def test_time_that_is_up_leaves_settings_out_and_says_so(scenes: Path) -> None:
    section = {
        "kind": "detection",
        "annotations": str(scenes / "annotations.json"),
        "images": str(scenes / "images"),
        "head": {"kind": "centernet"},
    }
    answer = asked(PreparedTask(section=section), embedded.path("shapes_detector.tflite"), max_s=0.0)
    assert "" in settings(answer) and not [one for one in settings(answer) if "preprocess" in one]
    assert any("were not tried on the baseline, for want of time" in note for note in answer.notes)
    assert len({row["sample"] for row in answer.rows}) == 8  # a first part, spread alike


def test_a_task_without_labels_has_nothing_to_try(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(tflite_builder.tiny_conv_net(size=32, channels=8))
    answer = asked(PreparedTask(section={"kind": "latency"}), tmp_path / "a.tflite")
    assert (answer.rows, answer.facts) == ([], None)


# -- the decision -------------------------------------------------------------------------------------------------


SHARE = PlausibilityFacts(score="F1", unit="share", seconds=1.0)
NATS = PlausibilityFacts(score="log-likelihood", unit="nats", seconds=1.0)


def rows_of(setting: str, parts: Sequence[float], whole: float = 1.0) -> Iterator[PlausibilityRow]:
    for sample, part in enumerate(parts):
        yield PlausibilityRow("float32", setting, f"{setting}!", sample, float(part), whole)


def judged(facts: PlausibilityFacts, configured: Any, **changed: Any) -> list[Mend]:
    rows = [*rows_of("", configured), *(row for name, parts in changed.items() for row in rows_of(name, parts))]
    return mends_of(rows, facts)


def test_a_gain_must_be_larger_than_the_least_for_certain() -> None:
    rng = np.random.default_rng(0)
    before = rng.uniform(0.3, 0.5, 50)
    noise = rng.normal(0.0, 0.02, 50)
    (found,) = judged(SHARE, before, large=before + 0.1 + noise, small=before + 0.015 + noise)
    assert (found.setting, found.says, found.tried, found.samples) == ("large", "large!", 2, 50)
    assert found.configured == pytest.approx(before.mean())
    assert found.gain.value == pytest.approx(0.1 + noise.mean())
    assert found.gain.low is not None and found.gain.high is not None
    assert 0.08 < found.gain.low < found.gain.value < found.gain.high < 0.12


def test_a_large_gain_of_few_samples_is_not_sure() -> None:
    before, after = np.zeros(50), np.zeros(50)
    after[:3] = 1.0  # six points, and all of them from three samples
    assert judged(SHARE, before, change=after) == []


def test_four_samples_decide_nothing() -> None:
    assert judged(SHARE, [0.0] * 4, change=[1.0] * 4) == []
    assert len(judged(SHARE, [0.0] * 5, change=[1.0] * 5)) == 1


def test_what_is_tried_more_often_must_be_surer() -> None:
    rng = np.random.default_rng(4)
    before = rng.uniform(0.3, 0.5, 30)
    after = before + rng.normal(0.08, 0.15, 30)
    (alone,) = judged(SHARE, before, change=after)
    many = {f"other{n}": before - 0.1 for n in range(30)}
    assert 0.001 < alone.p_value < 0.05
    assert judged(SHARE, before, change=after, **many) == []


def test_false_alarms_at_the_least_gain_are_rare() -> None:
    """20 settings that gain exactly the least: no more than one run in twenty may name any of them."""
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(100):
        before = rng.uniform(0.2, 0.8, 50)
        others = {f"s{n}": before + LEAST_GAIN["share"] + rng.normal(0.0, 0.1, 50) for n in range(20)}
        alarms += bool(judged(SHARE, before, **others))
    assert alarms <= 11  # of a binomial with 5 %, 99.5 % lie there


def test_only_samples_that_both_have_are_compared() -> None:
    rng = np.random.default_rng(6)
    before = rng.uniform(0.3, 0.5, 50)
    rows = [*rows_of("", before), *rows_of("change", before[:20] + 0.2)]
    (found,) = mends_of(rows, SHARE)
    assert found.samples == 20
    assert (found.configured, found.gain.value) == pytest.approx((before[:20].mean(), 0.2))


def test_a_score_is_the_ratio_of_the_sums() -> None:
    rows = [*rows_of("", [1.0] * 10, whole=4.0), *rows_of("change", [3.0] * 10, whole=6.0)]
    (found,) = mends_of(rows, SHARE)
    assert (found.configured, found.changed) == (0.25, 0.5)


def test_a_log_likelihood_is_told_as_perplexity() -> None:
    rng = np.random.default_rng(7)
    before = rng.normal(-4.0, 1.0, 50)
    (found,) = judged(NATS, before, bos=before + np.log(2.0), little=before + 0.05)
    lines = list(plausibility_lines("bfloat16", [found]))
    assert f"{np.exp(-found.configured):.4g} -> {np.exp(-found.changed):.4g}, -50.0 % [95 %: -50.0, -50.0]" in lines[2]


def test_a_run_without_the_check_says_nothing(tmp_path: Path) -> None:
    assert plausibility(run_with(tmp_path, [], None)) == []
    assert plausibility(run_with(tmp_path, [], SHARE)) == []


def test_the_first_line_says_that_it_is_broken_and_the_others_what_mends_it() -> None:
    gain = Interval(0.5, 0.4, 0.6, 0.95)
    best = Mend("task.a = 1", "a is one", "F1", "share", 0.1, 0.6, gain, 0.02, 1e-9, 14, 50)
    also = replace(best, setting="task.b = 2", gain=Interval(0.3, 0.2, 0.4, 0.95))
    lines = list(plausibility_lines("float32", [best, also]))
    assert lines[0].startswith("THE BASELINE IS BROKEN: float32")
    assert lines[1] == "  what mends it: task.a = 1 (a is one)"
    assert "50 samples: F1 0.100 -> 0.600, +50.0 points [95 %: +40.0, +60.0]; p < 0.0001" in lines[2]
    assert "task.b = 2" in lines[3] and "+30.0 points" in lines[3]
    assert "nothing is recommended" in lines[4]
    assert list(plausibility_lines("float32", [])) == []


def test_a_baseline_that_cannot_be_run_as_configured_is_an_error(scenes: Path) -> None:
    with pytest.raises(DataError):
        tried(scenes, categories={"rule": "list", "ids": [1, 2]})

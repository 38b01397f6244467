"""Every head on real .tflite files of detectors that are always right: float, quantized, and with settings wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import detection_models as models
from qprof.errors import DataError, ProfileError
from qprof.findings.plausibility import Mend, mends_of
from qprof.measure.requests import LoadedVariant, PlausibilityAnswer, TryAlternatives
from qprof.measure.worker.plausibility import try_alternatives
from qprof.record.manifest import PreparedTask
from qprof.record.rows import PlausibilityRow
from qprof.record.tensors import TensorSpec
from qprof.runtimes import registry as runtimes
from qprof.tasks import registry
from qprof.tasks.detection.choose import build_head, choose_kind
from qprof.tasks.detection.heads import Binding, HeadConfig

pytest.importorskip("tensorflow")

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The .tflite file of outputs, each made once."""
    folder = tmp_path_factory.mktemp("models")

    def made(name: str, outputs: Mapping[str, Any], **options: Any) -> Path:
        path = folder / f"{name} {options}.tflite"
        if not path.exists():
            path.write_bytes(models.tflite(outputs, **options))
        return path

    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_world(tmp_path_factory.mktemp("world"))


def section(annotations: Path, head: Mapping[str, Any], **changes: Any) -> PreparedTask:
    images = str(annotations.parent / "images")
    return PreparedTask(
        section={"kind": "detection", "annotations": str(annotations), "images": images, "head": dict(head), **changes}
    )


def scored(path: Path, annotations: Path, head: Mapping[str, Any]) -> tuple[float, list[str]]:
    """AP of a model and the task's notes, through the runtime as a run uses it."""
    runtime = runtimes.get("litert")
    model = runtime.load(path, msgspec.convert({}, runtime.options_type))
    task = registry.build(section(annotations, head))
    task.bind(model)
    found = {}
    for sample in range(task.sample_count()):
        model.set_inputs(task.inputs(sample))
        model.invoke()
        found[sample] = task.decode(sample, model.outputs())
    scores = task.score(found)
    assert scores is not None and scores.summary["AP"] is not None
    return scores.summary["AP"], task.notes()


@pytest.mark.parametrize("form", models.FORMS)
def test_a_detector_that_is_always_right_scores_one(make: Make, world: Path, form: str) -> None:
    ap, notes = scored(make(form, models.FORMS[form]), world, {})
    assert ap == pytest.approx(1.0), notes
    kind = form.split(",")[0]
    assert any(f"'auto' chose {kind!r}" in note for note in notes), notes
    assert not any("look normalized" in note or "look like pixels" in note for note in notes)


#: What eight bits do: boxes that share a scale with scores are rounded to steps of their own range.
EIGHT_BITS = {
    "yolov5, normalized": (0.8, 1.0),
    "yolov8, normalized": (0.8, 1.0),
    "yolo-end2end, normalized": (0.5, 1.0),  # the class numbers are on the scale, too
    "detr, softmax": (0.8, 1.0),
    "detr, sigmoid": (0.8, 1.0),
    "efficientdet, maps": (0.6, 1.0),
}


@pytest.mark.parametrize("form", EIGHT_BITS)
def test_quantized_outputs_are_read_by_their_scale(make: Make, world: Path, form: str) -> None:
    ap, notes = scored(make(form, models.FORMS[form], int8=True), world, {})
    low, high = EIGHT_BITS[form]
    assert low <= ap <= high, notes


def test_eight_bits_leave_nothing_of_scores_that_share_a_scale_with_pixels(make: Make, tmp_path: Path) -> None:
    """At 640 pixels a step is 2.5: every score is rounded to 0, as ultralytics' exporters say of theirs; the same model
    with boxes as shares of the input keeps its scores."""
    annotations = models.write_world(tmp_path, 640)
    pixels = make("pixels", models.yolov8(640, normalized=False), int8=True, side=640)
    shares = make("shares", models.yolov8(640, normalized=True), int8=True, side=640)
    assert scored(pixels, annotations, {})[0] == 0.0
    assert scored(shares, annotations, {})[0] > 0.8


def test_scores_of_coarse_steps_are_remarked_on(make: Make, world: Path) -> None:
    """At 320 pixels a step is 1.25: scores are 0 or 1.25."""
    _, notes = scored(make("yolov8, pixels", models.FORMS["yolov8, pixels"], int8=True), world, {})
    assert any("scores above 1: the output is quantized too coarsely" in note for note in notes)


# -- settings that contradict the model ---------------------------------------------------------------------------


def tried(
    path: Path, annotations: Path, head: Mapping[str, Any], **changes: Any
) -> tuple[list[Mend], PlausibilityAnswer]:
    variant = LoadedVariant(runtime="litert", path=str(path), options={})
    task = section(annotations, head, **changes)
    answer = try_alternatives(TryAlternatives(name="float32", baseline=variant, task=task, samples=8, max_s=600.0))
    assert answer.facts is not None
    return mends_of(msgspec.convert(answer.rows, list[PlausibilityRow]), answer.facts), answer


NORMALIZED, PIXELS = 'task.head.box_units = "normalized"', 'task.head.box_units = "pixels"'
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("yolov5, normalized", {"kind": "yolov5", "box_units": "pixels"}, NORMALIZED),
    ("yolov5, pixels", {"kind": "yolov5", "box_units": "normalized"}, PIXELS),
    ("yolov5, pixels", {"kind": "yolov5", "box_format": "xyxy"}, 'task.head.box_format = "cxcywh"'),
    ("yolov8, normalized", {"kind": "yolov8", "box_units": "pixels"}, NORMALIZED),
    ("yolov8, pixels", {"kind": "yolov8", "box_format": "xywh"}, 'task.head.box_format = "cxcywh"'),
    ("yolox, decoded", {"kind": "yolox", "decoded": False}, "task.head.decoded = true"),
    ("yolox, raw", {"kind": "yolox", "decoded": True}, "task.head.decoded = false"),
    ("yolox, decoded, normalized", {"kind": "yolox", "decoded": True, "box_units": "pixels"}, NORMALIZED),
    ("yolo-end2end, pixels", {"box_format": "yxyx"}, 'task.head.box_format = "xyxy"'),
    ("yolo-end2end, pixels", {"class_offset": 1}, "task.head.class_offset = 0"),
    ("detr, sigmoid", {"kind": "detr", "box_units": "pixels"}, NORMALIZED),
    ("detr, softmax", {"kind": "detr", "box_format": "xyxy"}, 'task.head.box_format = "cxcywh"'),
    ("efficientdet, maps", {"anchor_scale": 4.0}, "task.head.anchor_scale = 3.0"),
]


@pytest.mark.parametrize(("form", "head", "setting"), FAULTS)
def test_a_wrong_setting_is_named_with_what_it_costs(
    make: Make, world: Path, form: str, head: dict[str, Any], setting: str
) -> None:
    found, answer = tried(make(form, models.FORMS[form]), world, head)
    assert [mend.setting for mend in found[:1]] == [setting], [row["setting"] for row in answer.rows]
    assert found[0].configured < 0.5 and found[0].changed == pytest.approx(1.0)


@pytest.mark.parametrize("form", ["yolov5, normalized", "yolov8, pixels", "yolo-end2end, pixels", "detr, sigmoid"])
def test_a_sound_head_is_not_accused(make: Make, world: Path, form: str) -> None:
    found, answer = tried(make(form, models.FORMS[form]), world, {})
    assert found == [] and len({row["setting"] for row in answer.rows}) > 3


@pytest.mark.parametrize(
    ("form", "units", "what"),
    [("yolov8, normalized", "pixels", "look normalized"), ("yolov8, pixels", "normalized", "look like pixels")],
)
def test_boxes_that_contradict_their_unit_are_told_without_truth(
    make: Make, world: Path, form: str, units: str, what: str
) -> None:
    _, notes = scored(make(form, models.FORMS[form]), world, {"box_units": units})
    right = "normalized" if units == "pixels" else "pixels"
    (note,) = (note for note in notes if what in note)
    assert f'head.box_units = "{right}"' in note


# -- raw SSD against the op that post-processes it ----------------------------------------------------------------


def test_raw_ssd_finds_what_the_post_processing_op_finds(tmp_path: Path) -> None:
    """The op is TensorFlow Lite's own decoder (tensorflow/lite/kernels/detection_postprocess.cc)."""
    rng = np.random.default_rng(0)
    anchors = np.concatenate([rng.uniform(0, 1, (400, 2)), rng.uniform(0.05, 0.5, (400, 2))], axis=1).astype(np.float32)
    boxes = rng.normal(0, 2, (1, 400, 4)).astype(np.float32)
    scores = (rng.random((1, 400, 4)) ** 4).astype(np.float32)
    np.save(tmp_path / "anchors.npy", anchors)
    path = tmp_path / "op.tflite"
    path.write_bytes(models.post_processed(boxes, scores, anchors, iou=0.6, threshold=0.001))
    runtime = runtimes.get("litert")
    model = runtime.load(path, msgspec.convert({}, runtime.options_type))
    model.set_inputs([np.zeros((1, models.SIDE, models.SIDE, 3), np.float32)])
    model.invoke()
    theirs = models.found_by(model.loaded.outputs, model.outputs(), model.loaded.op_types)
    specs = [TensorSpec("boxes", boxes.shape, "float32"), TensorSpec("scores", scores.shape, "float32")]
    ours = models.found_by(specs, [boxes, scores], anchors=str(tmp_path / "anchors.npy"), background=True)
    assert ours[0] == "ssd-raw" and theirs[0] == "tflite-postprocess" and len(ours[1].scores) == 100
    box, score = models.differences(ours[1], theirs[1])
    print(f"ssd-raw: {box:.2g} pixels, {score:.2g} of a score")
    assert box < 2e-3 and score < 1e-6


# -- settings that a head does not take ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "head", "setting"),
    [
        ("yolov8, pixels", {"decoded": True}, "head.decoded = True means nothing to the head 'yolov8'"),
        ("yolov8, pixels", {"class_offset": 0}, "head.class_offset = 0 means nothing to the head 'yolov8'"),
        ("yolo-end2end, pixels", {"score_activation": "sigmoid"}, "head.score_activation = 'sigmoid' means nothing"),
        ("yolox, raw", {"size_units": "pixels"}, "head.size_units = 'pixels' means nothing to the head 'yolox'"),
        ("yolox, raw", {"decoded": False, "box_units": "pixels"}, "head.box_units means nothing to a yolox head"),
        ("detr, softmax", {"pair_order": "yx"}, "head.pair_order = 'yx' means nothing to the head 'detr'"),
        ("efficientdet, maps", {"box_units": "pixels"}, "head.box_units = 'pixels' means nothing"),
    ],
)
def test_a_setting_that_the_head_ignores_is_an_error(
    make: Make, world: Path, form: str, head: dict[str, Any], setting: str
) -> None:
    with pytest.raises(DataError, match=setting):
        scored(make(form, models.FORMS[form]), world, head)


def test_a_profile_with_such_a_setting_is_refused_before_anything_runs(world: Path) -> None:
    from qprof.tasks.detection.kind import KIND, DetectionSection

    given = section(world, {"kind": "centernet", "box_units": "normalized"}).section
    with pytest.raises(ProfileError, match=r"task\.head\.box_units = 'normalized' means nothing to the"):
        KIND.check(msgspec.convert(given, DetectionSection))
    KIND.check(msgspec.convert(given | {"head": {"kind": "yolox", "box_units": "normalized"}}, DetectionSection))


# -- what shapes leave open ---------------------------------------------------------------------------------------


def recognized(shapes: Mapping[str, tuple[int, ...]], counts: Collection[int] | None, ops: Sequence[str] = ()) -> str:
    specs = [TensorSpec(name, shape, "float32") for name, shape in shapes.items()]
    allowed = None if counts is None else frozenset(counts)
    return choose_kind(Binding(HeadConfig(), specs, ops, 640, 640, False, allowed))[0]


@pytest.mark.parametrize(
    ("shapes", "counts", "kind"),
    [
        ({"a": (1, 25200, 85)}, {80}, "yolov5"),
        ({"a": (1, 102000, 85)}, {80}, "yolov5"),  # with a finer grid: P2
        ({"a": (1, 84, 8400)}, {80}, "yolov8"),
        ({"a": (1, 84, 8400)}, None, "yolov8"),
        ({"a": (1, 8400, 84)}, {80}, "yolov8"),
        ({"a": (1, 8400, 85)}, {80}, "yolox"),
        ({"a": (1, 8400, 85)}, {81}, "yolov8"),
        ({"a": (1, 8400, 6)}, {1}, "yolox"),
        ({"a": (1, 8400, 6)}, {2}, "yolov8"),
        ({"a": (1, 6, 8400)}, {2}, "yolov8"),
        ({"a": (1, 25200, 6)}, {1}, "yolov5"),
        ({"a": (1, 300, 6)}, {80}, "yolo-end2end"),
        ({"a": (1, 300, 6)}, {1}, "yolo-end2end"),
        ({"a": (1, 300, 84)}, {80}, "detr"),
        ({"logits": (1, 100, 92), "pred_boxes": (1, 100, 4)}, {91, 90}, "detr"),
        ({"a": (1, 300, 80), "b": (1, 300, 4)}, {80}, "detr"),
        ({"a": (1, 76725, 4), "b": (1, 76725, 90)}, {90, 91}, "efficientdet"),
        ({"a": (1, 100, 4), "b": (1, 100), "c": (1, 100), "d": (1,)}, {80}, "boxes"),
    ],
)
def test_shapes_and_the_number_of_classes_tell_the_head(
    shapes: dict[str, tuple[int, ...]], counts: set[int] | None, kind: str
) -> None:
    assert recognized(shapes, counts) == kind


def test_two_heads_that_fit_alike_are_both_named() -> None:
    with pytest.raises(DataError, match=r"fit the heads yolov5 and yolox alike .*set head\.kind to one of them"):
        recognized({"a": (1, 777, 8)}, {3})


def test_the_op_exp_speaks_for_yolox() -> None:
    assert recognized({"a": (1, 777, 8)}, {3}, ["CONV_2D", "EXP"]) == "yolox"


def test_the_right_yolo_form_of_the_public_report_scores_one(qprof_data: Path) -> None:
    folder = qprof_data.parent / "cases" / "litert"
    if not folder.is_dir():
        pytest.skip("no folder of cases beside the data")
    runtime = runtimes.get("litert")
    model = runtime.load(folder / "yolo_form.tflite", msgspec.convert({}, runtime.options_type))
    images = str(folder / "yolo_images")
    given = {"kind": "detection", "annotations": str(folder / "yolo_gt.json"), "images": images}
    for head in ({"kind": "yolox", "decoded": True, "box_units": "normalized"}, {"kind": "yolox", "decoded": True}):
        task = registry.build(PreparedTask(section={**given, "head": head, "preprocess": {"mean": 0, "std": 255}}))
        task.bind(model)
        found = {}
        for sample in range(task.sample_count()):
            model.set_inputs(task.inputs(sample))
            model.invoke()
            found[sample] = task.decode(sample, model.outputs())
        scores = task.score(found)
        assert scores is not None and scores.summary["AP"] == pytest.approx(1.0)


def found_in(
    outputs: Mapping[str, Any], counts: Collection[int] | None, **settings: Any
) -> tuple[list[Any], list[str]]:
    """Boxes in whole pixels with their classes, best first, and all that was assumed or settled."""
    specs = [TensorSpec(name, tuple(array.shape), "float32") for name, array in outputs.items()]
    allowed = None if counts is None else frozenset(counts)
    binding = Binding(HeadConfig(**settings), specs, [], models.SIDE, models.SIDE, False, allowed)
    _, head, notes = build_head(binding)
    found = head.decode(list(outputs.values()))
    kept = found.take(np.flatnonzero(found.scores > 0.5))
    rows = zip(np.rint(kept.boxes).astype(int).tolist(), kept.classes.tolist(), strict=True)
    return sorted((tuple(box), index) for box, index in rows), [*notes, *head.seen()]


RIGHT = sorted((box, index) for box, index in models.OBJECTS)


def test_no_object_is_told_by_values_where_the_annotations_do_not() -> None:
    for softmax, words in ((True, "so it stands for no object"), (False, "so it is a class")):
        outputs = models.queries(100, softmax)
        found, notes = found_in({"pred_logits": outputs["logits"], "pred_boxes": outputs["pred_boxes"]}, None)
        assert found == RIGHT and any(words in note for note in notes), notes


def test_queries_in_one_output_are_read_as_they_are() -> None:
    outputs = models.queries(300, False)
    joined = np.concatenate([outputs["pred_boxes"], 1 / (1 + np.exp(-outputs["logits"]))], axis=2).astype(np.float32)
    found, notes = found_in({"Identity": joined}, {models.CLASSES})
    assert found == RIGHT and any("taken as probabilities" in note for note in notes), notes


def test_efficientdet_in_rows_is_read_like_its_maps() -> None:
    maps = models.efficientdet()
    rows = {
        name: np.concatenate([array.reshape(1, -1, columns) for key, array in maps.items() if key.startswith(name)], 1)
        for name, columns in (("class", models.CLASSES), ("box", 4))
    }
    assert found_in(maps, {models.CLASSES})[0] == RIGHT
    assert found_in(rows, {models.CLASSES})[0] == RIGHT


def test_a_box_of_two_classes_counts_twice_where_its_authors_count_it_so() -> None:
    outputs = models.yolov8(normalized=True)
    outputs["output0"][0, 4:, outputs["output0"][0, 4] > 0.5] = 0.9  # every class of the first object
    assert len(found_in(outputs, {models.CLASSES})[0]) == 5
    assert len(found_in(outputs, {models.CLASSES}, multi_label=False)[0]) == 3
    rows = models.with_objectness(normalized=False, per_cell=1)
    rows["Identity"][0, rows["Identity"][0, :, 5] > 0.5, 5:] = 0.9
    assert len(found_in(rows, {models.CLASSES})[0]) == 3
    assert len(found_in(rows, {models.CLASSES}, multi_label=True)[0]) == 5


def test_one_output_of_several_is_named_by_its_role() -> None:
    outputs = models.yolov8(normalized=True) | {"protos": np.zeros((1, 80, 80, 32), np.float32)}
    with pytest.raises(DataError, match="fit no known detection head"):
        found_in(outputs, {models.CLASSES})
    assert found_in(outputs, {models.CLASSES}, roles=["detections", "ignore"])[0] == RIGHT


def test_as_many_pairs_of_query_and_class_count_as_there_are_queries() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 1, (1, 100, models.CLASSES)).astype(np.float32)
    outputs = {"logits": logits, "pred_boxes": models.queries(100, False)["pred_boxes"]}
    specs = [TensorSpec(name, tuple(array.shape), "float32") for name, array in outputs.items()]
    counts = frozenset({models.CLASSES})
    _, head, _ = build_head(Binding(HeadConfig(), specs, [], models.SIDE, models.SIDE, False, counts))
    found = head.decode(list(outputs.values()))
    best = np.sort(1 / (1 + np.exp(-logits.astype(np.float64).ravel())))[::-1][:100]
    assert np.allclose(found.scores, best, atol=1e-7)

"""The detection task from files to score, on small drawn images and on real models."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bound_models import described
from qprof.errors import DataError
from qprof.record.tensors import TensorSpec
from qprof.tasks.base import Task
from qprof.tasks.detection import CategoryConfig, DetectionTask, HeadConfig, PreprocessConfig
from qprof.tasks.detection.categories import COCO_CATEGORIES

INPUT = TensorSpec("image", (1, 32, 32, 3), "float32")
OUTPUTS = [
    TensorSpec("boxes", (1, 3, 4), "float32"),
    TensorSpec("classes", (1, 3), "float32"),
    TensorSpec("scores", (1, 3), "float32"),
]


def write_images(folder: Path, names: Sequence[str], size: tuple[int, int] = (64, 32)) -> None:
    folder.mkdir(exist_ok=True)
    for n, name in enumerate(names):
        Image.new("RGB", size, (n, 100, 200)).save(folder / name)


def write_annotations(path: Path, names: Sequence[str], size: tuple[int, int] = (64, 32)) -> Path:
    """Image n+1 per name, each with one object of category 10 at x 8, y 8, width 16, height 8."""
    box = {"category_id": 10, "bbox": [8, 8, 16, 8], "area": 128, "iscrowd": 0}
    data = {
        "images": [{"id": n, "file_name": f, "width": size[0], "height": size[1]} for n, f in enumerate(names, 1)],
        "categories": [{"id": 20, "name": "dog"}, {"id": 10, "name": "cat"}],
        "annotations": [{"id": n, "image_id": n, **box} for n in range(1, len(names) + 1)],
    }
    path.write_text(json.dumps(data))
    return path


NAMES = ["a.png", "b.png", "c.png", "d.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", NAMES)
    write_annotations(tmp_path / "gt.json", NAMES)
    return tmp_path


def task(folder: Path, bind: bool = True, **settings: Any) -> DetectionTask:
    made = DetectionTask(folder / "gt.json", folder / "images", **settings)
    if bind:
        made.bind(described([INPUT], OUTPUTS))
    return made


def outputs(scores: Sequence[float] = (0.9, 0.0, 0.0), classes: Sequence[float] = (0, 0, 0)) -> list[Any]:
    """The object of every image, normalized yxyx, and two boxes of no score."""
    boxes = np.array([[[8 / 32, 8 / 64, 16 / 32, 24 / 64], [0, 0, 1, 1], [0, 0, 0.5, 0.5]]], np.float32)
    return [boxes, np.array([classes], np.float32), np.array([scores], np.float32)]


def test_it_is_a_task(folder: Path) -> None:
    made: Task = task(folder)
    assert made.name == "detection" and made.sample_count() == 4


def test_inputs_match_the_bound_tensor(folder: Path) -> None:
    (array,) = task(folder).inputs(1)
    assert array.shape == INPUT.shape and array.dtype == np.float32
    assert array[0, 0, 0].tolist() == pytest.approx([(v - 127.5) / 127.5 for v in (1, 100, 200)])


def test_predictions_are_json_in_pixels_of_the_image(folder: Path) -> None:
    made = task(folder)
    predictions = made.decode(2, outputs())
    assert predictions == json.loads(json.dumps(predictions))
    assert predictions == [{"image_id": 3, "category_id": 10, "bbox": [8, 8, 16, 8], "score": pytest.approx(0.9)}]


def test_decoding_needs_no_preceding_inputs_and_knows_the_letterbox(folder: Path) -> None:
    made = task(folder, preprocess=PreprocessConfig(resize="letterbox"))
    arrays = outputs()
    arrays[0][0, 0] = [(8 + 4) / 32, 4 / 32, (8 + 8) / 32, 12 / 32]  # scale 0.5, 8 rows of padding above
    assert made.decode(0, arrays)[0]["bbox"] == [8, 8, 16, 8]


def test_a_perfect_detector_scores_one(folder: Path) -> None:
    made = task(folder)
    scores = made.score({n: made.decode(n, outputs()) for n in (3, 0, 1)})
    assert scores is not None
    assert scores.summary["AP"] == pytest.approx(1.0) and scores.summary["n_images"] == 3
    assert scores.samples == [0, 1, 3]
    assert scores.per_sample["tp50"].tolist() == [1, 1, 1]


def test_predictions_of_other_images_are_refused(folder: Path) -> None:
    made = task(folder)
    with pytest.raises(DataError, match="predictions of sample 1 are of another image than 2"):
        made.score({1: made.decode(0, outputs())})


def test_best_first_limited_and_above_the_threshold(folder: Path) -> None:
    made = task(folder, head=HeadConfig(score_threshold=0.25))
    assert [d["score"] for d in made.decode(0, outputs((0.25, 0.5, 0.75), (0, 1, 1)))] == [0.75, 0.5]
    made = task(folder, head=HeadConfig(max_detections=2))
    assert [d["score"] for d in made.decode(0, outputs((0.25, 0.5, 0.75), (0, 1, 1)))] == [0.75, 0.5]


def test_nan_and_boxes_off_the_image_and_unknown_classes_are_dropped(folder: Path) -> None:
    made = task(folder)
    assert made.decode(0, outputs((np.nan, np.inf, 0.5), (0, 0, 0)))[0]["score"] == 0.5
    assert any(note.startswith("2 detections dropped: score or box is not finite") for note in made.notes())
    off = outputs((0.5, 0.0, 0.0))
    off[0][0, 0] = [1.5, 1.5, 2.0, 2.0]
    assert made.decode(0, off) == []
    assert made.decode(0, outputs((0.5, 0.0, 0.0), (7, 0, 0))) == []
    assert any(note.startswith("1 detections dropped: categories.rule 'order'") for note in made.notes())
    made.bind(described([INPUT], OUTPUTS))
    assert not any("dropped" in note for note in made.notes())


def test_scores_above_one_are_kept_and_remarked_on(folder: Path) -> None:
    made = task(folder)
    assert made.decode(0, outputs((1.96, 0.5, 0.0), (0, 0, 0)))[0]["score"] == pytest.approx(1.96)
    assert any(note.startswith("1 scores above 1: the output is quantized too coarsely") for note in made.notes())
    made.bind(described([INPUT], OUTPUTS))
    assert not any("above 1" in note for note in made.notes())


def test_missing_images_are_left_out_before_the_limit(folder: Path) -> None:
    (folder / "images" / "b.png").unlink()
    made = task(folder, limit=2)
    assert made.image_ids() == [1, 3]
    assert any("1 annotated images are not in" in note and "b.png" in note for note in made.notes())


def test_check_finds_broken_images_and_skip_leaves_the_others_as_they_were(folder: Path) -> None:
    (folder / "images" / "b.png").write_bytes((folder / "images" / "b.png").read_bytes()[:60])
    made = task(folder, limit=3)
    (bad,) = made.check()
    assert (bad.image_id, bad.file_name) == (2, "b.png") and "cannot be decoded" in bad.reason
    with pytest.raises(DataError, match=r"b.png: cannot be decoded"):
        made.inputs(1)
    skipping = task(folder, limit=3, skip=[bad.image_id])
    assert skipping.image_ids() == [1, 3]  # not filled up with d.png, which was not checked
    assert any("1 images are skipped as broken (e.g. b.png)" in note for note in skipping.notes())
    assert skipping.check() == []


def test_nothing_left_to_score_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"all 4 images .* are skipped"):
        task(folder, skip=[1, 2, 3, 4])
    with pytest.raises(DataError, match="limit = 0"):
        task(folder, limit=0)


def test_resized_copies_are_scored_in_the_annotated_frame(folder: Path) -> None:
    write_images(folder / "images", NAMES, (32, 16))
    made = task(folder)
    made.check()
    assert made.decode(0, outputs())[0]["bbox"] == [8, 8, 16, 8]
    assert any(
        note.startswith("4 images are resized copies") and "32x16, annotated 64x32" in note for note in made.notes()
    )


def test_images_of_another_shape_keep_their_own_frame(folder: Path) -> None:
    write_images(folder / "images", NAMES, (32, 32))
    made = task(folder)
    assert made.decode(0, outputs())[0]["bbox"] == [4, 8, 8, 8]
    assert any("differ in shape" in note for note in made.notes())


def test_calibration_takes_annotated_images_beyond_the_limit(folder: Path) -> None:
    made = task(folder, limit=2)
    arrays = [sample[0] for sample in made.calibration(2)]
    assert [round(float(a[0, 0, 0, 0]) * 127.5 + 127.5) for a in arrays] == [2, 3]
    assert all(a.dtype == np.float32 for a in arrays)
    assert list(made.calibration(0)) == []


def test_calibration_yields_reals_for_a_quantized_input(folder: Path) -> None:
    made = task(folder, limit=2, bind=False)
    made.bind(described([TensorSpec("image", (1, 32, 32, 3), "uint8", 1 / 128, 128)], OUTPUTS))
    assert made.inputs(0)[0].dtype == np.uint8
    assert next(made.calibration(1))[0].dtype == np.float32


def test_calibration_without_other_images_says_what_to_do(folder: Path) -> None:
    with pytest.raises(DataError, match="calibration_images"):
        list(task(folder).calibration(1))


def test_calibration_from_a_folder_leaves_out_copies_of_samples_and_broken_files(folder: Path) -> None:
    other = folder / "other"
    write_images(other, ["x.png"], (8, 8))
    (other / "copy.png").write_bytes((folder / "images" / "a.png").read_bytes())
    (other / "broken.jpg").write_text("no image")
    (other / "readme.txt").write_text("no image")
    made = task(folder, calibration_images=other)
    assert len(list(made.calibration(5))) == 1
    assert any("calibration skipped" in note and "broken.jpg" in note for note in made.notes())
    assert any("calibration has 1 images, 5 were asked for" in note for note in made.notes())
    (other / "x.png").unlink()
    with pytest.raises(DataError, match="no image is left for calibration"):
        list(made.calibration(5))
    with pytest.raises(DataError, match="not a folder of calibration images"):
        list(task(folder, calibration_images=folder / "nowhere").calibration(1))


def test_calibration_by_annotations_of_its_own(folder: Path) -> None:
    write_images(folder / "images", ["e.png", "f.png"], (16, 16))
    listed = write_annotations(folder / "train.json", ["e.png", "a.png"])
    made = task(folder, calibration_annotations=listed)
    (sample,) = made.calibration(2)
    assert sample[0].shape == INPUT.shape


def test_calibration_spreads_over_all_images(tmp_path: Path) -> None:
    names = [f"{n:02}.png" for n in range(21)]
    write_images(tmp_path / "images", names)
    write_annotations(tmp_path / "gt.json", names)
    made = task(tmp_path, limit=1)
    red = [round(float(sample[0][0, 0, 0, 0]) * 127.5 + 127.5) for sample in made.calibration(4)]
    assert red == [1, 6, 11, 16]


def test_wrong_models_are_refused_at_bind(folder: Path) -> None:
    made = task(folder, bind=False)
    with pytest.raises(DataError, match="the model has 2 inputs"):
        made.bind(described([INPUT, INPUT], OUTPUTS))
    with pytest.raises(DataError, match=r"the model has 16 classes, categories.rule 'order' gives 2"):
        made.bind(described([INPUT], [TensorSpec("o", (1, 21, 21), "float32")], ["EXP"]))
    with pytest.raises(DataError, match="bound to no variant"):
        task(folder, bind=False).inputs(0)


# Real models.


def run_model(path: Path, made: DetectionTask) -> dict[int, list[Any]]:
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(path), num_threads=os.cpu_count())
    model.allocate_tensors()
    tensors = [model.get_input_details(), model.get_output_details()]
    specs = [
        [
            TensorSpec(
                d["name"],
                tuple(int(n) for n in d["shape"]),
                np.dtype(d["dtype"]).name,
                float(d["quantization"][0]) or None,
                int(d["quantization"][1]) if d["quantization"][0] else None,
            )
            for d in details
        ]
        for details in tensors
    ]
    made.bind(described(specs[0], specs[1], [op["op_name"] for op in model._get_ops_details()]))
    predictions = {}
    for sample in range(made.sample_count()):
        model.set_tensor(tensors[0][0]["index"], made.inputs(sample)[0])
        model.invoke()
        predictions[sample] = made.decode(sample, [model.get_tensor(d["index"]) for d in tensors[1]])
    return predictions


SSD: dict[str, Any] = {"categories": CategoryConfig("coco91")}
YOLOX: dict[str, Any] = {
    "categories": CategoryConfig("coco80"),
    "preprocess": PreprocessConfig(resize="letterbox-topleft", color="bgr", mean=0.0, std=1.0),
}
MODELS = [("ssd_mobilenet_v1_1_metadata_1.tflite", SSD), ("yolox_nano.tflite", YOLOX)]


@pytest.mark.parametrize(("model", "settings"), MODELS)
def test_real_detectors_name_what_is_in_the_picture(
    qprof_data: Path, tmp_path: Path, model: str, settings: dict[str, Any]
) -> None:
    pictures = ["coco_val_images/000000039769.png", "images/cat.bmp", "images/grace_hopper.bmp", "images/parrot.jpg"]
    data = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(pictures)],
        "annotations": [],
        "categories": [{"id": n, "name": name} for n, name in COCO_CATEGORIES.items()],
    }
    (tmp_path / "gt.json").write_text(json.dumps(data))
    made = DetectionTask(tmp_path / "gt.json", qprof_data, **settings)
    found = run_model(qprof_data / "models" / model, made)
    names = [[COCO_CATEGORIES[d["category_id"]] for d in found[n] if d["score"] > 0.5] for n in range(4)]
    assert names[0][:2] == ["cat", "cat"]
    assert names[1] == ["cat"]
    assert names[2] == ["person", "tie"]
    assert names[3] == ["bird"]
    left, right = sorted(found[0][:2], key=lambda d: d["bbox"][0])
    assert left["bbox"] == pytest.approx([5, 50, 320, 350], abs=40)
    assert right["bbox"] == pytest.approx([335, 25, 300, 350], abs=40)


@pytest.mark.parametrize(("model", "settings", "ap50"), [(*MODELS[0], 0.75), (*MODELS[1], 0.95)])
def test_real_detectors_find_the_labelled_persons(
    qprof_data: Path, model: str, settings: dict[str, Any], ap50: float
) -> None:
    folder = qprof_data / "coco_val_images"
    made = DetectionTask(folder / "test_coco.json", folder, **settings)
    assert made.check() == []
    scores = made.score(run_model(qprof_data / "models" / model, made))
    assert scores is not None and (scores.summary["AP50"] or 0) > ap50
    assert not any("cut off" in note or "differ in shape" in note for note in made.notes())


YOLOX_OUT = [TensorSpec("o", (1, 21, 7), "float32")]
MAPS_OUT = [TensorSpec(n, (1, 8, 8, 2), "float32") for n in ("heatmap", "size", "offset")]
RAW_OUT = [TensorSpec("boxes", (1, 9, 4), "float32"), TensorSpec("scores", (1, 9, 3), "float32")]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize(
    ("specs", "head"),
    [
        (YOLOX_OUT, HeadConfig(decoded=False, score_activation="sigmoid")),
        (MAPS_OUT, HeadConfig(score_activation="sigmoid", size_units="normalized")),
        (RAW_OUT, HeadConfig(score_activation="softmax", box_format="cxcywh")),
        (RAW_OUT, HeadConfig(score_activation="sigmoid", box_format="xyxy")),
    ],
)
def test_an_overflown_variant_gives_no_box_that_is_not_finite(
    folder: Path, specs: list[TensorSpec], head: HeadConfig, value: float
) -> None:
    made = task(folder, bind=False, head=head)
    made.bind(described([INPUT], specs))
    found = made.decode(0, [np.full(s.shape, value, np.float32) for s in specs])
    assert all(np.isfinite([*d["bbox"], d["score"]]).all() for d in found)
    if not np.isfinite(value) and value != -np.inf:
        assert any("not finite" in note for note in made.notes())


def test_what_a_box_overlaps_is_judged_before_it_is_cut_to_the_image(folder: Path) -> None:
    """As in every reference implementation: a box that sticks out overlaps with all that it is."""
    made = task(folder, bind=False, head=HeadConfig(box_format="xyxy", box_units="normalized", nms_iou=0.6))
    made.bind(described([INPUT], OUTPUTS))
    arrays = outputs((0.9, 0.8, 0.0))
    arrays[0][0, :2] = [[-1.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.5, 1.0]]  # IoU 1/3; of what is on the image 1
    assert [d["bbox"] for d in made.decode(0, arrays)] == [[0, 0, 32, 32], [0, 0, 32, 32]]


def test_boxes_off_the_image_alone_do_not_doubt_their_unit(folder: Path) -> None:
    made = task(folder, bind=False, head=HeadConfig(box_units="pixels", box_format="xyxy"))
    made.bind(described([INPUT], OUTPUTS))
    arrays = outputs((0.9, 0.8, 0.7))
    arrays[0][0] = [[0, 0, 1, 1], [0, 0, 1, 0.5], [0.5, 0.5, 1, 1]]
    made.decode(0, arrays)
    assert any(
        "all 3 boxes found lie within 1.5 pixels" in note and 'box_units = "normalized"' in note
        for note in made.notes()
    )
    arrays[0][0, 0] = [0, 0, 30, 30]
    made.decode(0, arrays)
    assert not any("boxes found" in note for note in made.notes())

"""The task from files to inputs and predictions, and its settings tried on a model that is right by construction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from bound_models import described
from colour_models import COLOURS, colour_net, write_colours
from qprof.errors import DataError, ProfileError
from qprof.findings.plausibility import Mend, mends_of
from qprof.measure.requests import LoadedVariant, TryAlternatives
from qprof.measure.worker.plausibility import try_alternatives
from qprof.record.manifest import PreparedTask
from qprof.record.rows import PlausibilityRow
from qprof.record.tensors import TensorSpec
from qprof.tasks.classification.data.source import read_examples
from qprof.tasks.classification.kind import KIND, ClassificationSection
from qprof.tasks.classification.outputs import Output
from qprof.tasks.classification.pixels import ImageConfig, Pixels, cropped, for_all
from qprof.tasks.classification.task import ClassificationTask

FLOAT = TensorSpec("image", (1, 8, 8, 3), "float32")
SCORES = TensorSpec("scores", (1, 9), "float32")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("colours") / "data")


def task(folder: Path, bind: bool = True, spec: TensorSpec = FLOAT, **settings: Any) -> ClassificationTask:
    made = ClassificationTask(read_examples(str(folder)), **settings)
    if bind:
        made.bind(described([spec], [SCORES]))
    return made


def test_inputs_and_predictions(colours: Path) -> None:
    made = task(colours)
    (array,) = made.inputs(5)
    assert array.shape == FLOAT.shape and array.dtype == np.float32
    pixels = np.asarray(Image.open(colours / "blue/000.png"), np.float32)
    assert np.allclose(array[0], pixels / 127.5 - 1.0)
    found = made.decode(5, [np.array([[0, 3, 2, 0, 0, 0, 0, 0, 0]], np.float32)])
    assert (found["file"], found["label"], found["target"], found["says"], found["rank"]) == (
        "blue/000.png",
        "blue",
        1,
        1,
        0,
    )


def test_a_limit_is_spread_over_all_classes(colours: Path) -> None:
    made = task(colours, limit=9)
    assert sorted(made.place(n).split("/")[0] for n in range(9)) == sorted(COLOURS)
    assert any("9 of 45 samples are scored" in note for note in made.notes())


def test_calibration_never_takes_what_is_scored(colours: Path, tmp_path: Path) -> None:
    made = task(colours, reserve=100)
    assert made.sample_count() == 36  # a fifth is kept back
    scored = {made.inputs(n)[0].tobytes() for n in range(36)}
    calibrating = [arrays[0].tobytes() for arrays in made.calibration(100)]
    assert len(calibrating) == 9 and not scored & set(calibrating)
    assert any("calibration has 9 samples, 100 were asked for" in note for note in made.notes())
    # Data come class by class, and a quantizer's moving average weighs the last samples most.
    means = [np.frombuffer(content, np.float32).reshape(-1, 3).mean(axis=0) for content in calibrating]
    palette = np.array(list(COLOURS.values())) / 127.5 - 1.0
    classes = [int(np.square(palette - mean).sum(axis=1).argmin()) for mean in means]
    assert classes != sorted(classes) and sorted(classes) == list(range(9))
    twins = read_examples(str(colours))
    with pytest.raises(DataError, match="no sample is left for calibration"):
        list(task(colours, calibration=twins).calibration(4))
    with pytest.raises(DataError, match="no sample is left for calibration"):
        list(task(colours).calibration(4))


def test_broken_images_are_found_and_left_out(tmp_path: Path) -> None:
    write_colours(tmp_path / "data", each=2)
    (tmp_path / "data/red/001.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    prepared = KIND.prepare(ClassificationSection(data=str(tmp_path / "data"), calibration_samples=0))
    assert prepared.samples == 17 and prepared.task.skip == [15]
    assert any("left out" in note and "red/001.png" in note for note in prepared.notes)
    made = KIND.build(msgspec.convert(prepared.task.section, ClassificationSection), prepared.task.skip)
    assert made.sample_count() == 17


def test_predictions_of_other_data_are_refused(colours: Path) -> None:
    made = task(colours)
    one = made.decode(0, [np.zeros((1, 9), np.float32)])
    assert made.score({0: one}).summary["top1"] == 1.0
    with pytest.raises(DataError, match=r"sample 1 is of ash/000\.png"):
        made.score({1: one})


# -- what the input says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "mean", "std", "said"),
    [
        (TensorSpec("x", (1, 4, 4, 3), "float32"), 127.5, 127.5, "does not say which numbers it takes"),
        (TensorSpec("x", (1, 4, 4, 3), "int8", 1.0, -128), 0.0, 1.0, "0..255"),
        (TensorSpec("x", (1, 4, 4, 3), "uint8", 1 / 128, 128), 127.5, 127.5, "-1..1"),
        (TensorSpec("x", (1, 4, 4, 3), "int8", 1 / 255, -128), 0.0, 255.0, "0..1"),
        (TensorSpec("x", (1, 4, 4, 3), "int8", 4.758 / 255, -14), [123.675, 116.28, 103.53], None, "ImageNet"),
    ],
)
def test_the_range_of_the_input_speaks(spec: TensorSpec, mean: object, std: object, said: str) -> None:
    found = Pixels(ImageConfig(), spec, 10)
    assert found.settled.mean == mean and (std is None or found.settled.std == std)
    assert any(said in note for note in found.notes)


def test_stored_pixels_go_by_the_models_scale() -> None:
    image = Image.new("RGB", (4, 4), (255, 128, 0))
    stored = Pixels(ImageConfig(), TensorSpec("x", (1, 4, 4, 3), "int8", 1.0, -128), 10).stored(image)
    assert stored.dtype == np.int8 and stored[0, 0, 0].tolist() == [127, 0, -128]
    grey = Pixels(ImageConfig(), TensorSpec("x", (1, 4, 4, 1), "float32"), 10).real(image)
    assert grey.shape == (1, 4, 4, 1)
    bgr = Pixels(ImageConfig(color="bgr"), TensorSpec("x", (1, 3, 4, 4), "float32"), 10).real(image)
    assert bgr[0, :, 0, 0].tolist() == pytest.approx([-1.0, 128 / 127.5 - 1, 1.0])


def test_a_quantized_file_speaks_for_a_float_one_beside_it() -> None:
    quantized = TensorSpec("q", (1, 4, 4, 3), "int8", 1.0, -128)
    other = TensorSpec("r", (1, 4, 4, 3), "uint8", 1 / 128, 128)
    config, notes = for_all(ImageConfig(), [[FLOAT], [quantized]])
    assert (config.mean, config.std) == (0.0, 1.0) and len(notes) == 1
    for settings, inputs in (
        (ImageConfig(), [[quantized], [quantized]]),  # each speaks for itself
        (ImageConfig(), [[FLOAT], [], []]),
        (ImageConfig(), [[FLOAT], [quantized], [other]]),
        (ImageConfig(mean=1.0, std=2.0), [[FLOAT], [quantized]]),
    ):
        assert for_all(settings, inputs) == (settings, [])


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (300, 300), (17, 900), (224, 224)])
def test_the_crop_is_torchvisions(size: tuple[int, int]) -> None:
    """Resize(256), CenterCrop(224) as torchvision.transforms.functional computes them for Pillow images."""
    rng = np.random.default_rng(2)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    short, long = min(size), max(size)
    new_short, new_long = 256, int(256 * long / short)
    width, height = (new_short, new_long) if size[0] <= size[1] else (new_long, new_short)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    top, left = round((height - 224) / 2.0), round((width - 224) / 2.0)
    expected = resized.crop((left, top, left + 224, top + 224))
    assert np.array_equal(np.asarray(cropped(image, (224, 224), 0.875, "bilinear")), np.asarray(expected))


def test_only_models_of_imagenets_classes_are_cropped_by_default() -> None:
    spec = TensorSpec("x", (1, 8, 8, 3), "float32")
    assert [Pixels(ImageConfig(), spec, outputs).resize for outputs in (10, 1000, 1001)] == ["stretch", "crop", "crop"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": 1.0}, "go together"),
        ({"crop": 0.0}, "no share of an image's side"),
        ({"resize": "shrink"}, "is not one of auto, crop"),
        ({"mean": 1.0, "std": 1.0, "raw_pixels": True}, "without effect"),
        ({"mean": [1.0, 2.0], "std": 1.0, "color": "rgb"}, "has 2 values"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        ImageConfig(**settings)


# -- outputs and arrays -----------------------------------------------------------------------------------------------


def test_the_output_that_holds_classes_is_found() -> None:
    features = TensorSpec("features", (1, 64), "float32")
    scores = TensorSpec("scores", (1, 1, 1, 10), "float32")
    boxes = TensorSpec("boxes", (1, 5, 4), "float32")
    assert Output([features, scores], [], wanted=(10, 11)).position == 1
    assert Output([boxes, scores], []).position == 1
    assert Output([features, scores], [], name="features").classes == 64
    for specs, name, message in (
        ([features, scores], "", "several outputs"),
        ([boxes], "", "no output of the model holds one number for each class"),
        ([features], "logits", "has no output 'logits'"),
        ([boxes], "boxes", "more than one number"),
    ):
        with pytest.raises(DataError, match=message):
            Output(specs, [], name=name)


@pytest.mark.parametrize(
    ("spec", "ops", "value", "expected"),
    [
        (TensorSpec("y", (1, 1), "float32"), ["LOGISTIC"], 0.75, [0.25, 0.75]),
        (TensorSpec("y", (1, 1), "float32"), ["FULLY_CONNECTED"], 0.75, [0.0, 0.75]),
        (TensorSpec("y", (1, 1), "int8", 1 / 256, -128), ["LOGISTIC", "QUANTIZE"], 64, [0.25, 0.75]),
        (TensorSpec("y", (1, 1), "int8", 0.1, 0), ["FULLY_CONNECTED"], 20, [0.0, 2.0]),
    ],
)
def test_a_single_number_is_a_classifier_of_two(
    spec: TensorSpec, ops: list[str], value: float, expected: list[float]
) -> None:
    output = Output([spec], ops)
    assert output.classes == 2 and output.vector([np.array([[value]], spec.dtype)]).tolist() == pytest.approx(expected)


def text_task(path: Path, inputs: list[TensorSpec]) -> ClassificationTask:
    made = ClassificationTask(read_examples(str(path)))
    made.bind(described(inputs, [TensorSpec("y", (1, 2), "float32")]))
    return made


def test_token_ids_masks_and_segments(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"input_ids": [5, 6, 7], "label": 1}\n{"input_ids": [1, 2, 3, 4, 5, 6], "label": 0}'
    )
    names = ("serving_default_input_word_ids:0", "serving_default_input_mask:0", "serving_default_input_type_ids:0")
    made = text_task(tmp_path / "a.jsonl", [TensorSpec(name, (1, 5), "int32") for name in names])
    ids, mask, segment = made.inputs(0)
    assert ids.tolist() == [[5, 6, 7, 0, 0]] and ids.dtype == np.int32
    assert mask.tolist() == [[1, 1, 1, 0, 0]] and segment.tolist() == [[0] * 5]
    assert made.inputs(1)[0].tolist() == [[1, 2, 3, 4, 5]]
    assert any("1 samples" in note and "were cut" in note for note in made.notes())
    assert sum("has nothing for input" in note for note in made.notes()) == 2


def test_arrays_of_any_other_kind(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([[0.5, -0.5], [0.0, 1.0]]), label=np.array([1, 0]))
    quantized = TensorSpec("x", (1, 2), "int8", 1 / 128, 0)
    assert text_task(tmp_path / "a.npz", [quantized]).inputs(0)[0].tolist() == [[64, -64]]
    with pytest.raises(DataError, match="nothing for input 'z'"):
        text_task(tmp_path / "a.npz", [TensorSpec("x", (1, 2), "float32"), TensorSpec("z", (1, 2), "float32")])
    with pytest.raises(DataError, match=r"shape \[2\] for input 'x' of \[1, 3\]"):
        text_task(tmp_path / "a.npz", [TensorSpec("x", (1, 3), "float32")]).inputs(0)
    with pytest.raises(DataError, match="give integers"):
        text_task(tmp_path / "a.npz", [TensorSpec("x", (1, 2), "int32")]).inputs(0)


# -- settings tried ---------------------------------------------------------------------------------------------------


def mended(folder: Path, model: bytes, place: Path, **settings: Any) -> list[Mend]:
    """What mends a model under a task with some of its settings wrong."""
    path = place / "model.tflite"
    path.write_bytes(model)
    section = {"kind": "classification", "data": str(folder), **settings}
    baseline = LoadedVariant(runtime="litert", path=str(path), options={})
    request = TryAlternatives(
        name="float32", baseline=baseline, task=PreparedTask(section=section), samples=45, max_s=600.0
    )
    answer = try_alternatives(request)
    assert answer.facts is not None
    return mends_of(msgspec.convert(answer.rows, list[PlausibilityRow]), answer.facts)


def first(mends: list[Mend]) -> tuple[str, float]:
    return (mends[0].setting, mends[0].gain.value) if mends else ("", 0.0)


def test_a_sound_classifier_is_left_alone(colours: Path, tmp_path: Path) -> None:
    assert mended(colours, colour_net(), tmp_path) == []
    assert mended(colours, colour_net(softmax=False), tmp_path) == []
    assert mended(colours, colour_net(background=True), tmp_path) == []


def renamed(place: Path, model: tuple[str, ...]) -> Mapping[str, Any]:
    (place / "labels.txt").write_text("\n".join(model))
    return {"labels": str(place / "labels.txt")}


def test_a_planted_label_offset_is_found(colours: Path, tmp_path: Path) -> None:
    setting, gain = first(mended(colours, colour_net(background=True), tmp_path, offset=0))
    assert setting == "task.offset = 1" and gain > 0.9


def test_planted_colours_are_found(colours: Path, tmp_path: Path) -> None:
    setting, gain = first(mended(colours, colour_net(), tmp_path, preprocess={"color": "bgr"}))
    assert setting == 'task.preprocess.color = "rgb"' and gain > 0.3


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.0, 255.0)])
def test_a_planted_range_is_found(colours: Path, tmp_path: Path, mean: float, std: float) -> None:
    found = mended(colours, colour_net(), tmp_path, preprocess={"mean": mean, "std": std})
    assert first(found)[0] == "task.preprocess.mean = 127.5, task.preprocess.std = 127.5"


def test_a_named_order_is_applied_whatever_the_labels_file_says(colours: Path, tmp_path: Path) -> None:
    wrong = renamed(tmp_path, (*reversed(COLOURS),))
    assert mended(colours, colour_net(), tmp_path, **wrong, order=list(range(9))) == []


def test_a_planted_order_is_found(colours: Path, tmp_path: Path) -> None:
    order = tuple(reversed(COLOURS))
    setting, gain = first(mended(colours, colour_net(order), tmp_path))
    assert setting == "task.order = [8, 7, 6, 5, 4, 3, 2, 1, 0]" and gain > 0.85


def test_a_labels_file_that_is_not_the_models_is_found(colours: Path, tmp_path: Path) -> None:
    wrong = renamed(tmp_path, (*reversed(COLOURS),))
    found = mended(colours, colour_net(), tmp_path, **wrong)
    assert first(found)[0] == "task.order = [0, 1, 2, 3, 4, 5, 6, 7, 8]" and first(found)[1] > 0.5

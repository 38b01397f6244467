"""Recipes for made inputs: what each gives, for which inputs it is meant, and what is said where it cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bound_models import described
from qprof.errors import DataError, ProfileError, QprofError
from qprof.measure.input_options import InputOptions, recipes, shapes
from qprof.record.quantization import dequantize
from qprof.record.tensors import TensorSpec
from qprof.tasks.latency import LatencyTask
from qprof.tasks.latency.kind import KIND, LatencySection
from qprof.tasks.latency.random_inputs import KINDS, parse


def spec(name: str, dtype: str, shape: tuple[int, ...], **more: Any) -> TensorSpec:
    return TensorSpec(name, shape, dtype, **more)


def made(recipe: str | dict[str, str], *inputs: TensorSpec, sample: int = 0) -> list[NDArray[Any]]:
    task = LatencyTask(recipes={"*": recipe} if isinstance(recipe, str) else recipe)
    task.bind(described(inputs, ()))
    return task.inputs(sample)


IDS = spec("ids", "int32", (2, 16))


def test_tokens_are_below_their_count_and_zero_behind_the_filled_part() -> None:
    (ids,) = made("tokens:30522:0.5", IDS)
    assert ids.dtype == np.int32 and ids.shape == (2, 16)
    assert 8 < ids[:, :8].max() < 30522 and ids[:, :8].min() >= 0 and len(np.unique(ids[:, :8])) > 12
    assert not ids[:, 8:].any()
    assert not np.array_equal(ids, made("tokens:30522:0.5", IDS, sample=1)[0])


def test_tokens_stay_within_the_table_that_the_graph_shows() -> None:
    wide = spec("ids", "int64", (1, 4000), valid_range=(1, 6))
    (ids,) = made("tokens", wide)
    assert (ids.min(), ids.max()) == (1, 6) and ids.dtype == np.int64
    (ids,) = made("tokens::0.5", wide)
    assert set(ids[0, 2000:].tolist()) == {1}
    assert 8 < made("tokens:1e3", IDS)[0].max() < 1000
    (ids,) = made("tokens:4", wide)
    assert ids.max() == 3
    with pytest.raises(DataError, match=r"tokens:8 for input 'ids', .* rows up to 6: give tokens:7 or less"):
        made("tokens:8", wide)
    with pytest.raises(DataError, match="shows no table that it indexes: say how many tokens, as tokens:30522"):
        made("tokens", IDS)


def test_without_a_recipe_integers_stay_where_the_graph_bounds_them() -> None:
    for bounds, low, high in (((0, 1), 0, 1), ((1, None), 1, 8), ((-2, 3), -2, 3), ((1, 16), 1, 16), (None, 0, 7)):
        (ids,) = made({}, spec("ids", "int32", (1, 4000), valid_range=bounds))
        assert (ids.min(), ids.max()) == (low, high), bounds


def test_a_mask_leaves_in_as_much_as_the_tokens_beside_it() -> None:
    mask = spec("mask", "int32", (1, 16))
    assert made("mask", mask)[0].tolist() == [[1] * 12 + [0] * 4]
    assert made("mask:0.25", mask)[0].tolist() == [[1] * 4 + [0] * 12]
    ids, beside = made({"ids": "tokens:9:0.5", "1": "mask"}, spec("ids", "int32", (1, 16)), mask)
    assert beside.tolist() == [[1] * 8 + [0] * 8] and not ids[0, 8:].any()
    assert made("mask", spec("mask", "bool", (1, 4)))[0].tolist() == [[True] * 3 + [False]]
    assert made("mask", spec("mask", "float32", (1, 4)))[0].tolist() == [[1.0, 1.0, 1.0, 0.0]]


def test_segments_and_positions_run_along_the_sequence() -> None:
    short = spec("x", "int32", (1, 6))
    assert made("segments", short)[0].tolist() == [[0, 0, 0, 1, 1, 1]]
    assert made("segments:3", short)[0].tolist() == [[0, 0, 1, 1, 2, 2]]
    assert made("positions", short)[0].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert made("positions:2", short)[0].tolist() == [[2, 3, 4, 5, 6, 7]]
    with pytest.raises(DataError, match="positions gives 0 to 5, and the model takes 0 at least and 3 at most for 'x'"):
        made("positions", spec("x", "int32", (1, 6), valid_range=(0, 3)))


@pytest.mark.parametrize(("shape", "channels"), [((1, 64, 48, 3), -1), ((1, 3, 64, 48), 1), ((1, 64, 48, 1), -1)])
def test_pixels_are_smooth_and_spread_as_those_of_photographs(shape: tuple[int, ...], channels: int) -> None:
    (stored,) = made("pixels", spec("image", "float32", shape))
    image = np.moveaxis(stored, channels, -1)[0]
    assert image.min() >= 0 and image.max() <= 255 and abs(image.mean() - 127.5) < 15 and 30 < image.std() < 70
    beside = np.corrcoef(image[:, :-1].ravel(), image[:, 1:].ravel())[0, 1]
    assert beside > 0.6  # noise without a spectrum has none
    if image.shape[-1] > 1:
        assert np.corrcoef(image[..., 0].ravel(), image[..., 1].ravel())[0, 1] > 0.6


def test_pixels_in_another_range_and_in_integers() -> None:
    (image,) = made("pixels:-1:1", spec("image", "float32", (1, 32, 32, 3)))
    assert -1 <= image.min() < -0.3 and 0.3 < image.max() <= 1
    (image,) = made("pixels", spec("image", "uint8", (1, 32, 32, 3)))
    assert image.dtype == np.uint8 and 30 < image.std() < 70
    quantized = spec("image", "int8", (1, 32, 32, 3), scale=1.0, zero_point=-128)
    (stored,) = made("pixels", quantized)
    (real,) = made("pixels", spec("image", "float32", (1, 32, 32, 3)))
    assert np.abs(dequantize(stored, quantized) - real).max() <= 0.5
    with pytest.raises(DataError, match="has no height and width: it takes no pixels"):
        made("pixels", spec("x", "float32", (8,)))


def test_audio_is_noise_in_the_band_of_speech() -> None:
    (sound,) = made("audio", spec("sound", "float32", (1, 16000)))
    assert np.abs(sound).max() == pytest.approx(0.9, abs=1e-3) and abs(sound.mean()) < 1e-3
    power = np.abs(np.fft.rfft(sound[0])) ** 2
    hertz = np.fft.rfftfreq(16000, 1 / 16000)
    assert power[(hertz < 75) | (hertz > 4100)].sum() < 1e-6 * power.sum()
    (sound,) = made("audio:-32768:32767", spec("sound", "int16", (16000, 1)))
    assert sound.dtype == np.int16 and 29000 < np.abs(sound.astype(int)).max() <= 29491
    with pytest.raises(DataError, match="has no time axis"):
        made("audio", spec("x", "float32", (1,)))


def test_plain_distributions() -> None:
    wide = spec("x", "float32", (100, 100))
    (x,) = made("normal:5:2", wide)
    assert x.mean() == pytest.approx(5, abs=0.1) and x.std() == pytest.approx(2, abs=0.1)
    (x,) = made("uniform:2:4", wide)
    assert 2 <= x.min() < 2.01 and 3.99 < x.max() <= 4
    (x,) = made("uniform:3:5", spec("x", "int32", (1000,)))
    assert set(x.tolist()) == {3, 4, 5}
    assert set(made("constant:7", spec("x", "uint8", (4,)))[0].tolist()) == {7}
    with pytest.raises(DataError, match=r"constant:300 gives 300 to 300, and input 'x' is uint8: .* from 0 to 255"):
        made("constant:300", spec("x", "uint8", (4,)))


def test_inputs_are_called_by_name_argument_position_or_without_what_tensorflow_adds() -> None:
    called = spec("serving_default_ids:0", "int32", (1, 4), argument="input_ids")
    for key in ("serving_default_ids:0", "input_ids", "ids", "0", "*"):
        assert made({key: "constant:3"}, called)[0].tolist() == [[3, 3, 3, 3]]
    assert made({"*": "constant:3", "ids": "constant:4"}, called)[0].tolist() == [[4, 4, 4, 4]]
    with pytest.raises(DataError, match="the model has no input 'mask'; its inputs are 0 = input_ids"):
        made({"mask": "mask"}, called)


def test_calibration_follows_the_recipe_as_well() -> None:
    image = spec("image", "float32", (1, 32, 32, 3))
    task = LatencyTask(recipes={"*": "pixels"}, samples=1)
    task.bind(described([image], ()))
    (drawn,) = next(task.calibration(1))
    assert drawn.dtype == np.float32 and drawn.max() > 150
    assert not np.array_equal(drawn, task.inputs(0)[0])


WRONG = [
    "", "token:5", "tokens:x", "tokens:0", "tokens:-1", "tokens:2.5", "tokens:0.5", "tokens:9:",
    "tokens:9:0", "tokens:9:2", "tokens:9:1:1",
    "tokens::", "mask:0", "mask:1.5", "mask:", "segments:0", "segments:1.5", "positions:-1", "positions:x", "pixels:1",
    "pixels:5:1", "pixels:nan:1", "audio:1:1", "normal:0:-1", "normal:inf", "uniform", "uniform:1", "uniform:2:1",
    "constant", "constant:a", "constant:1:2",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_recipe_is_one_line_with_its_form(text: str) -> None:
    with pytest.raises(ProfileError) as caught:
        KIND.check(LatencySection(random={"ids": text}))
    message = str(caught.value)
    assert message.startswith("task.random.ids: ") and "\n" not in message
    assert "write it as" in message or "there is no recipe" in message


RIGHT = {
    "tokens": ["tokens", "tokens:5", "tokens:5:0.5", "tokens::0.5", "tokens:"],
    "mask": ["mask", "mask:1"],
    "segments": ["segments", "segments:3"],
    "positions": ["positions", "positions:0"],
    "pixels": ["pixels", "pixels:-1:1"],
    "audio": ["audio", "audio:-1:1"],
    "normal": ["normal", "normal:3", "normal:3:0"],
    "uniform": ["uniform:-1:1"],
    "constant": ["constant:-1"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_a_recipe_is_taken_and_gives_numbers(kind: str) -> None:
    for text in RIGHT[kind]:
        assert parse(text).kind == kind
        (values,) = made(text, spec("x", "float32", (1, 8, 8), valid_range=(0, 9)))
        assert values.shape == (1, 8, 8) and np.isfinite(values).all()


def test_random_and_given_inputs_exclude_each_other() -> None:
    with pytest.raises(ProfileError, match="inputs are random or given by files; leave out one"):
        KIND.check(LatencySection(random={"*": "pixels"}, inputs=["a.npz"]))


def test_recipes_and_shapes_of_a_command_line() -> None:
    assert recipes(["ids=tokens:5,mask=mask", "pixels"]) == {"ids": "tokens:5", "mask": "mask", "*": "pixels"}
    assert shapes(["ids=1x128,mask=1x128", "a=b:0=2"]) == {"ids": [1, 128], "mask": [1, 128], "a=b:0": [2]}
    assert not InputOptions() and InputOptions(signature="x")


@pytest.mark.parametrize(
    ("read", "texts", "message"),
    [
        (recipes, ["ids="], "--random ids=: write it as INPUT=RECIPE"),
        (recipes, ["=mask"], "--random =mask: write it as"),
        (recipes, [""], "write it as INPUT=RECIPE"),
        (recipes, ["ids=mask", "ids=pixels"], "ids has a recipe already"),
        (recipes, ["mask,pixels"], "every input has a recipe already"),
        (shapes, ["1x128"], "--shape 1x128: write it as INPUT=SHAPE, such as ids=1x128"),
        (shapes, ["ids=1x-1"], "write it as INPUT=SHAPE"),
        (shapes, ["ids=1x"], "write it as INPUT=SHAPE"),
        (shapes, ["ids=0x4"], "write it as INPUT=SHAPE"),
        (shapes, ["ids=1x128,ids=1x64"], "ids has a shape already"),
    ],
)
def test_what_a_command_line_cannot_mean(read: Any, texts: list[str], message: str) -> None:
    with pytest.raises(QprofError) as caught:
        read(texts)
    assert message in str(caught.value) and "\n" not in str(caught.value)

"""Recipes of random inputs: what they give, and what is refused in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qprof.errors import DataError, ProfileError
from qprof.record.quantization import dequantize
from qprof.record.tensors import TensorSpec
from qprof.tasks.latency.random_inputs import RandomInputs, parse


def spec(shape: tuple[int, ...], dtype: str = "float32", **more: Any) -> TensorSpec:
    return TensorSpec("x", shape, dtype, **more)


def made(recipe: str, tensor: TensorSpec, sample: int = 0, **others: str) -> np.ndarray[Any, Any]:
    return RandomInputs({"x": recipe, **others}, 0).stored(sample, 0, tensor)


def test_tokens_fill_the_vocabulary_and_are_padded_behind() -> None:
    ids = made("tokens:300:0.25", spec((200, 64), "int32"))
    assert ids.dtype == np.int32 and ids[:, :16].min() == 0 and ids[:, :16].max() == 299
    assert not ids[:, 16:].any()
    assert made("tokens::0.5", spec((1, 8), "int64", valid_range=(1, 40)))[0, 4:].tolist() == [1] * 4
    table = spec((50, 50), "int32", valid_range=(0, 40))
    assert made("tokens", table).max() == 40


def test_a_mask_is_ones_then_zeros_as_long_as_the_tokens() -> None:
    tensor = spec((2, 8), "int32")
    assert made("mask", tensor).tolist() == [[1] * 6 + [0] * 2] * 2
    assert made("mask:0.5", tensor).tolist() == [[1] * 4 + [0] * 4] * 2
    assert made("mask", tensor, ids="tokens:9:0.25").tolist() == [[1] * 2 + [0] * 6] * 2
    assert made("mask:1", spec((1, 3), "bool")).tolist() == [[True] * 3]


def test_segments_positions_and_constants() -> None:
    assert made("segments", spec((1, 6), "int32")).tolist() == [[0, 0, 0, 1, 1, 1]]
    assert made("segments:3", spec((1, 6), "int64")).tolist() == [[0, 0, 1, 1, 2, 2]]
    assert made("positions", spec((1, 4), "int32")).tolist() == [[0, 1, 2, 3]]
    assert made("constant:7", spec((2,), "uint8")).tolist() == [7, 7]


@pytest.mark.parametrize("shape", [(1, 64, 48, 3), (1, 3, 64, 48), (64, 48), (1, 64, 48, 1), (1, 4, 64, 48, 3)])
def test_pixels_are_like_those_of_photographs(shape: tuple[int, ...]) -> None:
    image = made("pixels", spec(shape)).astype(np.float64)
    assert image.shape == shape and image.min() >= 0 and image.max() <= 255
    assert 35 < image.std() < 75 and 80 < image.mean() < 175
    axes = (2, 3) if shape[1] == 3 else (len(shape) - 3, len(shape) - 2) if len(shape) > 2 else (0, 1)
    planes = np.moveaxis(image, axes, (-2, -1))
    # Neighbours are alike, as no white noise is.
    a, b = planes[..., :, 1:].ravel(), planes[..., :, :-1].ravel()
    assert np.corrcoef(a, b)[0, 1] > 0.6
    power = np.abs(np.fft.fft2(planes - planes.mean((-2, -1), keepdims=True))) ** 2
    assert power[..., 1, 1].mean() > 20 * power[..., 20, 20].mean()


def test_pixels_are_the_same_for_a_quantized_variant() -> None:
    tensor = spec((1, 16, 16, 3), "int8", scale=2 / 255, zero_point=0)
    real = dequantize(made("pixels:-1:1", tensor), tensor)
    assert np.abs(real - made("pixels:-1:1", spec((1, 16, 16, 3)))).max() < 2 / 255
    assert made("pixels", spec((1, 16, 16, 3), "uint8")).max() > 150


def test_audio_is_limited_to_its_band() -> None:
    wave = made("audio", spec((1, 16000)))[0]
    power = np.abs(np.fft.rfft(wave)) ** 2
    assert power[80:4001].sum() > 0.999 * power.sum()
    assert np.abs(wave).max() == pytest.approx(0.9, abs=1e-3)


def test_normal_and_uniform() -> None:
    drawn = made("normal:5:2", spec((100, 100)))
    assert drawn.mean() == pytest.approx(5, abs=0.1) and drawn.std() == pytest.approx(2, abs=0.1)
    drawn = made("uniform:-3:4", spec((100, 100)))
    assert -3 <= drawn.min() < -2.9 and 3.9 < drawn.max() <= 4
    assert set(np.unique(made("uniform:2:5", spec((400,), "int32")))) == {2, 3, 4, 5}


def test_samples_differ_and_repeat() -> None:
    tensor = spec((1, 8, 8, 3))
    assert np.array_equal(made("pixels", tensor), made("pixels", tensor))
    assert not np.array_equal(made("pixels", tensor), made("pixels", tensor, sample=1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("token:3", "there is no recipe 'token'; did you mean tokens"),
        ("tokens:many", r"tokens:many: write it as tokens\[:COUNT\[:FILLED\]\]"),
        ("tokens:0", "write it as tokens"),
        ("tokens:9:2", "write it as tokens"),
        ("mask:1.5", "write it as mask"),
        ("pixels:1", "write it as pixels"),
        ("pixels:1:-1", "write it as pixels"),
        ("uniform", "write it as uniform:LOW:HIGH"),
        ("constant", "write it as constant:VALUE"),
        ("constant:nan", "write it as constant:VALUE"),
        ("normal:0:-1", "write it as normal"),
        ("mask:0.5:1", "write it as mask"),
    ],
)
def test_recipes_that_are_none(text: str, says: str) -> None:
    with pytest.raises(ProfileError, match=says):
        parse(text)


@pytest.mark.parametrize(
    ("recipe", "tensor", "says"),
    [
        ("tokens:500", spec((1, 4), "int32", valid_range=(0, 40)), "looks up rows up to 40: give tokens:41 or less"),
        ("tokens", spec((1, 4), "int32"), "shows no table that it indexes: say how many tokens"),
        ("pixels", spec((1, 8, 8, 3), "int8"), "input 'x' is int8: give numbers from -128 to 127"),
        ("pixels", spec((1,)), "has no height and width"),
        ("audio", spec((1, 1)), "has no time axis"),
        ("constant:0", spec((1,), "int32", valid_range=(1, None)), "the model takes 1 at least for 'x'"),
        ("segments:5", spec((1, 10), "int32", valid_range=(0, 1)), "the model takes 0 at least and 1 at most"),
    ],
)
def test_recipes_that_an_input_does_not_take(recipe: str, tensor: TensorSpec, says: str) -> None:
    with pytest.raises(DataError, match=says):
        RandomInputs({"x": recipe}, 0).check([tensor])


def test_recipes_go_by_name_argument_position_or_for_all() -> None:
    first = TensorSpec("serving_default_ids:0", (1, 4), "int32", argument="inputs")
    for key in ("serving_default_ids:0", "ids", "inputs", "0"):
        given = RandomInputs({key: "constant:3", "*": "constant:1"}, 0)
        given.check([first, spec((2,))])
        assert given.stored(0, 0, first).tolist() == [[3] * 4] and given.stored(0, 1, spec((2,))).tolist() == [1, 1]
    with pytest.raises(DataError, match="the model has no input 'idz'; its inputs are 0 = inputs, 1 = x"):
        RandomInputs({"idz": "constant:3"}, 0).check([first, spec((2,))])

"""Pixels to input tensors with known answers, and boxes back through the same geometry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qprof.errors import DataError, ProfileError
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection.boxes import to_corners
from qprof.tasks.images.preprocess import PreprocessConfig, Preprocessor


def spec(shape: tuple[int, ...] = (1, 4, 4, 3), dtype: str = "float32", *quantization: float) -> TensorSpec:
    scale, zero_point = quantization or (None, None)
    return TensorSpec("image", shape, dtype, scale, None if zero_point is None else int(zero_point))


def solid(color: tuple[int, int, int], size: tuple[int, int] = (4, 4)) -> Image.Image:
    return Image.new("RGB", size, color)


def test_mean_and_std_make_minus_one_to_one() -> None:
    stored = Preprocessor(PreprocessConfig(), spec()).stored(solid((0, 127, 255)))
    assert stored.dtype == np.float32 and stored.shape == (1, 4, 4, 3)
    assert stored[0, 2, 1].tolist() == pytest.approx([-1.0, -0.5 / 127.5, 1.0])


def test_mean_and_std_per_channel_follow_the_colour_order() -> None:
    config = PreprocessConfig(color="bgr", mean=[1, 2, 3], std=[1, 2, 4])
    assert Preprocessor(config, spec()).stored(solid((11, 22, 33)))[0, 0, 0].tolist() == [32.0, 10.0, 2.0]


def test_channels_first() -> None:
    stored = Preprocessor(PreprocessConfig(mean=0, std=1), spec((1, 3, 2, 5))).stored(solid((1, 2, 3)))
    assert stored.shape == (1, 3, 2, 5) and stored.flags.c_contiguous
    assert stored[0, :, 1, 4].tolist() == [1, 2, 3]


def test_grey_has_one_channel() -> None:
    stored = Preprocessor(PreprocessConfig(color="grey", mean=0, std=1), spec((1, 4, 4, 1))).stored(solid((9, 9, 9)))
    assert stored.shape == (1, 4, 4, 1) and stored.max() == 9


@pytest.mark.parametrize(
    ("dtype", "quantization", "raw_pixels", "expected"),
    [
        ("uint8", (1 / 128, 128), None, [0, 127, 255]),  # -1 -> 0, -0.5/127.5 -> 127.498 -> 127, 1 -> 256, saturated
        ("int8", (1 / 128, 0), None, [-128, -1, 127]),
        ("uint8", (), None, [0, 127, 255]),  # no quantization: the bytes themselves
        ("uint8", (1 / 128, 128), True, [0, 127, 255]),
        ("int8", (), True, [-128, -1, 127]),
        ("float32", (), True, [0, 127, 255]),
        ("int16", (1 / 32768, 0), None, [-32768, -129, 32767]),
    ],
)
def test_quantized_and_raw_inputs(
    dtype: str, quantization: tuple[float, ...], raw_pixels: bool | None, expected: list[int]
) -> None:
    stored = Preprocessor(PreprocessConfig(raw_pixels=raw_pixels), spec((1, 4, 4, 3), dtype, *quantization)).stored(
        solid((0, 127, 255))
    )
    assert stored.dtype == np.dtype(dtype)
    assert stored[0, 0, 0].tolist() == expected


def test_real_values_of_a_quantized_input_are_not_quantized() -> None:
    real = Preprocessor(PreprocessConfig(), spec((1, 4, 4, 3), "uint8", 1 / 128, 128)).real(solid((255, 255, 255)))
    assert real.dtype == np.float32 and real.max() == 1.0


def test_a_range_that_does_not_fit_is_remarked() -> None:
    fits = Preprocessor(PreprocessConfig(), spec((1, 4, 4, 3), "uint8", 1 / 128, 128))
    cut = Preprocessor(PreprocessConfig(mean=0, std=1), spec((1, 4, 4, 3), "uint8", 1 / 128, 128))
    unused = Preprocessor(PreprocessConfig(), spec((1, 4, 4, 3), "uint8", 1.0, 128))
    assert fits.notes() == []
    assert "0..255" in cut.notes()[0] and "cut off" in cut.notes()[0]
    assert "unused" in unused.notes()[0]


def test_letterbox_centres_and_pads() -> None:
    config = PreprocessConfig(resize="letterbox", mean=0, std=1)
    stored = Preprocessor(config, spec((1, 8, 8, 3))).stored(solid((255, 0, 0), (16, 8)))[0]
    assert (stored[:2] == 114).all() and (stored[6:] == 114).all()
    assert (stored[2:6, :, 0] == 255).all()
    upright = Preprocessor(config, spec((1, 8, 8, 3))).stored(solid((255, 0, 0), (8, 16)))[0]
    assert (upright[:, 2:6, 0] == 255).all() and (upright[:, :2] == 114).all()


def test_letterbox_topleft_starts_in_the_corner() -> None:
    config = PreprocessConfig(resize="letterbox-topleft", mean=0, std=1, pad_value=7)
    stored = Preprocessor(config, spec((1, 8, 8, 3))).stored(solid((255, 0, 0), (4, 8)))[0]
    assert (stored[:, :4, 0] == 255).all() and (stored[:, 4:] == 7).all()


@given(
    st.sampled_from(["stretch", "letterbox", "letterbox-topleft"]),
    st.integers(1, 700),
    st.integers(1, 700),
    st.tuples(st.integers(2, 300), st.integers(2, 300)),
)
def test_a_box_over_the_whole_image_maps_back_to_it(
    resize: str, width: int, height: int, size: tuple[int, int]
) -> None:
    preprocessor = Preprocessor(PreprocessConfig(resize=resize, layout="nhwc"), spec((1, size[1], size[0], 3)))
    geometry = preprocessor.geometry((width, height), (width, height))
    low = np.array([geometry.offset_x, geometry.offset_y])
    high = low + np.array([geometry.scale_x * width, geometry.scale_y * height])
    assert (low >= 0).all() and (high <= np.array(size) + 1e-9).all()
    mapped = geometry.to_image(np.array([[*low, *high]]), clip=False)
    assert mapped[0] == pytest.approx([0, 0, width, height])


def test_the_geometry_finds_the_pixel_that_was_drawn() -> None:
    picture = solid((0, 0, 0), (200, 100))
    picture.paste((255, 255, 255), (50, 20, 90, 60))
    preprocessor = Preprocessor(PreprocessConfig(resize="letterbox", mean=0, std=1), spec((1, 100, 100, 3)))
    rows, columns = np.nonzero(preprocessor.stored(picture)[0, :, :, 0] > 200)
    found = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], dtype=np.float64)
    assert preprocessor.geometry((200, 100), (200, 100)).to_image(found, clip=True)[0].tolist() == [50, 20, 90, 60]


def test_boxes_are_mapped_into_the_annotated_frame_of_a_resized_copy() -> None:
    geometry = Preprocessor(PreprocessConfig(), spec((1, 10, 10, 3))).geometry((50, 50), (100, 100))
    assert geometry.to_image(np.array([[0.0, 0.0, 10.0, 5.0]]), clip=False)[0].tolist() == [0, 0, 100, 50]


def test_clipping_cuts_at_the_image() -> None:
    geometry = Preprocessor(PreprocessConfig(), spec((1, 10, 10, 3))).geometry((20, 40), (20, 40))
    box = np.array([[-5.0, -5.0, 50.0, 50.0]])
    assert geometry.to_image(box, clip=True)[0].tolist() == [0, 0, 20, 40]
    assert geometry.to_image(box, clip=False)[0].tolist() == [-10, -20, 100, 200]


def test_box_formats_agree() -> None:
    expected = [[10, 20, 40, 80]]
    for box, name in (
        ([10, 20, 40, 80], "xyxy"),
        ([20, 10, 80, 40], "yxyx"),
        ([10, 20, 30, 60], "xywh"),
        ([25, 50, 30, 60], "cxcywh"),
    ):
        assert to_corners(np.array([box], dtype=np.float32), name).tolist() == expected


@pytest.mark.parametrize(
    ("config", "tensor", "message"),
    [
        (PreprocessConfig(), spec((4, 4, 3)), "one image is fed at a time"),
        (PreprocessConfig(), spec((2, 4, 4, 3)), "one image is fed at a time"),
        (PreprocessConfig(), spec((1, 4, 4, 1)), "no axis for the 3 channels"),
        (PreprocessConfig(color="grey"), spec((1, 4, 4, 3)), "no axis for the 1 channels"),
        (PreprocessConfig(layout="nchw"), spec((1, 4, 4, 3)), "no axis for the 3 channels"),
        (PreprocessConfig(), spec((1, 3, 8, 3)), "may be nhwc or nchw"),
        (PreprocessConfig(), spec((1, 1, 1, 3)), "leaves height and width open"),
        (PreprocessConfig(), spec((1, 4, 4, 3), "int32"), "is int32, not an image"),
        (PreprocessConfig(), spec((1, 4, 4, 3), "int8"), "set preprocess.raw_pixels = true"),
        (PreprocessConfig(raw_pixels=True), spec((1, 4, 4, 3), "int16", 1.0, 0), "cannot take raw pixels"),
        (PreprocessConfig(raw_pixels=False), spec((1, 4, 4, 3), "uint8"), "set preprocess.raw_pixels = true"),
    ],
)
def test_inputs_that_do_not_fit(config: PreprocessConfig, tensor: TensorSpec, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preprocessor(config, tensor)


@pytest.mark.parametrize(
    "wrong",
    [
        {"resize": "crop"},
        {"interpolation": "lanczos"},
        {"color": "yuv"},
        {"layout": "hwc"},
        {"mean": [1.0, 2.0]},
        {"std": 0.0},
        {"std": [1.0, -1.0, 1.0]},
        {"mean": float("nan")},
        {"pad_value": 256},
    ],
)
def test_wrong_configuration_names_the_key(wrong: dict[str, object]) -> None:
    with pytest.raises(ProfileError, match=f"preprocess.{next(iter(wrong))}"):
        PreprocessConfig(**wrong)  # type: ignore[arg-type]

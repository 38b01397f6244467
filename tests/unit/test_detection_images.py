"""Any image file becomes RGB in the annotated frame, or one line that says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qprof.errors import DataError
from qprof.tasks.images import reading
from qprof.tasks.images.reading import read_rgb, read_size

TRANSPOSED = (5, 6, 7, 8)


def oriented(path: Path, orientation: int, size: tuple[int, int] = (4, 2)) -> Path:
    picture = Image.new("RGB", size)
    picture.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_only_if_the_annotated_size_asks_for_it(tmp_path: Path, orientation: int) -> None:
    path = oriented(tmp_path / "x.png", orientation)
    for annotated in (None, (4, 2), (100, 50)):
        assert read_rgb(path, annotated).size == read_size(path, annotated) == (4, 2)
        assert read_rgb(path, annotated).getpixel((0, 0)) == (255, 0, 0)
    turned = (2, 4) if orientation in TRANSPOSED else (4, 2)
    assert read_rgb(path, (2, 4)).size == read_size(path, (2, 4)) == turned


def test_orientation_6_turns_clockwise(tmp_path: Path) -> None:
    path = oriented(tmp_path / "x.png", 6)
    assert read_rgb(path, (2, 4)).getpixel((1, 0)) == (255, 0, 0)


def test_a_square_image_keeps_its_stored_pixels(tmp_path: Path) -> None:
    path = oriented(tmp_path / "x.png", 6, (3, 3))
    assert read_rgb(path, (3, 3)).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("mode", "suffix", "color", "expected"),
    [
        ("L", "png", 100, (100, 100, 100)),
        ("1", "png", 1, (255, 255, 255)),
        ("LA", "png", (100, 0), (100, 100, 100)),
        ("RGBA", "png", (10, 20, 30, 0), (10, 20, 30)),
        ("P", "png", 0, (0, 0, 0)),
        ("CMYK", "tif", (0, 255, 255, 0), (255, 0, 0)),
        ("I;16", "png", 65535, (255, 255, 255)),
        ("I;16", "png", 257 * 90, (90, 90, 90)),
        ("I;16", "png", 200, (1, 1, 1)),  # a dark image, not one of 8 bits
        ("I", "tif", 90, (90, 90, 90)),
        ("I", "tif", 257 * 90, (90, 90, 90)),
    ],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path, mode: str, suffix: str, color: int | tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    path = tmp_path / f"x.{suffix}"
    Image.new(mode, (3, 2), color).save(path)
    picture = read_rgb(path, None)
    assert picture.mode == "RGB" and picture.size == (3, 2)
    assert picture.getpixel((1, 1)) == expected


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "x.gif"
    Image.new("RGB", (4, 4), (0, 128, 255)).quantize(4).save(path)
    assert read_rgb(path, None).getpixel((2, 2)) == (0, 128, 255)


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    Image.new("F", (3, 2), 0.5).save(path)
    with pytest.raises(DataError, match=r"x.tif.*float pixels"):
        read_rgb(path, None)


@pytest.mark.parametrize("keep", [0, 1, 30, 400])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_files_are_one_line_with_the_name(tmp_path: Path, keep: int, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(DataError, match=f"cut.{suffix}: cannot be decoded") as caught:
        read_rgb(path, None)
    assert "\n" not in str(caught.value)


def test_what_is_no_image_or_not_there(tmp_path: Path) -> None:
    text = tmp_path / "x.png"
    text.write_text("hello")
    for path in (text, tmp_path / "none.png", tmp_path):
        with pytest.raises(DataError, match="cannot be decoded"):
            read_rgb(path, None)
        with pytest.raises(DataError, match="cannot be decoded"):
            read_size(path, None)


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    Image.new("L", (30, 30)).save(path)
    monkeypatch.setattr(reading, "MAX_PIXELS", 899)
    with pytest.raises(DataError, match="30x30 pixels are more than the 899"):
        read_rgb(path, None)
    monkeypatch.setattr(reading, "MAX_PIXELS", 900)
    assert read_rgb(path, None).size == (30, 30)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # 900 is over Pillow's warning, below its error
    with pytest.raises(DataError, match="cannot be decoded"):
        read_rgb(path, None)

"""Reading image files as RGB pixels in the frame that annotations speak of where there are any."""

from __future__ import annotations

import io
import itertools
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qprof.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

#: Larger images are refused as decompression bombs; Pillow's own limit (PIL.Image.MAX_IMAGE_PIXELS, 1 GiB at 12 bytes a
#: pixel).
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3

#: Formats that are read, by Pillow's names. It knows many more, of which some start other programs (Ghostscript, for
#: PostScript that calls itself .jpg).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

Size = tuple[int, int]  # width, height


def read_rgb(path: Path, annotated: Size | None) -> Image:
    """The image as 8-bit RGB, turned by its EXIF orientation only where the annotations speak of the turned image.

    COCO tools read the pixels as stored, so boxes refer to those; the EXIF orientation is applied if, and only if, the
    annotated width and height differ from the stored ones and equal those after turning. Greyscale, palette, CMYK and
    images with transparency (dropped, not blended) are converted; 16-bit greyscale is scaled to 8 bits. Raises
    `DataError` with file and reason for an image that is broken, truncated, over `MAX_PIXELS`, or of a mode without RGB
    form.
    """
    return _rgb(path, path, annotated)


def refuse_outside(path: Path, folder: Path) -> Path:
    """The path; raises `DataError` where it leads, by a link, out of the folder of images that it is found in. A
    snapshot of the hub's cache may lead to the blobs beside it."""
    inside = itertools.takewhile(lambda one: one != folder, (path, *path.parents))
    if any(one.is_symlink() for one in inside):
        target, home = path.resolve(), folder.resolve()
        snapshot = next((one for one in (home, *home.parents) if one.parent.name == "snapshots"), None)
        blobs = snapshot.parent.parent / "blobs" if snapshot is not None else home
        if not target.is_relative_to(home) and not target.is_relative_to(blobs):
            raise DataError(f"{path}: is a link that leads out of {folder}: copy the image to where the link is")
    return path


def rgb_of(content: bytes, name: str) -> Image:
    """An image file's bytes as `read_rgb` reads a file, as stored; `name` stands for it in errors."""
    return _rgb(io.BytesIO(content), name, None)


def _rgb(source: Path | io.BytesIO, name: Path | str, annotated: Size | None) -> Image:
    from PIL import ImageOps

    try:
        with _open(source, name) as image:
            image.load()
            upright = ImageOps.exif_transpose(image) if _is_turned(image, annotated) else image
            return _to_rgb(upright)
    except DataError:
        raise
    except Exception as error:  # a decoder fed with damaged bytes may raise nearly anything
        raise DataError(_unreadable(name, error)) from error


def read_size(path: Path, annotated: Size | None) -> Size:
    """Width and height of what `read_rgb` would return, from the file's header alone; raises `DataError` like it."""
    try:
        with _open(path, path) as image:
            width, height = image.size
            return (height, width) if _is_turned(image, annotated) else (width, height)
    except DataError:
        raise
    except Exception as error:  # see read_rgb
        raise DataError(_unreadable(path, error)) from error


def _open(source: Path | io.BytesIO, name: Path | str) -> Image:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(source, formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise DataError(
            f"{name}: {width}x{height} pixels are more than the {MAX_PIXELS} allowed: shrink or remove the image"
        )
    return image


def _is_turned(image: Image, annotated: Size | None) -> bool:
    from PIL.ExifTags import Base

    if annotated is None or annotated == image.size or annotated != (image.height, image.width):
        return False
    return image.getexif().get(Base.Orientation, 1) in (5, 6, 7, 8)


def _to_rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode == "F":
        raise ValueError("float pixels have no defined 8-bit form")
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow's own conversion cuts everything above 255 to white. Mode "I" may hold 8-bit values in 32 bits.
        deep = np.asarray(image, dtype=np.int64)
        step = 1 if image.mode == "I" and int(deep.max(initial=0)) <= 255 else 257
        image = Image.fromarray(np.clip(np.rint(deep / step), 0, 255).astype(np.uint8))
    return image.convert("RGB")


def _unreadable(name: Path | str, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    told = " ".join(str(error).split()) or type(error).__name__
    reason = f"it is none of {', '.join(FORMATS)}" if isinstance(error, UnidentifiedImageError) else told
    return f"{name}: cannot be decoded as an image ({reason}): replace the file, or remove it from the annotations"

"""From an RGB image to the input tensor of a model, and the geometry that leads boxes back."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError, ProfileError
from qprof.record.quantization import FLOAT_DTYPES, is_quantized, quantize, real_range
from qprof.record.tensors import TensorSpec
from qprof.tasks.images.geometry import Geometry

if TYPE_CHECKING:
    from PIL.Image import Image

RESIZES = ("stretch", "letterbox", "letterbox-topleft")
INTERPOLATIONS = ("bilinear", "nearest", "bicubic", "area")
COLORS = ("rgb", "bgr", "grey")
LAYOUTS = ("auto", "nhwc", "nchw")

#: A quantized input whose range differs from that of the preprocessed pixels by more than this share is remarked on.
RANGE_TOLERANCE = 0.1


@dataclass(frozen=True)
class PreprocessConfig:
    """How pixels become input values. A channel's real value is (pixel - mean) / std with pixels of 0..255.

    `resize`: "stretch" to the input's size; "letterbox" keeps the aspect and centres the image on `pad_value` (a pixel
    value; 114 is YOLO's grey); "letterbox-topleft" puts it into the top left corner (YOLOX). `interpolation` is that of
    Pillow, which widens its filter when it shrinks an image; "area" is its box filter. `mean` and `std` hold one value
    or one per channel, in the order of `color`. `layout` "auto" finds the axis of 3 (or 1) channels. `raw_pixels` =
    true feeds the bytes themselves: 0..255 for float and uint8, shifted to -128..127 for int8; mean and std are not
    used then. `None` does so only for a uint8 input that carries no quantization.
    """

    resize: str = "stretch"
    interpolation: str = "bilinear"
    color: str = "rgb"
    mean: float | list[float] = 127.5
    std: float | list[float] = 127.5
    layout: str = "auto"
    pad_value: int = 114
    raw_pixels: bool | None = None

    def __post_init__(self) -> None:
        for key, allowed in (
            ("resize", RESIZES),
            ("interpolation", INTERPOLATIONS),
            ("color", COLORS),
            ("layout", LAYOUTS),
        ):
            value = getattr(self, key)
            if value not in allowed:
                raise ProfileError(f"preprocess.{key} = {value!r} is not one of {', '.join(allowed)}")
        channels = 1 if self.color == "grey" else 3
        for key in ("mean", "std"):
            values = getattr(self, key)
            if isinstance(values, Sequence) and len(values) == 1:  # as other tools write what is one for all channels
                values = values[0]
                object.__setattr__(self, key, values)
            if isinstance(values, Sequence) and len(values) != channels:
                raise ProfileError(
                    f"preprocess.{key} has {len(values)} values: give one, or {channels} for color {self.color!r}"
                )
            if not np.isfinite(values).all() or (key == "std" and not np.all(np.asarray(values) > 0)):
                raise ProfileError(
                    f"preprocess.{key} = {values} must be finite{' and positive' if key == 'std' else ''}"
                )
        if not 0 <= self.pad_value <= 255:
            raise ProfileError(f"preprocess.pad_value = {self.pad_value} is not a pixel value of 0..255")


@dataclass(slots=True)
class Preprocessor:
    """Preprocessing fitted to one input tensor. Raises `DataError` where the tensor is no image of batch 1."""

    config: PreprocessConfig
    spec: TensorSpec
    height: int = field(init=False)
    width: int = field(init=False)
    channels_first: bool = field(init=False)
    raw: bool = field(init=False)

    def __post_init__(self) -> None:
        self.channels_first, self.height, self.width = _image_axes(self.config, self.spec)
        dtype = self.spec.dtype
        if dtype not in FLOAT_DTYPES and dtype not in ("uint8", "int8", "int16", "uint16"):
            raise DataError(
                f"input {self.spec.name!r} is {dtype}, not an image: use a model with a float or 8-/16-bit image input"
            )
        without_scale = dtype not in FLOAT_DTYPES and not is_quantized(self.spec)
        self.raw = self.config.raw_pixels if self.config.raw_pixels is not None else without_scale and dtype == "uint8"
        if without_scale and not self.raw:
            raise DataError(
                f"input {self.spec.name!r} is {dtype} without quantization parameters: set preprocess.raw_pixels = "
                "true if it takes pixels"
            )
        if self.raw and dtype not in (*FLOAT_DTYPES, "uint8", "int8"):
            raise DataError(
                f"input {self.spec.name!r} is {dtype}, which cannot take raw pixels: remove preprocess.raw_pixels"
            )

    def alike(self) -> Hashable:
        """Two that are fitted with one configuration and for which this is equal store an image alike."""
        return replace(self.spec, name="", argument=None)

    def geometry(self, stored: tuple[int, int], frame: tuple[int, int]) -> Geometry:
        """The way from pixels of the annotations' `frame` (width, height) to those of the input, for an image of size
        `stored`."""
        width, height = self._resized(stored)
        left, top = self._offset(width, height)
        return Geometry(frame[0], frame[1], width / frame[0], height / frame[1], left, top)

    def real(self, image: Image) -> NDArray[np.float32]:
        """The RGB image as real values in the input's layout, [1,H,W,C] or [1,C,H,W]."""
        pixels = self._pixels(image).astype(np.float32)
        if not self.raw:
            mean, std = (np.asarray(value, dtype=np.float32) for value in (self.config.mean, self.config.std))
            pixels = np.divide(pixels - mean, std, dtype=np.float32)
        return self._layout(pixels)

    def stored(self, image: Image) -> NDArray[Any]:
        """The RGB image as the input stores it: exact shape and dtype, quantized where the input is."""
        if not self.raw or self.spec.dtype in FLOAT_DTYPES:
            return np.ascontiguousarray(quantize(self.real(image), self.spec))
        shift = 128 if self.spec.dtype == "int8" else 0
        return self._layout((self._pixels(image).astype(np.int16) - shift).astype(self.spec.dtype))

    def notes(self) -> list[str]:
        """A remark if the preprocessed pixels and the range that a quantized input holds do not fit each other."""
        if self.raw or not is_quantized(self.spec):
            return []
        mean, std = np.atleast_1d(self.config.mean), np.atleast_1d(self.config.std)
        low, high = float(((0 - mean) / std).min()), float(((255 - mean) / std).max())
        floor, ceiling = real_range(self.spec)
        slack = RANGE_TOLERANCE * (high - low)
        cut = floor > low + slack or ceiling < high - slack
        if not cut and (ceiling - floor) < 2 * (high - low):
            return []
        effect = "pixels are cut off" if cut else "most of the input's steps stay unused"
        return [
            f"preprocessing yields {low:.4g}..{high:.4g}, the input {self.spec.name!r} holds "
            f"{floor:.4g}..{ceiling:.4g}: {effect}; "
            "check preprocess.mean, preprocess.std and preprocess.raw_pixels"
        ]

    def _resized(self, stored: tuple[int, int]) -> tuple[int, int]:
        if self.config.resize == "stretch":
            return self.width, self.height
        ratio = min(self.width / stored[0], self.height / stored[1])
        return max(1, round(stored[0] * ratio)), max(1, round(stored[1] * ratio))

    def _offset(self, width: int, height: int) -> tuple[int, int]:
        if self.config.resize != "letterbox":
            return 0, 0
        return (self.width - width) // 2, (self.height - height) // 2

    def _pixels(self, image: Image) -> NDArray[np.uint8]:
        """The resized, padded image, [H,W,C] in the colour order of the configuration."""
        from PIL import Image as Images

        filters = {
            "bilinear": Images.Resampling.BILINEAR,
            "nearest": Images.Resampling.NEAREST,
            "bicubic": Images.Resampling.BICUBIC,
            "area": Images.Resampling.BOX,
        }
        if self.config.color == "grey":
            image = image.convert("L")
        size = self._resized(image.size)
        if image.size != size:
            image = image.resize(size, filters[self.config.interpolation])
        pixels: NDArray[np.uint8] = np.asarray(image, dtype=np.uint8).reshape(size[1], size[0], -1)
        if self.config.color == "bgr":
            pixels = pixels[:, :, ::-1]
        if size == (self.width, self.height):
            return pixels
        left, top = self._offset(*size)
        canvas = np.full((self.height, self.width, pixels.shape[2]), self.config.pad_value, dtype=np.uint8)
        canvas[top : top + size[1], left : left + size[0]] = pixels
        return canvas

    def _layout(self, pixels: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray((pixels.transpose(2, 0, 1) if self.channels_first else pixels)[np.newaxis])


def _image_axes(config: PreprocessConfig, spec: TensorSpec) -> tuple[bool, int, int]:
    """Whether channels come first, the height and the width of a 4-D image input."""
    shape = spec.shape
    if len(shape) != 4 or shape[0] != 1:
        raise DataError(
            f"input {spec.name!r} has shape {list(shape)}: one image is fed at a time, so give a model with an input "
            "of [1,H,W,C] or [1,C,H,W]"
        )
    channels = 1 if config.color == "grey" else 3
    fitting = [layout for layout, axis in (("nhwc", 3), ("nchw", 1)) if shape[axis] == channels]
    if config.layout != "auto":
        fitting = [layout for layout in fitting if layout == config.layout]
    if not fitting:
        raise DataError(
            f"input {spec.name!r} of shape {list(shape)} has no axis for the {channels} channels of color "
            f"{config.color!r}, layout "
            f"{config.layout!r}: set preprocess.color and preprocess.layout to fit"
        )
    if len(fitting) > 1:
        raise DataError(
            f"input {spec.name!r} of shape {list(shape)} may be nhwc or nchw: set preprocess.layout to one of them"
        )
    first = fitting[0] == "nchw"
    height, width = (shape[2], shape[3]) if first else (shape[1], shape[2])
    if min(height, width) < 2:
        raise DataError(
            f"input {spec.name!r} leaves height and width open ({list(shape)}): give the variant a fixed input shape"
        )
    return first, height, width

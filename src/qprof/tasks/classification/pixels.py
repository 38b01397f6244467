"""What an image classifier is given: the settings of a profile, and what its input says where they leave it open."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ProfileError
from qprof.record.quantization import FLOAT_DTYPES, is_quantized, real_range
from qprof.record.tensors import TensorSpec
from qprof.tasks.images.conventions import IMAGENET, RANGES, Value
from qprof.tasks.images.preprocess import COLORS, INTERPOLATIONS, LAYOUTS, PreprocessConfig, Preprocessor

if TYPE_CHECKING:
    from PIL.Image import Image

RESIZES = ("auto", "crop", "stretch", "letterbox", "letterbox-topleft")

#: Outputs of a model that was trained on ImageNet, without a background class and with one.
_IMAGENET_OUTPUTS = (1000, 1001)

#: An input whose range is off by more than this share of that of the pixels says something else.
_RANGE_TOLERANCE = 0.25


@dataclass(frozen=True)
class ImageConfig:
    """How pixels become input values; what is left out is settled by what the model's input says.

    `resize`: "crop" scales an image until its centre, of the input's size, is `crop` of its shorter side (0.875: 256
    to 224 pixels), and takes that; "stretch", "letterbox" and "letterbox-topleft" are those of detection. "auto": as
    it is where it has the input's size, "crop" for a model of ImageNet's 1000 classes, "stretch" for others. A
    channel's real value is (pixel - mean) / std with pixels of 0..255; `raw_pixels` = true feeds the bytes themselves.
    `color` "auto" is grey for an input of one channel.
    """

    resize: str = "auto"
    crop: float = 0.875
    interpolation: str = "bilinear"
    color: str = "auto"
    mean: Value | None = None
    std: Value | None = None
    layout: str = "auto"
    pad_value: int = 114
    raw_pixels: bool | None = None

    def __post_init__(self) -> None:
        for key, allowed in (
            ("resize", RESIZES),
            ("interpolation", INTERPOLATIONS),
            ("color", ("auto", *COLORS)),
            ("layout", LAYOUTS),
        ):
            value = getattr(self, key)
            if value not in allowed:
                raise ProfileError(f"preprocess.{key} = {value!r} is not one of {', '.join(allowed)}")
        if not 0.0 < self.crop <= 1.0:
            raise ProfileError(f"preprocess.crop = {self.crop} is no share of an image's side: give 0.875, or up to 1")
        if (self.mean is None) != (self.std is None):
            raise ProfileError("preprocess.mean and preprocess.std go together: give both or neither")
        if self.mean is not None and self.raw_pixels:
            raise ProfileError("preprocess.raw_pixels leaves mean and std without effect: give one or the other")
        if self.mean is not None and self.std is not None and self.color != "auto":
            _checked(self, self.color, self.mean, self.std)


def _checked(config: ImageConfig, color: str, mean: Value, std: Value, raw: bool | None = None) -> PreprocessConfig:
    resize = config.resize if config.resize.startswith("letterbox") else "stretch"
    return PreprocessConfig(
        resize=resize,
        interpolation=config.interpolation,
        color=color,
        mean=mean,
        std=std,
        layout=config.layout,
        pad_value=config.pad_value,
        raw_pixels=raw,
    )


class Pixels:
    """The settings fitted to one input of a model with so many outputs. Raises `DataError`, `ProfileError`."""

    def __init__(
        self, config: ImageConfig, spec: TensorSpec, outputs: int, said: tuple[Value, Value] | None = None
    ) -> None:
        """`said`: the mean and deviation that the model says it was trained on."""
        self.spec, self.notes = spec, list[str]()
        color = config.color if config.color != "auto" else _color(spec)
        self.resize = config.resize
        if self.resize == "auto":
            self.resize = "crop" if outputs in _IMAGENET_OUTPUTS else "stretch"
        self.crop, self.interpolation = config.crop, config.interpolation
        mean, std = config.mean, config.std
        if mean is None or std is None:
            mean, std = self._normalization(config, said)
        elif said is not None and not _alike((mean, std), said):
            self.notes.append(
                f"the model says that it was trained on pixels of mean {_told(said[0])} and std {_told(said[1])}, and "
                f"is given {_told(mean)} and {_told(std)}: leave preprocess.mean and preprocess.std out to follow it"
            )
        if color == "bgr" and (mean, std) == IMAGENET:
            mean, std = IMAGENET[0][::-1], IMAGENET[1][::-1]
        if color == "grey" and (mean, std) == IMAGENET:
            mean, std = float(np.mean(IMAGENET[0])), float(np.mean(IMAGENET[1]))
        self.settled = _checked(config, color, mean, std, config.raw_pixels)
        self._preprocessor = Preprocessor(self.settled, spec)
        self.raw = self._preprocessor.raw
        self.notes += self._preprocessor.notes()
        self._resized = 0
        self._resize_said = config.resize != "auto"

    def real(self, image: Image) -> NDArray[np.float32]:
        """The RGB image as real values in the input's layout."""
        return self._preprocessor.real(self._framed(image))

    def stored(self, image: Image) -> NDArray[Any]:
        """The RGB image as the input stores it."""
        return self._preprocessor.stored(self._framed(image))

    def alike(self) -> Hashable:
        """Two for which this is equal store an image alike."""
        return self.settled, self._preprocessor.alike(), self.resize, self.crop

    def remarks(self) -> list[str]:
        """`notes`, and what was done to the images seen so far."""
        if not self._resized or self._resize_said:
            return self.notes
        size = f"{self._preprocessor.width}x{self._preprocessor.height}"
        how = (
            f"scaled and cut to their centre ({self.crop:g} of the shorter side)"
            if self.resize == "crop"
            else "stretched"
        )
        return [*self.notes, f"images are {how} to {size}: set preprocess.resize if the model was trained otherwise"]

    def _framed(self, image: Image) -> Image:
        size = (self._preprocessor.width, self._preprocessor.height)
        if image.size == size:
            return image
        self._resized += 1
        return cropped(image, size, self.crop, self.interpolation) if self.resize == "crop" else image

    def _normalization(self, config: ImageConfig, said: tuple[Value, Value] | None) -> tuple[Value, Value]:
        """The mean and deviation that the model or its input speaks for."""
        spec = self.spec
        if config.raw_pixels:
            return 0.0, 1.0
        if said is not None and spec.dtype in FLOAT_DTYPES:
            return said
        if spec.dtype in FLOAT_DTYPES:
            self.notes.append(
                f"input {spec.name!r} is {spec.dtype} and does not say which numbers it takes: pixels are scaled to "
                "-1..1; set preprocess.mean and preprocess.std if it was trained on others"
            )
            return 127.5, 127.5
        if not is_quantized(spec):
            return 0.0, 1.0  # the preprocessor takes the bytes, or says that it cannot
        low, high = real_range(spec)
        best, off = _nearest(spec)
        says, mean, std = RANGES[best]
        doubt = "" if off <= _RANGE_TOLERANCE else ", the nearest of those in use"
        self.notes.append(
            f"input {spec.name!r} holds {low:.4g}..{high:.4g}: it is given {says}{doubt}; set preprocess.mean and "
            "preprocess.std if that is wrong"
        )
        return mean, std


def _alike(a: tuple[Value, Value], b: tuple[Value, Value]) -> bool:
    return all(np.allclose(np.asarray(one), np.asarray(other), rtol=0.02) for one, other in zip(a, b, strict=True))


def _told(value: Value) -> str:
    return ", ".join(f"{one:.4g}" for one in np.atleast_1d(value))


def for_all(config: ImageConfig, inputs: Sequence[Sequence[TensorSpec]]) -> tuple[ImageConfig, list[str]]:
    """The settings with the normalization that quantized inputs speak for, where variants with others are beside them:
    those of floats do not say what they take, and all are to be given the same pixels. Remarks on that, too."""
    images = [specs[0] for specs in inputs if len(specs) == 1 and len(specs[0].shape) == 4]
    speaking = [spec for spec in images if is_quantized(spec)]
    if config.mean is not None or config.raw_pixels is not None or not 0 < len(speaking) < len(inputs):
        return config, []
    nearest = {_nearest(spec)[0] for spec in speaking}
    if len(nearest) > 1:
        return config, []
    says, mean, std = RANGES[nearest.pop()]
    low, high = real_range(speaking[0])
    note = (
        f"the quantized input {speaking[0].name!r} holds {low:.4g}..{high:.4g}: all variants are given {says}; set "
        "preprocess.mean and preprocess.std if that is wrong"
    )
    return replace(config, mean=mean, std=std), [note]


def _nearest(spec: TensorSpec) -> tuple[int, float]:
    """Which of `RANGES` a quantized input is nearest to, and how far it is from that."""
    low, high = real_range(spec)
    off = [_distance(low, high, mean, std) for _, mean, std in RANGES]
    best = int(np.argmin(off))
    return best, off[best]


def cropped(image: Image, size: tuple[int, int], share: float, interpolation: str) -> Image:
    """The centre of an image scaled so that `size` (width, height) is `share` of its shorter side.

    As torchvision's Resize(256) and CenterCrop(224) do for 0.875 and 224: the longer side is cut to whole pixels, and
    the place of the crop rounded half to even (torchvision.transforms.functional, `resize` and `center_crop`).
    """
    from PIL import Image as Images

    filters = {
        "bilinear": Images.Resampling.BILINEAR,
        "nearest": Images.Resampling.NEAREST,
        "bicubic": Images.Resampling.BICUBIC,
        "area": Images.Resampling.BOX,
    }
    wide, high = (max(side, round(side / share)) for side in size)
    # The side that decides is exact, the other one as long as the image's shape makes it.
    if wide * image.height >= high * image.width:
        width, height = wide, max(size[1], int(wide * image.height / image.width))
    else:
        width, height = max(size[0], int(high * image.width / image.height)), high
    scaled = image.resize((width, height), filters[interpolation])
    left, top = round((width - size[0]) / 2.0), round((height - size[1]) / 2.0)
    return scaled.crop((left, top, left + size[0], top + size[1]))


def _color(spec: TensorSpec) -> str:
    shape: Sequence[int] = spec.shape
    channels = [shape[axis] for axis in (1, 3)] if len(shape) == 4 else []
    return "grey" if 1 in channels and 3 not in channels else "rgb"


def _distance(low: float, high: float, mean: Value, std: Value) -> float:
    """How far an input's range is from that of pixels so normalized, as a share of the latter."""
    means, deviations = np.atleast_1d(mean), np.atleast_1d(std)
    least, most = float(((0 - means) / deviations).min()), float(((255 - means) / deviations).max())
    return (abs(low - least) + abs(high - most)) / (most - least)

"""What a detection head is: its configuration, what it is bound to, and what it gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError, ProfileError
from qprof.record.sections import FilePath
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection.boxes import BOX_FORMATS, Detections

KINDS = ("auto", "tflite-postprocess", "boxes", "centernet-decoded", "ssd-raw", "centernet", "yolox")
ROLES = ("boxes", "classes", "scores", "count", "heatmap", "size", "offset", "ignore")
BOX_UNITS = ("normalized", "pixels")
SIZE_UNITS = ("cells", "pixels", "normalized")
PAIR_ORDERS = ("xy", "yx")
ACTIVATIONS = ("none", "sigmoid", "softmax")


@dataclass(frozen=True)
class HeadConfig:
    """How outputs become boxes. A value left at `None` takes the default of the kind.

    `kind`: "tflite-postprocess" (outputs of the op TFLite_Detection_PostProcess), "boxes" (final boxes, classes, scores
    and perhaps a count), "centernet-decoded" (the same with classes from 1, as the TensorFlow Object Detection API
    exports them), "ssd-raw" (a box and class scores per anchor), "centernet" (heatmap, size, offset), "yolox" (one
    output [1,N,5+C]: cx, cy, w, h, objectness, class scores), or "auto" by op types and shapes.
    `roles`: what each output is, in the model's order, where names and shapes do not tell ("ignore" for the rest).
    `box_format`, `box_units`: of "boxes" kinds and "ssd-raw" (default yxyx, normalized). `class_offset`: number of the
    first class ("boxes" kinds). `background`: class column 0 of "ssd-raw" is the background (default true). `anchors`:
    .npy file of [N,4] center-y, center-x, height, width (normalized) for "ssd-raw" boxes encoded against them;
    `variances` are the divisors of ty, tx, th, tw. `score_activation` is applied to class scores or heatmap.
    `size_units`, `pair_order`: of the "centernet" maps; its stride follows from the shapes. `decoded`: "yolox" boxes
    are already in input pixels (default: whether the model holds the EXP op, without which it cannot decode them);
    `strides` of its grids otherwise. `max_detections` per image, best first; scores not above `score_threshold` are
    dropped; `nms_iou` is the IoU above which the lower of two boxes of a class is suppressed (default 0.6 for
    "ssd-raw", 0.65 for "yolox", none elsewhere). `clip` cuts boxes to the image.
    """

    kind: str = "auto"
    roles: list[str] | None = None
    box_format: str | None = None
    box_units: str | None = None
    class_offset: int | None = None
    background: bool | None = None
    anchors: FilePath | None = None
    variances: list[float] = field(default_factory=lambda: [10.0, 10.0, 5.0, 5.0])
    score_activation: str = "none"
    size_units: str = "cells"
    pair_order: str = "xy"
    decoded: bool | None = None
    strides: list[int] = field(default_factory=lambda: [8, 16, 32])
    max_detections: int = 100
    score_threshold: float = 0.001
    nms_iou: float | None = None
    clip: bool = True

    def __post_init__(self) -> None:
        for key, allowed in (
            ("kind", KINDS),
            ("box_format", BOX_FORMATS),
            ("box_units", BOX_UNITS),
            ("score_activation", ACTIVATIONS),
            ("size_units", SIZE_UNITS),
            ("pair_order", PAIR_ORDERS),
        ):
            value = getattr(self, key)
            if value is not None and value not in allowed:
                raise ProfileError(f"head.{key} = {value!r} is not one of {', '.join(allowed)}")
        for role in self.roles or ():
            if role not in ROLES:
                raise ProfileError(f"head.roles holds {role!r}, which is not one of {', '.join(ROLES)}")
        if len(self.variances) != 4 or not all(math.isfinite(v) and v > 0 for v in self.variances):
            raise ProfileError(f"head.variances = {self.variances} must be four positive numbers, e.g. [10, 10, 5, 5]")
        if not self.strides or min(self.strides) < 1:
            raise ProfileError(f"head.strides = {self.strides} must be positive, e.g. [8, 16, 32]")
        if self.max_detections < 1:
            raise ProfileError(f"head.max_detections = {self.max_detections} must be at least 1")
        if not math.isfinite(self.score_threshold):
            raise ProfileError(f"head.score_threshold = {self.score_threshold} must be a finite number")
        if self.nms_iou is not None and not 0 <= self.nms_iou <= 1:
            raise ProfileError(f"head.nms_iou = {self.nms_iou} is not an IoU of 0..1")


@dataclass(frozen=True, slots=True)
class Binding:
    """What a decoder is built from: the configuration with its kind settled, the outputs, and the input it belongs
    to."""

    config: HeadConfig
    outputs: Sequence[TensorSpec]
    op_types: Sequence[str]
    height: int
    width: int
    channels_first: bool


class Head(Protocol):
    """A decoder bound to one variant's outputs."""

    class_count: int | None  # None where the outputs do not tell

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Outputs as stored -> all candidate boxes in input pixels: unsorted, before threshold and suppression."""

    def notes(self) -> list[str]:
        """Assumptions made for lack of a setting, each with the setting that replaces it."""


def grid_cells(binding: Binding) -> int:
    """Cells of all grids that the strides lay over the input."""
    return sum((binding.height // s) * (binding.width // s) for s in binding.config.strides)


def describe(outputs: Sequence[TensorSpec]) -> str:
    """Outputs in one line, for messages."""
    return ", ".join(f"{o.name} {o.dtype}{list(o.shape)}" for o in outputs)


def load_anchors(path: Path, count: int) -> NDArray[np.float64]:
    """Anchors [count,4] from a .npy file; `DataError` if it is not that."""
    try:
        anchors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: anchors cannot be read ({error}): give a .npy file of floats") from error
    if (
        not isinstance(anchors, np.ndarray)
        or anchors.shape != (count, 4)
        or not np.issubdtype(anchors.dtype, np.floating)
    ):
        shape = getattr(anchors, "shape", "an archive")
        raise DataError(
            f"{path}: anchors are {shape}, the model needs floats of [{count}, 4] (center y, center x, height, width)"
        )
    if not np.isfinite(anchors).all():
        raise DataError(f"{path}: anchors hold values that are not finite: export them again")
    return anchors.astype(np.float64)

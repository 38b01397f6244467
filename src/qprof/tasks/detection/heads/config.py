"""How a detection head is configured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from qprof.errors import ProfileError
from qprof.record.sections import FilePath
from qprof.tasks.detection.boxes import BOX_FORMATS

ROLES = ("boxes", "classes", "scores", "count", "heatmap", "size", "offset", "detections", "ignore")
BOX_UNITS = ("normalized", "pixels")
SIZE_UNITS = ("cells", "pixels", "normalized")
PAIR_ORDERS = ("xy", "yx")
ACTIVATIONS = ("none", "sigmoid", "softmax")


@dataclass(frozen=True)
class HeadConfig:
    """How outputs become boxes. A value left at `None` takes the default of the kind; one that the kind does not take
    is an error.

    `kind`: one of the heads of this package, each described in its module and in its README, or "auto": by op types,
    names and shapes. `roles`: what each output is, in the model's order, where names and shapes do not tell
    ("detections" for the one output that holds all, "ignore" for the rest). `box_format`, `box_units`: how boxes are
    written, and whether they are shares of the input or its pixels; heads that write boxes for all of the image tell
    the unit by their values. `class_offset`: number of the first class, where an output holds the numbers of classes.
    `background`: whether a score column stands for no object (the first of "ssd-raw", the last of "detr"). `anchors`:
    .npy file of [N,4] center-y, center-x, height, width (normalized), the boxes that others are encoded against;
    `variances` are the divisors of ty, tx, th, tw ("ssd-raw"), `anchor_scale` the size of the smallest anchor in
    strides ("efficientdet"). `score_activation` is applied to class scores or heatmap. `size_units`, `pair_order`
    and `size_order` (where it is another than that of the offsets): of the "centernet" maps; its stride follows from
    the shapes. `decoded`: "yolox" boxes are final, not offsets within the
    cells of the grids of `strides`. `multi_label`: every class of a box whose score is high enough is a detection of
    its own, not the best alone. `max_detections` per image, best first; scores not above `score_threshold` are dropped;
    `nms_iou` is the IoU above which the lower of two boxes of a class is suppressed. `clip` cuts boxes to the image.
    """

    kind: str = "auto"
    roles: list[str] | None = None
    box_format: str | None = None
    box_units: str | None = None
    class_offset: int | None = None
    background: bool | None = None
    anchors: FilePath | None = None
    variances: list[float] = field(default_factory=lambda: [10.0, 10.0, 5.0, 5.0])
    score_activation: str | None = None
    size_units: str = "cells"
    pair_order: str = "xy"
    size_order: str | None = None
    decoded: bool | None = None
    multi_label: bool | None = None
    anchor_scale: float | None = None
    strides: list[int] = field(default_factory=lambda: [8, 16, 32])
    max_detections: int = 100
    score_threshold: float = 0.001
    nms_iou: float | None = None
    clip: bool = True

    def __post_init__(self) -> None:
        from qprof.tasks.detection.heads import kinds  # the heads are built from this

        for key, allowed in (
            ("kind", ("auto", *kinds())),
            ("box_format", BOX_FORMATS),
            ("box_units", BOX_UNITS),
            ("score_activation", ACTIVATIONS),
            ("size_units", SIZE_UNITS),
            ("pair_order", PAIR_ORDERS),
            ("size_order", PAIR_ORDERS),
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
        if self.anchor_scale is not None and not 0 < self.anchor_scale < math.inf:
            raise ProfileError(f"head.anchor_scale = {self.anchor_scale} must be a positive number, e.g. 3")
        if self.max_detections < 1:
            raise ProfileError(f"head.max_detections = {self.max_detections} must be at least 1")
        if not math.isfinite(self.score_threshold):
            raise ProfileError(f"head.score_threshold = {self.score_threshold} must be a finite number")
        if self.nms_iou is not None and not 0 <= self.nms_iou <= 1:
            raise ProfileError(f"head.nms_iou = {self.nms_iou} is not an IoU of 0..1")

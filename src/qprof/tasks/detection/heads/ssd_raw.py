"""SSD without its post-processing: a box and class scores per anchor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.quantization import dequantize
from qprof.tasks.detection.boxes import Detections, Floats, to_corners
from qprof.tasks.detection.heads.base import Binding, Head, HeadKind, Match, Trial, describe, load_anchors
from qprof.tasks.detection.heads.config import HeadConfig
from qprof.tasks.detection.heads.roles import anchor_outputs
from qprof.tasks.detection.heads.trials import other_activation, other_formats, other_units
from qprof.tasks.detection.heads.values import activate, corners, require_probabilities

#: Of the six layers that an SSD on MobileNet predicts from.
_SSD_STRIDES = (16, 32, 64, 128, 256, 512)


class AnchorBoxes(Head):
    """Boxes [1,N,4] and class scores [1,N,C], boxes final or encoded against anchors (SSD: Liu et al., arXiv
    1512.02325)."""

    def __init__(self, binding: Binding) -> None:
        config, outputs = binding.config, binding.outputs
        self._binding = binding
        if config.anchors is not None and (config.box_format or config.box_units):
            raise DataError(
                "head.box_format and head.box_units mean nothing beside head.anchors, which give both: remove them"
            )
        self._boxes, self._scores = anchor_outputs(binding)
        self._background = config.background if config.background is not None else True
        columns = outputs[self._scores].shape[-1]
        self.class_count: int | None = columns - int(self._background)
        if self.class_count < 1:
            raise DataError(
                f"output {outputs[self._scores].name!r} has no class beside the background: set head.background = false"
            )
        count = outputs[self._boxes].shape[1]
        self._anchors = load_anchors(Path(config.anchors), count) if config.anchors else None
        self._standard = _has_standard_anchors(binding, count)
        if self._standard:
            self._anchors = standard_anchors(binding.height, binding.width)
        if self._anchors is None and config.variances != HeadConfig().variances:
            raise DataError("head.variances means nothing without head.anchors: remove it, or give the anchors")
        self._normalized = self._anchors is not None or (config.box_units or "normalized") == "normalized"

    def notes(self) -> list[str]:
        config, notes = self._binding.config, []
        if config.background is None:
            notes.append("class column 0 is taken as background: set head.background = false if it is a class")
        if self._standard:
            notes.append(
                "boxes are taken as encoded against the anchors of the TensorFlow Object Detection API's SSD: set "
                "head.anchors, or head.box_format for final boxes, if they are not"
            )
        if self._anchors is None and (config.box_format is None or config.box_units is None):
            notes.append(
                f"boxes are taken as {'normalized' if self._normalized else 'pixels'} {config.box_format or 'yxyx'}: "
                "set head.box_format and head.box_units if they are not"
            )
        return notes

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        specs, config = self._binding.outputs, self._binding.config
        raw = dequantize(outputs[self._boxes], specs[self._boxes])[0].astype(np.float64)
        scores = activate(dequantize(outputs[self._scores], specs[self._scores])[0], config.score_activation)
        require_probabilities(scores, config.score_activation, specs[self._scores])
        scores = scores[:, int(self._background) :]
        boxes = to_corners(raw, config.box_format or "yxyx") if self._anchors is None else self._against_anchors(raw)
        if self._normalized:
            boxes = boxes * corners(self._binding.width, self._binding.height)
        row, column = np.nonzero(~(scores <= config.score_threshold))  # NaN passes, to be counted by the task
        return Detections(boxes[row], scores[row, column], column.astype(np.int64))

    def _against_anchors(self, raw: Floats) -> Floats:
        """tensorflow/lite/kernels/detection_postprocess.cc, DecodeCenterSizeBoxes."""
        anchors = self._anchors
        assert anchors is not None
        ty, tx, th, tw = (raw / np.asarray(self._binding.config.variances)).T
        center_y, center_x = ty * anchors[:, 2] + anchors[:, 0], tx * anchors[:, 3] + anchors[:, 1]
        height, width = np.exp(th) * anchors[:, 2], np.exp(tw) * anchors[:, 3]
        return to_corners(np.stack([center_x, center_y, width, height], axis=1), "cxcywh")


def standard_anchors(height: int, width: int) -> Floats:
    """The anchors [N,4] of the TensorFlow Object Detection API's SSD (`ssd_anchor_generator` with its defaults, and
    `reduce_boxes_in_lowest_layer`): center y, center x, height, width, as shares of the input."""
    scales = np.linspace(0.2, 0.95, len(_SSD_STRIDES))
    parts = []
    for layer, stride in enumerate(_SSD_STRIDES):
        scale = scales[layer]
        after = scales[layer + 1] if layer + 1 < len(scales) else 1.0
        shapes = [(scale, aspect) for aspect in (1.0, 2.0, 0.5, 3.0, 1 / 3)] + [(math.sqrt(scale * after), 1.0)]
        if layer == 0:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        rows, columns = math.ceil(height / stride), math.ceil(width / stride)
        row, column = np.mgrid[0:rows, 0:columns]
        center = np.stack([(row.ravel() + 0.5) / rows, (column.ravel() + 0.5) / columns], axis=1)
        sizes = np.array([(size / math.sqrt(aspect), size * math.sqrt(aspect)) for size, aspect in shapes])
        each = np.concatenate([np.repeat(center, len(sizes), axis=0), np.tile(sizes, (len(center), 1))], axis=1)
        parts.append(each)
    anchors: Floats = np.concatenate(parts)
    return anchors


def _has_standard_anchors(binding: Binding, count: int) -> bool:
    """Whether nothing is said of the boxes, and there are as many as an SSD of the usual form has anchors."""
    config = binding.config
    if config.anchors is not None or config.box_format is not None or config.box_units is not None:
        return False
    return count == len(standard_anchors(binding.height, binding.width))


def _per_anchor(binding: Binding) -> Match | None:
    outputs, config = binding.outputs, binding.config
    shapes = [o.shape for o in outputs]
    if len(shapes) != 2 or any(len(s) != 3 for s in shapes):
        return None
    if shapes[0][:2] != shapes[1][:2] or not any(s[2] == 4 for s in shapes):
        return None
    if config.anchors is not None or config.box_format is not None:
        return Match(5, "its outputs are a box and class scores per anchor")
    if _has_standard_anchors(binding, shapes[0][1]):
        return Match(4, "its outputs are a box and class scores for each of an SSD's anchors")
    lacks = (
        f"outputs look like raw SSD boxes and scores ({describe(outputs)}): set head.anchors if boxes are encoded "
        "against anchors, or head.box_format if they are final"
    )
    return Match(2, "its outputs are a box and class scores per anchor", lacks)


def _trials(config: HeadConfig) -> Iterator[Trial]:
    if config.anchors is None:
        yield from other_formats(config, None)
        yield from other_units(config, "normalized")
    yield from other_activation(config, ("none", "sigmoid", "softmax"))
    background = not (True if config.background is None else config.background)
    says = "column 0 of the scores is the background" if background else "column 0 of the scores is a class"
    yield Trial("background", background, says)


HEADS = (
    HeadKind(
        name="ssd-raw",
        recognize=_per_anchor,
        make=AnchorBoxes,
        settings=frozenset({"roles", "box_format", "box_units", "background", "anchors", "variances"}),
        activations=("none", "sigmoid", "softmax"),
        nms_iou=0.6,  # TensorFlow Object Detection API, configs of SSD (`iou_threshold`)
        trials=_trials,
    ),
)

"""YOLOv5 (and YOLOv3, v7, which write the same): final boxes with objectness, three for every cell.

One output [1,N,5+C]: cx, cy, w, h, objectness, class scores. Boxes are shares of the input in yolov5's own .tflite
files (`models/tf.py`, TFDetect: "Normalize xywh to 0-1 to reduce calibration error"), pixels in those that come by
ONNX. As in yolov5's `val.py` the score of a class is its own times objectness, every class of a box counts, and boxes
of a class are duplicates from an IoU of 0.6 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from qprof.tasks.detection.boxes import Detections
from qprof.tasks.detection.heads.base import Binding, Head, HeadKind
from qprof.tasks.detection.heads.rows import (
    ROW_SETTINGS,
    boxes_and_scores,
    class_detections,
    match_rows,
    require_rows,
    row_trials,
)
from qprof.tasks.detection.heads.values import BoxUnits

_FORM, _BOX, _BEFORE_CLASSES, _ANCHORS = "[1,N,5+C]", 4, 5, 3


class Yolov5(Head):
    """Rows of a final box, objectness and class scores."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._rows = require_rows(binding, "yolov5", _BEFORE_CLASSES, _FORM, _ANCHORS)
        self._units = BoxUnits(binding.config.box_units, "normalized")
        self.class_count = self._rows.columns - _BEFORE_CLASSES

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        binding, config = self._binding, self._binding.config
        rows = self._rows.read(outputs, binding)
        boxes, scores = boxes_and_scores(rows, self._rows.output, binding, self._units)
        return class_detections(
            boxes,
            scores[:, :1] * scores[:, 1:],
            config.score_threshold,
            config.multi_label is not False,
        )

    def seen(self) -> list[str]:
        return self._units.seen()


HEADS = (
    HeadKind(
        name="yolov5",
        recognize=lambda binding: match_rows(binding, _BEFORE_CLASSES, _FORM, False, _ANCHORS),
        make=Yolov5,
        settings=ROW_SETTINGS,
        activations=("none", "sigmoid"),
        nms_iou=0.6,
        trials=lambda config: row_trials(config, "yolov5"),
    ),
)

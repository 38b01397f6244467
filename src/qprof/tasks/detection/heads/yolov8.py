"""YOLOv8, 9, 11, 12 and what else of ultralytics has no objectness: a box and class scores for every cell.

One output [1,4+C,N], or [1,N,4+C] where a converter turned it: cx, cy, w, h and the scores of the classes. Boxes are
pixels of the input in models that come by ONNX, shares of it in ultralytics' own .tflite files. As in ultralytics'
validation every class of a box counts (`ultralytics.utils.nms.non_max_suppression` with `multi_label`), and boxes of a
class are duplicates from an IoU of 0.7 on (`iou` of ultralytics' cfg/default.yaml).
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

_FORM, _BOX = "[1,4+C,N] or [1,N,4+C]", 4


class Yolov8(Head):
    """Rows of a box and class scores."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._rows = require_rows(binding, "yolov8", _BOX, _FORM)
        self._units = BoxUnits(binding.config.box_units, "normalized")
        self.class_count = self._rows.columns - _BOX

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        binding, config = self._binding, self._binding.config
        rows = self._rows.read(outputs, binding)
        boxes, scores = boxes_and_scores(rows, self._rows.output, binding, self._units)
        return class_detections(boxes, scores, config.score_threshold, config.multi_label is not False)

    def seen(self) -> list[str]:
        return self._units.seen()


HEADS = (
    HeadKind(
        name="yolov8",
        recognize=lambda binding: match_rows(binding, _BOX, _FORM, columns_first=True),
        make=Yolov8,
        settings=ROW_SETTINGS,
        activations=("none", "sigmoid"),
        nms_iou=0.7,
        trials=lambda config: row_trials(config, "yolov8"),
    ),
)

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

from qprof.tasks.detection.boxes import Detections, to_corners
from qprof.tasks.detection.heads.base import Binding, Head, HeadKind
from qprof.tasks.detection.heads.rows import ROW_SETTINGS, class_detections, match_rows, require_rows, row_trials
from qprof.tasks.detection.heads.values import BoxUnits, activate, require_probabilities

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
        self._units.look(rows[:, :_BOX])
        boxes = self._units.in_pixels(rows[:, :_BOX], binding.width, binding.height)
        scores = activate(rows[:, _BOX:], config.score_activation)
        require_probabilities(scores, config.score_activation, binding.outputs[self._rows.output])
        multi_label = config.multi_label is not False
        return class_detections(
            to_corners(boxes, config.box_format or "cxcywh"), scores, config.score_threshold, multi_label
        )

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

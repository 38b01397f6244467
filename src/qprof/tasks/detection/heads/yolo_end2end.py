"""YOLOv10, YOLO26 and ultralytics' exports with `nms=True`: a few final boxes, sorted, that need no suppression.

One output [1,N,6]: x0, y0, x1, y1, score, class (`Detect.postprocess` of ultralytics, N = `max_det`, 300 by default).
Boxes are pixels of the input in models that come by ONNX or litert-torch, shares of it in older .tflite files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.quantization import dequantize
from qprof.tasks.detection.boxes import Detections, to_corners
from qprof.tasks.detection.heads.base import Binding, Head, HeadKind, Match, Trial, describe
from qprof.tasks.detection.heads.config import HeadConfig
from qprof.tasks.detection.heads.rows import USUAL_STRIDES, grid_cells, whole_output
from qprof.tasks.detection.heads.trials import other_formats, other_units
from qprof.tasks.detection.heads.values import BoxUnits

_COLUMNS = 6
#: More boxes than that no exporter keeps of an image.
_MOST_ROWS = 1000
#: `max_det` as people set it.
_USUAL_ROWS = (100, 300)


class End2End(Head):
    """Rows of a final box, its score and its class."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        position = whole_output(binding)
        shape = () if position is None else binding.outputs[position].shape
        if position is None or _COLUMNS not in shape[1:]:
            raise DataError(
                f"an end2end head has one output [1,N,6], this model has {describe(binding.outputs)}: set another "
                "head.kind"
            )
        self._output, self._columns_first = position, shape[2] != _COLUMNS
        self._units = BoxUnits(binding.config.box_units, "pixels")

    def notes(self) -> list[str]:
        if self._binding.config.class_offset is not None:
            return []
        return ["classes are taken to count from 0: set head.class_offset = 1 if the model counts from 1"]

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        binding, config = self._binding, self._binding.config
        rows = dequantize(outputs[self._output], binding.outputs[self._output])[0].astype(np.float64)
        if self._columns_first:
            rows = rows.T
        # Rows without a detection are padding: their boxes tell nothing.
        self._units.look(rows[rows[:, 4] > config.score_threshold, :4])
        boxes = self._units.in_pixels(rows[:, :4], binding.width, binding.height)
        classes = np.where(np.isfinite(rows[:, 5]), np.rint(rows[:, 5]), -1).astype(np.int64)
        corners = to_corners(boxes, config.box_format or "xyxy")
        return Detections(corners, rows[:, 4], classes - (config.class_offset or 0))

    def seen(self) -> list[str]:
        return self._units.seen()


def _recognize(binding: Binding) -> Match | None:
    position = whole_output(binding)
    if position is None or _COLUMNS not in binding.outputs[position].shape[1:]:
        return None
    _, second, third = binding.outputs[position].shape
    rows = second if third == _COLUMNS else third
    if rows > _MOST_ROWS or (_is_grid(binding, rows) and any(binding.fits(classes) >= 0 for classes in (1, 2))):
        return None  # six columns may be a box, objectness and one class, or a box and two classes
    strength = (5 if rows in _USUAL_ROWS else 3) - int(third != _COLUMNS)
    return Match(strength, "one output of final boxes, each with a score and a class")


def _is_grid(binding: Binding, rows: int) -> bool:
    """Whether a head that writes a row or three for every cell would write so many."""
    grids = (binding.config.strides, *USUAL_STRIDES)
    return any(rows == per_cell * grid_cells(binding, strides) for strides in grids for per_cell in (1, 3))


def _trials(config: HeadConfig) -> Iterator[Trial]:
    yield from other_formats(config, "xyxy")
    yield from other_units(config, None)


HEADS = (
    HeadKind(
        name="yolo-end2end",
        recognize=_recognize,
        make=End2End,
        settings=frozenset({"roles", "box_format", "box_units", "class_offset"}),
        class_offset=0,
        trials=_trials,
    ),
)

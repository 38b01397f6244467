"""Boxes of a detector, and their formats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BOX_FORMATS = ("yxyx", "xyxy", "cxcywh", "xywh")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detections:
    """What a head found in one image: boxes [n,4] as x0,y0,x1,y1 in pixels of the model's input, scores [n], classes
    [n]."""

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Detections:
        """The chosen detections, by position or by mask."""
        return Detections(self.boxes[index], self.scores[index], self.classes[index])


def to_corners(boxes: NDArray[np.floating], box_format: str) -> Floats:
    """Boxes [n,4] of any of `BOX_FORMATS` -> x0,y0,x1,y1."""
    a, b, c, d = np.asarray(boxes, dtype=np.float64).T
    if box_format == "xyxy":
        columns = (a, b, c, d)
    elif box_format == "yxyx":
        columns = (b, a, d, c)
    elif box_format == "xywh":
        columns = (a, b, a + c, b + d)
    elif box_format == "cxcywh":
        columns = (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
    else:
        raise ValueError(f"box format {box_format!r} is none of {BOX_FORMATS}")
    return np.stack(columns, axis=1)

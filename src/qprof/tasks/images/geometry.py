"""The way from the pixels of a model's input back to those of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Geometry:
    """x_input = x_image * scale_x + offset_x (y alike), for an image of `width` x `height` pixels."""

    width: int
    height: int
    scale_x: float
    scale_y: float
    offset_x: float = 0.0
    offset_y: float = 0.0

    def to_image(self, boxes: Floats, clip: bool) -> Floats:
        """Corner boxes [n,4] in input pixels -> corner boxes in image pixels, cut to the image if `clip`."""
        offset = np.array([self.offset_x, self.offset_y] * 2)
        scale = np.array([self.scale_x, self.scale_y] * 2)
        mapped: Floats = (boxes - offset) / scale
        return self.cut(mapped) if clip else mapped

    def cut(self, boxes: Floats) -> Floats:
        """Corner boxes [n,4] in image pixels, cut to the image."""
        inside: Floats = np.clip(boxes, 0.0, np.array([self.width, self.height] * 2, dtype=np.float64))
        return inside

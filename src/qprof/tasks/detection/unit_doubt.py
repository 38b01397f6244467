"""Boxes whose numbers contradict the unit they are taken in: noticed without any truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qprof.tasks.detection.boxes import Floats

#: Shares of an input end at 1, and a box may stick out. No object that is worth finding is that small in pixels.
_FEW_PIXELS = 1.5
#: Boxes stick out of an image, but not by many times its size.
_MANY_TIMES = 10.0
#: Boxes from which one says anything; a single one may be off.
_FEWEST_BOXES = 3


class UnitDoubt:
    """Looks at every box that is found, in pixels of the input."""

    def __init__(self, width: int, height: int, settings: Mapping[str, str]) -> None:
        """`settings`: what to set where boxes are "normalized" or "pixels", for the head in use."""
        self._limit, self._settings = float(max(width, height)), settings
        self._boxes = self._tiny = self._huge = 0

    def look(self, boxes: Floats) -> None:
        """Corner boxes [n,4] that are all finite."""
        if len(boxes) == 0:
            return
        reach = np.abs(boxes).max(axis=1)
        self._boxes += len(boxes)
        self._tiny += int(np.count_nonzero(reach <= _FEW_PIXELS))
        self._huge += int(np.count_nonzero(reach > _MANY_TIMES * self._limit))

    def notes(self) -> list[str]:
        """A remark where the boxes found so far cannot be meant so."""
        if self._boxes < _FEWEST_BOXES:
            return []
        if self._tiny == self._boxes:
            what = f"all {self._boxes} boxes found lie within {_FEW_PIXELS} pixels of the input's corner"
            return [f"{what}: they look normalized{self._remedy('normalized')}"]
        if 2 * self._huge > self._boxes:
            what = f"{self._huge} of {self._boxes} boxes found reach {_MANY_TIMES:g} times the input's size and more"
            return [f"{what}: they look like pixels{self._remedy('pixels')}"]
        return []

    def _remedy(self, units: str) -> str:
        setting = self._settings.get(units)
        return f"; {setting}" if setting else "; set another head.kind"

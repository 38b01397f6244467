"""YOLOX (Ge et al., arXiv 2107.08430), and YOLOv6, which writes the same: a box with objectness for every cell.

One output [1,N,5+C]: cx, cy, w, h, objectness, class scores. As in YOLOX's own `postprocess`, a box carries its best
class alone, with score objectness x class score, and boxes of a class are duplicates from an IoU of 0.65 on
(`Exp.nmsthre`). Boxes that are not decoded are (offset from the cell, log size) in units of the stride, grids in the
order of `strides`. Decoded ones are pixels of the input, unless their values say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.tasks.detection.boxes import Detections, Floats, to_corners
from qprof.tasks.detection.heads.base import Binding, Head, HeadKind, Trial
from qprof.tasks.detection.heads.config import HeadConfig
from qprof.tasks.detection.heads.rows import (
    ROW_SETTINGS,
    class_detections,
    grid_cells,
    match_rows,
    require_rows,
    row_trials,
)
from qprof.tasks.detection.heads.values import BoxUnits, activate, require_probabilities

_FORM, _BOX, _BEFORE_CLASSES = "[1,N,5+C]", 4, 5
#: Centres of final boxes lie near their cells, which are all over the input; offsets from the cell know nothing of it.
_FOLLOWS_GRID = 0.9
#: Rows from which a correlation says something.
_ENOUGH_ROWS = 20


class Yolox(Head):
    """Rows of a box, objectness and class scores."""

    def __init__(self, binding: Binding) -> None:
        self._binding, config = binding, binding.config
        self._rows = require_rows(binding, "yolox", _BEFORE_CLASSES, _FORM)
        self.class_count = self._rows.columns - _BEFORE_CLASSES
        self._of_final = next((key for key in ("box_units", "box_format") if getattr(config, key)), None)
        if config.decoded is False and self._of_final is not None:
            raise DataError(
                f"head.{self._of_final} means nothing to a yolox head whose boxes are not decoded: remove it, or set "
                "head.decoded = true"
            )
        told = self._of_final is not None or binding.has_op("EXP")
        self._decoded = told if config.decoded is None else config.decoded
        self._overruled = False
        self._units = BoxUnits(config.box_units, "pixels")
        needed = None if self._decoded else self._strides()
        self._cells = None if needed is None else _grid(binding, needed)

    def notes(self) -> list[str]:
        if self._binding.config.decoded is not None:
            return []
        reason = "the model holds EXP" if self._decoded else "the model holds no EXP"
        if self._of_final is not None:
            reason = f"head.{self._of_final} is set"
        state = "final" if self._decoded else "offsets within grid cells"
        return [f"yolox boxes are taken as {state} ({reason}): set head.decoded if they are not"]

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        binding, config = self._binding, self._binding.config
        rows = self._rows.read(outputs, binding)
        boxes = rows[:, :_BOX]
        if self._cells is not None and config.decoded is None and _follow(boxes[:, :2], self._cells):
            self._cells, self._overruled = None, True
        if self._cells is not None:
            corner, stride = self._cells[:, :2], self._cells[:, 2:]
            boxes = np.concatenate([(boxes[:, :2] + corner) * stride, np.exp(boxes[:, 2:]) * stride], axis=1)
            box_format = "cxcywh"
        else:
            self._units.look(boxes)
            boxes = self._units.in_pixels(boxes, binding.width, binding.height)
            box_format = config.box_format or "cxcywh"
        scores = activate(rows[:, _BOX:], config.score_activation)
        require_probabilities(scores, config.score_activation, binding.outputs[self._rows.output])
        return class_detections(
            to_corners(boxes, box_format),
            scores[:, :1] * scores[:, 1:],
            config.score_threshold,
            config.multi_label is True,
        )

    def seen(self) -> list[str]:
        told = []
        if self._overruled:
            told.append(
                "yolox boxes are final after all: their centres follow the grid in the first image; set head.decoded "
                "if they are not"
            )
        return told + self._units.seen()

    def _strides(self) -> Sequence[int]:
        strides, rows = self._binding.config.strides, self._rows
        cells = grid_cells(self._binding, strides)
        if rows.count == cells:
            return strides
        if rows.strides is not None and strides == HeadConfig().strides:
            return rows.strides
        raise DataError(
            f"output {self._binding.outputs[rows.output].name!r} has {rows.count} rows, strides {strides} make {cells} "
            "cells: correct head.strides"
        )


def _follow(centers: Floats, cells: Floats) -> bool:
    """Whether the centres go with the places of their cells, row by row: those of final boxes do."""
    places = (cells[:, :2] + 0.5) * cells[:, 2:]
    if len(places) < _ENOUGH_ROWS or not np.isfinite(centers).all():
        return False
    for axis in (0, 1):
        ours, theirs = centers[:, axis] - centers[:, axis].mean(), places[:, axis] - places[:, axis].mean()
        size = float(np.sqrt((ours @ ours) * (theirs @ theirs)))
        if size == 0.0 or ours @ theirs < _FOLLOWS_GRID * size:
            return False
    return True


def _grid(binding: Binding, strides: Sequence[int]) -> Floats:
    """Column, row and stride of every cell, [N,3]."""
    parts = []
    for stride in strides:
        row, column = np.mgrid[0 : binding.height // stride, 0 : binding.width // stride]
        parts.append(np.stack([column.ravel(), row.ravel(), np.full(row.size, stride)], axis=1))
    cells: Floats = np.concatenate(parts).astype(np.float64)
    return cells


def _trials(config: HeadConfig) -> Iterator[Trial]:
    for decoded in (True, False):
        if decoded != config.decoded:
            state = "final" if decoded else "offsets within grid cells"
            yield Trial("decoded", decoded, f"boxes are {state}")
    yield from row_trials(config, "yolox")


HEADS = (
    HeadKind(
        name="yolox",
        recognize=lambda binding: match_rows(binding, _BEFORE_CLASSES, _FORM, False, likely_op="EXP"),
        make=Yolox,
        settings=ROW_SETTINGS | {"decoded", "strides"},
        activations=("none", "sigmoid"),
        nms_iou=0.65,
        trials=_trials,
    ),
)

"""Heads whose one output holds a row per box: which axis the rows are on, and how class scores become detections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.quantization import dequantize
from qprof.tasks.detection.boxes import Detections, Floats, to_corners
from qprof.tasks.detection.heads.base import Binding, Match, Trial, describe
from qprof.tasks.detection.heads.config import HeadConfig
from qprof.tasks.detection.heads.trials import other_activation, other_formats, other_units
from qprof.tasks.detection.heads.values import BoxUnits, activate, require_probabilities

#: Strides of the grids of YOLO models: the usual three, a coarser or a finer one more (P6, P2), and of "tiny" ones.
USUAL_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
#: More boxes of an image are cut to the best: `max_nms` of ultralytics' `non_max_suppression`.
_MOST_CANDIDATES = 30000
#: Columns of a box.
_BOX = 4
#: What the heads of this module take.
ROW_SETTINGS = frozenset({"roles", "box_format", "box_units", "multi_label"})


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows are: the output's position, whether its columns come first, as in [1, columns, rows]; `strides`:
    those of the grids that have so many cells, `None` where none have."""

    output: int
    columns_first: bool
    count: int
    columns: int
    strides: Sequence[int] | None

    def read(self, outputs: Sequence[NDArray[Any]], binding: Binding) -> Floats:
        """The rows as real values [count, columns]."""
        real: Floats = dequantize(outputs[self.output], binding.outputs[self.output])[0].astype(np.float64)
        return real.T if self.columns_first else real


def grid_cells(binding: Binding, strides: Sequence[int]) -> int:
    """Cells of all grids that the strides lay over the input."""
    return sum((binding.height // s) * (binding.width // s) for s in strides)


def possible_rows(binding: Binding, before_classes: int, per_cell: int = 1) -> Iterator[tuple[int, Rows]]:
    """The ways to read the output that holds all as rows of `before_classes` columns and those of the classes,
    `per_cell` rows for every cell: the strength of each (see `Match`), the rows."""
    position = whole_output(binding)
    if position is None:
        return
    _, second, third = binding.outputs[position].shape
    for columns_first, count, columns in ((False, second, third), (True, third, second)):
        if columns <= before_classes:
            continue
        known = (binding.config.strides, *USUAL_STRIDES)
        strides = next((s for s in known if count == per_cell * grid_cells(binding, s)), None)
        strength = (2 if strides is None else 4) + 2 * binding.fits(columns - before_classes)
        yield strength, Rows(position, columns_first, count, columns, strides)


def best_rows(binding: Binding, before_classes: int, per_cell: int = 1) -> Rows | None:
    """The likeliest of them: by the grids and the number of classes, else with more rows than columns."""
    found = []
    for strength, rows in possible_rows(binding, before_classes, per_cell):
        told = rows.strides is not None or binding.fits(rows.columns - before_classes) == 1
        if told or rows.count >= rows.columns:
            found.append((strength, rows.count > rows.columns, rows))
    return max(found, key=lambda one: one[:2])[2] if found else None


def require_rows(binding: Binding, kind: str, before_classes: int, form: str, per_cell: int = 1) -> Rows:
    """`best_rows`, or a `DataError` that says which form (`[1,N,5+C]`) the head has."""
    found = best_rows(binding, before_classes, per_cell)
    if found is None:
        raise DataError(
            f"a {kind} head has one output {form}, this model has {describe(binding.outputs)}: set another head.kind "
            "(or head.roles, 'detections' for that output and 'ignore' for the rest)"
        )
    return found


def match_rows(
    binding: Binding, before_classes: int, form: str, columns_first: bool, per_cell: int = 1, likely_op: str = ""
) -> Match | None:
    """How well the output fits rows of this form: of a grid, or at least with the classes of the annotations.
    `columns_first`: what is usual of the head, one point less otherwise."""
    best: Match | None = None
    for strength, rows in possible_rows(binding, before_classes, per_cell):
        if rows.strides is None and binding.fits(rows.columns - before_classes) != 1:
            continue
        strength -= int(rows.columns_first != columns_first)
        strength += int(bool(likely_op) and binding.has_op(likely_op))
        each = "" if per_cell == 1 else f"{per_cell} x "
        where = f" with {rows.count} = {each}the cells of strides {list(rows.strides)}" if rows.strides else ""
        if best is None or strength > best.strength:
            best = Match(strength, f"one output {form}{where}")
    return best


def row_trials(config: HeadConfig, kind: str) -> Iterator[Trial]:
    """Other settings of such a head, and the other heads that the same rows may be of."""
    yield from other_formats(config, "cxcywh")
    yield from other_units(config, None)
    yield from other_activation(config, ("none", "sigmoid"))
    for other, says in (
        ("yolov8", "rows hold a box and class scores, no objectness"),
        ("yolov5", "rows hold a final box, objectness and class scores"),
        ("yolox", "rows hold a box, objectness and class scores, one class a box"),
    ):
        if other != kind:
            yield Trial("kind", other, says)


def boxes_and_scores(rows: Floats, output: int, binding: Binding, units: BoxUnits) -> tuple[Floats, Floats]:
    """Of rows that begin with a final box: corners [n,4] in pixels of the input, and all behind it, [n,...], as
    probabilities. `output`: where the rows are from."""
    config = binding.config
    units.look(rows[:, :_BOX])
    boxes = units.in_pixels(rows[:, :_BOX], binding.width, binding.height)
    scores = activate(rows[:, _BOX:], config.score_activation)
    require_probabilities(scores, config.score_activation, binding.outputs[output])
    return to_corners(boxes, config.box_format or "cxcywh"), scores


def class_detections(boxes: Floats, scores: Floats, threshold: float, multi_label: bool) -> Detections:
    """Corner boxes [n,4] with scores [n,C]: every class above the threshold, or the best class of every box. NaN is
    kept, to be counted by whoever drops it."""
    if multi_label:
        row, column = np.nonzero(~(scores <= threshold))
        score = scores[row, column]
    else:
        row = np.arange(len(scores))
        column = np.argmax(scores, axis=1)
        score = scores[row, column]
    if len(score) > _MOST_CANDIDATES:
        best = np.sort(np.argsort(-score, kind="stable")[:_MOST_CANDIDATES])
        row, column, score = row[best], column[best], score[best]
    return Detections(boxes[row], score, column.astype(np.int64))


def whole_output(binding: Binding) -> int | None:
    """Position of the one output of three dimensions and batch 1 that holds all."""
    outputs, roles = binding.outputs, binding.config.roles
    if roles is not None:
        if roles.count("detections") != 1:
            return None
        position = roles.index("detections")
    elif len(outputs) == 1:
        position = 0
    else:
        return None
    shape = outputs[position].shape
    return position if len(shape) == 3 and shape[0] == 1 else None

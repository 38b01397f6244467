"""EfficientDet (Tan et al., arXiv 1911.09070) and EfficientDet-Lite without the post-processing op.

Class and box maps of every level, [1,H,W,9*C] and [1,H,W,36], or the same in rows, [1,N,C] and [1,N,4]: logits for each
of nine anchors a cell, and boxes as ty, tx, th, tw against them (`efficientdet/tf2/anchors.py` of google/automl).
Anchors are three sizes, an octave in thirds, of three shapes, 1:1, 2:1 and 1:2; the smallest is `anchor_scale` strides
long, 3 in Lite0 to Lite2 and 4 in the others (`hparams_config.py`). With the post-processing op, as Model Maker exports
it, the head is "tflite-postprocess". As in automl's `postprocess_per_class`, and in that op, an anchor carries its best
class alone, and boxes of a class are duplicates from an IoU of 0.5 on.
"""

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
from qprof.tasks.detection.heads.rows import class_detections
from qprof.tasks.detection.heads.values import activate, are_logits, corners

_OCTAVES, _SHAPES = (0.0, 1 / 3, 2 / 3), ((1.0, 1.0), (2.0, 1.0), (1.0, 2.0))
_ANCHORS = len(_OCTAVES) * len(_SHAPES)
_LEVELS = (3, 4, 5, 6, 7)
#: Inputs of Lite0 to Lite2 are smaller; those of Lite3 and Lite4, and of the full models, whose scale is 4, are not.
_LARGE_INPUT = 512
_Level = tuple[int, int, int, int]  # rows, columns, position of the boxes, position of the scores


class EfficientDet(Head):
    """Logits and encoded boxes of every anchor."""

    def __init__(self, binding: Binding) -> None:
        self._binding, config = binding, binding.config
        levels = _levels(binding)
        if levels is None:
            raise DataError(
                f"an efficientdet head has class maps [1,H,W,9*C] and box maps [1,H,W,36] of every level, or both as "
                f"rows, this model has {describe(binding.outputs)}: set head.roles, 'boxes' and 'scores' in turn, or "
                "another head.kind"
            )
        self._levels = levels
        columns = {_columns(binding, scores) for _, _, _, scores in levels}
        if len(columns) != 1:
            raise DataError(
                f"class maps differ in their number of classes ({describe(binding.outputs)}): set head.roles, 'boxes' "
                "and 'scores' in turn"
            )
        self.class_count = columns.pop()
        self._activation = config.score_activation
        self._scale = config.anchor_scale or (4.0 if max(binding.height, binding.width) >= _LARGE_INPUT else 3.0)
        if config.anchors is not None and config.anchor_scale is not None:
            raise DataError("head.anchor_scale means nothing beside head.anchors: remove one of them")
        rows = [(height, width) for height, width, _, _ in self._grids()]
        if config.anchors is None:
            self._anchors = standard_anchors(binding.height, binding.width, rows, self._scale)
        else:
            count = _ANCHORS * sum(height * width for height, width in rows)
            self._anchors = load_anchors(Path(config.anchors), count) * corners(binding.height, binding.width)

    def notes(self) -> list[str]:
        config = self._binding.config
        if config.anchors is not None or config.anchor_scale is not None:
            return []
        return [
            f"anchors are EfficientDet's own, the smallest {self._scale:g} strides long: set head.anchor_scale, or "
            "head.anchors, if they are not"
        ]

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        config = self._binding.config
        raw = self._rows(outputs, 2, 4)
        scores = self._rows(outputs, 3, self.class_count or 1)
        if self._activation is None:
            self._activation = "sigmoid" if are_logits(scores) else "none"
        scores = activate(scores, self._activation)
        anchors = self._anchors
        ty, tx, th, tw = raw.T
        center_y, center_x = ty * anchors[:, 2] + anchors[:, 0], tx * anchors[:, 3] + anchors[:, 1]
        height, width = np.exp(th) * anchors[:, 2], np.exp(tw) * anchors[:, 3]
        boxes = to_corners(np.stack([center_x, center_y, width, height], axis=1), "cxcywh")
        return class_detections(boxes, scores, config.score_threshold, config.multi_label is True)

    def seen(self) -> list[str]:
        if self._binding.config.score_activation is not None or self._activation is None:
            return []
        what = "probabilities" if self._activation == "none" else "logits"
        return [f"scores are taken as {what}, by the first image: set head.score_activation if they are not"]

    def _grids(self) -> Sequence[_Level]:
        """The levels; those of outputs in rows by the input."""
        if self._levels[0][0] != 0:
            return self._levels
        binding = self._binding
        return [(*size, 0, 0) for size in _sizes(binding)]

    def _rows(self, outputs: Sequence[NDArray[Any]], part: int, columns: int) -> Floats:
        """Boxes (`part` 2) or scores (3) of all anchors, level by level."""
        rows = []
        for level in self._levels:
            spec = self._binding.outputs[level[part]]
            real = dequantize(outputs[level[part]], spec)[0].astype(np.float64)
            if real.ndim == 3 and self._binding.channels_first:
                real = real.transpose(1, 2, 0)
            rows.append(real.reshape(-1, columns))
        joined: Floats = np.concatenate(rows)
        return joined


def standard_anchors(height: int, width: int, grids: Sequence[tuple[int, int]], scale: float) -> Floats:
    """Center y, center x, height and width in pixels of every anchor, [N,4]: by level, row, column, octave, shape."""
    parts = []
    for rows, columns in grids:
        stride_y, stride_x = height / rows, width / columns
        row, column = np.mgrid[0:rows, 0:columns]
        center = np.stack([(row.ravel() + 0.5) * stride_y, (column.ravel() + 0.5) * stride_x], axis=1)
        sizes = np.array(
            [
                (
                    scale * 2**octave * stride_y * math.sqrt(tall / wide),
                    scale * 2**octave * stride_x * math.sqrt(wide / tall),
                )
                for octave in _OCTAVES
                for wide, tall in _SHAPES
            ]
        )
        each = np.concatenate([np.repeat(center, _ANCHORS, axis=0), np.tile(sizes, (len(center), 1))], axis=1)
        parts.append(each)
    anchors: Floats = np.concatenate(parts)
    return anchors


def _sizes(binding: Binding) -> list[tuple[int, int]]:
    """Rows and columns of every level, each half the one before, rounded up."""
    return [(math.ceil(binding.height / 2**n), math.ceil(binding.width / 2**n)) for n in _LEVELS]


def _columns(binding: Binding, output: int) -> int:
    shape = binding.outputs[output].shape
    if len(shape) == 3:
        return shape[2]
    return shape[1 if binding.channels_first else 3] // _ANCHORS


def _levels(binding: Binding) -> list[_Level] | None:
    """The levels, finest first; one of size 0 for outputs in rows; `None` where outputs are neither."""
    return _levels_of_maps(binding) or _level_of_rows(binding)


def _levels_of_maps(binding: Binding) -> list[_Level] | None:
    grids: dict[tuple[int, int], list[int]] = {}
    roles = binding.config.roles
    for position, spec in enumerate(binding.outputs):
        if roles is not None and roles[position] == "ignore":
            continue
        if len(spec.shape) != 4 or spec.shape[0] != 1:
            return None
        size = spec.shape[2:4] if binding.channels_first else spec.shape[1:3]
        grids.setdefault((size[0], size[1]), []).append(position)
    found = []
    for (height, width), pair in sorted(grids.items(), reverse=True):
        chosen = _boxes_first(binding, pair)
        if chosen is None:
            return None
        found.append((height, width, *chosen))
    return found if len(found) > 1 else None


def _boxes_first(binding: Binding, pair: Sequence[int]) -> tuple[int, int] | None:
    """Which of two maps of one grid holds the boxes, and which the scores."""
    if len(pair) != 2:
        return None
    outputs, roles, axis = binding.outputs, binding.config.roles, 1 if binding.channels_first else 3
    channels = [outputs[n].shape[axis] for n in pair]
    if roles is not None:
        wanted = {"boxes", "scores"}
        if {roles[n] for n in pair} != wanted:
            return None
        boxes = pair[0] if roles[pair[0]] == "boxes" else pair[1]
    else:
        fitting = [n for n, width in zip(pair, channels, strict=True) if width == 4 * _ANCHORS]
        if len(fitting) == 2:
            fitting = [n for n in fitting if "box" in outputs[n].name.lower()]
        if len(fitting) != 1:
            return None
        boxes = fitting[0]
    scores = pair[1] if boxes == pair[0] else pair[0]
    fits = outputs[boxes].shape[axis] == 4 * _ANCHORS and outputs[scores].shape[axis] % _ANCHORS == 0
    return (boxes, scores) if fits else None


def _level_of_rows(binding: Binding) -> list[_Level] | None:
    outputs, roles = binding.outputs, binding.config.roles
    rows = [n for n, o in enumerate(outputs) if len(o.shape) == 3 and o.shape[0] == 1]
    if roles is not None:
        rows = [n for n in rows if roles[n] in ("boxes", "scores")]
    if len(rows) != 2 or any(outputs[n].shape[1] != outputs[rows[0]].shape[1] for n in rows):
        return None
    if outputs[rows[0]].shape[1] != _ANCHORS * sum(height * width for height, width in _sizes(binding)):
        return None
    boxes = [n for n in rows if outputs[n].shape[2] == 4]
    if roles is not None:
        boxes = [n for n in boxes if roles[n] == "boxes"]
    elif len(boxes) == 2:
        boxes = [n for n in boxes if "box" in outputs[n].name.lower()]
    if len(boxes) != 1:
        return None
    return [(0, 0, boxes[0], rows[0] if rows[1] == boxes[0] else rows[1])]


def _recognize(binding: Binding) -> Match | None:
    if binding.config.anchors is not None or binding.config.box_format is not None:
        return None
    levels = _levels(binding)
    if levels is None:
        return None
    what = "maps of every level" if levels[0][0] else "rows"
    return Match(4, f"its outputs are class and box {what}, for nine anchors a cell")


def _trials(config: HeadConfig) -> Iterator[Trial]:
    if config.anchors is None:
        for scale in (3.0, 4.0):
            if scale != config.anchor_scale:
                yield Trial("anchor_scale", scale, f"the smallest anchor is {scale:g} strides long")
    for activation, says in (("sigmoid", "scores are logits"), ("none", "scores are probabilities already")):
        if activation != config.score_activation:
            yield Trial("score_activation", activation, says)


HEADS = (
    HeadKind(
        name="efficientdet",
        recognize=_recognize,
        make=EfficientDet,
        settings=frozenset({"roles", "anchors", "anchor_scale", "multi_label"}),
        activations=("none", "sigmoid"),
        nms_iou=0.5,
        trials=_trials,
    ),
)

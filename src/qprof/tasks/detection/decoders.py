"""Decoders of detection heads: outputs as a variant stores them -> candidate boxes in input pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.quantization import dequantize
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection.boxes import Detections, Floats, to_corners
from qprof.tasks.detection.heads import Binding, describe, grid_cells, load_anchors
from qprof.tasks.detection.output_roles import anchor_outputs, final_box_roles, grid_channels_first, map_roles


class FinalBoxes:
    """Boxes [1,n,4], classes [1,n], scores [1,n] and perhaps a count [1], in any order of outputs."""

    class_count: int | None = None

    def __init__(self, binding: Binding) -> None:
        config = binding.config
        self._binding = binding
        self._format = config.box_format or "yxyx"
        self._normalized = (config.box_units or "normalized") == "normalized"
        self._class_offset = config.class_offset
        if self._class_offset is None:
            self._class_offset = 1 if config.kind == "centernet-decoded" else 0
        self._roles = final_box_roles(binding)
        #: The two outputs that only their values can tell apart; settled by the first image that does.
        self._undecided = [n for n, role in enumerate(self._roles) if role == "classes or scores"]

    def notes(self) -> list[str]:
        config, notes = self._binding.config, []
        if config.kind == "boxes" and config.class_offset is None:
            notes.append("classes are taken to count from 0: set head.class_offset = 1 if the model counts from 1")
        if config.kind == "boxes" and (config.box_format is None or config.box_units is None):
            units = "normalized" if self._normalized else "pixels"
            notes.append(
                f"boxes are taken as {units} {self._format}: set head.box_format and head.box_units if they are not"
            )
        return notes

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        arrays = [dequantize(a, spec) for a, spec in zip(outputs, self._binding.outputs, strict=True)]
        if self._undecided:
            self._settle(arrays)
        by_role = {role: a for role, a in zip(self._roles, arrays, strict=True) if role != "ignore"}
        if "scores" not in by_role:  # still undecided: an image without any detection
            return _none_found()
        boxes = to_corners(by_role["boxes"].reshape(-1, 4), self._format)
        if self._normalized:
            boxes = boxes * _corners(self._binding.width, self._binding.height)
        raw_classes = by_role["classes"].reshape(-1)
        classes = np.where(np.isfinite(raw_classes), np.rint(raw_classes), -1).astype(np.int64) - (
            self._class_offset or 0
        )
        found = Detections(boxes, by_role["scores"].reshape(-1).astype(np.float64), classes)
        if "count" not in by_role:
            return found
        count = float(by_role["count"].reshape(-1)[0])
        return found.take(np.arange(len(boxes)) < (count if np.isfinite(count) else 0))

    def _settle(self, arrays: Sequence[NDArray[np.float32]]) -> None:
        """Class indices are whole numbers; scores are not, but for an image where all are 0 or 1."""
        first, second = self._undecided
        whole = [bool(np.all(arrays[n] == np.rint(arrays[n]))) for n in (first, second)]
        if whole[0] == whole[1]:
            above_one = [bool(np.any(arrays[n] > 1)) for n in (first, second)]
            if whole[0] and above_one[0] != above_one[1]:
                whole = above_one
            elif whole[0] and not np.any(arrays[first]) and not np.any(arrays[second]):
                return
            else:
                names = describe([self._binding.outputs[n] for n in (first, second)])
                raise DataError(f"cannot tell classes from scores ({names}): set head.roles, one role per output")
        classes, scores = (first, second) if whole[0] else (second, first)
        self._roles[classes], self._roles[scores] = "classes", "scores"
        self._undecided = []


class AnchorBoxes:
    """Boxes [1,N,4] and class scores [1,N,C], boxes final or encoded against anchors (SSD: Liu et al., arXiv
    1512.02325)."""

    def __init__(self, binding: Binding) -> None:
        config, outputs = binding.config, binding.outputs
        self._binding = binding
        self._boxes, self._scores = anchor_outputs(binding)
        self._background = config.background if config.background is not None else True
        columns = outputs[self._scores].shape[-1]
        self.class_count: int | None = columns - int(self._background)
        if self.class_count < 1:
            raise DataError(
                f"output {outputs[self._scores].name!r} has no class beside the background: set head.background = false"
            )
        count = outputs[self._boxes].shape[1]
        self._anchors = load_anchors(Path(config.anchors), count) if config.anchors else None
        self._normalized = config.anchors is not None or (config.box_units or "normalized") == "normalized"

    def notes(self) -> list[str]:
        config, notes = self._binding.config, []
        if config.background is None:
            notes.append("class column 0 is taken as background: set head.background = false if it is a class")
        if self._anchors is None and (config.box_format is None or config.box_units is None):
            notes.append(
                f"boxes are taken as {'normalized' if self._normalized else 'pixels'} {config.box_format or 'yxyx'}: "
                "set head.box_format and head.box_units if they are not"
            )
        return notes

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        specs, config = self._binding.outputs, self._binding.config
        raw = dequantize(outputs[self._boxes], specs[self._boxes])[0].astype(np.float64)
        scores = _activate(dequantize(outputs[self._scores], specs[self._scores])[0], config.score_activation)
        _require_probabilities(scores, config.score_activation, specs[self._scores])
        scores = scores[:, int(self._background) :]
        boxes = to_corners(raw, config.box_format or "yxyx") if self._anchors is None else self._against_anchors(raw)
        if self._normalized:
            boxes = boxes * _corners(self._binding.width, self._binding.height)
        row, column = np.nonzero(~(scores <= config.score_threshold))  # NaN passes, to be counted by the task
        return Detections(boxes[row], scores[row, column], column.astype(np.int64))

    def _against_anchors(self, raw: Floats) -> Floats:
        """tensorflow/lite/kernels/detection_postprocess.cc, DecodeCenterSizeBoxes."""
        anchors = self._anchors
        assert anchors is not None
        ty, tx, th, tw = (raw / np.asarray(self._binding.config.variances)).T
        center_y, center_x = ty * anchors[:, 2] + anchors[:, 0], tx * anchors[:, 3] + anchors[:, 1]
        height, width = np.exp(th) * anchors[:, 2], np.exp(tw) * anchors[:, 3]
        return to_corners(np.stack([center_x, center_y, width, height], axis=1), "cxcywh")


class CenterNet:
    """Heatmap, size and offset on one grid (Zhou et al., "Objects as Points", arXiv 1904.07850, section 4.1).

    A peak is a cell that no cell of its 3x3 neighbourhood exceeds; equal neighbours, which quantization makes likelier,
    all count, as in the paper's max-pooling. Without an offset output the centre of the cell is taken.
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        roles = map_roles(binding)
        self._heatmap, self._size = roles.index("heatmap"), roles.index("size")
        self._offset = roles.index("offset") if "offset" in roles else None
        used = [n for n in (self._heatmap, self._size, self._offset) if n is not None]
        self._channels_first = grid_channels_first(binding, used)
        for n in used[1:]:
            if self._channels(n) != 2:
                raise DataError(
                    f"output {describe([binding.outputs[n]])} is no {roles[n]} map of 2 channels: correct head.roles"
                )
        self.class_count: int | None = self._channels(self._heatmap)

    def notes(self) -> list[str]:
        return (
            []
            if self._offset is not None
            else ["the head has no offset output: cell centres are used, up to half a stride off"]
        )

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        config = self._binding.config
        heat = _activate(self._map(outputs, self._heatmap), config.score_activation)
        _require_probabilities(heat, config.score_activation, self._binding.outputs[self._heatmap])
        row, column, channel = _peaks(heat, config.score_threshold, config.max_detections)
        grid = np.array([heat.shape[1], heat.shape[0]], dtype=np.float64)  # columns, rows
        full = np.array([self._binding.width, self._binding.height], dtype=np.float64)
        cell = full / grid
        shift = np.full((row.size, 2), 0.5) if self._offset is None else self._pairs(outputs, self._offset, row, column)
        center = (np.stack([column, row], axis=1) + shift) * cell
        unit = {"cells": cell, "pixels": np.ones(2), "normalized": full}[config.size_units]
        size = np.maximum(self._pairs(outputs, self._size, row, column), 0.0) * unit
        boxes = np.concatenate([center - size / 2, center + size / 2], axis=1)
        return Detections(boxes, heat[row, column, channel], channel.astype(np.int64))

    def _channels(self, output: int) -> int:
        return self._binding.outputs[output].shape[1 if self._channels_first else 3]

    def _map(self, outputs: Sequence[NDArray[Any]], output: int) -> Floats:
        """One output as real values [H,W,C]."""
        real: Floats = dequantize(outputs[output], self._binding.outputs[output])[0].astype(np.float64)
        return real.transpose(1, 2, 0) if self._channels_first else real

    def _pairs(
        self, outputs: Sequence[NDArray[Any]], output: int, row: NDArray[np.intp], column: NDArray[np.intp]
    ) -> Floats:
        """x and y values of a two-channel map at the peaks, [k,2]."""
        pairs: Floats = self._map(outputs, output)[row, column]
        return np.flip(pairs, axis=1) if self._binding.config.pair_order == "yx" else pairs


class Yolox:
    """One output [1,N,5+C]: cx, cy, w, h, objectness, class scores (YOLOX: Ge et al., arXiv 2107.08430).

    As in YOLOX's own `postprocess`, a box carries its best class alone, with score objectness x class score. Boxes that
    are not decoded are (offset from the cell, log size) in units of the stride, grids in the order of `strides`.
    """

    def __init__(self, binding: Binding) -> None:
        outputs = binding.outputs
        if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[0] != 1 or outputs[0].shape[2] < 6:
            raise DataError(
                f"a yolox head has one output [1,N,5+C], this model has {describe(outputs)}: set another head.kind"
            )
        self._binding = binding
        self.class_count: int | None = outputs[0].shape[2] - 5
        decoded = binding.config.decoded
        self._decoded = "EXP" in {op.upper() for op in binding.op_types} if decoded is None else decoded
        self._cells = None if self._decoded else _grid(binding)

    def notes(self) -> list[str]:
        if self._binding.config.decoded is not None:
            return []
        reason = "the model holds EXP" if self._decoded else "the model holds no EXP"
        state = "final, in input pixels" if self._decoded else "offsets within grid cells"
        return [f"yolox boxes are taken as {state} ({reason}): set head.decoded if they are not"]

    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        rows = dequantize(outputs[0], self._binding.outputs[0])[0].astype(np.float64)
        boxes = rows[:, :4]
        if self._cells is not None:
            corner, stride = self._cells[:, :2], self._cells[:, 2:]
            boxes = np.concatenate([(boxes[:, :2] + corner) * stride, np.exp(boxes[:, 2:]) * stride], axis=1)
        scores = _activate(rows[:, 4:], self._binding.config.score_activation)
        _require_probabilities(scores, self._binding.config.score_activation, self._binding.outputs[0])
        best = np.argmax(scores[:, 1:], axis=1)
        score = scores[:, 0] * scores[np.arange(len(scores)), best + 1]
        return Detections(to_corners(boxes, "cxcywh"), score, best.astype(np.int64))


def _peaks(heat: Floats, threshold: float, limit: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Row, column and channel of the `limit` highest 3x3 peaks above the threshold of heat [H,W,C]; NaN is kept."""
    height, width, _ = heat.shape
    padded = np.pad(np.nan_to_num(heat, nan=-np.inf), ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    around = np.max([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    flat = heat.reshape(-1)
    chosen = np.flatnonzero(((heat >= around) & (heat > threshold)).reshape(-1) | np.isnan(flat))
    order = np.argsort(-flat[chosen], kind="stable")[:limit]
    row, column, channel = np.unravel_index(chosen[order], heat.shape)
    return row, column, channel


def _grid(binding: Binding) -> Floats:
    """Column, row and stride of every cell, [N,3]."""
    cells, expected = binding.outputs[0].shape[1], grid_cells(binding)
    if cells != expected:
        raise DataError(
            f"output {binding.outputs[0].name!r} has {cells} rows, strides {binding.config.strides} make {expected} "
            "cells: correct head.strides"
        )
    parts = []
    for stride in binding.config.strides:
        row, column = np.mgrid[0 : binding.height // stride, 0 : binding.width // stride]
        parts.append(np.stack([column.ravel(), row.ravel(), np.full(row.size, stride)], axis=1))
    cells_of_all: Floats = np.concatenate(parts).astype(np.float64)
    return cells_of_all


def _activate(values: NDArray[np.floating], activation: str) -> Floats:
    real = np.asarray(values, dtype=np.float64)
    if activation == "sigmoid":
        from_tanh: Floats = 0.5 * (1.0 + np.tanh(0.5 * real))  # no overflow, unlike 1 / (1 + exp(-x))
        return from_tanh
    if activation == "softmax":
        powers = np.exp(real - real.max(axis=-1, keepdims=True))
        shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
        return shares
    return real


def _require_probabilities(scores: Floats, activation: str, spec: TensorSpec) -> None:
    """Mostly negative scores are logits (most of an image is background): ranking them would work, a threshold not.

    Scores above 1 alone are no proof: a coarsely quantized output overshoots by a step, however large the step.
    """
    if activation != "none" or scores.size == 0:
        return
    low, high = float(np.nanmin(scores, initial=0.0)), float(np.nanmax(scores, initial=0.0))
    if np.count_nonzero(scores < -0.01) > 0.5 * scores.size:
        raise DataError(
            f"output {spec.name!r} holds scores of {low:.3g}..{high:.3g}, not 0..1: set head.score_activation to "
            "sigmoid or softmax"
        )


def _corners(width: int, height: int) -> Floats:
    return np.array([width, height, width, height], dtype=np.float64)


def _none_found() -> Detections:
    return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64))

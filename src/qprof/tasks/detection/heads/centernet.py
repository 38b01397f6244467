"""CenterNet: heatmap, size and offset on one grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.quantization import dequantize
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection.boxes import Detections, Floats
from qprof.tasks.detection.heads.base import Binding, Head, HeadKind, Match, Trial, describe
from qprof.tasks.detection.heads.config import PAIR_ORDERS, SIZE_UNITS, HeadConfig
from qprof.tasks.detection.heads.roles import grid_channels_first, map_roles
from qprof.tasks.detection.heads.trials import other_activation
from qprof.tasks.detection.heads.values import activate, require_probabilities


class CenterNet(Head):
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
        heat = activate(self._map(outputs, self._heatmap), config.score_activation)
        require_probabilities(heat, config.score_activation, self._binding.outputs[self._heatmap])
        row, column, channel = _peaks(heat, config.score_threshold, config.max_detections)
        grid = np.array([heat.shape[1], heat.shape[0]], dtype=np.float64)  # columns, rows
        full = np.array([self._binding.width, self._binding.height], dtype=np.float64)
        cell = full / grid
        shift: Floats = np.full((row.size, 2), 0.5)
        if self._offset is not None:
            shift = _xy(self._map(outputs, self._offset)[row, column], config.pair_order)
        center = (np.stack([column, row], axis=1) + shift) * cell
        unit = {"cells": cell, "pixels": np.ones(2), "normalized": full}[config.size_units]
        pairs = self._map(outputs, self._size)[row, column]
        size = np.maximum(_xy(pairs, config.size_order or config.pair_order), 0.0) * unit
        boxes = np.concatenate([center - size / 2, center + size / 2], axis=1)
        return Detections(boxes, heat[row, column, channel], channel.astype(np.int64))

    def _channels(self, output: int) -> int:
        return self._binding.outputs[output].shape[1 if self._channels_first else 3]

    def _map(self, outputs: Sequence[NDArray[Any]], output: int) -> Floats:
        """One output as real values [H,W,C]."""
        real: Floats = dequantize(outputs[output], self._binding.outputs[output])[0].astype(np.float64)
        return real.transpose(1, 2, 0) if self._channels_first else real


def _xy(pairs: Floats, order: str) -> Floats:
    """x and y of pairs [k,2] in this order."""
    return np.flip(pairs, axis=1) if order == "yx" else pairs


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


def _on_one_grid(binding: Binding) -> Match | None:
    if "heatmap" in (binding.config.roles or ()) or _share_grid(binding.outputs):
        return Match(3, "its outputs are maps on one grid")
    return None


def _share_grid(outputs: Sequence[TensorSpec]) -> bool:
    if not 2 <= len(outputs) <= 3 or any(len(o.shape) != 4 for o in outputs):
        return False
    return any(len({o.shape[axes] for o in outputs}) == 1 for axes in (slice(1, 3), slice(2, 4)))


def _trials(config: HeadConfig) -> Iterator[Trial]:
    (order,) = (order for order in PAIR_ORDERS if order != config.pair_order)
    yield Trial("pair_order", order, f"sizes and offsets come as {order}")
    (own,) = (order for order in PAIR_ORDERS if order != (config.size_order or config.pair_order))
    yield Trial("size_order", own, "width and height of the boxes come swapped")
    for units in SIZE_UNITS:
        if units != config.size_units:
            yield Trial("size_units", units, f"sizes are in {units}")
    yield from other_activation(config, ("none", "sigmoid"))


HEADS = (
    HeadKind(
        name="centernet",
        recognize=_on_one_grid,
        make=CenterNet,
        settings=frozenset({"roles", "size_units", "pair_order", "size_order"}),
        activations=("none", "sigmoid"),
        trials=_trials,
    ),
)

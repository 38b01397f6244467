"""What heads do to the values of outputs, and what the values tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection.boxes import Detections, Floats

#: Shares of the input end at 1, and a box may stick out; pixels of boxes all over an image go far beyond.
_MOST_NORMALIZED = 2.0


def activate(values: NDArray[np.floating], activation: str | None) -> Floats:
    """Real scores [..., C] under a sigmoid or softmax, or as they are."""
    real = np.asarray(values, dtype=np.float64)
    if activation == "sigmoid":
        from_tanh: Floats = 0.5 * (1.0 + np.tanh(0.5 * real))  # no overflow, unlike 1 / (1 + exp(-x))
        return from_tanh
    if activation == "softmax":
        powers = np.exp(real - real.max(axis=-1, keepdims=True))
        shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
        return shares
    return real


def require_probabilities(scores: Floats, activation: str | None, spec: TensorSpec) -> None:
    """Mostly negative scores are logits (most of an image is background): ranking them would work, a threshold not.

    Scores above 1 alone are no proof: a coarsely quantized output overshoots by a step, however large the step.
    """
    if activation not in (None, "none") or scores.size == 0:
        return
    low, high = float(np.nanmin(scores, initial=0.0)), float(np.nanmax(scores, initial=0.0))
    if np.count_nonzero(scores < -0.01) > 0.5 * scores.size:
        raise DataError(
            f"output {spec.name!r} holds scores of {low:.3g}..{high:.3g}, not 0..1: set head.score_activation to "
            "sigmoid or softmax"
        )


def are_logits(scores: NDArray[np.floating]) -> bool:
    """Whether scores, most of them of background, are mostly negative."""
    return bool(np.count_nonzero(scores < -0.01) > 0.5 * scores.size)


def corners(width: int, height: int) -> Floats:
    """What turns shares of the input into its pixels, for corner boxes and for centres with sizes."""
    return np.array([width, height, width, height], dtype=np.float64)


def none_found() -> Detections:
    """No boxes."""
    return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64))


class BoxUnits:
    """Whether boxes are shares of the input or its pixels: as configured, or as the first values tell that do."""

    def __init__(self, configured: str | None, default: str) -> None:
        """`default`: taken until values tell."""
        self._configured, self._default = configured, default
        self._seen: str | None = None
        self._reach = 0.0

    @property
    def normalized(self) -> bool:
        """What is taken now."""
        return (self._configured or self._seen or self._default) == "normalized"

    def look(self, boxes: Floats) -> None:
        """Settle the unit by boxes [n,4], unless it is; boxes that are all 0 tell nothing."""
        if self._configured is not None or self._seen is not None:
            return
        reach = np.max(np.abs(boxes), axis=1)
        reach = reach[np.isfinite(reach) & (reach > 0.0)]
        if reach.size:
            # The median: a few boxes may be many times as large as the input, whatever the unit.
            self._reach = float(np.median(reach))
            self._seen = "normalized" if self._reach <= _MOST_NORMALIZED else "pixels"

    def in_pixels(self, boxes: Floats, width: int, height: int) -> Floats:
        """The boxes in pixels of the input, by what was seen so far."""
        return boxes * corners(width, height) if self.normalized else boxes

    def seen(self) -> list[str]:
        """A remark on what the values have settled."""
        if self._seen is None:
            return []
        return [
            f"boxes are taken as {self._seen}, for half of them stay within {self._reach:.4g} in the first image: "
            "set head.box_units if they are not"
        ]

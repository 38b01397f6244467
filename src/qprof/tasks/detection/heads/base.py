"""What a detection head is: what it is bound to, what it gives, and how it is known by a model's outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.tensors import TensorSpec
from qprof.store.damage import ARRAY_ERRORS
from qprof.tasks.detection.boxes import Detections
from qprof.tasks.detection.heads.config import HeadConfig

#: Settings that act on what any head gives.
COMMON = frozenset({"kind", "max_detections", "score_threshold", "nms_iou", "clip"})
#: Values that ask for nothing: no head contradicts them.
_NEUTRAL = {"score_activation": "none"}


@dataclass(frozen=True, slots=True)
class Binding:
    """What a decoder is built from: the configuration with its kind settled, the outputs, the input they belong to, and
    the numbers of classes that the annotations allow (`None` where they allow any)."""

    config: HeadConfig
    outputs: Sequence[TensorSpec]
    op_types: Sequence[str]
    height: int
    width: int
    channels_first: bool
    class_counts: frozenset[int] | None = None

    def has_op(self, name: str) -> bool:
        """Whether the model holds an op of this type."""
        return name in {op.upper() for op in self.op_types}

    def fits(self, classes: int) -> int:
        """1 where the annotations have so many classes, -1 where they have not, 0 where they allow any number."""
        if self.class_counts is None:
            return 0
        return 1 if classes in self.class_counts else -1


class Head(ABC):
    """A decoder bound to one variant's outputs."""

    class_count: int | None = None  # None where the outputs do not tell

    @abstractmethod
    def decode(self, outputs: Sequence[NDArray[Any]]) -> Detections:
        """Outputs as stored -> all candidate boxes in input pixels: unsorted, before threshold and suppression."""

    def notes(self) -> list[str]:
        """Assumptions made for lack of a setting, each with the setting that replaces it."""
        return []

    def seen(self) -> list[str]:
        """What the values of the outputs decoded so far have settled, with the setting that replaces it."""
        return []


@dataclass(frozen=True, slots=True)
class Match:
    """How well outputs fit a head: `reason`, in words, and `strength`. `lacks`: the settings without which it cannot be
    taken.

    Strengths: 9 an op that only this head has; 6 outputs named as only this head's; from the shapes 4 where the number
    of rows is that of the grids, 2 where the form alone fits; 2 more or less as the number of classes fits the
    annotations or not, and one for an op that this head is likely to hold.
    """

    strength: int
    reason: str
    lacks: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """Another value of a setting, and in words what it would mean."""

    key: str
    value: Any
    says: str


def _no_trials(config: HeadConfig) -> Iterator[Trial]:
    return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadKind:
    """A head as a profile names it.

    `settings`: the keys of `HeadConfig` that it takes beside those of `COMMON`; `activations`: the values of
    `score_activation` that mean something to it; `nms_iou`: the threshold of its reference implementation, `None` where
    that suppresses nothing; `class_offset`: the number of its first class, where its outputs hold numbers of classes.
    `recognize`: how well outputs fit it, `None` where they cannot be its; `trials`: settings of its own that are often
    wrong, with other values.
    """

    name: str
    recognize: Callable[[Binding], Match | None]
    make: Callable[[Binding], Head]
    settings: frozenset[str]
    activations: tuple[str, ...] = ()
    nms_iou: float | None = None
    class_offset: int | None = None
    trials: Callable[[HeadConfig], Iterator[Trial]] = _no_trials

    def refused(self, config: HeadConfig) -> str | None:
        """Why this head cannot be configured so, in one line; `None` where it can."""
        takes = COMMON | self.settings | ({"score_activation"} if self.activations else set())
        default = HeadConfig()
        for key in (one.name for one in fields(HeadConfig)):
            value = getattr(config, key)
            if key in takes or value in (None, getattr(default, key), _NEUTRAL.get(key)):
                continue
            shown = ", ".join(sorted(takes - COMMON)) or "none beside those of every head"
            return (
                f"head.{key} = {value!r} means nothing to the head {self.name!r}: remove it ({self.name} takes {shown})"
            )
        if config.score_activation is not None and self.activations and config.score_activation not in self.activations:
            return (
                f"head.score_activation = {config.score_activation!r} has no meaning for kind {self.name!r}: use "
                f"{' or '.join(self.activations)}"
            )
        return None


def describe(outputs: Sequence[TensorSpec]) -> str:
    """Outputs in one line, for messages."""
    return ", ".join(f"{o.name} {o.dtype}{list(o.shape)}" for o in outputs)


def load_anchors(path: Path, count: int) -> NDArray[np.float64]:
    """Anchors [count,4] from a .npy file; `DataError` if it is not that."""
    try:
        anchors = np.load(path, allow_pickle=False)
    except ARRAY_ERRORS as error:
        raise DataError(f"{path}: anchors cannot be read ({error}): give a .npy file of floats") from error
    if (
        not isinstance(anchors, np.ndarray)
        or anchors.shape != (count, 4)
        or not np.issubdtype(anchors.dtype, np.floating)
    ):
        shape = getattr(anchors, "shape", "an archive")
        raise DataError(
            f"{path}: anchors are {shape}, the model needs floats of [{count}, 4] (center y, center x, height, width)"
        )
    if not np.isfinite(anchors).all():
        raise DataError(f"{path}: anchors hold values that are not finite: export them again")
    return anchors.astype(np.float64)

"""Final boxes, one class and one score each: of TFLite_Detection_PostProcess, and of what decodes within the graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.quantization import dequantize
from qprof.tasks.detection.boxes import Detections, to_corners
from qprof.tasks.detection.heads.base import Binding, Head, HeadKind, Match, Trial, describe
from qprof.tasks.detection.heads.config import HeadConfig
from qprof.tasks.detection.heads.roles import final_box_roles
from qprof.tasks.detection.heads.trials import other_formats, other_units
from qprof.tasks.detection.heads.values import corners, none_found

#: The custom op of TensorFlow Lite that ends an SSD (tensorflow/lite/kernels/detection_postprocess.cc).
POSTPROCESS_OP = "detection_postprocess"


class FinalBoxes(Head):
    """Boxes [1,n,4], classes [1,n], scores [1,n] and perhaps a count [1], in any order of outputs."""

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
            return none_found()
        boxes = to_corners(by_role["boxes"].reshape(-1, 4), self._format)
        if self._normalized:
            boxes = boxes * corners(self._binding.width, self._binding.height)
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


def _ends_in_op(binding: Binding) -> Match | None:
    named = [*binding.op_types, *(o.name for o in binding.outputs)]
    if not any(POSTPROCESS_OP in name.lower() for name in named):
        return None
    return Match(9, "it ends in TFLite_Detection_PostProcess")


def _one_class_each(binding: Binding) -> Match | None:
    boxes = [o.shape for o in binding.outputs if len(o.shape) == 3 and o.shape[2] == 4]
    if len(boxes) != 1 or sum(o.shape == boxes[0][:2] for o in binding.outputs) != 2:
        return None
    return Match(2, "its outputs are boxes with one class and one score each")


def _trials(config: HeadConfig) -> Iterator[Trial]:
    yield from other_formats(config, "yxyx")
    yield from other_units(config, "normalized")


_SETTINGS = frozenset({"roles", "box_format", "box_units", "class_offset"})

HEADS = (
    HeadKind(
        name="tflite-postprocess",
        recognize=_ends_in_op,
        make=FinalBoxes,
        settings=_SETTINGS,
        class_offset=0,
        trials=_trials,
    ),
    HeadKind(
        name="boxes",
        recognize=_one_class_each,
        make=FinalBoxes,
        settings=_SETTINGS,
        class_offset=0,
        trials=_trials,
    ),
    # The TensorFlow Object Detection API exports a CenterNet so, with classes from 1: only its name tells it apart.
    HeadKind(
        name="centernet-decoded",
        recognize=lambda binding: None,
        make=FinalBoxes,
        settings=_SETTINGS,
        class_offset=1,
        trials=_trials,
    ),
)

"""Which decoder a detector's outputs take: the configured one, or the one that op types and shapes speak for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qprof.errors import DataError
from qprof.record.tensors import TensorSpec
from qprof.tasks.detection import decoders
from qprof.tasks.detection.heads import KINDS, Binding, Head, HeadConfig, describe, grid_cells

#: The custom op of TensorFlow Lite that ends an SSD (tensorflow/lite/kernels/detection_postprocess.cc).
POSTPROCESS_OP = "detection_postprocess"


def build_head(binding: Binding) -> tuple[str, Head, list[str]]:
    """The kind, the decoder, and remarks on the choice; `DataError` where outputs fit no kind or several."""
    config, notes = binding.config, []
    if config.roles is not None and len(config.roles) != len(binding.outputs):
        raise DataError(
            f"head.roles names {len(config.roles)} outputs, the model has {len(binding.outputs)}: "
            f"{describe(binding.outputs)}"
        )
    if config.kind == "auto":
        kind, reason = choose_kind(binding)
        notes.append(f"head.kind 'auto' chose {kind!r} ({reason}): set head.kind if that is wrong")
        binding = replace(binding, config=replace(config, kind=kind))
    if binding.config.score_activation == "softmax" and binding.config.kind != "ssd-raw":
        raise DataError(
            f"head.score_activation = 'softmax' has no meaning for kind {binding.config.kind!r}: use sigmoid or none"
        )
    makers: dict[str, Callable[[Binding], Head]] = {
        "tflite-postprocess": decoders.FinalBoxes,
        "boxes": decoders.FinalBoxes,
        "centernet-decoded": decoders.FinalBoxes,
        "ssd-raw": decoders.AnchorBoxes,
        "centernet": decoders.CenterNet,
        "yolox": decoders.Yolox,
    }
    head = makers[binding.config.kind](binding)
    return binding.config.kind, head, notes + head.notes()


def suppression_iou(config: HeadConfig, kind: str) -> float | None:
    """The NMS threshold: the configured one, else that of the kind's reference implementation.

    0.6: TensorFlow Object Detection API, configs of SSD (`iou_threshold`); 0.65: YOLOX (`Exp.nmsthre`).
    """
    return config.nms_iou if config.nms_iou is not None else {"ssd-raw": 0.6, "yolox": 0.65}.get(kind)


def choose_kind(binding: Binding) -> tuple[str, str]:
    """The kind that op types and output shapes speak for, with the reason."""
    outputs, roles = binding.outputs, set(binding.config.roles or ())
    if any(POSTPROCESS_OP in op.lower() for op in binding.op_types) or any(
        POSTPROCESS_OP in o.name.lower() for o in outputs
    ):
        return "tflite-postprocess", "it ends in TFLite_Detection_PostProcess"
    if "heatmap" in roles or _share_grid(outputs):
        return "centernet", "its outputs are maps on one grid"
    if len(outputs) == 1 and len(outputs[0].shape) == 3 and outputs[0].shape[2] > 5:
        cells = grid_cells(binding)
        if outputs[0].shape[1] == cells:
            return "yolox", f"one output with {cells} = the cells of strides {binding.config.strides}"
    if _has_one_class_per_box(outputs):
        return "boxes", "its outputs are boxes with one class and one score each"
    if _has_class_scores_per_anchor(outputs):
        if binding.config.anchors is None and binding.config.box_format is None:
            raise DataError(
                f"outputs look like raw SSD boxes and scores ({describe(outputs)}): set head.anchors if boxes are "
                "encoded against anchors, "
                "or head.box_format if they are final"
            )
        return "ssd-raw", "its outputs are a box and class scores per anchor"
    raise DataError(
        f"outputs fit no known detection head ({describe(outputs)}): set head.kind to one of {', '.join(KINDS[1:])}"
    )


def _share_grid(outputs: Sequence[TensorSpec]) -> bool:
    if not 2 <= len(outputs) <= 3 or any(len(o.shape) != 4 for o in outputs):
        return False
    return any(len({o.shape[axes] for o in outputs}) == 1 for axes in (slice(1, 3), slice(2, 4)))


def _has_one_class_per_box(outputs: Sequence[TensorSpec]) -> bool:
    boxes = [o.shape for o in outputs if len(o.shape) == 3 and o.shape[2] == 4]
    return len(boxes) == 1 and sum(o.shape == boxes[0][:2] for o in outputs) == 2


def _has_class_scores_per_anchor(outputs: Sequence[TensorSpec]) -> bool:
    shapes = [o.shape for o in outputs]
    if len(shapes) != 2 or any(len(s) != 3 for s in shapes):
        return False
    return shapes[0][:2] == shapes[1][:2] and any(s[2] == 4 for s in shapes)

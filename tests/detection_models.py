"""Detectors that are always right, as .tflite files in the form of every head, made with TensorFlow; and their world.

The three objects are the same in all images, so that a model whose outputs are constants finds them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qprof.tasks.detection.boxes import Detections

Floats = NDArray[np.float32]

SIDE = 320
STRIDES = (8, 16, 32)
#: x0, y0, x1, y1 in pixels, class; no two alike under any exchange of axes.
OBJECTS = (((32, 64, 96, 256), 0), ((160, 32, 288, 96), 1), ((192, 160, 256, 304), 2))
CLASSES = 3
IMAGES = 8
SCORE, LOW = 0.95, 0.0


def write_world(folder: Path, side: int = SIDE) -> Path:
    """Images and their annotations; the latter are returned. `side`: objects and images are scaled to it."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng, scale = np.random.default_rng(0), side / SIDE
    images, annotations = [], []
    for n in range(IMAGES):
        pixels = np.kron(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), np.ones((side // 8, side // 8, 1), np.uint8))
        Image.fromarray(pixels).save(folder / "images" / f"{n}.png")
        images.append({"id": n + 1, "file_name": f"{n}.png", "width": side, "height": side})
        for (x0, y0, x1, y1), index in OBJECTS:
            bbox = [x0 * scale, y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale]
            one = {"image_id": n + 1, "category_id": index + 1, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, **one})
    categories = [{"id": n + 1, "name": f"class {n}"} for n in range(CLASSES)]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def tflite(outputs: Mapping[str, Floats], *, int8: bool = False, side: int = SIDE) -> bytes:
    """A model that gives these outputs for any image; `int8`: with quantized inputs and outputs."""
    import tensorflow as tf

    class Constant(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, side, side, 3), tf.float32, name="image")])
        def __call__(self, image: Any) -> dict[str, Any]:
            nothing = tf.reduce_mean(image) * 1e-6  # times 0 would be folded, and leave no op
            return {name: tf.add(tf.constant(values), nothing, name=name) for name, values in outputs.items()}

    module = Constant()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.__call__.get_concrete_function()], module)
    if int8:
        rng = np.random.default_rng(0)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [rng.uniform(-1, 1, (1, side, side, 3)).astype(np.float32)] for _ in range(4)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def centers(side: int = SIDE, per_cell: int = 1) -> Floats:
    """cx, cy, w, h in pixels and the stride, of a small box in every cell: [N,5]."""
    parts = []
    for stride in STRIDES:
        row, column = np.mgrid[0 : side // stride, 0 : side // stride]
        cells = np.stack([(column.ravel() + 0.5) * stride, (row.ravel() + 0.5) * stride], axis=1)
        rest = np.tile([stride, stride, stride], (len(cells), 1))
        parts.append(np.repeat(np.concatenate([cells, rest], axis=1), per_cell, axis=0))
    return np.concatenate(parts).astype(np.float32)


def rows(side: int = SIDE, per_cell: int = 1) -> tuple[Floats, Floats]:
    """Boxes [N,4] as cx, cy, w, h in pixels and scores [N,C]: the objects in the cells that their centres lie in."""
    every = centers(side, per_cell)
    boxes, scores = every[:, :4].copy(), np.full((len(every), CLASSES), LOW, np.float32)
    for box, index in OBJECTS:
        x0, y0, x1, y1 = (value * side / SIDE for value in box)
        center = np.array([(x0 + x1) / 2, (y0 + y1) / 2], np.float32)
        nearest = int(np.argmin(np.abs(every[:, :2] - center).sum(axis=1)))
        boxes[nearest] = [*center, x1 - x0, y1 - y0]
        scores[nearest, index] = SCORE
    return boxes, scores


def yolov8(side: int = SIDE, *, normalized: bool, first: bool = True) -> dict[str, Floats]:
    boxes, scores = rows(side)
    both = np.concatenate([boxes / (side if normalized else 1), scores], axis=1)[np.newaxis]
    return {"output0": np.ascontiguousarray(both.transpose(0, 2, 1)) if first else both}


def with_objectness(side: int = SIDE, *, normalized: bool, per_cell: int) -> dict[str, Floats]:
    boxes, scores = rows(side, per_cell)
    objectness = (scores.max(axis=1, keepdims=True) > 0.5) * np.float32(1.0)
    parts = [boxes / (side if normalized else 1), objectness, scores]
    return {"Identity": np.concatenate(parts, axis=1)[np.newaxis].astype(np.float32)}


def yolox_raw(side: int = SIDE) -> dict[str, Floats]:
    found = with_objectness(side, normalized=False, per_cell=1)["Identity"]
    every = centers(side)
    stride = every[:, 4:]
    found[0, :, :2] = found[0, :, :2] / stride - (every[:, :2] / stride - 0.5)
    found[0, :, 2:4] = np.log(found[0, :, 2:4] / stride)
    return {"Identity": found}


def end2end(side: int = SIDE, *, normalized: bool) -> dict[str, Floats]:
    found = np.zeros((1, 300, 6), np.float32)
    for n, (box, index) in enumerate(OBJECTS):
        found[0, n] = [*(np.array(box) * side / SIDE / (side if normalized else 1)), SCORE, index]
    return {"Identity": found}


def queries(count: int, no_object: bool) -> dict[str, Floats]:
    """DETR's (`no_object`) or RT-DETR's outputs."""
    boxes = np.tile(np.array([0.5, 0.5, 0.1, 0.1], np.float32), (1, count, 1))
    logits = np.full((1, count, CLASSES + int(no_object)), -6.0, np.float32)
    if no_object:
        logits[..., -1] = 6.0
    for n, ((x0, y0, x1, y1), index) in enumerate(OBJECTS):
        boxes[0, n] = np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]) / SIDE
        logits[0, n] = -6.0
        logits[0, n, index] = 4.0
    return {"logits": logits, "pred_boxes": boxes}


def efficientdet() -> dict[str, Floats]:
    """Class and box maps of five levels, anchors as in EfficientDet-Lite0: 3 strides long, square first."""
    maps: dict[str, Floats] = {}
    grids = {level: math.ceil(SIDE / 2**level) for level in range(3, 8)}
    for level, cells in grids.items():
        maps[f"class_net/class-predict_{level}"] = np.full((1, cells, cells, 9 * CLASSES), -8.0, np.float32)
        maps[f"box_net/box-predict_{level}"] = np.zeros((1, cells, cells, 36), np.float32)
    for (x0, y0, x1, y1), index in OBJECTS:
        level, stride = 5, 32.0
        row, column = int((y0 + y1) / 2 // stride), int((x0 + x1) / 2 // stride)
        side = 3.0 * stride
        ty, tx = ((y0 + y1) / 2 - (row + 0.5) * stride) / side, ((x0 + x1) / 2 - (column + 0.5) * stride) / side
        maps[f"class_net/class-predict_{level}"][0, row, column, index] = 4.0
        maps[f"box_net/box-predict_{level}"][0, row, column, :4] = [
            ty, tx, math.log((y1 - y0) / side), math.log((x1 - x0) / side)
        ]  # fmt: skip
    return maps


#: Every form: what a model of it gives out.
FORMS: dict[str, dict[str, Floats]] = {
    "yolov5, normalized": with_objectness(normalized=True, per_cell=3),
    "yolov5, pixels": with_objectness(normalized=False, per_cell=3),
    "yolov8, normalized": yolov8(normalized=True),
    "yolov8, pixels": yolov8(normalized=False),
    "yolov8, channels last": yolov8(normalized=True, first=False),
    "yolo-end2end, normalized": end2end(normalized=True),
    "yolo-end2end, pixels": end2end(normalized=False),
    "yolox, decoded": with_objectness(normalized=False, per_cell=1),
    "yolox, decoded, normalized": with_objectness(normalized=True, per_cell=1),
    "yolox, raw": yolox_raw(),
    "detr, softmax": queries(100, True),
    "detr, sigmoid": queries(300, False),
    "efficientdet, maps": efficientdet(),
}


def post_processed(boxes: Floats, scores: Floats, anchors: Floats, *, iou: float, threshold: float) -> bytes:
    """A model that ends in TFLite_Detection_PostProcess of these; column 0 of `scores` is the background."""
    import tensorflow as tf

    attributes = [
        'name: "TFLite_Detection_PostProcess"',
        'attr { key: "max_detections" value { i: 100 } }',
        'attr { key: "max_classes_per_detection" value { i: 1 } }',
        'attr { key: "detections_per_class" value { i: 100 } }',
        'attr { key: "use_regular_nms" value { b: true } }',
        f'attr {{ key: "nms_score_threshold" value {{ f: {threshold} }} }}',
        f'attr {{ key: "nms_iou_threshold" value {{ f: {iou} }} }}',
        'attr { key: "y_scale" value { f: 10.0 } } attr { key: "x_scale" value { f: 10.0 } }',
        'attr { key: "h_scale" value { f: 5.0 } } attr { key: "w_scale" value { f: 5.0 } }',
        f'attr {{ key: "num_classes" value {{ i: {scores.shape[2] - 1} }} }}',
    ]

    class Ends(tf.Module):
        @tf.function(experimental_implements=" ".join(attributes))
        def op(self, boxes: Any, scores: Any, anchors: Any) -> Any:
            empty = tf.zeros((1, 100))
            return tf.zeros((1, 100, 4)), empty, empty, tf.zeros((1,))

        @tf.function(input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3), tf.float32, name="image")])
        def __call__(self, image: Any) -> Any:
            nothing = tf.reduce_mean(image) * 1e-6  # times 0 would be folded, and leave no op
            return self.op(tf.constant(boxes) + nothing, tf.constant(scores) + nothing, tf.constant(anchors))

    module = Ends()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.__call__.get_concrete_function()], module)
    converter.allow_custom_ops = True
    return bytes(converter.convert())


def found_by(specs: Any, outputs: Any, ops: Any = (), **settings: Any) -> tuple[str, Any]:
    """The head that outputs are recognized as, and what it finds after suppression, in pixels of the input."""
    from qprof.tasks.detection.choose import build_head, suppression_iou
    from qprof.tasks.detection.heads import Binding, HeadConfig
    from qprof.tasks.detection.nms import non_maximum_suppression

    config = HeadConfig(**settings)
    kind, head, _ = build_head(Binding(config, specs, ops, SIDE, SIDE, False))
    found = head.decode(outputs)
    found = found.take(found.scores > config.score_threshold)
    iou = suppression_iou(config, kind)
    return kind, found.take(non_maximum_suppression(found.boxes, found.scores, found.classes, iou, 100))


def differences(ours: Detections, theirs: Detections) -> tuple[float, float]:
    """The largest of boxes and of scores, each detection against the one of the same class that is nearest; infinite
    where their number differs."""
    if len(ours.scores) != len(theirs.scores):
        return np.inf, np.inf
    left = list(range(len(theirs.scores)))
    worst_box = worst_score = 0.0
    for box, score, index in zip(ours.boxes, ours.scores, ours.classes, strict=True):
        same = [n for n in left if theirs.classes[n] == index]
        if not same:
            return np.inf, np.inf
        apart = [np.abs(theirs.boxes[n] - box).max() + 1e3 * abs(theirs.scores[n] - score) for n in same]
        best = same[int(np.argmin(apart))]
        left.remove(best)
        worst_box = max(worst_box, float(np.abs(theirs.boxes[best] - box).max()))
        worst_score = max(worst_score, float(abs(theirs.scores[best] - score)))
    return worst_box, worst_score

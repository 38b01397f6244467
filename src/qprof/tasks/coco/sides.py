"""Ground truth and detections read for what is evaluated: boxes by columns, masks and keypoints by their rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from qprof.errors import DataError
from qprof.tasks.coco.federated import is_federated, read_federation, unused_note
from qprof.tasks.coco.inputs import Detections, GroundTruth, read_detections, read_ground_truth
from qprof.tasks.coco.shapes import (
    ShapeKind,
    completed,
    content_of,
    detection_shapes,
    image_sizes,
    read_shaped_detections,
    read_shaped_truth,
)

Style = Literal["coco", "lvis"]


def read_sides(
    ground_truth: Any, detections: Any, kind: ShapeKind, style: Style = "coco"
) -> tuple[GroundTruth, Detections]:
    """Both sides; see `evaluate`."""
    by_rows = kind.name != "bbox" or style == "lvis"
    content, source = content_of(ground_truth, "the ground truth") if by_rows else (ground_truth, "the ground truth")
    if kind.name == "bbox":
        truth = read_ground_truth(content, kind.threads)
        found = _boxes_of(detections, kind)
    else:
        truth = read_shaped_truth(content, source, kind)
        found = read_shaped_detections(detections, kind, image_sizes(content["images"]))
    if by_rows:
        truth = replace(truth, source=source, notes=[n.replace("the ground truth", source, 1) for n in truth.notes])
    if style == "lvis":
        if not is_federated(content):
            raise DataError(f"{source}: images have no neg_category_ids: give an LVIS file, or style='coco'")
        federation = read_federation(content, truth.image_ids, truth.category_ids, source)
        ignore = [row.get("ignore", 0) for row in content["annotations"]]
        notes = [note for note in truth.notes if note != unused_note(truth.source)]
        crowd, flags = np.zeros_like(truth.crowd), np.array([bool(value) for value in ignore], dtype=np.uint8)
        truth = replace(truth, federation=federation, crowd=crowd, ignore=flags, notes=notes)
    return truth, found


def _boxes_of(given: Any, kind: ShapeKind) -> Detections:
    """The boxes of results; where they state none, as `COCO.loadRes` has it, those around their masks or keypoints."""
    try:
        return read_detections(given, kind.threads)
    except DataError as error:
        if "bbox" not in str(error):
            raise
        content, source = content_of(given, "the detections")
        first = content[0] if isinstance(content, list) and content else None
        if not isinstance(first, dict) or first.get("bbox"):
            raise
        shape = next((name for name in ("segmentation", "keypoints") if first.get(name) is not None), None)
        if shape is None:
            raise
        other = replace(kind, name="segm" if shape == "segmentation" else "keypoints")
        shapes = detection_shapes(content, {}, other, source)
        return replace(read_detections(completed(content, shapes)), source=source)

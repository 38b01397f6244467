"""Ground truth and detections read for what is evaluated: boxes by columns, masks and keypoints by their rows."""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.tasks.coco.federated import is_federated, read_federation
from qprof.tasks.coco.inputs import Detections, GroundTruth, read_detections, read_ground_truth
from qprof.tasks.coco.shapes import (
    ShapeKind,
    content_of,
    image_sizes,
    read_shaped_detections,
    read_shaped_truth,
)

Style = Literal["coco", "lvis"]

MOST_EXHAUSTIVE = 400
_MEMBER = b'"neg_category_ids"'


def read_sides(
    ground_truth: Any, detections: Any, kind: ShapeKind, style: Style = "coco"
) -> tuple[GroundTruth, Detections]:
    """Both sides; see `evaluate`."""
    by_rows = kind.name != "bbox" or style == "lvis"
    content, source = content_of(ground_truth, "the ground truth") if by_rows else (ground_truth, "the ground truth")
    if kind.name == "bbox":
        truth = read_ground_truth(content, kind.threads)
        found = read_detections(detections, kind.threads)
    else:
        truth = read_shaped_truth(content, kind)
        found = read_shaped_detections(detections, kind, image_sizes(content["images"]))
    if by_rows:
        truth = replace(truth, source=source, notes=[n.replace("the ground truth", source, 1) for n in truth.notes])
    if style == "lvis":
        if not is_federated(content):
            raise DataError(f"{source}: images have no neg_category_ids: give an LVIS file, or style='coco'")
        federation = read_federation(content, truth.image_ids, truth.category_ids, source)
        ignore = [row.get("ignore", 0) for row in content["annotations"]]
        return replace(truth, federation=federation, crowd=truth.crowd * 0, ignore=_flags(ignore)), found
    if is_federated(content) or _mentions(ground_truth, len(truth.category_ids)):
        note = (
            f"{truth.source}: images list neg_category_ids, as LVIS does, but are evaluated as COCO: detections of "
            "categories that nobody looked for count as wrong; evaluate with style='lvis'"
        )
        truth = replace(truth, notes=[*truth.notes, note])
    return truth, found


def _mentions(given: Any, categories: int) -> bool:
    """Whether a file that was read by columns has that member; looked for only where there are as many categories as
    no data set has that annotates all of them, since it costs a pass over the file."""
    if categories <= MOST_EXHAUSTIVE or not isinstance(given, (str, os.PathLike, bytes)):
        return False
    if isinstance(given, bytes):
        return _MEMBER in given
    with open(given, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(_MEMBER) >= 0


def _flags(values: list[Any]) -> NDArray[np.uint8]:
    return np.array([bool(value) for value in values], dtype=np.uint8)

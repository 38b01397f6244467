"""Masks and keypoints of annotations and results, read as COCO writes them.

Formats: https://cocodataset.org/#format-data and #format-results. What a result lacks is filled in as `COCO.loadRes` of
pycocotools does: by what the first result has.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.core import _masks
from qprof.errors import DataError
from qprof.tasks.coco.inputs import Detections, GroundTruth, named, read_detections, read_ground_truth
from qprof.tasks.coco.pairs import KeypointShapes, MaskShapes, Shapes

#: Standard deviations of how people place the 17 keypoints of COCO, as shares of the object's size.
COCO_SIGMAS = np.array([0.26, *[0.25] * 2, *[0.35] * 2, *[0.79] * 2, *[0.72] * 2, *[0.62] * 2])
COCO_SIGMAS = np.array([*COCO_SIGMAS, *[1.07] * 2, *[0.87] * 2, *[0.89] * 2]) / 10.0

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ShapeKind:
    """Which shapes are compared. `sigmas` [k] of keypoints; `dilation_ratio`: how wide a boundary is, as a share of the
    image's diagonal."""

    name: str
    sigmas: NDArray[np.float64]
    dilation_ratio: float = 0.02
    threads: int = 1

    @property
    def is_mask(self) -> bool:
        return self.name in ("segm", "boundary")


def shape_kind(iou_type: str, sigmas: ArrayLike | None, dilation_ratio: float, threads: int) -> ShapeKind:
    """Check what is asked for."""
    spread = np.atleast_1d(np.asarray(COCO_SIGMAS if sigmas is None else sigmas, dtype=np.float64))
    if spread.ndim != 1 or not spread.size or not (np.isfinite(spread) & (spread > 0)).all():
        raise DataError("sigmas: give one positive number per keypoint")
    if not 0 < dilation_ratio < 1:
        raise DataError(f"dilation_ratio = {dilation_ratio}: give a share of the image's diagonal, such as 0.02")
    return ShapeKind(iou_type, spread, float(dilation_ratio), threads)


def content_of(given: Any, what: str) -> tuple[Any, str]:
    """The rows of a file, or of what is loaded already; and what messages call it."""
    if isinstance(given, (str, os.PathLike, bytes, bytearray, memoryview)):
        is_path = isinstance(given, (str, os.PathLike))
        source = Path(given).name if isinstance(given, (str, os.PathLike)) else what
        try:
            return json.loads(Path(given).read_bytes() if is_path else bytes(given)), source  # type: ignore[arg-type]
        except OSError as error:
            raise DataError(f"{source}: cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{source}: is not valid JSON: {error}") from error
    return (given.dataset if hasattr(given, "getAnnIds") and hasattr(given, "dataset") else given), what


def read_shaped_truth(content: Any, source: str, kind: ShapeKind) -> GroundTruth:
    """As `read_ground_truth`, with `shapes`; `content`, `source`: see `content_of`. Boxes that annotations lack are
    those of their masks."""
    if isinstance(content, GroundTruth):
        raise DataError(f"{source}: columns of boxes: masks and keypoints are read from a file or its content")
    if not isinstance(content, Mapping) or not _is_rows(content.get("annotations")):
        raise DataError(f"{source} has no list 'annotations': give a COCO annotation file, or its content")
    if not _is_rows(content.get("images")) or not _is_rows(content.get("categories")):
        raise DataError(f"{source} has no lists 'images' and 'categories': give a COCO annotation file")
    rows: list[Row] = list(content["annotations"])
    shapes, notes = truth_shapes(rows, image_sizes(content["images"]), kind, source)
    rows = _with_boxes(rows, shapes)
    truth = read_ground_truth({**content, "annotations": rows})
    if isinstance(shapes, KeypointShapes):
        shapes = dataclasses.replace(shapes, area=truth.area, boxes=truth.boxes)
    notes = [note.replace("the ground truth", source, 1) for note in truth.notes] + notes
    return dataclasses.replace(truth, source=source, shapes=shapes, ignore=ignored(rows, shapes), notes=notes)


def read_shaped_detections(given: Any, kind: ShapeKind, sizes: Mapping[Any, tuple[int, int]]) -> Detections:
    """As `read_detections`, with `shapes`; `sizes`: see `image_sizes`."""
    content, source = content_of(given, "the detections")
    is_data_set = isinstance(content, Mapping) and _is_rows(content.get("annotations"))
    rows: Any = content["annotations"] if is_data_set else content
    if isinstance(content, Detections) or isinstance(rows, np.ndarray) or not _is_rows(rows):
        raise DataError(f"{source}: no list of results: masks and keypoints are read from a file or its content")
    rows = list(rows)
    shapes = detection_shapes(rows, sizes, kind, source)
    complete = rows if is_data_set else completed(rows, shapes)
    return dataclasses.replace(read_detections(complete), source=source, shapes=shapes)


def truth_shapes(
    rows: list[Row], sizes: Mapping[Any, tuple[int, int]], kind: ShapeKind, source: str
) -> tuple[Shapes, list[str]]:
    """The shapes of annotations, and notes on them; of keypoints without area and boxes."""
    if not kind.is_mask:
        return KeypointShapes(_points(rows, kind, source), sigmas=kind.sigmas), []
    masks = [_member(row, "segmentation", n, source) for n, row in enumerate(rows)]
    shapes = _masks_of(masks, rows, sizes, kind, source)
    empty = int((shapes.masks.area == 0).sum())
    note = f"{source}: {empty} annotations have a mask without a pixel, which nothing can match: correct or remove them"
    return shapes, [note] * (empty > 0)


def detection_shapes(rows: list[Row], sizes: Mapping[Any, tuple[int, int]], kind: ShapeKind, source: str) -> Shapes:
    """The shapes of results; of those without a mask where the first has a box the box's rectangle."""
    if not kind.is_mask:
        return KeypointShapes(_points(rows, kind, source))
    boxed = bool(rows) and _has_box(rows[0])
    masks = []
    for n, row in enumerate(rows):
        mask = row.get("segmentation") if isinstance(row, Mapping) else None
        if mask is None and boxed and _has_box(row):
            x, y, w, h = row["bbox"]
            mask = [[x, y, x, y + h, x + w, y + h, x + w, y]]
        masks.append(_member(row, "segmentation", n, source) if mask is None else mask)
    return _masks_of(masks, rows, sizes, kind, source)


def completed(rows: list[Row], shapes: Shapes) -> list[Row]:
    """The results with the boxes and areas that `COCO.loadRes` gives them: by their boxes where the first has one, else
    by their masks or keypoints."""
    if not rows or _has_box(rows[0]):
        return [{key: value for key, value in row.items() if key not in ("area", "id")} for row in rows]
    if isinstance(shapes, MaskShapes):
        areas, boxes = shapes.masks.area.tolist(), shapes.masks.boxes.tolist()
    else:
        low, high = shapes.points[..., :2].min(axis=1), shapes.points[..., :2].max(axis=1)
        areas, boxes = np.prod(high - low, axis=1).tolist(), np.hstack([low, high - low]).tolist()
    drop = ("segmentation", "keypoints", "id")
    return [
        {"bbox": box, **{key: value for key, value in row.items() if key not in drop}, "area": area}
        for row, box, area in zip(rows, boxes, areas, strict=True)
    ]


def ignored(rows: list[Row], shapes: Shapes) -> NDArray[np.uint8] | None:
    """Per annotation whether it is neither to be found nor missed: objects without keypoints. Else `None`."""
    if isinstance(shapes, MaskShapes):
        return None
    labelled = (shapes.points[..., 2] > 0).sum(axis=1).tolist()
    counts = [row.get("num_keypoints", count) for row, count in zip(rows, labelled, strict=True)]
    return np.array([count == 0 for count in counts], dtype=np.uint8)


def image_sizes(images: Any) -> dict[Any, tuple[int, int]]:
    """Image id -> (height, width), -1 where not stated."""
    sizes = {}
    for row in images:
        if isinstance(row, Mapping):
            sides = (row.get("height"), row.get("width"))
            whole = [isinstance(side, (int, np.integer)) and not isinstance(side, bool) for side in sides]
            height, width = (int(side) if good else -1 for side, good in zip(sides, whole, strict=True))  # type: ignore[arg-type]
            if isinstance(row.get("id"), Hashable):
                sizes[row.get("id")] = (height, width)
    return sizes


def _masks_of(
    masks: list[Any], rows: list[Row], sizes: Mapping[Any, tuple[int, int]], kind: ShapeKind, source: str
) -> MaskShapes:
    numbers = [row.get("image_id") for row in rows]
    of_rows = [sizes.get(number, (-1, -1)) if isinstance(number, Hashable) else (-1, -1) for number in numbers]
    heights, widths = [size[0] for size in of_rows], [size[1] for size in of_rows]
    try:
        found = _masks.Masks(masks, heights, widths, threads=kind.threads)
        boundary = found.boundary(kind.dilation_ratio, threads=kind.threads) if kind.name == "boundary" else None
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error
    return MaskShapes(found, boundary)


def _points(rows: list[Row], kind: ShapeKind, source: str) -> NDArray[np.float64]:
    count = len(kind.sigmas)
    points = np.empty((len(rows), count, 3))
    for n, row in enumerate(rows):
        given = _member(row, "keypoints", n, source)
        try:
            points[n] = np.asarray(given, dtype=np.float64).reshape(count, 3)
        except (TypeError, ValueError) as error:
            what = f"{len(given)} values" if isinstance(given, Sequence) else repr(given)[:40]
            raise DataError(
                f"{source}: keypoints of entry {n}: {what} where x, y, visibility of {count} keypoints are expected: "
                "correct them, or give one of 'sigmas' per keypoint"
            ) from error
    bad = np.flatnonzero(~np.isfinite(points).all(axis=(1, 2)))
    if bad.size:
        raise DataError(f"{source}: keypoints of entry {named(bad[:1])} are not finite: correct or remove it")
    return points


def _with_boxes(rows: list[Row], shapes: Shapes) -> list[Row]:
    """The annotations, those without a box with that of their mask, those without an area with its pixels; and without
    the bulk that nobody reads from here on."""
    if isinstance(shapes, KeypointShapes):
        return [row if row.get("bbox") is not None else {**row, "bbox": [0.0] * 4} for row in rows]
    if all(row.get("bbox") is not None and row.get("area") is not None for row in rows):
        return rows
    sides = zip(rows, shapes.masks.boxes.tolist(), shapes.masks.area.tolist(), strict=True)
    made: list[Row] = []
    for row, box, area in sides:
        stated = {key: value for key, value in row.items() if value is not None}
        made.append({"bbox": box, "area": area, **stated})
    return made


def _member(row: Any, key: str, n: int, source: str) -> Any:
    if not isinstance(row, Mapping):
        raise DataError(f"{source}: entry {n} is not an object: give the COCO format")
    if row.get(key) is None:
        raise DataError(f"{source}: entry {n} has no {key}: add it, or evaluate boxes")
    return row[key]


def _has_box(row: Any) -> bool:
    box = row.get("bbox") if isinstance(row, Mapping) else None
    return box is not None and len(box) > 0


def _is_rows(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, (str, bytes))

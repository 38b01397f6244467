"""Results as `COCO` objects: `loadRes`, and whatever else an evaluation takes."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from qprof.core import _coco_json, _coco_rows
from qprof.errors import DataError
from qprof.probes.machine import available_cores
from qprof.tasks.coco import mask
from qprof.tasks.coco.dataset import COCO, Document, Row
from qprof.tasks.coco.inputs import Detections, GroundTruth, named, read_detections, read_ground_truth


class ResultsMismatchError(DataError, AssertionError):
    """Results of images that the data set does not have; pycocotools asserts that there are none."""


def load(truth: Any, given: Any) -> COCO:
    """What `COCO.loadRes` makes. `truth`: any object with the interface of `COCO`."""
    known = truth.getImgIds()
    if isinstance(given, (str, os.PathLike)):
        parse = Document(given)
        try:
            content: Any = _coco_json.read_results(given, available_cores())
            columns = read_detections(content)
        except DataError as error:
            given = parse(error)
        else:
            return _of_columns(truth, known, columns, parse)
    if isinstance(given, np.ndarray):
        columns = read_detections(given)
        return _of_columns(truth, known, columns, None)
    if not isinstance(given, list):
        raise ResultsMismatchError(f"results: a {type(given).__name__} is no list of detections: give a list or a file")
    try:
        others = {row["image_id"] for row in given} - set(known)
    except (KeyError, TypeError) as error:
        raise DataError(f"results: an entry is no object with an image_id ({error}): give the COCO format") from error
    if others:
        raise ResultsMismatchError(_no_such_images([str(number) for number in sorted(others, key=str)]))
    _complete(given)
    found = COCO()
    found._take(_Results(truth, given), rows=list(given))
    return found


def as_truth(given: Any) -> Any:
    """`given` where it has the interface of `COCO`, else a `COCO` of it; see `read_ground_truth` for what it may be."""
    if hasattr(given, "getAnnIds") and hasattr(given, "loadAnns"):
        return given
    made = COCO()
    if isinstance(given, (str, os.PathLike, bytes, bytearray, memoryview)):
        made._read(given)
    elif isinstance(given, Mapping) and not any(isinstance(value, Mapping) for value in _lists(given)):
        made._made = dict(given)
        made._index = made._indexed()
    else:
        columns = read_ground_truth(given)
        made._take(_Tables(columns), truth=columns)
        made._ids = (columns.image_ids.tolist(), columns.category_ids.tolist())
    return made


def as_detections(given: Any) -> Any:
    """As `as_truth`; see `read_detections`."""
    if hasattr(given, "getAnnIds") and hasattr(given, "loadAnns"):
        return given
    columns = read_detections(given, available_cores())
    made = COCO()
    made._take(_Results(None, None, columns), found=columns)
    return made


def rows_of(found: Detections) -> list[Row]:
    """Detections as dicts with all members that `loadRes` sets, but for the segmentation."""
    boxes = np.asarray(found.boxes)
    area = boxes[:, 2] * boxes[:, 3] if found.area is None else found.area
    number = range(1, len(boxes) + 1) if found.id is None else found.id.tolist()
    whole = [np.asarray(ids).astype(np.int64).tolist() for ids in (found.image_id, found.category_id)]
    columns = (whole[0], whole[1], boxes.tolist(), np.asarray(found.score).tolist(), area.tolist(), number)
    keys = ("image_id", "category_id", "bbox", "score", "area", "id")
    return [{**dict(zip(keys, row, strict=True)), "iscrowd": 0} for row in zip(*columns, strict=True)]


def _lists(given: Mapping[str, Any]) -> list[Any]:
    for key in ("images", "categories", "annotations"):
        if not isinstance(given.get(key), (list, tuple, Mapping)):
            raise DataError(f"the ground truth has no list {key!r}: give a COCO 'instances' annotation file")
    return [given[key] for key in ("images", "categories", "annotations")]


def _of_columns(truth: Any, known: list[Any], columns: Detections, parse: Callable[[], Any] | None) -> COCO:
    others = np.setdiff1d(np.asarray(columns.image_id), np.asarray(known)) if known else np.unique(columns.image_id)
    if others.size:
        raise ResultsMismatchError(_no_such_images(named(others).split(", ")))
    found = COCO()
    found._take(_Results(truth, None, columns if parse is None else parse), found=columns)
    return found


def _no_such_images(ids: list[str]) -> str:
    shown = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
    return f"Results do not correspond to current coco set: it has no images {shown}: give results of the same data set"


def _complete(rows: list[Any]) -> None:
    """Set what pycocotools sets in results, by what the first of them has."""
    if not rows:
        return
    first = rows[0]
    if "caption" in first:
        for number, row in enumerate(rows, 1):
            row["id"] = number
    elif first.get("bbox") is not None and len(first["bbox"]):
        _coco_rows.prepare_boxes(rows, True)
    elif "segmentation" in first:
        for number, row in enumerate(rows, 1):
            row["area"] = mask.area(row["segmentation"])
            if "bbox" not in row:
                row["bbox"] = mask.toBbox(row["segmentation"])
            row["id"], row["iscrowd"] = number, 0
    elif "keypoints" in first:
        for number, row in enumerate(rows, 1):
            x, y = row["keypoints"][0::3], row["keypoints"][1::3]
            left, right, top, low = np.min(x), np.max(x), np.min(y), np.max(y)
            row["area"] = (right - left) * (low - top)
            row["id"], row["bbox"] = number, [left, top, right - left, low - top]
    else:
        raise DataError("results: entry 0 has no bbox, segmentation, keypoints or caption: give one of them")


class _Results:
    """Makes the data set of results: of their rows, or of rows that are to be made of columns or of a file."""

    def __init__(
        self, truth: Any, rows: list[Any] | None, source: Detections | Callable[[], Any] | None = None
    ) -> None:
        self._truth, self._rows, self._source = truth, rows, source

    def __call__(self) -> Row:
        rows = self._rows
        if isinstance(self._source, Detections):
            rows = rows_of(self._source)
        elif self._source is not None:
            rows = self._source()
            _complete(rows)
        dataset: Row = {}
        if self._truth is not None:
            source = self._truth.dataset
            dataset = {"info": copy.deepcopy(source.get("info", {})), "images": list(source["images"])}
            if "categories" in source:
                dataset["categories"] = copy.deepcopy(source["categories"])
        if rows and "caption" in rows[0]:
            captioned = {row["image_id"] for row in rows}
            dataset["images"] = [image for image in dataset["images"] if image["id"] in captioned]
        return {**dataset, "annotations": rows}


class _Tables:
    """Makes the data set of columns of ground truths."""

    def __init__(self, columns: GroundTruth) -> None:
        self._columns = columns

    def __call__(self) -> Row:
        c = self._columns
        members = (c.id, c.image_id, c.category_id, c.boxes, c.area, c.crowd)
        keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        names = zip(c.category_ids.tolist(), c.category_names, strict=True)
        rows = zip(*(member.tolist() for member in members), strict=True)
        return {
            "info": {},
            "images": [{"id": number} for number in c.image_ids.tolist()],
            "categories": [{"id": number, "name": name} for number, name in names],
            "annotations": [dict(zip(keys, row, strict=True)) for row in rows],
        }

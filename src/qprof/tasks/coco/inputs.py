"""Ground truth and detections in all their forms, as checked columns.

Formats: https://cocodataset.org/#format-data ("Object Detection") and https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core import _coco_json
from qprof.errors import DataError
from qprof.tasks.coco.federated import Federation, mentions_federation, unused_note
from qprof.tasks.coco.files import uncompressed, unwrapped_results
from qprof.tasks.coco.pairs import Shapes

#: How many ids a note or an error names.
_NAMED = 5

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Images and categories by ascending id, and the annotations (n of them) in the order of the input."""

    source: str  # what messages call it
    image_ids: NDArray[np.int64]  # [images], ascending
    category_ids: NDArray[np.int64]  # [categories], ascending
    category_names: list[str]
    id: NDArray[np.int64]  # [n]
    image_id: NDArray[np.int64]  # [n]
    category_id: NDArray[np.int64]  # [n]
    boxes: NDArray[np.float64]  # [n, 4]: x, y, width, height in pixels
    area: NDArray[np.float64]  # [n] square pixels
    crowd: NDArray[np.uint8]  # [n]
    notes: list[str] = field(default_factory=list)
    sizes: NDArray[np.int64] | None = None  # [images, 2]: width, height in pixels; None where one is not stated
    ignore: NDArray[np.uint8] | None = None  # [n] neither to be found nor missed; None: nothing is, but for crowds
    shapes: Shapes | None = None  # what is compared instead of the boxes
    federation: Federation | None = None  # what LVIS states beyond COCO


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections (n of them) in the order of the input."""

    source: str
    image_id: NDArray[Any]  # [n] whole numbers, or a float column of a table
    category_id: NDArray[Any]  # [n]
    boxes: NDArray[Any]  # [n, 4]: x, y, width, height in pixels
    score: NDArray[Any]  # [n]
    area: NDArray[np.float64] | None = None  # [n] square pixels; None: width x height
    id: NDArray[np.int64] | None = None  # [n]; None: 1, 2, ... as `COCO.loadRes` numbers them
    shapes: Shapes | None = None  # what is compared instead of the boxes


def read_ground_truth(given: Any, threads: int = 1) -> GroundTruth:
    """`given`: the path of an "instances" file (gzip or not) or its bytes, its loaded content, a pycocotools `COCO`, or
    columns.

    Columns: {"images": {"id"}, "categories": {"id", "name"}, "annotations": {"id", "image_id", "category_id", "bbox",
    "area", "iscrowd"}}, each an array; name, area and iscrowd may be missing. Raises `DataError` for what is none of
    these, lacks a member, or has an id twice.
    """
    if isinstance(given, GroundTruth):
        return given
    source = _source(given, "the ground truth")
    content: Any = _content(given)
    if _is_file(given):
        content = _coco_json.read_ground_truth(uncompressed(given), threads)
    if not isinstance(content, Mapping):
        raise DataError(f"{source} is a {type(content).__name__}: give an 'instances' file, its content, or columns")
    lists = {}
    for key in ("images", "categories", "annotations"):
        if not isinstance(content.get(key), (Mapping, Sequence)) or isinstance(content[key], (str, bytes)):
            raise DataError(f"{source} has no list {key!r}: give a COCO 'instances' annotation file")
        lists[key] = content[key]
    images = _ids(lists["images"], "id", f"{source}: images")
    categories = _ids(lists["categories"], "id", f"{source}: categories")
    names = _names(lists["categories"], categories)
    annotations = lists["annotations"]
    where = f"{source}: annotations"
    numbers = _ids(annotations, "id", where)
    for what, ids in (("image", images), ("category", categories), ("annotation", numbers)):
        _check_unique(ids, f"{source}: {what} id")
    boxes = _boxes(annotations, where)
    area, without_area = _areas(annotations, boxes, where)
    without_area = int(content.get("without_area", without_area))
    order = np.argsort(categories)
    notes = []
    if without_area:
        notes.append(
            f"{source}: {without_area} annotations state no area: width x height of the box is used, so that the sizes "
            "may differ from COCO's; add 'area'"
        )
    if mentions_federation(given, content, len(categories)):
        notes.append(unused_note(source))
    return GroundTruth(
        source=source,
        image_ids=np.sort(images),
        category_ids=categories[order],
        category_names=[names[i] for i in order],
        id=numbers,
        image_id=_ids(annotations, "image_id", where),
        category_id=_ids(annotations, "category_id", where),
        boxes=boxes.astype(np.float64, copy=False),
        area=area,
        crowd=_flags(annotations, "iscrowd", where),
        notes=notes,
        sizes=_sizes(lists["images"], np.argsort(images)),
    )


def read_detections(given: Any, threads: int = 1) -> Detections:
    """`given`: the path of a results file (a list, JSON Lines, or {"annotations": [...]}; gzip or not) or its bytes,
    its loaded list, a pycocotools `COCO`, a table, or columns.

    A table has the rows [image_id, x, y, width, height, score, category_id], as `COCO.loadRes` takes them; columns are
    {"image_id", "category_id", "bbox", "score"} and, if present, "area" and "id". Both are read in place. Raises
    `DataError` for what is none of these, or lacks a member. No detections at all are fine.
    """
    if isinstance(given, Detections):
        return given
    if isinstance(given, np.ndarray):
        return _from_table(given)
    source = _source(given, "the detections")
    content: Any = _content(given)
    if _is_file(given):
        content = unwrapped_results(uncompressed(given), source)
    if _is_file(content):
        content = _coco_json.read_results(content, threads)
    if isinstance(content, Mapping) and isinstance(content.get("annotations"), Sequence):
        content = content["annotations"]
    if isinstance(content, (str, bytes)) or not isinstance(content, (Mapping, Sequence)):
        raise DataError(
            f"{source}: a {type(content).__name__} is no list of detections: give a results file, or a list"
        )
    boxes = _boxes(content, source)
    return Detections(
        source=source,
        image_id=_ids(content, "image_id", source),
        category_id=_ids(content, "category_id", source),
        boxes=boxes,
        score=_numbers(content, "score", source),
        area=_numbers(content, "area", source) if _has(content, "area") else _narrow_area(boxes),
        id=_ids(content, "id", source) if _has(content, "id") else None,
    )


def named(values: NDArray[Any]) -> str:
    """The first distinct ids, as a text: "3, 7, 8, ..."."""
    distinct = np.unique(values)
    shown = ", ".join(str(value).removesuffix(".0") for value in distinct[:_NAMED].tolist())
    return shown + (", ..." if len(distinct) > _NAMED else "")


def check_values(truth: GroundTruth, detections: Detections) -> None:
    """Raise `DataError` for the first box, area or score that the evaluation cannot take."""
    for source, what, values in (
        (truth.source, "bbox of annotation", truth.boxes),
        (detections.source, "bbox of detection", detections.boxes),
    ):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            box = values[bad[0]].tolist()
            raise DataError(
                f"{source}: {what} {bad[0]} (counted from 0) is {box}: give four finite numbers x, y, width, height"
            )
    for source, what, column in (
        (truth.source, "area of annotation", truth.area),
        (detections.source, "score of detection", detections.score),
        (detections.source, "area of detection", detections.area),
    ):
        bad = np.flatnonzero(np.isnan(column)) if column is not None else np.empty(0, dtype=np.intp)
        if bad.size:
            raise DataError(f"{source}: {what} {bad[0]} (counted from 0) is NaN: correct or remove that entry")


def _is_file(given: Any) -> bool:
    """Whether the compiled reader takes it: a path, or the document as bytes."""
    return isinstance(given, (str, os.PathLike, bytes, bytearray, memoryview))


def _content(given: Any) -> Any:
    """What is loaded already; of a pycocotools `COCO`, and what is made like it, the data set."""
    return given.dataset if hasattr(given, "getAnnIds") and hasattr(given, "dataset") else given


def _source(given: Any, what: str) -> str:
    return Path(given).name if isinstance(given, (str, os.PathLike)) else what


def _from_table(table: NDArray[Any]) -> Detections:
    source = "the detections"
    if table.size == 0:
        table = np.empty((0, 7))
    if table.ndim != 2 or table.shape[1] != 7 or table.dtype.kind not in "iuf":
        raise DataError(
            f"{source}: a {table.dtype} array of shape {table.shape} is no table of detections: give numbers of shape "
            "[detections, 7]: image_id, x, y, width, height, score, category_id"
        )
    boxes = table[:, 1:5]
    return Detections(source, table[:, 0], table[:, 6], boxes, table[:, 5], _narrow_area(boxes))


def _narrow_area(boxes: NDArray[Any]) -> NDArray[np.float64] | None:
    """`COCO.loadRes` multiplies in the type of the boxes: a half or single precision product decides the size."""
    if boxes.dtype.kind != "f" or boxes.dtype.itemsize >= 8:
        return None
    return np.asarray(boxes[:, 2] * boxes[:, 3], dtype=np.float64)


def _has(rows: Any, key: str) -> bool:
    """Whether every entry states `key`."""
    if isinstance(rows, Mapping):
        return rows.get(key) is not None
    return len(rows) > 0 and all(isinstance(row, Mapping) and row.get(key) is not None for row in rows)


def _values(rows: Any, key: str, where: str) -> Any:
    """A column, or the list of what the entries say; `DataError` for the first entry that says nothing."""
    if isinstance(rows, Mapping):
        if rows.get(key) is None:
            raise DataError(f"{where}: no column {key!r}: add it")
        if not isinstance(rows[key], (np.ndarray, list, tuple)) or (
            isinstance(rows[key], np.ndarray) and not rows[key].ndim
        ):
            raise DataError(f"{where}: column {key!r} is a {type(rows[key]).__name__}: give an array")
        return rows[key]
    try:
        return [row[key] for row in rows]
    except (KeyError, TypeError, IndexError):
        for position, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise DataError(f"{where}: entry {position} is not an object: give the COCO format") from None
            if key not in row:
                raise DataError(f"{where}: entry {position} has no {key}: add it") from None
        raise


def _array(values: Any) -> NDArray[Any]:
    """`values` as numbers, else as they are: NumPy would make text of all where one is text."""
    try:
        made = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        return np.fromiter(values, dtype=object)
    return made if made.dtype.kind in "iufbO" or made.ndim == 0 else np.fromiter(values, dtype=object)


def _ids(rows: Any, key: str, where: str) -> NDArray[Any]:
    given = _array(_values(rows, key, where))
    if given.size == 0 and given.ndim == 1:
        return np.empty(0, dtype=np.int64)
    if isinstance(rows, Mapping) and given.dtype.kind in "iuf" and key in ("image_id", "category_id"):
        whole = given  # a column of a runtime may be float: what is no whole number is no known id
    elif given.dtype.kind in "iu":
        whole = given
    else:
        whole = np.array([_whole(value, f"{where}: {key} of entry {n}") for n, value in enumerate(given.tolist())])
    if whole.ndim != 1:
        raise DataError(f"{where}: {key} has the shape {whole.shape}: give one integer per entry")
    if whole.dtype.kind == "u" and whole.size and int(whole.max()) > np.iinfo(np.int64).max:
        raise DataError(
            f"{where}: {key} {int(whole.max())} is beyond 64 bits: number the entries with smaller integers"
        )
    return whole if whole.dtype.kind == "f" else whole.astype(np.int64, copy=False)


def _whole(value: Any, where: str) -> int:
    exact = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not exact or not -(2**63) <= value < 2**63:
        raise DataError(f"{where} is {str(value)[:60]!r}: give an integer of 64 bits")
    return int(value)


def _numbers(rows: Any, key: str, where: str) -> NDArray[Any]:
    given = _array(_values(rows, key, where))
    if given.size == 0:
        return np.empty(0)
    if given.dtype.kind not in "iufb" or given.ndim != 1:
        for position, value in enumerate(given.tolist()):
            if not isinstance(value, (int, float)):
                raise DataError(f"{where}: {key} of entry {position} is {str(value)[:60]!r}: give a number")
        raise DataError(f"{where}: {key} is no column of numbers: give one number per entry")
    return given.astype(np.float64, copy=False)


def _boxes(rows: Any, where: str) -> NDArray[Any]:
    given = _array(_values(rows, "bbox", where))
    if given.size == 0 and given.shape[:1] == (0,):
        return np.empty((0, 4))
    if given.dtype.kind in "iuf" and given.ndim == 2 and given.shape[1] == 4:
        return given
    for position, box in enumerate(given.tolist()):
        numbers = isinstance(box, (list, tuple, np.ndarray)) and len(box) == 4
        if not numbers or any(isinstance(v, bool) or not isinstance(v, (int, float, np.number)) for v in box):
            raise DataError(f"{where}: bbox of entry {position} is {str(box)[:60]}: give x, y, width, height in pixels")
    try:
        return np.array(given.tolist(), dtype=np.float64)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: a bbox is beyond the range of numbers: correct it") from error


def _areas(rows: Any, boxes: NDArray[Any], where: str) -> tuple[NDArray[np.float64], int]:
    """The areas, width x height where an entry states none, and how many of those there are."""
    if len(boxes) == 0 or _has(rows, "area"):
        return (np.empty(0) if len(boxes) == 0 else _numbers(rows, "area", where)), 0
    product = (boxes[:, 2] * boxes[:, 3]).astype(np.float64)
    if isinstance(rows, Mapping):
        return product, len(boxes)
    stated = [n for n, row in enumerate(rows) if row.get("area") is not None]
    product[stated] = _numbers([rows[n] for n in stated], "area", where)
    return product, len(boxes) - len(stated)


def _flags(rows: Any, key: str, where: str) -> NDArray[np.uint8]:
    given = rows.get(key) if isinstance(rows, Mapping) else [row.get(key) or 0 for row in rows]
    if given is None:
        return np.zeros(len(rows["id"]), dtype=np.uint8)
    flags = _array(given)
    if flags.size and (flags.dtype.kind not in "biuf" or flags.ndim != 1):
        raise DataError(f"{where}: {key} is not 0 or 1 in every entry: correct it")
    return np.asarray(flags != 0, dtype=np.uint8)


def _sizes(rows: Any, order: NDArray[np.intp]) -> NDArray[np.int64] | None:
    """Width and height of the images in this order, where every one states them."""
    if not (_has(rows, "width") and _has(rows, "height")):
        return None
    columns = [_array(_values(rows, key, "images")) for key in ("width", "height")]
    if any(column.dtype.kind not in "iuf" or column.ndim != 1 for column in columns):
        return None
    sizes = np.column_stack(columns)[order].astype(np.int64)
    return sizes if bool((sizes > 0).all()) else None


def _names(rows: Any, ids: NDArray[Any]) -> list[str]:
    """The names of the categories, the id where one has none."""
    if isinstance(rows, Mapping):
        given = rows.get("name")
        stated = [None] * len(ids) if given is None else list(given)
    else:
        stated = [row.get("name") for row in rows]
    if len(stated) != len(ids):
        raise DataError(f"categories: {len(stated)} names for {len(ids)} ids: give every category one")
    return [str(number) if name is None else str(name) for name, number in zip(stated, ids, strict=True)]


def _check_unique(ids: NDArray[Any], what: str) -> None:
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[: max(len(ordered) - 1, 0)]]
    if twice.size:
        raise DataError(f"{what} {named(twice)} is there more than once: give every entry an id of its own")

"""Annotations that are Python dicts, as columns (sources: csrc/coco_rows).

What pycocotools' `COCO` objects hold. Rows are read as they are at the moment of the call, and never kept, so that what
callers change in them is seen. Ids may be whatever can be a key of a dict, and are equal where Python says so.
`qprof.errors.DataError` names the entry that lacks a member or has one of another type.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

class Columns(TypedDict, total=False):
    image: NDArray[np.int32]  # place of the image, -1 for another one
    category: NDArray[np.int32]
    id: NDArray[np.int64]  # the place in the list, from 1, where it is missing or no whole number of 64 bits
    bbox: NDArray[np.float64]  # [n, 4]: x, y, width, height in pixels
    area: NDArray[np.float64]  # square pixels; width x height where not stated
    iscrowd: NDArray[np.uint8]  # of ground truths
    score: NDArray[np.float64]  # of detections
    without_area: int  # rows that state no area

def select(
    img_to_anns: dict[Any, Sequence[Mapping[str, Any]]],
    anns: dict[Any, Mapping[str, Any]],
    image_ids: Iterable[Hashable],
    category_ids: Iterable[Hashable] | None,
    where: str,
) -> list[Any]:
    """The rows of these images and categories (None: all), in the order of `COCO.loadAnns(COCO.getAnnIds(...))`.

    As there, of rows that share an id the last one is taken for each of them.
    """

def of_categories(rows: Sequence[Any], category_ids: Iterable[Hashable], where: str) -> list[Any]:
    """The rows of these categories, in order."""

def columns(
    rows: Sequence[Any], images: dict[Any, int], categories: dict[Any, int] | None, truths: bool, where: str
) -> Columns:
    """The members that an evaluation reads. `images`, `categories`: id -> place; without categories all are at 0."""

def prepare_boxes(rows: list[Any], polygons: bool) -> None:
    """Set what `COCO.loadRes` sets in results that have boxes: area, id (from 1), iscrowd and, with `polygons`, where
    there is none, a segmentation that is the box."""

def index(
    rows: list[Any],
) -> tuple[dict[Any, Any], dict[Any, list[Any]], dict[Any, list[Any]] | None]:
    """`anns`, `imgToAnns`, `catToImgs` (None where a row has no category) of `COCO.createIndex`."""

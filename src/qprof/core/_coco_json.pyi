"""COCO files as NumPy arrays, without a Python object per entry (sources: csrc/coco_json).

Reads what `json.load` reads of these formats, https://cocodataset.org/#format-data and #format-results: members in any
order, any spacing and escapes, unknown members skipped, the last of repeated members kept, NaN and infinities kept.
Numbers are bit for bit those of Python's `int()` and `float()`; an id may also be written as a whole float. Unlike
`json.load` it takes UTF-8 only (with or without a byte order mark) and at most 1,024 nested levels.

`source` is the path of a file (which must not be shortened meanwhile: it is mapped) or the document as bytes. `threads`
read one file together, and give the same arrays and the same errors as one. The GIL is released.

Both functions raise `qprof.errors.DataError` for a file that cannot be read, for invalid JSON (with byte, line and
entry) and for an entry that lacks a member or has one of another type (with its number, counted from 0). Ids that
repeat, or that refer to nothing, and values that make no sense as a box or score are for the caller to judge.
"""

from os import PathLike
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

class Detections(TypedDict):
    """Columns of a results file, one row per detection in the order of the file."""

    image_id: NDArray[np.int64]
    category_id: NDArray[np.int64]
    bbox: NDArray[np.float64]  # [detections, 4]: x, y, width, height in pixels
    score: NDArray[np.float64]
    skipped: list[str]  # names of other members, 32 at most

class Images(TypedDict):
    """Columns of the list "images"."""

    id: NDArray[np.int64]
    width: NDArray[np.int64]  # pixels; -1 where not stated
    height: NDArray[np.int64]

class Categories(TypedDict):
    """Columns of the list "categories"."""

    id: NDArray[np.int64]
    name: list[str | None]  # None where not stated

class Annotations(TypedDict):
    """Columns of the list "annotations"."""

    id: NDArray[np.int64]
    image_id: NDArray[np.int64]
    category_id: NDArray[np.int64]
    bbox: NDArray[np.float64]  # [annotations, 4]: x, y, width, height in pixels
    area: NDArray[np.float64]  # square pixels; width x height of the box where not stated
    iscrowd: NDArray[np.uint8]  # 0 or 1; 0 where not stated
    ignore: NDArray[np.uint8]  # as iscrowd; COCO's own evaluation overrides it with iscrowd

class GroundTruth(TypedDict):
    """An "instances" file, entries in the order of the file."""

    images: Images
    categories: Categories
    annotations: Annotations
    without_area: int  # annotations that state no area

def read_results(source: str | PathLike[str] | bytes | bytearray | memoryview, threads: int = 1) -> Detections:
    """Read a list of detections; each has to have image_id, category_id, bbox and score."""

def read_ground_truth(source: str | PathLike[str] | bytes | bytearray | memoryview, threads: int = 1) -> GroundTruth:
    """Read images (id), categories (id) and annotations (id, image_id, category_id, bbox); the rest may be missing."""

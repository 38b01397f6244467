"""LVIS: which categories of an image are annotated at all, and how figures follow from it.

Gupta, Dollar and Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019, and the authors'
code (https://github.com/lvis-dataset/lvis-api). A detection counts only where its category was looked for in its image:
there are objects of it, or the image lists it in `neg_category_ids`. Where not all objects were annotated
(`not_exhaustive_category_ids`), one that matches none is neither right nor wrong. 300 detections per image count, of
all categories together; crowds do not exist.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError

#: What LVIS calls categories by the number of images that show them, in the order of its figures: rare, common,
#: frequent.
FREQUENCIES = ("r", "c", "f")
LVIS_MAX_DETS = 300
#: COCO has 80 categories, Objects365 365; LVIS 1,203.
MOST_EXHAUSTIVE = 400
_MEMBER = b'"neg_category_ids"'


@dataclass(frozen=True, eq=False)
class Federation:
    """What LVIS states beyond COCO. Pairs are image * `stride` + category, both places in the ascending ids."""

    negative: NDArray[np.int64]
    not_exhaustive: NDArray[np.int64]
    stride: int
    frequency: list[str]  # per category


def read_federation(
    content: Mapping[str, Any], images: NDArray[np.int64], categories: NDArray[np.int64], source: str
) -> Federation:
    """Raises `DataError` for a file that lacks what LVIS states."""
    place = {number: k for k, number in enumerate(categories.tolist())}
    rows = {row["id"]: row for row in content["images"]}
    pairs: dict[str, list[int]] = {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for i, number in enumerate(images.tolist()):
        for key, found in pairs.items():
            listed = rows[number].get(key)
            if not isinstance(listed, Iterable):
                raise DataError(f"{source}: image {number} has no list {key}: give an LVIS file, or style='coco'")
            found += [i * len(categories) + place[other] for other in listed if other in place]
    of = {row["id"]: row.get("frequency") for row in content["categories"]}
    frequency = [of[number] for number in categories.tolist()]
    for number, group in zip(categories.tolist(), frequency, strict=True):
        if group not in FREQUENCIES:
            raise DataError(f"{source}: category {number} has the frequency {str(group)[:40]!r}: give r, c or f")
    made = {key: np.unique(np.array(found, dtype=np.int64)) for key, found in pairs.items()}
    return Federation(
        made["neg_category_ids"], made["not_exhaustive_category_ids"], len(categories), [str(f) for f in frequency]
    )


def apply(
    federation: Federation,
    truth_image: NDArray[np.int32],
    truth_category: NDArray[np.int32],
    image: NDArray[np.int32],
    category: NDArray[np.int32],
    score: NDArray[Any],
    area: NDArray[np.float64],
    most: int,
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The categories of the detections, -1 for those that do not count, and their areas, -inf where an unmatched one is
    ignored: outside of every range. Places are those of all images and categories of the file."""
    counted = np.flatnonzero(image >= 0)
    ranked = counted[np.lexsort((-np.asarray(score, dtype=np.float64)[counted], image[counted]))]
    start = np.searchsorted(image[ranked], image[ranked])
    within = np.zeros(len(image), dtype=bool)
    within[ranked[np.arange(len(ranked)) - start < most]] = True
    known = (truth_image >= 0) & (truth_category >= 0)
    positive = truth_image[known].astype(np.int64) * federation.stride + truth_category[known]
    pair = image.astype(np.int64) * federation.stride + category
    looked_for = np.isin(pair, positive) | np.isin(pair, federation.negative)
    excused = np.isin(pair, federation.not_exhaustive)
    return np.where(within & looked_for, category, -1).astype(np.int32), np.where(excused, -np.inf, area)


def unused_note(source: str) -> str:
    """What is said of an LVIS file that is evaluated as COCO."""
    return (
        f"{source}: images list neg_category_ids, as LVIS does, but are evaluated as COCO: detections of categories "
        "that nobody looked for count as wrong; evaluate with style='lvis'"
    )


def mentions_federation(given: Any, content: Any, categories: int) -> bool:
    """Whether what `content` was read of states what LVIS does. A file that was read by columns is searched for it, but
    only where it has as many categories as no data set has that annotates all of them: it costs a pass."""
    if not isinstance(given, (str, os.PathLike, bytes)) or categories <= MOST_EXHAUSTIVE:
        return is_federated(content)
    if isinstance(given, bytes):
        return _MEMBER in given
    with open(given, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(_MEMBER) >= 0


def is_federated(content: Any) -> bool:
    """Whether a loaded file has what LVIS states of its images."""
    images = content.get("images") if isinstance(content, Mapping) else None
    return (
        isinstance(images, list) and bool(images) and isinstance(images[0], Mapping) and "neg_category_ids" in images[0]
    )

"""Why an AP is near 0: detections read in the ways in which they are most often written wrongly, and scored again.

Boxes as corners or centres, in another order, as shares of the image; the same of the annotations; categories counted
from elsewhere. Every reading is scored on the same images, and what it gives is told beside what was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.tasks.coco.evaluate import run
from qprof.tasks.coco.inputs import Detections, GroundTruth, named
from qprof.tasks.coco.result import CocoResult
from qprof.tasks.coco.settings import Settings

#: Images that readings are tried on, evenly spaced: an AP of 0 is told from one that is not by far fewer.
MOST_IMAGES = 500
#: An AP below this makes one ask; detectors that are used have more on COCO.
SUSPECT = 0.25
#: What a reading must add to be told, and how many times the AP it must be: no wrong reading doubles a sound AP.
LEAST_GAIN, LEAST_RATIO = 0.05, 2.0
#: Boxes whose numbers all lie within this are shares of the image, and not pixels.
_SHARE = 1.5

#: Renamed categories that are written out.
_NAMED = 4

Boxes = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reading:
    """Another way to read the detections or the annotations: `says` what it is, `ap` what it gives, `given` what the
    files give as they are, on the same `images`."""

    says: str
    remedy: str
    given: float
    ap: float
    images: int


def readings(result: CocoResult, threads: int = 1) -> list[Reading]:
    """The readings that raise an AP below `SUSPECT` by `LEAST_GAIN` and to `LEAST_RATIO` times, the best first."""
    ap = result.summary.get("AP")
    if ap is None or ap >= SUSPECT or not len(result.detections.score):
        return []
    images = _some(result.image_ids)
    settings = replace(result.settings, use_cats=True)

    def scored(truth: GroundTruth, found: Detections, settings: Settings = settings) -> float:
        again = run(truth, found, settings, images, result.category_ids, threads, keep=False)
        return again.summary.get("AP") or 0.0

    given = scored(result.truth, result.detections)
    tried = [
        Reading(says, remedy, given, scored(truth, found), len(images))
        for says, remedy, truth, found in (*_changes(result), *_renamed(result, settings, images, threads))
    ]
    least = max(given + LEAST_GAIN, given * LEAST_RATIO)
    return sorted((one for one in tried if one.ap >= least), key=lambda one: -one.ap)


def refuse_other_images(result: CocoResult, name: str) -> None:
    """Raise `DataError` where no detection is of an image of the annotations: the two are not of one data set."""
    ids = np.asarray(result.detections.image_id)
    if ids.size and not np.isin(ids, result.image_ids).any():
        raise DataError(
            f"{name}: none of its {len(ids):,} detections is of an image of {result.truth.source}: its image ids are "
            f"{named(ids)}, those of the annotations {named(result.image_ids)}; give results of the same data set, or "
            "its image ids"
        )


def crowded_images(result: CocoResult) -> tuple[int, int]:
    """How many images hold more objects of one category than detections are counted, and the most of any."""
    kept = (result.truth_image >= 0) & (result.truth_category >= 0) & (result.truth.crowd == 0)
    pairs = result.truth_image[kept].astype(np.int64) * max(1, len(result.category_ids)) + result.truth_category[kept]
    if not pairs.size:
        return 0, 0
    numbers, counts = np.unique(pairs, return_counts=True)
    beyond = numbers[counts > max(result.settings.max_dets)] // max(1, len(result.category_ids))
    return len(np.unique(beyond)), int(counts.max())


def empty_boxes(result: CocoResult) -> tuple[int, int]:
    """How many annotations that are to be found, and how many detections, have a width or height of 0 or less: no box
    overlaps these. None where masks or keypoints are compared."""
    if result.truth.shapes is not None:
        return 0, 0
    scored = (result.truth_image >= 0) & (result.truth_category >= 0) & (result.truth.crowd == 0)
    wanted = int((result.truth.boxes[scored, 2:] <= 0).any(axis=1).sum())
    return wanted, int((result.detections.boxes[:, 2:] <= 0).any(axis=1).sum())


def _some(image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(image_ids) <= MOST_IMAGES:
        return image_ids
    return image_ids[np.linspace(0, len(image_ids) - 1, MOST_IMAGES).round().astype(np.intp)]


def _changes(result: CocoResult) -> Iterator[tuple[str, str, GroundTruth, Detections]]:
    """What it says, its remedy, and both sides as it reads them."""
    truth, found = result.truth, result.detections
    for says, remedy, read in _BOXES:
        boxes = read(found.boxes.astype(np.float64))
        yield f"boxes of the detections are {says}", remedy, truth, replace(found, boxes=boxes, area=None)
        boxes = read(truth.boxes)
        area = boxes[:, 2] * boxes[:, 3]
        yield f"boxes of the annotations are {says}", remedy, replace(truth, boxes=boxes, area=area), found
    for says, read in _NEGATIVE:
        if (found.boxes[:, 2:] < 0).any():
            boxes = read(found.boxes.astype(np.float64))
            yield f"boxes of the detections {says}", _WRITE_SIZES, truth, replace(found, boxes=boxes, area=None)
        if (truth.boxes[:, 2:] < 0).any():
            mended = replace(truth, boxes=read(truth.boxes), area=np.abs(truth.area))
            yield f"boxes of the annotations {says}", _WRITE_SIZES, mended, found
    yield from _shares(truth, found)
    yield from _categories(truth, found)


def _shares(truth: GroundTruth, found: Detections) -> Iterator[tuple[str, str, GroundTruth, Detections]]:
    """Shares of the image's size, as x, y, width, height or in one of the other forms."""
    if truth.sizes is None or float(np.abs(found.boxes).max(initial=0.0)) > _SHARE:
        return
    place = np.searchsorted(truth.image_ids, found.image_id)
    place = np.minimum(place, max(0, len(truth.image_ids) - 1))
    known = truth.image_ids[place] == found.image_id
    sizes = np.where(known[:, None], truth.sizes[place], 0)
    boxes = found.boxes.astype(np.float64) * np.tile(sizes, 2)
    told = "boxes of the detections are shares of the image"
    remedy = "multiply them by its width and height"
    yield told, remedy, truth, replace(found, boxes=boxes, area=None)
    for says, other, read in _BOXES:
        yield f"{told}, as {says}", f"{remedy}, then {other}", truth, replace(found, boxes=read(boxes), area=None)


def _categories(truth: GroundTruth, found: Detections) -> Iterator[tuple[str, str, GroundTruth, Detections]]:
    """Ids that are one too small or too large, and class numbers in place of ids."""
    ids = np.asarray(found.category_id)
    for shift in (1, -1):
        says = f"category ids of the detections are {'smaller' if shift > 0 else 'larger'} by 1"
        yield says, f"{'add' if shift > 0 else 'subtract'} 1", truth, replace(found, category_id=ids + shift)
    for first in (0, 1):
        place = ids.astype(np.int64) - first
        inside = (place >= 0) & (place < len(truth.category_ids))
        mapped = np.where(inside, truth.category_ids[np.clip(place, 0, len(truth.category_ids) - 1)], -1)
        says = f"category ids of the detections count the annotations' categories from {first}"
        yield says, "use the id of the n-th category", truth, replace(found, category_id=mapped)


def _renamed(
    result: CocoResult, settings: Settings, images: NDArray[np.int64], threads: int
) -> Iterator[tuple[str, str, GroundTruth, Detections]]:
    """Every category of the detections called what most of the objects are that its boxes lie on, whatever they are
    called. Fitted to what it is scored on, it is only told where it gives very much."""
    truth, found = result.truth, result.detections
    alike = run(truth, found, replace(settings, use_cats=False), images, result.category_ids, threads)
    matches = alike.category_matches(0, alike.settings.main_area)
    at = alike.settings.iou_index(0.5)
    if at < 0:
        return
    taken = (matches["dt_matches"][at] >= 0) & ~matches["dt_ignored"][at]
    ids = np.asarray(found.category_id)[matches["dt"][taken]]
    theirs = truth.category_id[matches["dt_matches"][at][taken]]
    names: dict[int, int] = {}
    for number in np.unique(ids).tolist():
        values, counts = np.unique(theirs[ids == number], return_counts=True)
        if 2 * int(counts.max()) > int(counts.sum()):
            names[int(number)] = int(values[counts.argmax()])
    changed = {number: name for number, name in names.items() if number != name}
    if not changed:
        return
    known = np.asarray(found.category_id)
    renamed = np.array([names.get(int(number), int(number)) for number in known.tolist()], np.int64)
    pairs = ", ".join(f"{number} for {name}" for number, name in list(changed.items())[:_NAMED])
    more = ", ..." if len(changed) > _NAMED else ""
    says = f"category ids of the detections stand for others ({pairs}{more})"
    remedy = "map the classes of the detector to the category ids of the annotations"
    yield says, remedy, truth, replace(found, category_id=renamed)


def _corners(boxes: Boxes) -> Boxes:
    return np.column_stack([boxes[:, 0], boxes[:, 1], boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]])


def _centres(boxes: Boxes) -> Boxes:
    return np.column_stack([boxes[:, 0] - boxes[:, 2] / 2, boxes[:, 1] - boxes[:, 3] / 2, boxes[:, 2], boxes[:, 3]])


def _swapped(boxes: Boxes) -> Boxes:
    return boxes[:, [1, 0, 3, 2]]


def _turned(boxes: Boxes) -> Boxes:
    return np.column_stack([boxes[:, :2] + np.minimum(boxes[:, 2:], 0), np.abs(boxes[:, 2:])])


_WRITE_SIZES = "write the left upper corner, and width and height above 0"
#: What negative widths and heights stand for.
_NEGATIVE: tuple[tuple[str, Callable[[Boxes], Boxes]], ...] = (
    ("have sizes of the wrong sign", lambda boxes: np.column_stack([boxes[:, :2], np.abs(boxes[:, 2:])])),
    ("are given from another corner, with sizes below 0", _turned),
)
#: What boxes are, how to mend them, and x, y, width, height of them.
_BOXES: tuple[tuple[str, str, Callable[[Boxes], Boxes]], ...] = (
    ("corners (x1, y1, x2, y2)", "write x, y, width, height", _corners),
    ("centres (cx, cy, width, height)", "subtract half of width and height from the centre", _centres),
    ("y, x, height, width", "write x, y, width, height", _swapped),
    ("corners (y1, x1, y2, x2)", "write x, y, width, height", lambda boxes: _corners(_swapped(boxes))),
)

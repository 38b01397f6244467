"""What an evaluation reads of `COCO` objects, pycocotools', ours, or others with their interface.

Rows are read anew for every evaluation, since callers change them; columns of a file that nobody has seen as dicts are
read once, with the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core import _coco, _coco_rows
from qprof.tasks.coco.dataset import COCO
from qprof.tasks.coco.inputs import Detections, GroundTruth, named
from qprof.tasks.coco.pairs import KeypointShapes
from qprof.tasks.coco.shapes import ShapeKind, detection_shapes, ignored, image_sizes, truth_shapes

_TRUTH, _FOUND = "the ground truth", "the detections"


@dataclass(frozen=True, slots=True)
class Gathered:
    """Both sides, with images and categories as places in the ids that were asked for, -1 for others."""

    truth: GroundTruth
    truth_image: NDArray[np.int32]
    truth_category: NDArray[np.int32]
    detections: Detections
    image: NDArray[np.int32]
    category: NDArray[np.int32]
    notes: list[str]


def gather(
    truth: Any,
    found: Any,
    images: list[Any],
    categories: list[Any],
    use_cats: bool,
    threads: int,
    kind: ShapeKind | None = None,
) -> Gathered:
    """Read the rows of these ids (each once, ascending), with `kind` also their masks or keypoints. `DataError` for a
    row that lacks a member."""
    filtered = use_cats and len(categories) < len(truth.getCatIds())
    t = _side(truth, images, categories, filtered, threads, True, kind)
    d = _side(found, images, categories, filtered, threads, False, kind)
    image_ids, category_ids = _numbers(images), _numbers(categories)
    truth_image, truth_category = t["image"], t["category"]
    scored = (truth_image >= 0) & (truth_category >= 0)
    notes = []
    if (t["id"][scored] == 0).any():
        notes.append(
            f"{_TRUTH}: an annotation has the id 0, a match to which pycocotools takes for none, so that its figures "
            "are lower than those with id_zero='correct': number annotations from 1"
        )
    if t["rows"] is not None and _is_plain(truth) and not (isinstance(truth, COCO) and truth._listed() is not None):
        repeated = sum(map(len, truth.imgToAnns.values())) - len(truth.anns)
        if repeated > 0:
            notes.append(
                f"{_TRUTH}: {repeated} annotations have an id that a later one has too: as in pycocotools, the later "
                "one is taken for each of them; number annotations from 1"
            )
    notes += t["notes"]
    if t["without_area"]:
        notes.append(
            f"{_TRUTH}: {t['without_area']} annotations state no area: width x height of the box is used, so that the "
            "sizes may differ from COCO's; add 'area'"
        )
    notes += _left_out(truth, found, d)
    gathered = Gathered(
        truth=GroundTruth(
            source=_TRUTH,
            image_ids=image_ids,
            category_ids=category_ids,
            category_names=_names(truth, categories),
            id=t["id"],
            image_id=_ids_at(image_ids, truth_image),
            category_id=_ids_at(category_ids, truth_category),
            boxes=t["bbox"],
            area=t["area"],
            crowd=t["iscrowd"],
        ),
        truth_image=truth_image,
        truth_category=truth_category,
        detections=Detections(
            source=_FOUND,
            image_id=_ids_at(image_ids, d["image"]),
            category_id=_ids_at(category_ids, d["category"]),
            boxes=d["bbox"],
            score=d["score"],
            area=d["area"],
            id=d["id"],
        ),
        image=d["image"],
        category=d["category"],
        notes=notes,
    )
    return gathered if kind is None else _with_shapes(gathered, truth, found, t["rows"], d["rows"], kind)


def _with_shapes(
    gathered: Gathered, truth: Any, found: Any, truth_rows: list[Any], rows: list[Any], kind: ShapeKind
) -> Gathered:
    shapes, notes = truth_shapes(truth_rows, image_sizes(truth.imgs.values()), kind, _TRUTH)
    if isinstance(shapes, KeypointShapes):
        shapes = replace(shapes, area=gathered.truth.area, boxes=gathered.truth.boxes)
    return replace(
        gathered,
        truth=replace(gathered.truth, shapes=shapes, ignore=ignored(truth_rows, shapes)),
        detections=replace(
            gathered.detections, shapes=detection_shapes(rows, image_sizes(found.imgs.values()), kind, _FOUND)
        ),
        notes=gathered.notes + notes,
    )


def selected(coco: Any, images: list[Any], categories: list[Any], use_cats: bool) -> list[Any]:
    """The rows of these images, and with `use_cats` of these categories, as `loadAnns(getAnnIds(...))` has them."""
    if _is_plain(coco):
        by_image, anns = coco.imgToAnns, coco.anns
        if isinstance(by_image, dict) and isinstance(anns, dict):
            return _coco_rows.select(by_image, anns, images, categories if use_cats else None, "annotations")
    asked = {"imgIds": images, "catIds": categories} if use_cats else {"imgIds": images}
    return list(coco.loadAnns(coco.getAnnIds(**asked)))


def _rows(coco: Any, images: list[Any], categories: list[Any], filtered: bool) -> list[Any]:
    """As `selected`, perhaps with rows of other images between, and in another order of images. `filtered`: of these
    categories alone."""
    if _is_plain(coco) and isinstance(coco, COCO):
        rows = coco._listed()
        if rows is not None:
            return _coco_rows.of_categories(rows, categories, "annotations") if filtered else rows
    if _is_plain(coco) and isinstance(coco.imgToAnns, dict) and isinstance(coco.anns, dict):
        by_image, anns = coco.imgToAnns, coco.anns
        # Most images and no id twice: rows lie in memory as they were made, which is far faster to walk through than
        # image by image.
        if 4 * len(images) > len(by_image) and sum(map(len, by_image.values())) == len(anns):
            rows = list(anns.values())
            return _coco_rows.of_categories(rows, categories, "annotations") if filtered else rows
    return selected(coco, images, categories, filtered)


def _is_plain(coco: Any) -> bool:
    """Whether its look-ups are pycocotools' or ours, so that the index says it all."""
    for name in ("getAnnIds", "loadAnns"):
        of_class = getattr(type(coco), name, None)
        known = getattr(of_class, "__module__", "") in ("pycocotools.coco", COCO.__module__)
        if not known or getattr(of_class, "__qualname__", "") != f"COCO.{name}" or name in vars(coco):
            return False
    return True


def _side(
    coco: Any,
    images: list[Any],
    categories: list[Any],
    filtered: bool,
    threads: int,
    truths: bool,
    kind: ShapeKind | None,
) -> dict[str, Any]:
    if kind is None and isinstance(coco, COCO) and _is_plain(coco):
        columns = coco._truth if truths else coco._found
        image_ids, category_ids = _integers(images), _integers(categories)
        if columns is not None and image_ids is not None and category_ids is not None:
            return _of_columns(columns, image_ids, category_ids, threads)
    rows = _rows(coco, images, categories, filtered)
    image_places = {number: place for place, number in enumerate(images)}
    category_places = {number: place for place, number in enumerate(categories)}
    where = _TRUTH if truths else _FOUND
    return {**_coco_rows.columns(rows, image_places, category_places, truths, where), "rows": rows, "notes": []}


def _of_columns(columns: Any, images: NDArray[np.int64], categories: NDArray[np.int64], threads: int) -> dict[str, Any]:
    image, _ = _coco.index_of(columns.image_id, images, threads=threads)
    category, _ = _coco.index_of(columns.category_id, categories, threads=threads)
    count = len(image)
    found = {"image": image, "category": category, "bbox": columns.boxes, "area": columns.area, "rows": None}
    found |= {"id": np.arange(1, count + 1) if columns.id is None else columns.id, "without_area": 0, "notes": []}
    if isinstance(columns, GroundTruth):
        return {**found, "iscrowd": columns.crowd, "notes": columns.notes}
    return {**found, "score": columns.score, "columns": columns}


def _left_out(truth: Any, found: Any, side: dict[str, Any]) -> list[str]:
    """Detections of images and categories that the ground truth does not list. Those that are listed and were not asked
    for are left out without a word."""
    lost: list[tuple[str, int, Any]] = []
    columns, rows = side.get("columns"), side["rows"]
    sides = (
        ("images", "image_id", truth.getImgIds, "image"),
        ("categories", "category_id", truth.getCatIds, "category"),
    )
    if columns is None and _is_plain(found) and not (isinstance(found, COCO) and found._listed() is not None):
        # The index tells without a look at the rows.
        for (what, _, ids, _), index in zip(sides, (found.imgToAnns, found.catToImgs), strict=True):
            others = [number for number in set(index) - set(ids()) if len(index[number])]
            lost.append((what, sum(len(index[number]) for number in others), others))
    else:
        for what, key, ids, place in sides:
            missing = np.flatnonzero(side[place] < 0)
            if missing.size:
                known = set(ids())
                given = getattr(columns, key)[missing].tolist() if columns else [rows[n][key] for n in missing]
                others = [number for number in given if number not in known]
                lost.append((what, len(others), others))
    remedy = {"images": "give results of the same data set", "categories": "check how classes map to category ids"}
    return [
        f"{_FOUND}: {count} are of {what} that {_TRUTH} does not list ({_shown(others)}) and were left out: "
        f"{remedy[what]}"
        for what, count, others in lost
        if count
    ]


def _shown(ids: list[Any]) -> str:
    if all(isinstance(number, (int, float)) for number in ids):
        return named(np.array(ids))
    return ", ".join(sorted({str(number) for number in ids})[:5])


def _integers(ids: list[Any]) -> NDArray[np.int64] | None:
    """The ids as an array where all are integers of 64 bits."""
    if not all(type(number) is int for number in ids):
        return None
    try:
        return np.array(ids, dtype=np.int64)
    except OverflowError:
        return None


def _numbers(ids: list[Any]) -> NDArray[np.int64]:
    """The ids, or their places where one is no integer."""
    whole = _integers(ids)
    return np.arange(len(ids), dtype=np.int64) if whole is None else whole


def _ids_at(ids: NDArray[np.int64], places: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.append(ids, -1)[places]


def _names(truth: Any, categories: list[Any]) -> list[str]:
    if isinstance(truth, COCO) and truth._truth is not None:
        names: dict[Any, Any] = dict(zip(truth._truth.category_ids.tolist(), truth._truth.category_names, strict=True))
    else:
        rows = getattr(truth, "cats", {})
        names = {number: row.get("name") for number, row in rows.items() if isinstance(row, dict)}
    return [str(number if names.get(number) is None else names[number]) for number in categories]

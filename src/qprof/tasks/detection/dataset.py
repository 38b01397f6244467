"""COCO detection annotations and detections: read, checked, and reduced to what scoring needs.

Format: https://cocodataset.org/#format-data ("Object Detection") and https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

from qprof.errors import DataError
from qprof.tasks.images.reading import refuse_outside

#: Ids are kept exact by every JSON reader up to this size (RFC 8259, section 6).
MAX_ID = 2**53 - 1


class Detection(TypedDict):
    """One detection in the COCO results format; `bbox` is x, y, width, height in pixels of the image."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image of the annotations; `width` and `height` are `None` where the file does not state them."""

    id: int
    file_name: str
    width: int | None
    height: int | None

    @property
    def size(self) -> tuple[int, int] | None:
        """Annotated width and height, if both are stated."""
        return (self.width, self.height) if self.width and self.height else None


@dataclass(frozen=True, slots=True)
class CocoBox:
    """One ground-truth box: x, y, width, height in pixels; `area` is the object's (its mask's, where COCO has one)."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    is_crowd: bool


@dataclass(frozen=True, slots=True)
class CocoAnnotations:
    """The checked content of an "instances" file: images and categories by id in ascending order, and all boxes."""

    path: Path
    images: dict[int, CocoImage]
    boxes: list[CocoBox]
    categories: dict[int, str]
    notes: list[str] = field(default_factory=list)


def load_annotations(path: Path) -> CocoAnnotations:
    """Read an "instances" JSON file; raises `DataError` naming file, entry and remedy for anything that does not
    hold."""
    content = _read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: is not a COCO annotation file (no JSON object at the top): give an 'instances' file")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f"{path}: has no list {key!r}: give a COCO 'instances' annotation file")
    images = {item.id: item for item in (_image(path, n, raw) for n, raw in _unique(path, "images", content))}
    if not images:
        raise DataError(f"{path}: lists no images: give annotations with at least one image")
    categories = {n: _name(path, n, raw) for n, raw in _unique(path, "categories", content)}
    notes: list[str] = []
    without_area = 0
    boxes: list[CocoBox] = []
    for number, raw in _unique(path, "annotations", content):
        boxes.append(_box(path, number, raw, images, categories))
        without_area += "area" not in raw
    if without_area:
        notes.append(
            f"{without_area} annotations of {path.name} state no area: width x height of the box is used, so the "
            "small/medium/"
            "large split may differ from COCO's; add 'area' to the file to settle it"
        )
    empty = sum(box.bbox[2] == 0 or box.bbox[3] == 0 for box in boxes)
    if empty:
        notes.append(f"{empty} boxes of {path.name} have no width or height and can never be found: remove them")
    return CocoAnnotations(path, dict(sorted(images.items())), boxes, dict(sorted(categories.items())), notes)


def load_detections(path: Path, annotations: CocoAnnotations) -> list[Detection]:
    """Read a COCO results file made for `annotations`; raises `DataError` naming file, entry and remedy."""
    content = _read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: is not a COCO results file (no JSON list at the top): give a list of detections")
    found: list[Detection] = []
    for position, raw in enumerate(content):
        where = f"{path}: detection {position}"
        if not isinstance(raw, dict):
            raise DataError(f"{where} is not an object: give a list of {{image_id, category_id, bbox, score}}")
        image_id, category_id = _id(where, raw, "image_id"), _id(where, raw, "category_id")
        if image_id not in annotations.images:
            raise DataError(
                f"{where} is of image {image_id}, which {annotations.path} does not list: give matching files"
            )
        found.append(
            {
                "image_id": image_id,
                "category_id": category_id,
                "bbox": list(_bbox(where, raw)),
                "score": _number(where, raw, "score"),
            }
        )
    return found


def image_file(folder: Path, image: CocoImage, annotations: Path) -> Path:
    """Where the image should lie; `DataError` for a name that leaves the folder (annotations are untrusted text)."""
    name = PurePosixPath(image.file_name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or "\0" in image.file_name or ":" in name.parts[0]:
        raise DataError(
            f"{annotations}: file_name {image.file_name!r} leaves the image folder: use names inside {folder}"
        )
    return refuse_outside(folder / name, folder)


def existing_images(annotations: CocoAnnotations, folder: Path) -> tuple[list[CocoImage], list[CocoImage]]:
    """Images of the annotations that lie in the folder, and those missing, by ascending id.

    Raises `DataError` where the folder does not exist or not one image lies in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder of images: correct the path of the images")
    present: list[CocoImage] = []
    missing: list[CocoImage] = []
    for image in annotations.images.values():
        (present if image_file(folder, image, annotations.path).is_file() else missing).append(image)
    if not present:
        raise DataError(
            f"annotations do not match the images: none of the {len(missing)} files named by {annotations.path} is in "
            f"{folder}, "
            f"e.g. {missing[0].file_name}; correct one of the two paths"
        )
    return present, missing


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}): correct the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({error}): download or export it again") from error


def _unique(path: Path, key: str, content: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Entries of a list with their ids, which must be unique."""
    seen: dict[int, dict[str, Any]] = {}
    for position, raw in enumerate(content[key]):
        where = f"{path}: entry {position} of {key!r}"
        if not isinstance(raw, dict):
            raise DataError(f"{where} is not an object: give a COCO 'instances' annotation file")
        number = _id(where, raw, "id")
        if number in seen:
            raise DataError(f"{where} repeats the id {number}: give every entry of {key!r} an id of its own")
        seen[number] = raw
    return list(seen.items())


def _image(path: Path, number: int, raw: Mapping[str, Any]) -> CocoImage:
    name = raw.get("file_name")
    if not isinstance(name, str) or not name.strip("/\\. "):
        raise DataError(f"{path}: image {number} has no file_name: add the name of its file")
    return CocoImage(number, name, _pixels(path, number, raw, "width"), _pixels(path, number, raw, "height"))


def _pixels(path: Path, number: int, raw: Mapping[str, Any], key: str) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{path}: {key} {value!r} of image {number} is not a count of pixels: correct or remove it")
    return value


def _name(path: Path, number: int, raw: Mapping[str, Any]) -> str:
    name = raw.get("name")
    if not isinstance(name, str):
        raise DataError(f"{path}: category {number} has no name: add one")
    return name


def _box(
    path: Path,
    number: int,
    raw: Mapping[str, Any],
    images: Mapping[int, CocoImage],
    categories: Mapping[int, str],
) -> CocoBox:
    where = f"{path}: annotation {number}"
    image_id, category_id = _id(where, raw, "image_id"), _id(where, raw, "category_id")
    if image_id not in images:
        raise DataError(f"{where} is of image {image_id}, which is not among its images: remove it, or add the image")
    if category_id not in categories:
        raise DataError(f"{where} is of category {category_id}, which is not among its categories: add the category")
    bbox = _bbox(where, raw)
    area = _number(where, raw, "area") if "area" in raw else bbox[2] * bbox[3]
    return CocoBox(number, image_id, category_id, bbox, area, bool(raw.get("iscrowd", 0)))


def _bbox(where: str, raw: Mapping[str, Any]) -> tuple[float, float, float, float]:
    box = raw.get("bbox")
    if not isinstance(box, Sequence) or isinstance(box, str) or len(box) != 4 or not all(map(_is_finite, box)):
        raise DataError(f"{where}: bbox {str(box)[:60]} is not four finite numbers: give x, y, width, height in pixels")
    if box[2] < 0 or box[3] < 0:
        raise DataError(f"{where}: bbox {box} has a negative size: give x, y, width, height, not two corners")
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def _number(where: str, raw: Mapping[str, Any], key: str) -> float:
    value = raw.get(key)
    if not _is_finite(value):
        raise DataError(f"{where}: {key} {str(value)[:60]} is not a finite number: correct it")
    return float(value)  # type: ignore[arg-type]


def _id(where: str, raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_ID:
        raise DataError(f"{where}: {key} {str(value)[:60]!r} is not an integer id: number the entries with integers")
    return value


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False


def left_out_notes(
    missing: Sequence[CocoImage], chosen: Sequence[CocoImage], samples: Sequence[CocoImage], folder: Path
) -> list[str]:
    """Remarks on annotated images that are not in the folder, and on `chosen` ones that are no `samples`: broken."""
    notes = []
    if missing:
        names = ", ".join(image.file_name for image in missing[:3])
        notes.append(
            f"{len(missing)} annotated images are not in {folder} and are left out (e.g. {names}): add them, or "
            "accept fewer samples"
        )
    kept = {image.id for image in samples}
    broken = [image.file_name for image in chosen if image.id not in kept]
    if broken:
        notes.append(f"{len(broken)} images are skipped as broken (e.g. {', '.join(broken[:3])}): replace the files")
    return notes

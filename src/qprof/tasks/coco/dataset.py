"""pycocotools' `COCO`: the same calls, and files that become Python objects only when they are asked for.

The documentation of the calls: https://github.com/cocodataset/cocoapi/blob/master/PythonAPI/pycocotools/coco.py
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qprof.core import _coco_json, _coco_rows
from qprof.errors import DataError
from qprof.probes.machine import available_cores
from qprof.tasks.coco import mask
from qprof.tasks.coco.inputs import Detections, GroundTruth, read_detections, read_ground_truth

Row = dict[str, Any]


class Document:
    """A JSON document that is read now, and made into Python objects when it is called; can be pickled and copied."""

    def __init__(self, source: Any) -> None:
        if isinstance(source, (bytes, bytearray, memoryview)):
            self.name, self._content = "the document", bytes(source)
            return
        try:
            self.name, self._content = Path(source).name, Path(source).read_bytes()
        except (OSError, TypeError, ValueError) as error:
            raise DataError(f"{str(source)[:200]}: {getattr(error, 'strerror', None) or error}: give a file") from error

    def __call__(self, otherwise: DataError | None = None) -> Any:
        """The document by Python's reader; `otherwise`, the compiled reader's word on it, where that fails too."""
        try:
            return json.loads(self._content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise otherwise or DataError(f"{self.name}: no JSON: {error}: give an intact file") from error


def _list(given: Any) -> Sequence[Any]:
    """A filter as pycocotools takes it: a list, or one value. A text is one value, not its letters."""
    return given if hasattr(given, "__iter__") and hasattr(given, "__len__") and not isinstance(given, str) else [given]


def _member(place: int, meaning: str) -> Any:
    """A part of the index: made when first read, and settable as in pycocotools."""

    def get(self: Any) -> Any:
        return self._require_index()[place]

    def put(self: Any, given: Any) -> None:
        index = list(self._require_index())
        index[place] = given
        self._index = (index[0], index[1], index[2], index[3], index[4])

    return property(get, put, doc=meaning)


class COCO:
    """A data set, or results, with the members and calls of pycocotools' `COCO`.

    `annotation_file`: the path of an annotation file, or a loaded one (a dict). A file's columns are read at once, by
    the compiled reader, and serve evaluations until `dataset`, `anns`, `imgs`, `cats`, `imgToAnns` or `catToImgs` is
    first read: then the dicts are made, and since callers may change dicts, evaluations read those from there on.
    `DataError` for a file that cannot be read.
    """

    def __init__(self, annotation_file: str | os.PathLike[str] | Mapping[str, Any] | None = None) -> None:
        self._made: Row | None = {}  # `dataset`, or None while nobody asked for it
        self._make: Callable[[], Row] | None = None  # makes it
        self._index: tuple[Any, Any, Any, Any, Any] | None = ({}, {}, {}, defaultdict(list), defaultdict(list))
        self._truth: GroundTruth | None = None  # columns, while no row was handed out
        self._found: Detections | None = None
        self._rows: list[Any] | None = None  # of results, numbered by `loadRes`, while nobody asked for the index
        self._ids: tuple[list[Any], list[Any]] | None = None  # of images and categories, in the order of the file
        if annotation_file is None:
            return
        if isinstance(annotation_file, Mapping):
            self._made = dict(annotation_file)
            self.createIndex()
            return
        print("loading annotations into memory...")
        begin = time.time()
        self._read(annotation_file)
        print(f"Done (t={time.time() - begin:0.2f}s)")
        print("creating index...")
        print("index created!")

    def _read(self, source: Any) -> None:
        """Take the content of a file, or of its bytes."""
        parse = Document(source)
        try:
            content: Any = _coco_json.read_ground_truth(source, available_cores())
            columns = read_ground_truth(content)
        except DataError as error:
            # Captions, keypoints without boxes, names as ids, an id twice: what only dicts can hold.
            self._made = parse(error)
            if not isinstance(self._made, dict):
                raise DataError(
                    f"{parse.name}: a {type(self._made).__name__} is no data set: give an annotation file"
                ) from None
            self._index = self._indexed()
            return
        self._take(parse, truth=columns)
        self._ids = (content["images"]["id"].tolist(), content["categories"]["id"].tolist())

    def _take(
        self,
        make: Callable[[], Row],
        *,
        truth: GroundTruth | None = None,
        found: Detections | None = None,
        rows: list[Any] | None = None,
    ) -> None:
        """Hold columns, or rows that are numbered, and how to make the rest."""
        self._made, self._index, self._make = None, None, make
        self._truth, self._found, self._rows = truth, found, rows

    def createIndex(self) -> None:
        """Make `anns`, `imgs`, `cats`, `imgToAnns` and `catToImgs` from `dataset`."""
        print("creating index...")
        self._require()
        self._rows = None
        self._index = self._indexed()
        print("index created!")

    def _indexed(self) -> tuple[Any, Any, Any, Any, Any]:
        dataset = self._made if self._made is not None else {}
        anns: dict[Any, Any] = {}
        imgs = {image["id"]: image for image in dataset.get("images", ())}
        cats = {category["id"]: category for category in dataset.get("categories", ())}
        by_image: defaultdict[Any, list[Any]] = defaultdict(list)
        by_category: defaultdict[Any, list[Any]] = defaultdict(list)
        if "annotations" in dataset:
            rows = self._rows if self._rows is not None else list(dataset["annotations"])
            anns, of_images, of_categories = _coco_rows.index(rows)
            by_image.update(of_images)
            if "categories" in dataset:
                if of_categories is None:
                    raise DataError("annotations: one has no category_id: add it")
                by_category.update(of_categories)
        return anns, cats, imgs, by_image, by_category

    def _require(self) -> Row:
        """The data set as dicts. Columns are given up: the dicts may be changed by whom they are given to."""
        if self._made is None:
            assert self._make is not None
            self._made = self._make()
            self._make = None
            if self._rows is None:
                self._rows = list(self._made["annotations"])
        self._truth = self._found = None
        return self._made

    def _listed(self) -> list[Any] | None:
        """The rows, where no two have the same id and nobody asked for the index; the columns of a file become rows."""
        if self._rows is None and (self._truth is not None or self._found is not None):
            self._require()
        return self._rows

    def _require_index(self) -> tuple[Any, Any, Any, Any, Any]:
        self._require()
        if self._index is None:
            self._index = self._indexed()
            self._rows = None
        return self._index

    def _section(self, key: str) -> Any:
        if key not in self.dataset:
            raise DataError(f"the data set has no list {key!r}: add it")
        return self.dataset[key]

    @property
    def dataset(self) -> Row:
        """The content of the file, or what was set."""
        return self._require()

    @dataset.setter
    def dataset(self, given: Row) -> None:
        if self._index is None:
            self._require_index()
        self._made, self._make, self._truth, self._found, self._rows = given, None, None, None, None

    anns = _member(0, "id -> annotation")
    cats = _member(1, "id -> category")
    imgs = _member(2, "id -> image")
    imgToAnns = _member(3, "image id -> its annotations")
    catToImgs = _member(4, "category id -> the image of each of its annotations")

    def info(self) -> None:
        """Print what the data set says of itself."""
        for key, value in self.dataset["info"].items():
            print(f"{key}: {value}")

    def getAnnIds(
        self, imgIds: Any = (), catIds: Any = (), areaRng: Sequence[float] = (), iscrowd: bool | None = None
    ) -> list[Any]:
        """Ids of the annotations of these images and categories, of areas between the bounds, crowds or not."""
        images, categories = _list(imgIds), _list(catIds)
        if len(images):
            of_image = self.imgToAnns
            rows: Iterable[Row] = [row for image in images if image in of_image for row in of_image[image]]
        else:
            rows = self._section("annotations")
        if len(categories):
            wanted = set(categories)
            rows = [row for row in rows if row["category_id"] in wanted]
        if len(areaRng):
            rows = [row for row in rows if areaRng[0] < row["area"] < areaRng[1]]
        return [row["id"] for row in rows if iscrowd is None or row["iscrowd"] == iscrowd]

    def getCatIds(self, catNms: Any = (), supNms: Any = (), catIds: Any = ()) -> list[Any]:
        """Ids of the categories of these names, supercategories and ids."""
        names, supercategories, ids = _list(catNms), _list(supNms), _list(catIds)
        if self._ids is not None and self._made is None and not (len(names) or len(supercategories) or len(ids)):
            return list(self._ids[1])
        found = self._section("categories")
        for key, wanted in (("name", names), ("supercategory", supercategories), ("id", ids)):
            if len(wanted):
                found = [category for category in found if category[key] in wanted]
        return [category["id"] for category in found]

    def getImgIds(self, imgIds: Any = (), catIds: Any = ()) -> list[Any]:
        """Ids of the images, of these alone, that have objects of each of these categories."""
        images, categories = _list(imgIds), _list(catIds)
        if not (len(images) or len(categories)):
            return list(self._ids[0]) if self._ids is not None and self._made is None else list(self.imgs)
        found = set(images)
        for n, category in enumerate(categories):
            of_category = set(self.catToImgs[category])
            found = of_category if n == 0 and not found else found & of_category
        return list(found)

    def loadAnns(self, ids: Any = ()) -> list[Any]:
        """The annotations of these ids."""
        return [self.anns[number] for number in _list(ids)]

    def loadCats(self, ids: Any = ()) -> list[Any]:
        """The categories of these ids."""
        return [self.cats[number] for number in _list(ids)]

    def loadImgs(self, ids: Any = ()) -> list[Any]:
        """The images of these ids."""
        return [self.imgs[number] for number in _list(ids)]

    def loadRes(self, resFile: Any) -> COCO:
        """Results on these images: the path of a results file, a list of dicts, or an array of shape [n, 7] (image_id,
        x, y, width, height, score, category_id).

        As in pycocotools, dicts that are given get an id, from 1, an area, `iscrowd`, and a box or a segmentation where
        there is none. `DataError`, which is an `AssertionError` too, for an image that the data set does not have.
        """
        print("Loading and preparing results...")
        begin = time.time()
        from qprof.tasks.coco.results import load

        found = load(self, resFile)
        print(f"DONE (t={time.time() - begin:0.2f}s)")
        print("creating index...")
        print("index created!")
        return found

    def loadNumpyAnnotations(self, data: Any) -> list[Row]:
        """The rows of an array of shape [n, 7] as dicts."""
        from qprof.tasks.coco.results import rows_of

        return rows_of(read_detections(np.asarray(data)))

    @staticmethod
    def load_json(json_file: Any, use_deepcopy: bool = False) -> Any:
        """The content of a file; what is loaded already as it is, or copied (as faster-coco-eval has it)."""
        if isinstance(json_file, (str, os.PathLike)):
            return Document(json_file)()
        return copy.deepcopy(json_file) if use_deepcopy else json_file

    def annToRLE(self, ann: Row) -> Any:
        """The run lengths of an annotation's polygons, mask, or box where it has neither, as pycocotools has them."""
        image = self.imgs[ann["image_id"]]
        height, width = image["height"], image["width"]
        region = ann.get("segmentation")
        if region is None:
            x, y, w, h = ann["bbox"]
            region = [[x, y, x, y + h, x + w, y + h, x + w, y]]
        if isinstance(region, list):
            return mask.merge(mask.frPyObjects(region, height, width))
        return mask.frPyObjects(region, height, width) if isinstance(region["counts"], list) else region

    def annToMask(self, ann: Row) -> Any:
        """uint8[height, width]: 1 where the annotation is."""
        return mask.decode(self.annToRLE(ann))

    def showAnns(self, anns: list[Row], draw_bbox: bool = False) -> Any:
        """Draw annotations on the current axes of matplotlib, as pycocotools does it."""
        return _theirs().showAnns(self, anns, draw_bbox)

    def download(self, tarDir: str | None = None, imgIds: Sequence[Any] = ()) -> Any:
        """Fetch the images from where the data set says that they are, as pycocotools does it."""
        return _theirs().download(self, tarDir, list(imgIds))


def _theirs() -> Any:
    from qprof.tasks.coco.substitution import original

    return original("pycocotools.coco").COCO

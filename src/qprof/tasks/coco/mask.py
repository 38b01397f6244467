"""Masks of images by the calls of `pycocotools.mask`: run-length encoding ("RLE"), and what is computed on it.

An RLE is {"size": [height, width], "counts": bytes}; counts are lengths of background and foreground by turns, column
by column, compressed. Results are those of pycocotools 2.0.11 byte for byte. Where it differs: counts may also be text
or a list of lengths; counts that go beyond the image, negative ones and other damage are a `DataError` (pycocotools
goes on with what they wrap to); foreground of length 0 has no box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.core import _masks
from qprof.errors import DataError

Rle = dict[str, Any]


def encode(bimask: NDArray[np.uint8]) -> Any:
    """The RLE of a mask uint8[height, width], or the list of those of uint8[height, width, n].

    As in pycocotools other values than 0 and 1 begin runs of their own. Any memory layout and bool are taken.
    """
    given = np.asarray(bimask)
    if given.ndim not in (2, 3) or given.dtype not in (np.uint8, np.bool_):
        raise DataError(f"mask.encode: {given.dtype} of shape {given.shape}: give uint8[height, width] or with [, n]")
    single = given.ndim == 2
    stack = given.astype(np.uint8, copy=False)[..., None] if single else given.astype(np.uint8, copy=False)
    found = _call("encode", _masks.encode, stack.ravel(order="F"), *stack.shape)
    return found[0] if single else found


def decode(rleObjs: Any) -> NDArray[np.uint8]:
    """The mask uint8[height, width] of an RLE, or uint8[height, width, n] of a list, in Fortran order."""
    if isinstance(rleObjs, Mapping):
        return np.asarray(_call("decode", _masks.decode, [rleObjs]))[:, :, 0]
    return np.asarray(_call("decode", _masks.decode, rleObjs))


def area(rleObjs: Any) -> Any:
    """Pixels of an RLE, or uint32[n] of a list."""
    if isinstance(rleObjs, Mapping):
        return _call("area", _masks.Masks, [rleObjs]).area[0]
    return _call("area", _masks.Masks, rleObjs).area


def toBbox(rleObjs: Any) -> NDArray[np.float64]:
    """x, y, width, height of an RLE, or float64[n, 4] of a list; zeros where there is no foreground."""
    if isinstance(rleObjs, Mapping):
        return np.asarray(_call("toBbox", _masks.Masks, [rleObjs]).boxes[0])
    return np.asarray(_call("toBbox", _masks.Masks, rleObjs).boxes)


def merge(rleObjs: Sequence[Any], intersect: bool = False) -> Rle:
    """What all of the RLEs cover together, or with `intersect` every one of them."""
    found: Rle = _call("merge", _masks.merge, rleObjs, bool(intersect))
    return found


def iou(dt: Any, gt: Any, pyiscrowd: Sequence[int]) -> Any:
    """float64[D, G]: intersection over union of D and G RLEs, or boxes x, y, width, height; [] where one is empty.

    For a crowd (per `gt`) it is the share of the detection inside. RLEs of different sizes have -1.
    """
    for side in (dt, gt, pyiscrowd):
        if not isinstance(side, (Sequence, np.ndarray)) or isinstance(side, (str, bytes)):
            raise DataError(f"mask.iou: a {type(side).__name__}: give lists of RLEs or boxes, and of flags")
    if len(pyiscrowd) != len(gt):
        raise DataError(f"mask.iou: {len(pyiscrowd)} crowd flags for {len(gt)} of gt: give one each")
    if len(dt) == 0 or len(gt) == 0:
        return []
    crowd = np.asarray(pyiscrowd) != 0
    kinds = {all(isinstance(each, Mapping) for each in side) for side in (dt, gt)}
    if kinds == {True}:
        found, truths = _call("iou", _masks.Masks, dt), _call("iou", _masks.Masks, gt)
        count, every = len(found), np.arange(len(truths), dtype=np.int32)
        ones = np.ones(count, dtype=np.int64)
        flat = _masks.overlaps(found, truths, np.arange(count), ones * 0, ones * len(truths), every, crowd)
        return np.asfortranarray(flat.reshape(count, len(truths)))
    return np.asfortranarray(_box_iou(_boxes(dt), _boxes(gt), crowd))


def frPyObjects(pyobj: Any, h: int, w: int) -> Any:
    """RLEs of what COCO's files state: lists of polygons x, y, x, y ..., boxes, or RLEs whose counts are lists.

    A list of objects gives a list, a single polygon, box or RLE its RLE. `h`, `w`: the image, in pixels.
    """
    if isinstance(pyobj, np.ndarray):
        if pyobj.ndim != 2 or pyobj.shape[1] != 4:
            raise DataError(f"mask.frPyObjects: an array of shape {pyobj.shape}: give boxes [n, 4]")
        return _polygons([_corners(box) for box in pyobj.tolist()], h, w)
    if isinstance(pyobj, Mapping):
        return _call("frPyObjects", _masks.compress, [pyobj])[0]
    if not isinstance(pyobj, (list, tuple)) or len(pyobj) == 0:
        raise DataError(f"mask.frPyObjects: {str(pyobj)[:60]!r}: give polygons, boxes or RLEs")
    first = pyobj[0]
    if isinstance(first, Mapping):
        return _call("frPyObjects", _masks.compress, list(pyobj))
    if isinstance(first, (list, tuple, np.ndarray)):
        as_boxes = len(first) == 4
        return _polygons([_corners(each) for each in pyobj] if as_boxes else list(pyobj), h, w)
    if len(pyobj) < 4:
        raise DataError(f"mask.frPyObjects: {len(pyobj)} numbers: give a box of 4, or a polygon of more")
    return _polygons([_corners(pyobj) if len(pyobj) == 4 else pyobj], h, w)[0]


def _polygons(polygons: list[Any], h: int, w: int) -> list[Rle]:
    sizes = [int(h)] * len(polygons), [int(w)] * len(polygons)
    found: list[Rle] = _call("frPyObjects", _masks.compress, [[each] for each in polygons], *sizes)
    return found


def _corners(box: Sequence[float]) -> list[float]:
    """The polygon of a box, corner after corner as pycocotools goes around it."""
    numbers = isinstance(box, (list, tuple, np.ndarray)) and len(box) == 4
    if not numbers or not all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in box):
        raise DataError(f"mask.frPyObjects: the box {str(box)[:60]}: give x, y, width, height")
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    return [left, top, left, bottom, right, bottom, right, top]


def _boxes(given: Any) -> NDArray[np.float64]:
    try:
        boxes = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("mask.iou: give RLEs on both sides, or boxes [n, 4] on both") from error
    if boxes.ndim == 1 and boxes.size == 4:
        boxes = boxes[None]
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"mask.iou: boxes of shape {boxes.shape}: give [n, 4]")
    return boxes


def _box_iou(found: NDArray[np.float64], truths: NDArray[np.float64], crowd: NDArray[np.bool_]) -> NDArray[np.float64]:
    d, g = found[:, None], truths[None]
    size = np.minimum(d[..., 2:] + d[..., :2], g[..., 2:] + g[..., :2]) - np.maximum(d[..., :2], g[..., :2])
    meet = (size > 0).all(axis=-1)
    shared = size[..., 0] * size[..., 1]
    area = d[..., 2] * d[..., 3]
    union = np.where(crowd[None], area, area + g[..., 2] * g[..., 3] - shared)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(meet, shared / union, 0.0)


def _call(name: str, function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"mask.{name}: {error}") from error

"""Masks of images by the calls of `pycocotools.mask`: `from qprof.coco import mask`."""

from qprof.tasks.coco.mask import area, decode, encode, frPyObjects, iou, merge, toBbox

__all__ = ["area", "decode", "encode", "frPyObjects", "iou", "merge", "toBbox"]

"""A plugin for pytest that switches the import: `python -m pytest -p switched ...` runs a suite that is written for
pycocotools (or faster-coco-eval, where that is installed) on `qprof.coco`."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import qprof.coco

qprof.coco.init_as_pycocotools()


def switch_faster_coco_eval() -> None:
    """The classes of faster-coco-eval, by all the names that its callers import them by."""
    try:
        package = importlib.import_module("faster_coco_eval")
    except ImportError:
        return
    for name in list(sys.modules):
        module = sys.modules[name]
        if name.split(".")[0] == "faster_coco_eval" and isinstance(module, ModuleType):
            for theirs, ours in (("COCO", qprof.coco.COCO), ("COCOeval_faster", qprof.coco.COCOeval)):
                if hasattr(module, theirs):
                    setattr(module, theirs, ours)
            if name.endswith(".cocoeval") and hasattr(module, "COCOeval"):
                module.COCOeval = qprof.coco.COCOeval
    package.init_as_pycocotools = qprof.coco.init_as_pycocotools


switch_faster_coco_eval()

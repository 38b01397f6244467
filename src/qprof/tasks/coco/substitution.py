"""Make `import pycocotools` give what is here, for programs whose imports are not one's own to change."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_ORIGINALS: dict[str, ModuleType] = {}


def original(name: str) -> Any:
    """A module of pycocotools itself, also after `init_as_pycocotools`."""
    return _ORIGINALS[name] if name in _ORIGINALS else importlib.import_module(name)


def init_as_pycocotools() -> None:
    """From here on `pycocotools.coco` and `pycocotools.cocoeval`, however they are imported, are ours.

    Call it before the modules that import them are imported: a name that was imported stays what it was.
    `pycocotools.mask` stays pycocotools' own.
    """
    import pycocotools

    from qprof.tasks.coco import cocoeval, dataset

    for name, module in (("coco", dataset), ("cocoeval", cocoeval)):
        full = f"pycocotools.{name}"
        if full not in _ORIGINALS:
            _ORIGINALS[full] = importlib.import_module(full)
        sys.modules[full] = module
        setattr(pycocotools, name, module)

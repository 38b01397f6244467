"""The detection heads that qprof knows: one module each, found by its `HEADS`; to add one is to add a file.

What each is, how it is recognized and against whose decoder it was checked stands in the README of this package.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from qprof.tasks.detection.heads.base import Binding, Head, HeadKind
from qprof.tasks.detection.heads.config import HeadConfig

__all__ = ["Binding", "Head", "HeadConfig", "HeadKind", "get", "kinds"]


@cache
def kinds() -> dict[str, HeadKind]:
    """Every head by the name that a profile calls it, in alphabetical order."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    found = [head for module in modules for head in getattr(module, "HEADS", ())]
    return {head.name: head for head in sorted(found, key=lambda head: str(head.name))}


def get(name: str) -> HeadKind:
    """A head by name; `KeyError` for an unknown one, which `HeadConfig` refuses."""
    return kinds()[name]

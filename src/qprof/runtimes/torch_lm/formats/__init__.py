"""Files and folders that are no plain or GPTQ checkpoint, each told by its looks: one module each with an object
`FORMAT`; to add one is to add a file. Which there are, and what runs of each: ../LAYOUTS.md."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from qprof.runtimes.torch_lm.formats.base import Format


@cache
def all_formats() -> Sequence[Format]:
    """Every format, by the name of its module."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return [module.FORMAT for module in modules if hasattr(module, "FORMAT")]


def format_of(path: Path) -> Format | None:
    """The format of what lies at a path; `None` for a plain or GPTQ checkpoint, and for what is no model."""
    return next((one for one in all_formats() if one.has(path)), None)

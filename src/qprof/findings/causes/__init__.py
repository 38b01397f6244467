"""The causes that qprof knows: one module each, found by its object `CAUSE`; to add one is to add a file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache

from qprof.findings.causes.base import Cause


@cache
def all_causes() -> Sequence[Cause]:
    """Every cause, by name."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return sorted((module.CAUSE for module in modules if hasattr(module, "CAUSE")), key=lambda cause: str(cause.name))

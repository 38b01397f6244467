"""Parts that are found, not listed: packages of qprof, and entry points of other distributions."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any


class Extensions:
    """All parts of one sort.

    Those of qprof are the packages in `package` that have a module `module`, which holds the part as `attribute`; those
    of others are entry points of the group `package`. One of qprof's own hides one of another's with the same name.
    """

    def __init__(self, package: str, folders: Iterable[str], module: str, attribute: str) -> None:
        self._package, self._module, self._attribute = package, module, attribute
        self._folders = list(folders)

    def names(self) -> list[str]:
        """What they are called."""
        return sorted({*self._own, *self._added})

    def get(self, name: str) -> Any:
        """A part by its name, imported only now. Raises `KeyError` where there is none."""
        if name in self._own:
            return getattr(importlib.import_module(f"{self._package}.{name}.{self._module}"), self._attribute)
        return self._added[name].load()

    @cached_property
    def _own(self) -> frozenset[str]:
        found = (module.name for module in pkgutil.iter_modules(self._folders) if module.ispkg)
        files = [Path(folder) for folder in self._folders]
        return frozenset(n for n in found if any((file / n / f"{self._module}.py").is_file() for file in files))

    @cached_property
    def _added(self) -> dict[str, EntryPoint]:
        return {found.name: found for found in entry_points(group=self._package)}

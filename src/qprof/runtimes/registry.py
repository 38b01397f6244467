"""Finding a runtime: every package of `qprof.runtimes` that has a module `runtime` is one."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import cast

import qprof.runtimes
from qprof.errors import ModelError
from qprof.runtimes.base import Runtime


def names() -> list[str]:
    """The runtimes that this qprof has."""
    return sorted(module.name for module in pkgutil.iter_modules(qprof.runtimes.__path__) if module.ispkg)


def get(name: str) -> Runtime:
    """A runtime by name. Raises `ModelError` for an unknown one."""
    if name not in names():
        raise ModelError(f"no runtime is called {name!r}; there are {', '.join(names())}")
    return cast(Runtime, importlib.import_module(f"qprof.runtimes.{name}.runtime").RUNTIME)


def for_model(path: Path) -> Runtime:
    """The runtime that takes this model. Raises `ModelError` where the path is missing or none does."""
    if not path.exists():
        raise ModelError(f"{path}: no such model file; check the path")
    for name in names():
        runtime = get(name)
        if runtime.accepts(path):
            return runtime
    raise ModelError(
        f"{path}: no runtime takes this; expected a .tflite, a SavedModel folder, a Keras file "
        "or a language model's folder in Hugging Face's layout"
    )

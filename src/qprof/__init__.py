"""qprof: runs the quantized variants of one model side by side and explains, with evidence, why they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Run", "__version__", "coco", "differ", "explain", "layers", "open_run", "resume", "run", "summarize"]

if TYPE_CHECKING:
    from qprof.api import Run, differ, layers, open_run, resume, summarize


def __getattr__(name: str) -> Any:
    """The API loads with its first use: `import qprof` alone costs next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'qprof' has no attribute {name!r}")
    import importlib

    # `coco` is a module, and `run` and `explain` are layers, too: their packages are callable (qprof/run/__init__.py).
    if name in ("coco", "explain", "run"):
        return importlib.import_module(f"qprof.{name}")
    return getattr(importlib.import_module("qprof.api"), name)

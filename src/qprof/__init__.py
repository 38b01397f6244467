"""qprof: runs the quantized variants of one model side by side and explains, with evidence, why they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

__all__ = ["Run", "__version__", "coco", "differ", "explain", "layers", "open_run", "resume", "run", "summarize"]

if TYPE_CHECKING:
    from qprof import coco
    from qprof.api import Run, differ, explain, layers, open_run, resume, run, summarize


def __getattr__(name: str) -> Any:
    """The API loads with its first use: `import qprof` alone costs next to nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'qprof' has no attribute {name!r}")
    import importlib

    if name == "coco":
        return importlib.import_module("qprof.coco")
    return getattr(importlib.import_module("qprof.api"), name)

"""Finding a runtime: every package of `qprof.runtimes` that has a module `runtime`, and every entry point of the group
"qprof.runtimes" of another distribution, is one."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import qprof.runtimes
from qprof.errors import ModelError
from qprof.extensions import Extensions
from qprof.runtimes.base import Runtime

_RUNTIMES = Extensions("qprof.runtimes", qprof.runtimes.__path__, "runtime", "RUNTIME")


def names() -> list[str]:
    """The runtimes that this qprof has."""
    return _RUNTIMES.names()


def get(name: str) -> Runtime:
    """A runtime by name. Raises `ModelError` for an unknown one."""
    try:
        return cast(Runtime, _RUNTIMES.get(name))
    except KeyError:
        raise ModelError(f"no runtime is called {name!r}; there are {', '.join(names())}") from None


def for_model(path: Path) -> Runtime:
    """The runtime that takes this model. Raises `ModelError` where the path is missing or none does."""
    if not path.exists():
        raise ModelError(f"{path}: no such model file; check the path")
    found = accepting(path)
    if found is not None:
        return found
    expected = [runtime.expects for name in names() if (runtime := get(name)).expects]
    raise ModelError(f"{path}: no runtime takes this; expected {' or '.join(expected)}")


def accepting(path: Path) -> Runtime | None:
    """The runtime that takes what lies at a path, `None` where none does."""
    return next((runtime for name in names() if (runtime := get(name)).accepts(path)), None)


def naming(text: str) -> Runtime | None:
    """The runtime that would fetch the model of this name, `None` where none would."""
    return next((runtime for name in names() if (runtime := get(name)).names(text)), None)

"""What a form of export is, and how one is found: every module beside this one that has a `FORMAT`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import qprof.report.exports
from qprof.errors import QprofError, StoreError
from qprof.store.run import Run

#: Modules of the package that are no forms.
_HELPERS = {"base", "figures", "timeline", "wire", "yaml", "trackers"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a run is exported.

    `variants`: by name, the first is what others are compared with; none for what the form takes by itself. `phase`: of
    a language model; `rounds`: how many rounds a trace holds, `None` for as many as viewers bear.
    """

    variants: Sequence[str] = ()
    phase: str | None = None
    rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """One form. `says`: what it is and what opens it; `write`: run, folder (which is there), what is wanted -> files.

    `write` raises `StoreError` for what the run does not hold, and where the folder cannot be written.
    """

    says: str
    write: Callable[[Run, Path, Wanted], list[Path]]


def names() -> list[str]:
    """What forms are called; nothing is imported for it."""
    found = (module.name for module in pkgutil.iter_modules(qprof.report.exports.__path__))
    return sorted(name.replace("_", "-") for name in found if name not in _HELPERS)


def get(name: str) -> Format:
    """A form by name. Raises `QprofError` for one that there is not."""
    if name not in names():
        raise QprofError(f"--format {name}: no such form; there are {', '.join(names())}")
    found = importlib.import_module(f"{qprof.report.exports.__name__}.{name.replace('-', '_')}").FORMAT
    assert isinstance(found, Format)
    return found


def chosen(run: Run, wanted: Wanted) -> list[str]:
    """The variants that are wanted, by default all that have not failed. Raises `StoreError` for one that there is
    not."""
    if wanted.variants:
        return [run.variant(name).name for name in dict.fromkeys(wanted.variants)]
    return [entry.name for entry in run.manifest.living()]


def pair(run: Run, wanted: Wanted) -> tuple[str, str]:
    """The two variants that are wanted, by default the baseline and the first other that has not failed; one alone is
    compared with the baseline. Raises `StoreError` where that makes no pair."""
    names = chosen(run, wanted)
    if len(wanted.variants) == 1:
        names = [run.baseline, *names]
    if len(wanted.variants) > 2:
        raise StoreError(
            f"{run.folder}: this form takes two variants, not {len(wanted.variants)}; name them with -v A B"
        )
    if len(set(names[:2])) < 2:
        raise StoreError(
            f"{run.folder}: this form takes two variants, and there is but {names[0] if names else 'none'}"
        )
    return names[0], names[1]

"""Data sets of the Hugging Face hub, and folders in a layout that `datasets` knows. No code of theirs is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from qprof.errors import DataError, MissingExtraError

HUB = "hf://datasets/"

_NAME = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)


def load(where: str, split: str, config: str | None, instead: str) -> Any:
    """A split of "hf://datasets/ORG/NAME[@REVISION]", or of a local folder, as a `datasets.Dataset`; a copy is kept in
    the cache of `datasets`. A name of the hub never means a folder that happens to be called so.

    `instead`: what can be given where the package is missing. Raises `DataError`, `MissingExtraError`.
    """
    name, revision = _name_and_revision(where)
    try:
        import datasets  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise MissingExtraError(
            f"{where}: reading it needs the package 'datasets', which the extra brings: pip install 'qprof[gptq]'; or "
            f"give {instead}"
        ) from error
    from datasets.exceptions import DatasetsError  # type: ignore[import-untyped,unused-ignore]

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, name=config, split=split, revision=revision)
    except (DatasetsError, OSError, ValueError, RuntimeError, KeyError) as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{where}: split {split!r} of configuration {config or 'default'!r} cannot be loaded ({told}): correct the "
            "name, or download it once with the network on"
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()


def _name_and_revision(where: str) -> tuple[str, str | None]:
    """What `datasets` takes: with the prefix, which keeps it from looking for a folder of that name."""
    if not where.startswith(HUB):
        return str(Path(where).resolve()), None  # also where its name is one that `datasets` has a reader for
    found = _NAME.fullmatch(where.removeprefix(HUB))
    if found is None or ".." in where:
        raise DataError(f"{where}: is not {HUB}ORG/NAME or {HUB}ORG/NAME@REVISION: correct the name")
    return HUB + found["name"], found["revision"]

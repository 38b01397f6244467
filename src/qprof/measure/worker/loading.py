"""Loading a variant, and seeing that what was loaded is what was made."""

from __future__ import annotations

from pathlib import Path

import msgspec

from qprof.errors import ModelError
from qprof.measure.requests import LoadedVariant
from qprof.runtimes import registry
from qprof.runtimes.base import Runtime, Side
from qprof.store.cache import file_sha256, files_sha256


def load(variant: LoadedVariant) -> Side:
    """A variant, loaded without any instrumentation. Raises `ModelError`, also where its files are not those that
    were made."""
    runtime = registry.get(variant.runtime)
    options = msgspec.convert(variant.options, runtime.options_type)
    model = runtime.load(Path(variant.path), options)
    refuse_changed(runtime, variant)
    return Side(model, options)


def refuse_changed(runtime: Runtime, variant: LoadedVariant) -> None:
    """Raise `ModelError` where a variant's files are not those that its figures are to be told of.

    Called once they were loaded: whatever was written over them between the making and the loading is found.
    """
    if variant.sha256 and content_sha256(runtime, Path(variant.path)) != variant.sha256:
        raise ModelError(
            f"{variant.path}: was written over since its variant was made; leave it as it is while it is measured, and "
            "run anew"
        )


def content_sha256(runtime: Runtime, path: Path) -> str:
    """SHA-256 of everything that loading reads: of a file's content, or over the names and contents of a folder's.
    Raises `ModelError`."""
    if path.is_file():
        return file_sha256(path)
    return files_sha256(path, list(runtime.content_files(path)))

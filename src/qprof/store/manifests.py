"""`manifest.json`: written whole, read as the type that it is; earlier schema versions are brought up to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from qprof.errors import StoreError
from qprof.record.manifest import SCHEMA_VERSION, Manifest
from qprof.store.files import read_json, write_atomic
from qprof.store.upgrade import OLDEST, upgraded

MANIFEST = "manifest.json"

#: What a manifest in the making has by default, and one on the disk only lacks where it is damaged.
_ALWAYS_WRITTEN = ("status", "machine")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a run's manifest, atomically; a figure that is not finite is null. Raises `StoreError`."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    write_atomic(folder / MANIFEST, lambda stream: stream.write(content))


def read_manifest(folder: Path) -> Manifest:
    """A run's manifest. Raises `StoreError` for no run, a damaged one, or one of a schema version that is not known."""
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such run directory; see qprof list")
    plain: Any = read_json(folder / MANIFEST)
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if not isinstance(version, int):
        raise StoreError(f"{folder / MANIFEST}: damaged (schema_version is no number); restore it or run anew")
    if not OLDEST <= version <= SCHEMA_VERSION:
        raise StoreError(
            f"{folder / MANIFEST}: written with schema version {version}, this qprof reads {OLDEST} to "
            f"{SCHEMA_VERSION}; use the qprof that wrote it"
        )
    try:
        for key in _ALWAYS_WRITTEN:
            if key not in plain:
                raise ValueError(f"Object missing required field `{key}`")
        return manifest_from(plain)
    except (msgspec.ValidationError, LookupError, TypeError, AttributeError, ValueError) as error:
        what = " ".join(str(error).split())
        raise StoreError(f"{folder / MANIFEST}: damaged ({what}); restore it or run anew") from error


def manifest_from(plain: dict[str, Any]) -> Manifest:
    """A manifest from what JSON held. Raises what msgspec does for what is none."""
    found = msgspec.convert(upgraded(plain), Manifest)
    if not found.variants:
        raise ValueError("it has no variants")
    return found

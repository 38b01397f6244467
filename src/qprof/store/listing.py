"""What a list of runs shows of each: read without the rest of its manifest, which is most of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from qprof.record.manifest import SCHEMA_VERSION
from qprof.store.files import read_bytes
from qprof.store.manifests import MANIFEST, read_manifest
from qprof.store.upgrade import OLDEST


class _Model(Struct, frozen=True):
    path: str | None = None


class _Section(Struct):
    file: str | None = None


class _Profile(Struct):
    variants: list[_Section]
    model: _Model = _Model()


class _Named(Struct):
    name: str


class ListedRun(Struct, frozen=True):
    """`status`, `created` as the manifest has them; `model`: the model's path, or the first variant's file; `variants`:
    their names, baseline first."""

    status: str
    created: str
    model: str | None
    variants: list[str]


class _Head(Struct):
    schema_version: int
    status: str
    created: str
    profile: _Profile
    variants: list[_Named]


_DECODER = msgspec.json.Decoder(_Head)


def listed(folder: Path) -> ListedRun:
    """What a list shows of a run. Raises `StoreError` for what is none, in the words of `read_manifest`."""
    try:
        head = _DECODER.decode(read_bytes(folder / MANIFEST))
        known = OLDEST <= head.schema_version <= SCHEMA_VERSION and bool(head.variants)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        known = False
    if not known:
        whole = read_manifest(folder)  # says what is wrong
        model = whole.profile.model.get("path") or next((s.get("file") for s in whole.profile.variants), None)
        return ListedRun(whole.status, whole.created, model, [entry.name for entry in whole.variants])
    model = head.profile.model.path or next((section.file for section in head.profile.variants), None)
    return ListedRun(head.status, head.created, model, [entry.name for entry in head.variants])

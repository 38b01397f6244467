"""The cache of made .tflite variants: an entry's folder holds `model.tflite` and `variant.json`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.litert.variant import MadeVariant, file_sha256
from qprof.store.cache import Cache, cache_root, content_sha256, json_sha256

__all__ = ["cache_root", "content_sha256", "file_sha256", "key", "lookup", "store"]

_MODEL = "model.tflite"
_FACTS = "variant.json"


def key(
    source: Path,
    method: str,
    settings: Mapping[str, Any],
    calibration_digest: str | None,
    versions: Mapping[str, str],
) -> str:
    """The address of a variant: SHA-256 over canonical JSON of all that shapes its bytes.

    Raises:
        ModelError: the source cannot be read.
    """
    return json_sha256(
        {
            "source": content_sha256(source),
            "method": method,
            "settings": dict(settings),
            "calibration": calibration_digest,
            "versions": dict(versions),
        }
    )


def lookup(key: str) -> MadeVariant | None:
    """The variant stored under `key`, or `None`. A damaged entry is removed, so that it is made again.

    Raises:
        StoreError: a damaged entry cannot be removed.
    """
    return _variants.lookup(key)


def store(key: str, variant: MadeVariant) -> MadeVariant:
    """Copy a made variant into the cache and return it as it stands there.

    Where another process stored an intact entry under the same key first, that one is returned.

    Raises:
        StoreError: the cache cannot be written.
    """

    def fill(folder: Path) -> None:
        shutil.copyfile(variant.path, folder / _MODEL)
        (folder / _FACTS).write_text(json.dumps(variant.to_json(), indent=1, sort_keys=True), encoding="utf-8")

    return _variants.store(key, fill)


def _read(entry: Path) -> MadeVariant | None:
    model = entry / _MODEL
    try:
        facts = json.loads((entry / _FACTS).read_text(encoding="utf-8"))
        variant = MadeVariant.from_json(model, facts)
        intact = file_sha256(model) == variant.sha256
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None
    return replace(variant, bytes=model.stat().st_size) if intact else None


_variants: Cache[MadeVariant] = Cache("variants", _read)

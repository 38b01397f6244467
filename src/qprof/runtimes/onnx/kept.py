"""A model in a cache, with what is kept of how it came about; one that was changed there since is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.store.cache import file_sha256

_MODEL, _FACTS = "model.onnx", "variant.json"


@dataclass(frozen=True, slots=True)
class KeptModel:
    """What a cache keeps of a model."""

    path: Path
    facts: Mapping[str, Any]


def keep(folder: Path, content: bytes, **facts: Any) -> None:
    """Fill the folder of an entry."""
    (folder / _MODEL).write_bytes(content)
    told = {"sha256": file_sha256(folder / _MODEL), **facts}
    (folder / _FACTS).write_text(json.dumps(told), encoding="utf-8")


def kept(entry: Path) -> KeptModel | None:
    """What lies in the folder of an entry, `None` where it is not whole."""
    try:
        facts = json.loads((entry / _FACTS).read_text(encoding="utf-8"))
        intact = file_sha256(entry / _MODEL) == facts["sha256"]
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None
    return KeptModel(entry / _MODEL, facts) if intact else None

"""Checkpoints of the text part of a model for pictures and text, whose config.json still names the whole.

Tools that cut out the text part leave "model_type": "gemma3" and "Gemma3ForConditionalGeneration" and put the text
model's sizes where the whole has its "text_config". transformers then fills in the whole by its defaults: billions of
weights, all random.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qprof.runtimes.torch_lm.architecture import causal_class
from qprof.runtimes.torch_lm.checkpoint import CONFIG, Checkpoint
from qprof.store.cache import Cache, json_sha256

_TEXT = "text_config"


def text_alone(checkpoint: Checkpoint) -> Path:
    """The folder to load: the checkpoint's own, or, of a text part that is called by the name of the whole, one in the
    cache with links to its files and a config.json that names the text model. Raises `ModelError`, `StoreError`."""
    config = json.loads((checkpoint.path / CONFIG).read_text(encoding="utf-8"))
    model_type = _text_type(config)
    name = None if model_type is None else causal_class(model_type)
    if name is None:
        return checkpoint.path
    renamed = {**config, "model_type": model_type, "architectures": [name]}
    key = json_sha256({"content": checkpoint.sha256(), "path": str(checkpoint.path.absolute()), "config": renamed})

    def link(folder: Path) -> None:
        for file in checkpoint.content_files():
            if file.name != CONFIG:
                (folder / file.name).symlink_to(file.absolute())
        (folder / CONFIG).write_text(json.dumps(renamed, indent=1), encoding="utf-8")

    return _links.lookup(key) or _links.store(key, link)


def _text_type(config: dict[str, Any]) -> str | None:
    """The type of the text model inside a type of model that holds several, where `config` is that model's own."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model_type = config.get("model_type")
    if _TEXT in config or "hidden_size" not in config or model_type not in CONFIG_MAPPING:
        return None
    parts = getattr(CONFIG_MAPPING[model_type], "sub_configs", None) or {}
    return getattr(parts.get(_TEXT), "model_type", None) or None


def _intact(entry: Path) -> Path | None:
    return entry if all(path.is_file() for path in entry.iterdir()) else None


_links: Cache[Path] = Cache("text-parts", _intact, "rewritten checkpoint")

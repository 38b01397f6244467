"""A Hugging Face folder of a classifier, told by its configuration alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

#: The folder beside a `.pt2` that holds the tokenizer of its texts.
TOKENIZER = "tokenizer"

_IMAGE, _TEXT = "ForImageClassification", "ForSequenceClassification"


def architecture(folder: Path) -> str:
    """The class that a folder's config.json names, "" where there is none."""
    config = folder / "config.json"
    if not os.path.isfile(config):  # unlike Path.is_file, false for a name too long to be one
        return ""
    found = read_json(config)
    names = found.get("architectures") or [""]
    return str(names[0]) if isinstance(names, list) else ""


def is_classifier(folder: Path) -> bool:
    """Whether a folder holds a classifier of images or texts."""
    return architecture(folder).endswith((_IMAGE, _TEXT))


def is_of_text(folder: Path) -> bool:
    return architecture(folder).endswith(_TEXT)


def read_json(file: Path) -> dict[str, Any]:
    """An object in a file, empty where it is missing or none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}

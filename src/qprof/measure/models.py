"""What a profile's model means: where it lies, and which runtime takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from qprof import embedded
from qprof.errors import DataError, ModelError, ProfileError
from qprof.runtimes import hub, registry
from qprof.runtimes.base import Runtime

EMBEDDED = "embedded:"


def model_path(text: str) -> Path:
    """The model that `model.path` means: a path, a file or folder that comes with qprof ("embedded:NAME"), or a model
    of the Hugging Face hub ("hf://ORG/NAME" or "hf://ORG/NAME@REVISION"), which is fetched.

    Raises `ProfileError` for an embedded model that there is not, `ModelError` for one that cannot be fetched.
    """
    if hub.is_reference(text):
        return hub.local_folder(text)
    if not text.startswith(EMBEDDED):
        return Path(text)
    try:
        return embedded.path(text.removeprefix(EMBEDDED))
    except DataError as error:
        raise ProfileError(f"model.path: {error}") from error


def runtime_of(text: str, gives: Literal["tensors", "text"], otherwise: Runtime | None = None) -> Runtime:
    """The runtime that takes a model, by its looks or by its name; nothing is fetched. Where neither tells,
    `otherwise`, or else one that takes what the task gives. Raises `ModelError` where there is none."""
    if not hub.is_reference(text):
        found = registry.accepting(model_path(text)) if text else None
        if found is not None:
            return found
    if text and (named := registry.naming(text)) is not None and not Path(text).exists():
        return named
    if otherwise is not None:
        return otherwise
    for name in registry.names():
        if registry.get(name).takes == gives:
            return registry.get(name)
    raise ModelError(f"{text}: no runtime takes {gives}; there are {', '.join(registry.names())}")

"""Models of the Hugging Face hub: "hf://ORG/NAME" or "hf://ORG/NAME@REVISION" to a local folder. The hub's oldest have
no ORG: "hf://gpt2"."""

from __future__ import annotations

import re
from pathlib import Path

from qprof.errors import MissingExtraError, ModelError

PREFIX = "hf://"

#: Weights as safetensors, settings, tokenizers. Never what has to be unpickled or run.
_WANTED = ["*.safetensors", "*.json", "tokenizer.model", "*.jinja", "merges.txt", "vocab.txt", "spiece.model"]
_SETTINGS = ["config.json", "quantize_config.json", "quant_config.json"]
_UNWANTED = ["*/*", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.py"]

_REFERENCE = re.compile(r"^hf://(?P<name>(?:[\w.-]+/)?[\w.-]+)(?:@(?P<revision>[\w./-]+))?\Z", re.ASCII)

#: Causal language models that the hub has under names without ORG, from when it began; it takes no new ones.
_WITHOUT_ORG = frozenset(
    {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", "openai-gpt", "ctrl", "xlnet-base-cased"}
    | {"xlnet-large-cased", "transfo-xl-wt103", "xlm-clm-ende-1024", "xlm-clm-enfr-1024", "xlm-mlm-en-2048"}
)


def is_reference(text: str) -> bool:
    """Whether a model's path means the hub."""
    return text.startswith(PREFIX)


def is_bare_name(text: str) -> bool:
    """Whether a text, with @REVISION behind it or not, is one of the few names that the hub has without ORG."""
    return text.partition("@")[0] in _WITHOUT_ORG


def cached_folder(name: str, revision: str | None = None) -> Path | None:
    """The snapshot of a model of the hub, "ORG/NAME", where the local cache has it; nothing is fetched."""
    if _REFERENCE.match(f"{PREFIX}{name}") is None or ".." in name:
        return None
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        return None
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None


def settings_folder(reference: str) -> Path | None:
    """The folder with the settings of a hub model (its .json files at most, unless the cache has more), fetched where
    they are not there yet; `None` where they cannot be had, which is for who fetches the model to tell."""
    match = _REFERENCE.match(reference)
    if match is None or ".." in reference:
        return None
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(match["name"], revision=match["revision"], allow_patterns=_SETTINGS))
    except Exception:  # from a dozen classes of three libraries
        return None


def local_folder(reference: str) -> Path:
    """The snapshot of a hub model in the local cache, downloaded where it is not there yet.

    HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE and HF_TOKEN mean what they mean to huggingface_hub.

    Raises:
        ModelError: the reference is malformed, the model or revision does not exist, needs a login, or is not in the
        cache while there is no network. MissingExtraError: huggingface_hub is not installed.
    """
    match = _REFERENCE.match(reference)
    if match is None or ".." in reference:
        raise ModelError(
            f"{reference!r}: no model of the hub is named so; write hf://ORG/NAME or hf://ORG/NAME@REVISION"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError(f"{reference} needs huggingface_hub: pip install 'qprof[gptq]'") from error
    try:
        folder = snapshot_download(
            match["name"], revision=match["revision"], allow_patterns=_WANTED, ignore_patterns=_UNWANTED
        )
    except Exception as error:  # from a dozen classes of three libraries; all of them are told
        raise _explained(reference, error) from error
    return Path(folder)


def _explained(reference: str, error: Exception) -> ModelError:
    """What a failed download means. Subclasses stand before what they derive from."""
    from huggingface_hub import errors

    token = "accept its terms on huggingface.co and set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return ModelError(f"{reference}: access is restricted; {token}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"{reference}: the model has no such revision; name a branch, a tag or a full commit hash")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(f"{reference}: not found on the hub; check the name, or, if it is private, {token}")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ModelError(
            f"{reference}: not in the local cache, and the hub cannot be reached (or HF_HUB_OFFLINE is set); connect, "
            "or download it elsewhere and name its folder"
        )
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelError(f"{reference}: cannot be downloaded: {text}; try again, or name a local folder")

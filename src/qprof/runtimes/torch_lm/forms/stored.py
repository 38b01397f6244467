"""qprof's own layout for quantized linears that transformers stores no more: the tensors of each under its name in the
checkpoint's .safetensors file, what they mean in `quantization_config` of its config.json. Nothing is pickled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qprof.runtimes.torch_lm.architecture import attention_for

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"

#: Makes a quantized linear of a plain one without weights: (linear, its tensors by name, settings, dtype).
Restore = Callable[[Any, Mapping[str, Any], Mapping[str, Any], Any], Any]


def settings_in(path: Path) -> dict[str, Any]:
    """The `quantization_config` of a folder; empty where there is none."""
    content = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
    found = content.get("quantization_config") if isinstance(content, dict) else None
    return dict(found) if isinstance(found, dict) else {}


def save(model: Any, folder: Path, settings: Mapping[str, Any], packed: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a model into a new folder. `packed`: quantized linear -> the tensors that stand for its weight."""
    from safetensors.torch import save_file

    folder.mkdir()
    tensors: dict[str, Any] = {}
    seen: set[int] = set()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        module = name.rpartition(".")[0]
        kept = not (module in packed and not name.endswith(".bias"))
        if kept and id(tensor) not in seen and _is_stored(model, name):
            seen.add(id(tensor))
            tensors[name] = tensor.detach().contiguous()
    for module, own in packed.items():
        tensors |= {f"{module}.{name}": tensor.detach().contiguous() for name, tensor in own.items()}
    save_file(tensors, str(folder / _WEIGHTS), metadata={"format": "pt"})
    model.config.save_pretrained(str(folder))
    content = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    content["quantization_config"] = dict(settings)
    (folder / _CONFIG).write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


def _is_stored(model: Any, name: str) -> bool:
    module, _, own = name.rpartition(".")
    return own not in model.get_submodule(module)._non_persistent_buffers_set


def load_stored(path: Path, *, device: str, dtype: str, restore: Restore) -> Any:
    """Load such a folder.

    Raises:
        ValueError: a tensor is missing, or is none of the model's.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM, initialization

    settings, wanted = settings_in(path), getattr(torch, dtype)
    own = {str(name) for name in settings["tensors"]}
    packed: dict[str, dict[str, Any]] = {}
    others: dict[str, Any] = {}
    for name, tensor in load_file(str(path / _WEIGHTS)).items():
        module, _, operand = name.rpartition(".")
        if operand in own:
            packed.setdefault(module, {})[operand] = tensor
        else:
            others[name] = tensor.to(wanted) if tensor.is_floating_point() else tensor
    config = AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    del config.quantization_config
    with initialization.no_init_weights():  # nor is the memory of weights that are not written ever taken
        model = AutoModelForCausalLM.from_config(config, dtype=wanted, attn_implementation=attention_for(path)).eval()
    for name, tensors in packed.items():
        _put(model, name, tensors, settings, wanted, restore)
    missing, unexpected = model.load_state_dict(others, strict=False, assign=False)
    model.tie_weights()
    lacking = [name for name in missing if not _is_of(name, packed) and not _is_tied(model, name, others)]
    if lacking or unexpected:
        raise ValueError(f"lacks the tensor {lacking[0]}" if lacking else f"has the tensor {unexpected[0]} too many")
    return model.to(device)


def _put(
    model: Any, name: str, tensors: Mapping[str, Any], settings: Mapping[str, Any], dtype: Any, restore: Restore
) -> None:
    import torch

    linear = model.get_submodule(name)
    if not isinstance(linear, torch.nn.Linear):
        raise ValueError(f"has packed weights for {name}, which is {type(linear).__name__} and no linear")
    parent, _, child = name.rpartition(".")
    linear._parameters["weight"] = None
    setattr(model.get_submodule(parent), child, restore(linear, tensors, settings, dtype))


def _is_of(name: str, packed: Mapping[str, Any]) -> bool:
    module, _, own = name.rpartition(".")
    return module in packed and own != "bias"


def _is_tied(model: Any, name: str, stored: Mapping[str, Any]) -> bool:
    tensor = model.get_parameter(name)
    return any(other is tensor and key in stored for key, other in model.named_parameters(remove_duplicate=False))


def copy_tokenizer(source_files: list[Path], folder: Path) -> None:
    """Copy into a made folder those files of its source that it lacks."""
    for file in source_files:
        if not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)

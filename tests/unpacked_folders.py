"""Checkpoints that are made into float ones: quantized in transformers' layouts, and LoRA adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from checkpoints import save_llama, write_json
from gptq_folders import fields_packed

INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
COMPRESSED = {"format": "pack-quantized", "quantization_status": "compressed", "ignore": ["lm_head"]}
COMPRESSED |= {"config_groups": {"group_0": {"targets": ["Linear"], "weights": INT4}}}


def quantized_llama(folder: Path, method: str) -> dict[str, Any]:
    """A Llama whose linears are quantized by `method` in transformers' layout of it; returns what all of it stands
    for."""
    from safetensors.torch import load_file, save_file
    from torch import float8_e4m3fn, from_numpy

    save_llama(folder)
    tensors, expected = load_file(str(folder / "model.safetensors")), dict[str, Any]()
    for name in list(tensors):
        weight, module = tensors.pop(name).numpy(), name.removesuffix(".weight")
        if "_proj.weight" not in name:
            expected[name], tensors[name] = weight, from_numpy(weight)
            continue
        out, into = weight.shape
        if method == "fp8":
            blocks = weight.reshape(out // 32, 32, into // 32, 32)
            scales = (np.abs(blocks).max((1, 3)) / 448).astype(np.float32)
            rounded = from_numpy(blocks / scales[:, None, :, None]).to(float8_e4m3fn)
            tensors[name] = rounded.reshape(out, into)
            tensors[f"{module}.weight_scale_inv"] = from_numpy(scales)
            expected[name] = (rounded.float().numpy() * scales[:, None, :, None]).reshape(out, into)
        else:
            scales = (np.abs(weight.reshape(out, into // 32, 32)).max(-1) / 7).astype(np.float32)
            each = np.repeat(scales, 32, axis=1)
            whole = np.clip(np.rint(weight / each), -8, 7)
            tensors[f"{module}.weight_packed"] = from_numpy(fields_packed((whole.T + 8).astype(np.int64), 4).T.copy())
            tensors[f"{module}.weight_scale"] = from_numpy(scales)
            tensors[f"{module}.weight_shape"] = from_numpy(np.array([out, into]))
            expected[name] = whole * each
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return expected


def write_adapter(folder: Path, base_name: str, **changed: Any) -> dict[str, Any]:
    """An adapter as peft saves it, for q_proj and down_proj of every layer; returns module -> alpha / r * B @ A."""
    from safetensors.numpy import save_file

    rng, rank, alpha = np.random.default_rng(0), 4, 8
    tensors, deltas = {}, {}
    for layer in range(2):
        for module, (out, inner) in (("self_attn.q_proj", (64, 64)), ("mlp.down_proj", (64, 128))):
            name = f"model.layers.{layer}.{module}"
            a, b = rng.normal(0, 0.1, (rank, inner)), rng.normal(0, 0.1, (out, rank))
            tensors[f"base_model.model.{name}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"base_model.model.{name}.lora_B.weight"] = b.astype(np.float32)
            deltas[f"{name}.weight"] = alpha / rank * b @ a
    folder.mkdir()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_name, "r": rank}
    config |= {"lora_alpha": alpha, "target_modules": ["q_proj", "down_proj"], "inference_mode": True, **changed}
    write_json(folder / "adapter_config.json", config)
    save_file(tensors, str(folder / "adapter_model.safetensors"))
    return deltas

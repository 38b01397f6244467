"""Checkpoint folders in Hugging Face layout for tests: some with nothing but headers and zeros, some that run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4}

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "tie_word_embeddings": True}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, Sequence[int]]]) -> None:
    """A file of zeros with these tensors: name -> (type, shape)."""
    header, end = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = math.prod(shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def float_tensors(dtype: str = "F32", inner: int = 128) -> dict[str, tuple[str, Sequence[int]]]:
    """One layer of a Llama with hidden size 64: its embedding, two linears and a norm."""
    layer = "model.layers.0"
    return {
        "model.embed_tokens.weight": (dtype, [100, 64]),
        f"{layer}.self_attn.q_proj.weight": (dtype, [64, 64]),
        f"{layer}.mlp.down_proj.weight": (dtype, [64, inner]),
        f"{layer}.input_layernorm.weight": (dtype, [64]),
    }


def quantized_tensors(bits: int = 4, group: int = 64) -> dict[str, tuple[str, Sequence[int]]]:
    """The same with its down_proj packed by GPTQ."""
    module = "model.layers.0.mlp.down_proj"
    packed: dict[str, tuple[str, Sequence[int]]] = {
        f"{module}.qweight": ("I32", [128 * bits // 32, 64]),
        f"{module}.qzeros": ("I32", [128 // group, 64 * bits // 32]),
        f"{module}.scales": ("F16", [128 // group, 64]),
        f"{module}.g_idx": ("I32", [128]),
    }
    return {"model.embed_tokens.weight": ("F16", [100, 64]), **packed}


def write_checkpoint(
    folder: Path, tensors: Mapping[str, tuple[str, Sequence[int]]] | None = None, **config: Any
) -> Path:
    """A folder that `inspect` finds in order, its weights all zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {**LLAMA, **config})
    write_json(folder / "tokenizer.json", {"version": "1.0"})
    write_safetensors(folder / "model.safetensors", tensors or float_tensors())
    return folder


def save_llama(folder: Path, *, hidden: int = 64, inner: int = 128, dtype: str = "float32", **config: Any) -> Path:
    """A Llama of two layers with random weights and a tokenizer of bytes; what its folder holds can be run."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from lastword_models import byte_tokenizer

    torch.manual_seed(0)
    tokenizer = byte_tokenizer(["Ġdog", "Ġcat"])
    sizes = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": 2, "num_attention_heads": 4}
    settings = {"tie_word_embeddings": True, **config}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=320, num_key_value_heads=2, max_position_embeddings=256, **sizes, **settings)
    )
    model.to(getattr(torch, dtype)).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder

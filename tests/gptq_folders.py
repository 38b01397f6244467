"""GPTQ checkpoints in the layouts that people have, packed here from rounded weights, and what they stand for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from checkpoints import save_llama, write_json

#: What AutoGPTQ 0.4 writes beside the weights.
AUTOGPTQ = {"bits": 4, "group_size": 32, "damp_percent": 0.01, "desc_act": False, "static_groups": False, "sym": True}
AUTOGPTQ |= {"true_sequential": True, "model_name_or_path": None, "model_file_base_name": None}


@dataclass
class GPTQFolder:
    """`weights`: linear -> what its packed tensors stand for, float32[out, in]."""

    path: Path
    weights: dict[str, NDArray[np.float32]]


def fields_packed(fields: NDArray[np.int64], bits: int) -> NDArray[np.int32]:
    """[n, m] numbers of `bits` bits -> int32[n * bits / 32, m]: the first stands in a word's lowest bits."""
    per_word = 32 // bits
    words = np.zeros((fields.shape[0] // per_word, fields.shape[1]), np.uint32)
    for place in range(per_word):
        words |= (fields[place::per_word].astype(np.uint32) & np.uint32(2**bits - 1)) << np.uint32(bits * place)
    return words.view(np.int32)


def rounded(
    weight: NDArray[np.float32], bits: int, group: int, sym: bool, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float16], NDArray[np.float32]]:
    """Whole numbers [in, out], zero points and scales [groups, out] of float32[out, in] by rounding alone, and what
    they stand for, float32[out, in]. `order`: the group of each column."""
    columns, top = weight.T, 2**bits - 1
    groups = int(order.max()) + 1
    zeros = np.empty((groups, columns.shape[1]), np.int64)
    scales = np.empty((groups, columns.shape[1]), np.float16)
    for number in range(groups):
        part = columns[order == number]
        low, high = np.minimum(part.min(0), 0), np.maximum(part.max(0), 0)
        if sym:
            high = np.maximum(high, -low)
            scales[number], zeros[number] = 2 * high / top, 2 ** (bits - 1)
        else:
            scales[number] = (high - low) / top
            # AutoGPTQ stores a zero point of 0 so that others are lost; here there is none.
            zeros[number] = np.clip(np.rint(-low / scales[number].astype(np.float32)), 1, top)
    scale, zero = scales[order].astype(np.float32), zeros[order]
    whole = np.clip(np.rint(columns / scale) + zero, 0, top).astype(np.int64)
    return whole, zeros, scales, ((whole - zero) * scale).T


def write_gptq(
    source: Path,
    folder: Path,
    *,
    bits: int = 4,
    group: int = 32,
    sym: bool = True,
    layout: str = "gptq",
    moved: bool = False,
    order: bool = True,
    bias: bool = False,
    beside: Mapping[str, Any] | None = None,
    inside: Mapping[str, Any] | None = None,
    name: str = "model",
    shards: int = 1,
) -> GPTQFolder:
    """A copy of a float Llama with its decoder's linears packed, `group` -1 for a group per row.

    `layout`: "gptq" stores zero points less one. `moved`: the columns' groups are drawn. `order`, `bias`: whether there
    are g_idx, and biases of zeros. `beside`, `inside`: quantize_config.json and config.json's quantization_config.
    `name`: of the weight file or of its shards.
    """
    from safetensors.torch import load_file, save_file
    from torch import from_numpy

    shutil.copytree(source, folder)
    (folder / "model.safetensors").unlink()
    tensors, weights = load_file(str(source / "model.safetensors")), {}
    rng = np.random.default_rng(0)
    for full in [found for found in tensors if "_proj.weight" in found]:
        module, weight = full.removesuffix(".weight"), tensors.pop(full).float().numpy()
        size = weight.shape[1] if group < 0 else group
        of_group = np.arange(weight.shape[1]) // size
        if moved:
            rng.shuffle(of_group)
        whole, zeros, scales, weights[module] = rounded(weight, bits, size, sym, of_group)
        stored = zeros - 1 if layout == "gptq" else zeros
        packed = {"qweight": fields_packed(whole, bits), "qzeros": fields_packed(stored.T, bits).T.copy()}
        packed |= {"scales": scales}
        packed |= {"g_idx": of_group.astype(np.int32)} if order else {}
        packed |= {"bias": np.zeros(weight.shape[0], np.float16)} if bias else {}
        tensors |= {f"{module}.{operand}": from_numpy(array) for operand, array in packed.items()}
    tensors = {found: tensor.half() if tensor.is_floating_point() else tensor for found, tensor in tensors.items()}
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, **({"quantization_config": dict(inside)} if inside else {})})
    if beside:
        write_json(folder / "quantize_config.json", dict(beside))
    if shards == 1:
        save_file(tensors, str(folder / f"{name}.safetensors"), metadata={"format": "pt"})
        return GPTQFolder(folder, weights)
    names, joined = sorted(tensors), {}
    for number in range(shards):
        file = f"{name}-{number + 1:05}-of-{shards:05}.safetensors"
        part = {one: tensors[one] for one in names[number::shards]}
        save_file(part, str(folder / file), metadata={"format": "pt"})
        joined |= dict.fromkeys(part, file)
    write_json(folder / f"{name}.safetensors.index.json", {"metadata": {}, "weight_map": joined})
    return GPTQFolder(folder, weights)


def float_llama(folder: Path) -> Path:
    """A Llama of two layers with random weights, in float16."""
    return save_llama(folder, dtype="float16")

"""Makers of checkpoints of a small Llama: plain ones, and GPTQ ones whose weights are rounded to the nearest step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qprof import embedded

#: Files of a checkpoint beside its weights.
_REST = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
_LINEAR = "_proj.weight"

Tensors = dict[str, Any]


def source() -> Path:
    return embedded.path("passages_lm")


def plain(out: Path, change: Callable[[Tensors, dict[str, Any]], None] | None = None) -> None:
    """The embedded model in bfloat16, after `change` of its tensors (float32) and its configuration."""
    import torch
    from safetensors.torch import save_file

    tensors, config = _loaded()
    if change:
        change(tensors, config)
    _beside(out, config)
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in tensors.items()}, out / "model.safetensors")


def repeated(times: int) -> Callable[[Tensors, dict[str, Any]], None]:
    """Every layer `times` in a row: another model."""

    def change(tensors: Tensors, config: dict[str, Any]) -> None:
        count = config["num_hidden_layers"]
        layers = {k: v for k, v in tensors.items() if ".layers." in k}
        for key in layers:
            del tensors[key]
        for key, value in layers.items():
            head, _, rest = key.partition(".layers.")
            number, _, rest = rest.partition(".")
            for copy in range(times):
                tensors[f"{head}.layers.{int(number) * times + copy}.{rest}"] = value.clone()
        config["num_hidden_layers"] = count * times

    return change


def head_spoiled(tensors: Tensors, config: dict[str, Any]) -> None:
    """An output layer of its own, with noise half as large again as its weights."""
    import torch

    config["tie_word_embeddings"] = False
    weights = tensors["model.embed_tokens.weight"]
    noise = torch.randn(weights.shape, generator=torch.Generator().manual_seed(2)) * weights.std()
    tensors["lm_head.weight"] = weights + 1.5 * noise


def head_alone(tensors: Tensors, config: dict[str, Any]) -> None:
    """An output layer of its own, with the same weights."""
    config["tie_word_embeddings"] = False
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()


def widened(times: int) -> Callable[[Tensors, dict[str, Any]], None]:
    """The inner features of every MLP `times` as many, the added ones with zero weights: the same function."""

    def change(tensors: Tensors, config: dict[str, Any]) -> None:
        import torch

        more = (times - 1) * config["intermediate_size"]
        for key in list(tensors):
            if key.endswith(("gate_proj.weight", "up_proj.weight")):
                tensors[key] = torch.nn.functional.pad(tensors[key], (0, 0, 0, more))
            elif key.endswith("down_proj.weight"):
                tensors[key] = torch.nn.functional.pad(tensors[key], (0, more))
        config["intermediate_size"] *= times

    return change


def large_inside(layer: int, factor: float) -> Callable[[Tensors, dict[str, Any]], None]:
    """What is computed inside of one MLP is `factor` (a power of two) times as large, and undone by its last layer: the
    same function, of numbers that float16 cannot hold."""

    def change(tensors: Tensors, config: dict[str, Any]) -> None:
        tensors[f"model.layers.{layer}.mlp.up_proj.weight"] *= factor
        tensors[f"model.layers.{layer}.mlp.down_proj.weight"] /= factor

    return change


def large_stream(factor: float) -> Callable[[Tensors, dict[str, Any]], None]:
    """What all layers add up to is `factor` times as large, which the norms before every layer take off again."""

    def change(tensors: Tensors, config: dict[str, Any]) -> None:
        head_alone(tensors, config)
        for key in tensors:
            if key.endswith(("embed_tokens.weight", "o_proj.weight", "down_proj.weight")):
                tensors[key] = tensors[key] * factor

    return change


def gptq(
    out: Path,
    bits: int,
    group: int = 64,
    spoiled: str = "",
    factor: float = 12.0,
    change: Callable[[Tensors, dict[str, Any]], None] | None = None,
    dense: bool = False,
    zeros_as_they_are: bool = False,
    order_lost: bool = False,
) -> None:
    """A GPTQ checkpoint: linear layers in `bits` by groups of `group`. The scales of the layer `spoiled` (a suffix of
    names: "_proj" is all of them) are times `factor`. With `dense` a plain checkpoint of the same rounded weights: the
    twin without anything to unpack.

    `zeros_as_they_are`: zero points as version 2 of the format has them, in a file that says it is of version 1.
    `order_lost`: the inputs of every layer in an order of its own, as some kernels want them, of which the file says
    nothing."""
    import torch
    from safetensors.torch import save_file

    tensors, config = _loaded()
    if change:
        change(tensors, config)
    made: Tensors = {}
    for key, value in tensors.items():
        if not key.endswith(_LINEAR):
            made[key] = value.to(torch.bfloat16).contiguous()
            continue
        name = key.removesuffix(".weight")
        weights = value.numpy()
        order = np.random.default_rng(len(made)).permutation(weights.shape[1])
        steps, scales = _rounded(weights[:, order] if order_lost else weights, bits, group)
        if spoiled and name.endswith(spoiled):
            scales = scales * factor
        scales = scales.astype(np.float16)
        if dense:
            real = _real(steps, scales, bits, group)
            made[key] = torch.from_numpy(real.T.copy()).to(torch.bfloat16).contiguous()
        else:
            packed = _packed(steps, scales, bits, group, 0 if zeros_as_they_are else 1)
            made |= {f"{name}.{part}": tensor for part, tensor in packed.items()}
    settings = {
        "bits": bits,
        "group_size": group,
        "desc_act": False,
        "sym": True,
        "lm_head": False,
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
        "pack_dtype": "int32",
    }
    _beside(out, config if dense else config | {"quantization_config": settings})
    if not dense:
        (out / "quantize_config.json").write_text(json.dumps(settings))
    save_file(made, out / "model.safetensors", metadata={"format": "pt"})


def _loaded() -> tuple[Tensors, dict[str, Any]]:
    from safetensors.torch import load_file

    tensors = {k: v.float() for k, v in load_file(source() / "model.safetensors").items()}
    return tensors, json.loads((source() / "config.json").read_text())


def _beside(out: Path, config: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in _REST:
        shutil.copyfile(source() / name, out / name)
    (out / "config.json").write_text(json.dumps(config))


def _rounded(weight: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps (unsigned, [in, out]) and scales ([groups, out]) of weights [out, in]."""
    rows = weight.T.reshape(-1, group, weight.shape[0])
    middle = 2 ** (bits - 1)
    scales = np.abs(rows).max(1) / (middle - 0.5)
    scales = np.where(scales == 0.0, 1.0, scales)  # a group of zeros is the middle step of any scale
    steps = np.clip(np.round(rows / scales[:, None]) + middle, 0, 2**bits - 1)
    return steps.reshape(weight.shape[1], -1).astype(np.uint32), scales


def _real(steps: np.ndarray, scales: np.ndarray, bits: int, group: int) -> np.ndarray:
    centred = steps.astype(np.float32) - 2 ** (bits - 1)
    return centred * np.repeat(scales.astype(np.float32), group, axis=0)


def _packed(steps: np.ndarray, scales: np.ndarray, bits: int, group: int, less: int = 1) -> Tensors:
    """The tensors of a layer: 32 // bits steps in an int32, along the inputs; zero points one less, along the
    outputs."""
    import torch

    inputs, outputs = steps.shape
    each = 32 // bits
    shifts = (np.arange(each) * bits).astype(np.uint32)
    weights = (steps.reshape(-1, each, outputs) << shifts[None, :, None]).sum(1, dtype=np.uint32)
    zero = np.full((inputs // group, outputs), 2 ** (bits - 1) - less, np.uint32)
    zeros = (zero.reshape(inputs // group, -1, each) << shifts).sum(2, dtype=np.uint32)
    return {
        "qweight": torch.from_numpy(weights.view(np.int32).copy()),
        "qzeros": torch.from_numpy(zeros.view(np.int32).copy()),
        "scales": torch.from_numpy(scales.copy()),
        "g_idx": torch.from_numpy((np.arange(inputs) // group).astype(np.int32)),
    }

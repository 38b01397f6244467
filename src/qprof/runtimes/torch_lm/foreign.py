"""Quantized checkpoints by methods that are not run here: what each is, and what would run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qprof.errors import ModelError

_ORIGINAL = "variants are made of an unquantized model, so name the original"

#: As a checkpoint calls its method -> what that is, and what it needs.
_KNOWN = {
    "aqlm": "AQLM, additive codebooks; it needs the package aqlm and a GPU",
    "auto-round": "AutoRound; it needs the package auto-round, or an export in the layout 'gptq' (format='auto_gptq')",
    "autoround": "AutoRound; it needs the package auto-round, or an export in the layout 'gptq' (format='auto_gptq')",
    "awq": "AWQ, int4 weights with scales by activations; it needs gptqmodel",
    "bitnet": "BitNet, ternary weights; transformers runs them on a GPU",
    "bitsandbytes": "bitsandbytes, int8 or four-bit floats; it needs the package bitsandbytes",
    "compressed-tensors": "compressed-tensors, as llm-compressor and vLLM write it; it needs that package",
    "eetq": "EETQ, int8 weights; it needs the package eetq and a GPU",
    "exl2": "ExLlamaV2's own layout; it needs exllamav2 and a GPU",
    "exl3": "ExLlamaV3's own layout; it needs exllamav3 and a GPU",
    "fbgemm_fp8": "FBGEMM's float8; it needs fbgemm-gpu and a GPU",
    "fp8": "float8 weights in blocks; transformers' kernels for them need a GPU",
    "fp_quant": "FP-Quant, four-bit floats; it needs the package fp_quant and a GPU",
    "higgs": "HIGGS; it needs flute and a GPU",
    "hqq": "HQQ, half-quadratic quantization; it needs the package hqq",
    "modelopt": "NVIDIA ModelOpt; it needs TensorRT-LLM or vLLM, and a GPU",
    "mxfp4": "MXFP4, four-bit floats in blocks of 32; transformers runs it packed on a GPU alone",
    "quanto": "quanto; it needs the package optimum-quanto",
    "quark": "AMD Quark; it needs the package amd-quark",
    "spqr": "SpQR; it needs the package spqr_quant and a GPU",
    "torchao": "torchao; it needs the package torchao",
    "vptq": "VPTQ; it needs the package vptq and a GPU",
}


def method_of(settings: Mapping[str, Any]) -> str | None:
    """What quantized a checkpoint: what its settings say, or, where they are from before there was a key for it, what
    they can only be of. `None` where they do not tell."""
    said = settings.get("quant_method") or settings.get("method")
    if said:
        return str(said).lower()
    if "w_bit" in settings or "q_group_size" in settings:
        return "awq"  # AutoAWQ before 0.1.8
    if settings.get("load_in_8bit") or settings.get("load_in_4bit"):
        return "bitsandbytes"  # transformers before 4.34
    if "config_groups" in settings:
        return "compressed-tensors"
    if "weight_block_size" in settings or settings.get("fmt") == "e4m3":
        return "fp8"
    return "gptq" if "group_size" in settings else None


def refusal(path: Path, method: str | None) -> ModelError:
    """What to say of a checkpoint by a method that is not run here."""
    if method is None:
        return ModelError(f"{path}: quantized with an unnamed method; {_ORIGINAL}")
    known = _KNOWN.get(method.replace("_4bit", "").replace("_8bit", ""))
    told = f" ({known})" if known else ""
    return ModelError(f"{path}: quantized with {method}{told}; {_ORIGINAL}")


def as_said_now(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an older writer with the keys that transformers and gptqmodel look for; others as they are."""
    found = dict(settings)
    for old, new in (("w_bit", "bits"), ("q_group_size", "group_size")):
        if old in found and new not in found:
            found[new] = found.pop(old)
    if isinstance(found.get("version"), str):
        found["version"] = found["version"].lower()
    return {"quant_method": method_of(settings), **found} if method_of(settings) else found

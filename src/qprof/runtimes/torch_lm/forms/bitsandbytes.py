"""bitsandbytes (Dettmers et al., "LLM.int8()", arXiv 2208.07339, and "QLoRA", arXiv 2305.14314): int8, NF4 and FP4, in
transformers' own layout.

Facts are those of bitsandbytes 0.50.2 on a CPU: its 4-bit kernel for AVX512-BF16 packs the weights anew in the first
forward, with their scales rounded to bfloat16, and needs out_features that are multiples of 32.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.torch_lm import safetensors_header
from qprof.runtimes.torch_lm.architecture import attention_for
from qprof.runtimes.torch_lm.forms.base import Form, Role, Settings, per_row, plain_tensors
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor

#: What its 4-bit kernel on a CPU takes out_features in.
CPU_OUT_MULTIPLE = 32

#: Numbers that share a scale in its 4-bit forms, unless it is told otherwise; transformers has no key for it.
BLOCK = 64

_STATE = ".quant_state.bitsandbytes__"


class BitsAndBytesForm(Form):
    """`Linear8bitLt` and `Linear4bit`."""

    library = "bitsandbytes"
    title = "bitsandbytes"
    quant_methods = ("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit")
    modules = ("torch", "transformers", "safetensors", "accelerate", "bitsandbytes")
    packages = ("bitsandbytes", "accelerate")
    extra = "bitsandbytes"

    def preload(self) -> None:
        # A line for every call of an int8 layer, in the timed path.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        if "bitsandbytes" in sys.modules:
            return
        import torch  # noqa: F401  (before bitsandbytes, which chooses its build by it)

        # With that package it would ask the hub for a kernel when it is imported.
        hidden = sys.modules.get("kernels")
        sys.modules["kernels"] = None  # type: ignore[assignment]
        try:
            import bitsandbytes  # noqa: F401
        finally:
            del sys.modules["kernels"]
            if hidden is not None:
                sys.modules["kernels"] = hidden

    # -- a checkpoint -------------------------------------------------------------------------------------------------

    def settings(self, found: Mapping[str, Any]) -> Settings:
        if found.get("load_in_8bit"):
            return Settings(8, -1, "int8")
        if not found.get("load_in_4bit"):
            raise KeyError("load_in_8bit or load_in_4bit")
        return Settings(4, BLOCK, str(found["bnb_4bit_quant_type"]))

    def linears(self, files: Sequence[Path], tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
        """Packed four-bit weights are stored flat; their shape is in a small tensor of JSON beside them."""
        found = {}
        for name, tensor in tensors.items():
            if name.endswith(".SCB"):
                weight = tensors.get(f"{name.removesuffix('.SCB')}.weight")
                if weight is not None and len(weight.shape) == 2:
                    found[name.removesuffix(".SCB")] = (weight.shape[1], weight.shape[0])
            elif _STATE in name and len(tensor.shape) == 1:
                found[name.partition(".weight" + _STATE)[0]] = (0, 0)
        return found | _shapes(files, [name for name, features in found.items() if features == (0, 0)])

    def stored_as(self, tensor: str) -> tuple[str, Role] | None:
        for ending in (".SCB", ".weight_format", ".weight.absmax", ".weight.quant_map", ".weight.nested_absmax"):
            if tensor.endswith(ending):
                return tensor.removesuffix(ending), "scales"
        if tensor.endswith(".weight.nested_quant_map") or _STATE in tensor:
            return tensor.partition(".weight.")[0], "scales"
        return (tensor.removesuffix(".weight"), "weight") if tensor.endswith(".weight") else None

    def load(self, path: Path, *, device: str, dtype: str, kernel: str) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        self.preload()
        model = AutoModelForCausalLM.from_pretrained(
            str(path),
            dtype=getattr(torch, dtype),
            device_map={"": device},
            attn_implementation=attention_for(path),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        ).eval()
        for name, module in model.named_modules():
            if self.owns(module) and not _has_scales(module):
                raise ModelError(
                    f"{path}: its settings have {name} quantized by bitsandbytes, and it is stored in float; name it "
                    "in llm_int8_skip_modules of the quantization_config in config.json, or make the checkpoint again"
                )
            if self.owns(module) and _is_4bit(module):
                module.compute_dtype, module.compute_type_is_set = getattr(torch, dtype), True
                module.support_avx512bf16_for_cpu &= module.out_features % CPU_OUT_MULTIPLE == 0
        return model

    # -- a module in the place of a linear ----------------------------------------------------------------------------

    def owns(self, module: Any) -> bool:
        return any(base.__module__ == "bitsandbytes.nn.modules" for base in type(module).__mro__) and hasattr(
            module, "out_features"
        )

    def scheme(self, module: Any) -> str:
        if not _is_4bit(module):
            return "int8 weights, one group per row"
        state = module.weight.quant_state
        twice = ", scales in 8 bits" if state.nested else ""
        return f"{state.quant_type} weights, {per_row(state.blocksize, module.in_features)}{twice}"

    def tensors(self, module: Any) -> list[Any]:
        held: list[Any] = [module.weight.data, module.bias]
        if _is_4bit(module):
            state = module.weight.quant_state
            held += _state_tensors(state)
        else:
            for owner in (module.weight, module.state):
                held += [getattr(owner, name, None) for name in ("CB", "SCB")]
        return plain_tensors(held)

    def weight(self, module: Any) -> Any:
        import torch

        self.preload()
        from bitsandbytes import functional

        weight = module.weight
        if _is_4bit(module):
            data, state = weight.data, weight.quant_state
            if getattr(state, "packing_format_for_cpu", False):
                # Undone in a copy: it changes the state that it is given. What it makes of the scales is wrong (it
                # leaves them transposed) or rounded once more (it quantizes them anew): they are taken as they are.
                absmax = state.absmax.T.reshape(-1).float()
                data, state = functional._convert_weight_packed_for_cpu_inverse(data.clone(), copy.deepcopy(state))
                state.absmax, state.nested = absmax, False
            return functional.dequantize_4bit(data, state).to(module.compute_dtype)
        codes = weight.data if module.state.CB is None else module.state.CB
        scales = weight.SCB if module.state.SCB is None else module.state.SCB
        found = functional.int8_vectorwise_dequant(codes, scales)
        return found if found.dtype == torch.float32 else found.float()


def _is_4bit(module: Any) -> bool:
    return hasattr(module, "quant_storage")


def _has_scales(module: Any) -> bool:
    """Whether the weight of a module that was just loaded is quantized: an output tied to an embedding is that."""
    return getattr(module.weight, "quant_state" if _is_4bit(module) else "SCB", None) is not None


def _state_tensors(state: Any) -> list[Any]:
    held = [state.absmax, state.code]
    if getattr(state, "nested", False) and getattr(state, "state2", None) is not None:
        held += [state.offset, state.state2.absmax, state.state2.code]
    return held


def _shapes(files: Sequence[Path], names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The features of four-bit linears, from the tensors of JSON that hold their shape."""
    if not names:
        return {}
    wanted, found = set(names), {}
    for file in files:
        with safetensors_header.opened(file, "np") as stored:
            for key in stored.keys():  # noqa: SIM118 (no mapping)
                name = key.partition(".weight" + _STATE)[0]
                if _STATE in key and name in wanted:
                    out, into = json.loads(stored.get_tensor(key).tobytes().decode("utf-8"))["shape"]
                    found[name] = (int(into), int(out))
    return found


FORM = BitsAndBytesForm()

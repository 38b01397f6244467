"""torchao's weights: `torch.nn.Linear`s whose weight is a tensor subclass. int8 is stored in transformers' layout; the
four-bit weights for a CPU, which nothing stores, in qprof's own (see `stored`).

Facts are those of torchao 0.18.0, eager, on a CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.runtimes.torch_lm.architecture import attention_for
from qprof.runtimes.torch_lm.forms.base import Form, Role, Settings, per_row
from qprof.runtimes.torch_lm.forms.stored import load_stored, settings_in
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor

_CODES, _SCALE, _ZERO = "_weight_qdata", "_weight_scale", "_weight_zero_point"
#: qprof's own layout of four-bit weights: two to a byte, the first in the low half; scales and zero points of torch's
#: int4 kernel.
NIBBLES, SCALE_AND_ZERO = "weight_int4", "weight_scale_and_zero"

#: What the settings of a checkpoint call qprof's own layout.
OWN = "torchao-int4"

COMPILED_NOTE = (
    "torchao's {what} is made to be compiled (torch.compile), and gains time only so; qprof runs the model eager, so "
    "that its layers can be timed: what it gains here is memory"
)


class TorchAOForm(Form):
    """`Int8Tensor` and `Int4OpaqueTensor` as the weight of a plain linear."""

    library = "torchao"
    title = "torchao"
    quant_methods = ("torchao", OWN)
    modules = ("torch", "transformers", "safetensors", "accelerate", "torchao")
    packages = ("torchao", "accelerate")
    extra = "torchao"

    def preload(self) -> None:
        # Its wheel brings libraries for CUDA alone; elsewhere it logs that they cannot be loaded.
        os.environ.setdefault("TORCHAO_FORCE_SKIP_LOADING_SO_FILES", "1")
        import torchao.quantization  # noqa: F401

    # -- a checkpoint -------------------------------------------------------------------------------------------------

    def settings(self, found: Mapping[str, Any]) -> Settings:
        if found.get("quant_method") == OWN:
            return Settings(4, int(found["group_size"]), "int4", sym=False)
        kind = str(found["quant_type"]["default"]["_type"])
        if not kind.startswith("Int8"):
            raise ValueError(f"a torchao method that qprof loads ({kind}; it loads int8)")
        return Settings(8, -1, "int8")

    def linears(self, files: Sequence[Path], tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
        found = {}
        for name, tensor in tensors.items():
            module, _, operand = name.rpartition(".")
            if operand in (_CODES, NIBBLES) and len(tensor.shape) == 2:
                per_byte = 2 if operand == NIBBLES else 1
                found[module] = (tensor.shape[1] * per_byte, tensor.shape[0])
        return found

    def stored_as(self, tensor: str) -> tuple[str, Role] | None:
        module, _, operand = tensor.rpartition(".")
        if operand in (_CODES, NIBBLES):
            return module, "weight"
        return (module, "scales") if operand in (_SCALE, _ZERO, SCALE_AND_ZERO) else None

    def load(self, path: Path, *, device: str, dtype: str, kernel: str) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        self.preload()
        if is_own(path):
            return load_stored(path, device=device, dtype=dtype, restore=_restore)
        return AutoModelForCausalLM.from_pretrained(
            str(path),
            dtype=getattr(torch, dtype),
            device_map={"": device},
            attn_implementation=attention_for(path),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        ).eval()

    def notes(self, model: Any) -> list[str]:
        kinds = {self._what(module) for module in model.modules() if self.owns(module)}
        return [COMPILED_NOTE.format(what=kind) for kind in sorted(kinds) if kind.startswith("int8")]

    @staticmethod
    def _what(module: Any) -> str:
        weight = module.weight
        if type(weight).__name__ != "Int8Tensor":
            return "int4 weight-only"
        return "int8 weight-only" if weight.act_quant_kwargs is None else "int8 dynamic"

    # -- a module in the place of a linear ----------------------------------------------------------------------------

    def owns(self, module: Any) -> bool:
        weight = module._parameters.get("weight")
        return weight is not None and type(weight).__module__.startswith("torchao.")

    def scheme(self, module: Any) -> str:
        weight = module.weight
        group = per_row(int(weight.block_size[-1]), module.in_features)
        if type(weight).__name__ != "Int8Tensor":
            return f"int4 weights, {group}"
        return f"int8 weights, {group}{'' if weight.act_quant_kwargs is None else ', int8 products'}"

    def kernel(self, module: Any) -> str:
        return f"torchao {type(module.weight).__name__}, {self._what(module)}"

    def weight(self, module: Any) -> Any:
        import torch

        weight = module.weight
        if hasattr(type(weight), "dequantize") and type(weight).__name__ == "Int8Tensor":
            return weight.dequantize()
        # It has no way back of its own: what its kernel makes of the rows of an identity are its weights.
        with torch.inference_mode():
            return multiplied(weight.qdata, weight.scale_and_zero, int(weight.block_size[-1]))

    def unpack(self, module: Any) -> Callable[[], object] | None:
        weight = module.weight
        if type(weight).__name__ != "Int8Tensor" or weight.act_quant_kwargs is not None:
            return None
        # What its product does first; the scale goes to the sums.
        return lambda: weight.qdata.to(weight.dtype)


def is_own(path: Path) -> bool:
    """Whether a folder is in qprof's own layout."""
    return settings_in(path).get("quant_method") == OWN


def multiplied(packed: Any, scale_and_zero: Any, group_size: int) -> Any:
    """The weights [out, in] that torch's int4 kernel computes with."""
    import torch

    width = packed.shape[1] * 2
    eye = torch.eye(width, dtype=scale_and_zero.dtype)
    return torch.ops.aten._weight_int4pack_mm_for_cpu(eye, packed, group_size, scale_and_zero).t().contiguous()


def store(weight: Any) -> dict[str, Any]:
    """The tensors that stand for an `Int4OpaqueTensor` in a file, in a layout that is no processor's own."""
    import torch

    group = int(weight.block_size[-1])
    values = multiplied(weight.qdata, weight.scale_and_zero, group).float()
    scale, zero = (weight.scale_and_zero[..., which].t().float().repeat_interleave(group, 1) for which in (0, 1))
    codes = ((values - zero) / scale.clamp_min(torch.finfo(torch.float32).tiny) + 8).round().clamp(0, 15)
    codes = codes.to(torch.uint8)
    return {NIBBLES: codes[:, ::2] | codes[:, 1::2] << 4, SCALE_AND_ZERO: weight.scale_and_zero.contiguous()}


def _restore(linear: Any, tensors: Mapping[str, Any], settings: Mapping[str, Any], dtype: Any) -> Any:
    import torch
    from torchao.prototype.quantization.int4 import Int4OpaqueTensor

    low_high = tensors[NIBBLES]
    codes = torch.stack([low_high & 15, low_high >> 4], -1).reshape(low_high.shape[0], -1).to(torch.int32)
    group, wanted = int(settings["group_size"]), (linear.out_features, linear.in_features)
    scales = (wanted[1] // max(group, 1), wanted[0], 2)
    for name, shape, right in ((NIBBLES, codes.shape, wanted), (SCALE_AND_ZERO, tensors[SCALE_AND_ZERO].shape, scales)):
        if tuple(shape) != right:  # torch's kernel looks for what it needs alone
            raise ValueError(f"{name} of a linear is {list(shape)}, and has to be {list(right)}")
    weight = Int4OpaqueTensor(
        qdata=torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1),
        scale_and_zero=tensors[SCALE_AND_ZERO].to(dtype),
        block_size=[1, group],
        shape=codes.shape,
    )
    linear.weight = torch.nn.Parameter(weight, requires_grad=False)
    return linear


FORM = TorchAOForm()

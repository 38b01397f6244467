"""HQQ (Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023): `HQQLinear`s of the
package hqq, in qprof's own layout (see `stored`), since transformers loads them no more."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.runtimes.torch_lm.forms.base import Form, Role, Settings, per_row, plain_tensors
from qprof.runtimes.torch_lm.forms.stored import load_stored, settings_in
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor

#: The tensors of one linear.
CODES, SCALE, ZERO = "W_q", "scale", "zero"

#: What the settings of a checkpoint call this layout.
OWN = "hqq-qprof"


class HQQForm(Form):
    """`HQQLinear`, which unpacks its weights in every forward."""

    library = "hqq"
    title = "HQQ"
    quant_methods = (OWN,)
    modules = ("torch", "transformers", "safetensors", "hqq")
    packages = ("hqq",)
    extra = "hqq"

    def preload(self) -> None:
        os.environ.setdefault("TORCHAO_FORCE_SKIP_LOADING_SO_FILES", "1")
        from hqq.core.quantize import HQQBackend, HQQLinear

        HQQLinear.set_backend(HQQBackend.PYTORCH)  # others compile, or are made for CUDA

    # -- a checkpoint -------------------------------------------------------------------------------------------------

    def settings(self, found: Mapping[str, Any]) -> Settings:
        return Settings(int(found["bits"]), int(found["group_size"]), f"int{int(found['bits'])}", sym=False)

    def linears(self, files: Sequence[Path], tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
        """Packed weights are stored flat: their shapes stand in the settings."""
        shapes = settings_in(files[0].parent).get("shapes")
        known = shapes if isinstance(shapes, Mapping) else {}
        return {str(name): (int(into), int(out)) for name, (out, into) in known.items() if f"{name}.{CODES}" in tensors}

    def stored_as(self, tensor: str) -> tuple[str, Role] | None:
        module, _, operand = tensor.rpartition(".")
        if operand == CODES:
            return module, "weight"
        return (module, "scales") if operand in (SCALE, ZERO) else None

    def load(self, path: Path, *, device: str, dtype: str, kernel: str) -> Any:
        self.preload()
        model = load_stored(path, device=device, dtype=dtype, restore=_restore)
        for module in model.modules():
            if self.owns(module):  # what it keeps beside its parameter does not move with it
                module.device = device
                for name in ("scale", "zero"):
                    module.meta[name] = module.meta[name].to(device)
        return model

    # -- a module in the place of a linear ----------------------------------------------------------------------------

    def owns(self, module: Any) -> bool:
        return type(module).__module__ == "hqq.core.quantize"

    def scheme(self, module: Any) -> str:
        return f"int{module.meta['nbits']} weights, {per_row(int(module.meta['group_size']), module.in_features)}"

    def tensors(self, module: Any) -> list[Any]:
        return plain_tensors([module.W_q, module.meta["scale"], module.meta["zero"], module.bias])

    def weight(self, module: Any) -> Any:
        return module.dequantize()

    def unpack(self, module: Any) -> Callable[[], object] | None:
        unpack: Callable[[], object] = module.dequantize
        return unpack


def linear(plain: Any, bits: int, group_size: int, dtype: Any) -> Any:
    """A plain linear quantized; it is emptied. `group_size` -1: one group per row."""
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    config = BaseQuantizeConfig(nbits=bits, group_size=None if group_size == -1 else group_size)
    return HQQLinear(plain, config, compute_dtype=dtype, device="cpu")


def store(module: Any) -> dict[str, Any]:
    """The tensors that stand for one of its linears in a file."""
    return {CODES: module.W_q.data, SCALE: module.meta["scale"], ZERO: module.meta["zero"]}


def _restore(plain: Any, tensors: Mapping[str, Any], settings: Mapping[str, Any], dtype: Any) -> Any:
    import torch
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear, Quantizer

    bits, group = int(settings["bits"]), int(settings["group_size"])
    group = plain.in_features if group == -1 else group
    config = BaseQuantizeConfig(nbits=bits, group_size=group)
    made = HQQLinear(None, config, compute_dtype=dtype, device="cpu", initialize=False)
    packing = Quantizer.bit_to_packing[bits]
    made.W_q = torch.nn.Parameter(tensors[CODES], requires_grad=False)
    made.meta = {
        "nbits": bits,
        "group_size": group,
        "shape": torch.Size((plain.out_features, plain.in_features)),
        "scale": tensors[SCALE].to(dtype),
        "zero": tensors[ZERO].to(dtype),
        "axis": 1,
        "packing": packing,
        "unpack_view_dtype": Quantizer.unpack_view_dtype[packing],
        "view_as_float": False,
        "quant_scale": False,
        "quant_zero": False,
        "compute_dtype": dtype,
    }
    made.bias = None if plain.bias is None else plain.bias.detach().to(dtype)
    made.in_features, made.out_features, made.ready = plain.in_features, plain.out_features, True
    return made


FORM = HQQForm()

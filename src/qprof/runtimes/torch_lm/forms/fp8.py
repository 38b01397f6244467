"""8-bit floats (Micikevicius et al., "FP8 Formats for Deep Learning", arXiv 2209.05433) by gptqmodel: weights alone.

gptqmodel 7.6.0 keeps them in 16 bits once they are loaded, and scales them in every inference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.runtimes.torch_lm.forms.base import Form, Role, Settings
from qprof.runtimes.torch_lm.forms.by_gptqmodel import load
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor

_MODULE = "gptqmodel.nn_modules.qlinear.fp8"


class FP8Form(Form):
    """E4M3 or E5M2, a scale per row."""

    library = "gptqmodel-fp8"
    title = "FP8"
    quant_methods = ("fp8",)
    modules = ("torch", "transformers", "safetensors", "gptqmodel")
    packages = ("gptqmodel",)

    def settings(self, found: Mapping[str, Any]) -> Settings:
        layout = str(found.get("format") or found.get("fmt") or "")
        if not layout.startswith("float8"):
            raise ValueError(f"the layout of gptqmodel (its format is {layout!r})")
        return Settings(8, -1, layout)

    def linears(self, files: Sequence[Path], tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
        found = {}
        for name, tensor in tensors.items():
            module = name.removesuffix(".weight")
            if f"{module}.weight_scale_inv" in tensors and name.endswith(".weight") and len(tensor.shape) == 2:
                found[module] = (tensor.shape[1], tensor.shape[0])
        return found

    def stored_as(self, tensor: str) -> tuple[str, Role] | None:
        if tensor.endswith(".weight_scale_inv"):
            return tensor.removesuffix(".weight_scale_inv"), "scales"
        return (tensor.removesuffix(".weight"), "weight") if tensor.endswith(".weight") else None

    def load(self, path: Path, *, device: str, dtype: str, kernel: str) -> Any:
        return load(path, device=device, dtype=dtype, backend="FP8_TORCH")

    def notes(self, model: Any) -> list[str]:
        wide = next((m.weight.dtype for m in model.modules() if self.owns(m) and m.weight.itemsize > 1), None)
        if wide is None:
            return []
        return [
            f"gptqmodel keeps FP8 weights in {str(wide).removeprefix('torch.')} once they are loaded, and scales them "
            "in every inference: their file is smaller, their memory is not"
        ]

    def owns(self, module: Any) -> bool:
        return type(module).__module__ == _MODULE

    def scheme(self, module: Any) -> str:
        return f"{module.fp8_format} weights, one group per {module.weight_scale_method}"

    def weight(self, module: Any) -> Any:
        return module.dequantize_weight().t().contiguous()

    def unpack(self, module: Any) -> Callable[[], object] | None:
        unpack: Callable[[], object] = module.dequantize_weight
        return unpack


FORM = FP8Form()

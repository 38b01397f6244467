"""ParoQuant (Liang et al., "ParoQuant: Pairwise Rotation Quantization", arXiv 2511.10645) by gptqmodel: AWQ's packed
numbers of weights that were rotated in pairs of channels, and inputs that are rotated alike in every inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.runtimes.torch_lm.forms.base import Form, Role, Settings, per_row
from qprof.runtimes.torch_lm.forms.by_gptqmodel import load
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor

_MODULE = "gptqmodel.nn_modules.qlinear.paroquant"


class ParoQuantForm(Form):
    """Four bits without zero points; per linear some rotations (`pairs`, `theta`) and a scale per channel."""

    library = "gptqmodel-paroquant"
    title = "ParoQuant"
    quant_methods = ("paroquant",)
    modules = ("torch", "transformers", "safetensors", "gptqmodel")
    packages = ("gptqmodel",)

    def settings(self, found: Mapping[str, Any]) -> Settings:
        bits, group = int(found["bits"]), int(found["group_size"])
        return Settings(bits, group, f"int{bits}", sym=bool(found.get("sym", True)))

    def linears(self, files: Sequence[Path], tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
        found = {}
        for name, tensor in tensors.items():
            module = name.removesuffix(".qweight")
            scales = tensors.get(f"{module}.scales")
            if not name.endswith(".qweight") or scales is None or f"{module}.theta" not in tensors:
                continue
            if len(tensor.shape) == len(scales.shape) == 2:
                found[module] = (tensor.shape[0], scales.shape[1])
        return found

    def stored_as(self, tensor: str) -> tuple[str, Role] | None:
        module, _, operand = tensor.rpartition(".")
        if operand == "qweight":
            return module, "weight"
        return (module, "scales") if operand in ("scales", "qzeros", "pairs", "theta", "channel_scales") else None

    def load(self, path: Path, *, device: str, dtype: str, kernel: str) -> Any:
        # By that name gptqmodel also has the plain one, which computes on every device.
        return load(path, device=device, dtype=dtype, backend="PAROQUANT_CUDA")

    def notes(self, model: Any) -> list[str]:
        return ["ParoQuant on a CPU: gptqmodel unpacks the weights and rotates the inputs in every inference, op by op"]

    def owns(self, module: Any) -> bool:
        return type(module).__module__ == _MODULE

    def scheme(self, module: Any) -> str:
        return f"int{module.bits} weights rotated {module.krot} times, {per_row(module.group_size, module.in_features)}"

    def weight(self, module: Any) -> Any:
        """Rotation and packed weights together: what the rows of an identity become."""
        import torch

        bias, module.bias = module.bias, None
        try:
            with torch.inference_mode():
                found = module.forward(torch.eye(module.in_features, dtype=module.scales.dtype))
        finally:
            module.bias = bias
        return found.t().contiguous().clone()

    def unpack(self, module: Any) -> Callable[[], object] | None:
        from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

        return lambda: dequantize_gemm(module.qweight, module.qzeros, module.scales, module.bits, module.group_size)


FORM = ParoQuantForm()

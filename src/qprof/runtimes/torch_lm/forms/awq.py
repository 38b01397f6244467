"""AWQ (Lin et al., "Activation-aware Weight Quantization", arXiv 2306.00978) by gptqmodel, in the layout "gemm"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.torch_lm.foreign import as_said_now
from qprof.runtimes.torch_lm.forms.base import Form, Role, Settings, per_row
from qprof.runtimes.torch_lm.forms.by_gptqmodel import load
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor

#: Kernel -> gptqmodel's backend, and the class that it puts in the place of a linear.
KERNELS = {
    "torch-aten": ("AWQ_TORCH_ATEN", "TorchAtenAwqLinear"),
    "torch": ("AWQ_TORCH", "AwqTorchLinear"),
    "torch-int8": ("AWQ_TORCH_INT8", "TorchInt8AwqLinear"),
    "dequantized": ("AWQ_TORCH", "AwqTorchLinear"),
}
_MODULES = ("gptqmodel.nn_modules.qlinear.torch_awq", "gptqmodel.nn_modules.qlinear.torch_aten_kernel_awq")
_INT8 = "gptqmodel.nn_modules.qlinear.torch_int8_awq"

#: What torch's int4 product on a CPU takes.
_ATEN_GROUPS, _ATEN_OUT_MULTIPLE = (16, 32, 64, 128), 16


class AWQForm(Form):
    """Scales found by activations, so that no calibrated rounding is needed; a zero point per group."""

    library = "gptqmodel-awq"
    title = "AWQ"
    quant_methods = ("awq",)
    modules = ("torch", "transformers", "safetensors", "gptqmodel")
    packages = ("gptqmodel",)
    kernels = tuple(name for name in KERNELS if name != "dequantized")

    def settings(self, found: Mapping[str, Any]) -> Settings:
        found = as_said_now(found)
        layout = str(found.get("version") or found.get("format") or "gemm").lower()
        if layout != "gemm":
            raise ValueError(f"the layout 'gemm' (it is in {layout!r})")
        bits, group = int(found["bits"]), int(found["group_size"])
        return Settings(bits, group, f"int{bits}", sym=not found.get("zero_point", True))

    def linears(self, files: Sequence[Path], tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
        found = {}
        for name, tensor in tensors.items():
            scales = tensors.get(f"{name.removesuffix('.qweight')}.scales")
            if name.endswith(".qweight") and scales is not None and len(tensor.shape) == len(scales.shape) == 2:
                found[name.removesuffix(".qweight")] = (tensor.shape[0], scales.shape[1])
        return found

    def stored_as(self, tensor: str) -> tuple[str, Role] | None:
        module, _, operand = tensor.rpartition(".")
        if operand == "qweight":
            return module, "weight"
        return (module, "scales") if operand in ("scales", "qzeros") else None

    def kernel_for(self, requested: str, device: str, group_size: int, linears: Mapping[str, tuple[int, int]]) -> str:
        return kernel_for(requested, device, group_size, linears)

    def load(self, path: Path, *, device: str, dtype: str, kernel: str) -> Any:
        backend, wanted = KERNELS[kernel]
        model = load(path, device=device, dtype=dtype, backend=backend)
        found = sorted({type(layer).__name__ for layer in model.modules() if hasattr(layer, "QUANT_TYPE")})
        if found != [wanted]:
            raise ModelError(
                f"{path}: kernel {kernel} was asked for, and gptqmodel put {', '.join(found) or 'none'} in its place; "
                "choose another kernel"
            )
        return model

    def owns(self, module: Any) -> bool:
        return type(module).__module__ in (*_MODULES, _INT8)

    def scheme(self, module: Any) -> str:
        if type(module).__module__ == _INT8:
            return "int8 weights, one group per row, rounded once more from AWQ's int4"
        return f"int{module.bits} weights, {per_row(int(module.group_size), module.in_features)}"

    def weight(self, module: Any) -> Any:
        import torch

        if type(module).__module__ == _MODULES[0]:
            return self._unpacked(module).t().contiguous()
        if type(module).__module__ == _INT8:
            return module.dequantize_weight().t().contiguous()
        # It has no way back: what it makes of the rows of an identity are its weights.
        bias, module.bias = module.bias, None
        try:
            with torch.inference_mode():
                found = module.forward(torch.eye(module.in_features, dtype=module.scales.dtype))
        finally:
            module.bias = bias
        return found.t().contiguous().clone()

    def unpack(self, module: Any) -> Callable[[], object] | None:
        return (lambda: self._unpacked(module)) if type(module).__module__ == _MODULES[0] else None

    @staticmethod
    def _unpacked(module: Any) -> Any:
        from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

        return dequantize_gemm(module.qweight, module.qzeros, module.scales, module.bits, module.group_size)


def kernel_for(requested: str, device: str, group_size: int, linears: Mapping[str, tuple[int, int]]) -> str:
    """The kernel of that name, or for "" the one that gptqmodel chooses by itself.

    Raises:
        ModelError: it is none, or does not take these layers or this device.
    """
    if requested and requested not in KERNELS:
        raise ModelError(f"no kernel of AWQ is called {requested!r}; there are {', '.join(sorted(KERNELS))}")
    unfit = next((name for name, (_, out) in linears.items() if out % _ATEN_OUT_MULTIPLE), None)
    on_cpu = device == "cpu"
    if not requested:
        return "torch-aten" if on_cpu and group_size in _ATEN_GROUPS and unfit is None else "torch"
    if requested in ("torch-aten", "torch-int8") and not on_cpu:
        raise ModelError(f"kernel {requested} computes on a CPU only; for device {device} choose torch")
    if requested == "torch-aten" and (unfit is not None or group_size not in _ATEN_GROUPS):
        why = f"{unfit} has {linears[unfit][1]} outputs" if unfit is not None else f"group size {group_size}"
        raise ModelError(
            f"kernel torch-aten takes outputs in multiples of {_ATEN_OUT_MULTIPLE} and group sizes "
            f"{', '.join(map(str, _ATEN_GROUPS))}; for {why} choose torch"
        )
    return requested


FORM = AWQForm()

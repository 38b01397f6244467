"""The kernels that gptqmodel computes GPTQ layers with, what each can do, and the choice of one.

Facts are those of the classes in gptqmodel 7.6.0 (`nn_modules/qlinear`, their SUPPORTS_... attributes), and where a
kernel fails on shapes that its class lets pass, what was seen to work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from qprof.errors import ModelError

#: The kernel that computes every width on every device, so that widths can be compared.
DEFAULT = "torch"

#: No kernel of gptqmodel: every quantized layer is unpacked once, when it is loaded, and a plain linear from then on.
DEQUANTIZED = "dequantized"

_COMMON_GROUPS = (-1, 16, 32, 64, 128, 256, 512, 1024)
_HALF = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel. `backend`: its member of gptqmodel's BACKEND; `class_name`: the class of its modules.

    `group_sizes`: -1 is one group per row. `in_multiple`, `out_multiple`: what the features of a layer must be
    multiples of. `asymmetric`, `desc_act`: whether it takes checkpoints quantized so. `note`: what a reader must know.
    """

    name: str
    backend: str
    class_name: str
    bits: tuple[int, ...]
    group_sizes: tuple[int, ...]
    dtypes: tuple[str, ...] = _HALF
    devices: tuple[str, ...] = ("cpu", "cuda")
    in_multiple: int = 1
    out_multiple: int = 1
    asymmetric: bool = True
    desc_act: bool = True
    note: str = ""


KERNELS: Mapping[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        Kernel("torch", "GPTQ_TORCH", "TorchLinear", (2, 3, 4, 5, 6, 7, 8), _COMMON_GROUPS),
        # torch's int4 packing on a CPU refuses out_features that are no multiple of 16.
        Kernel(
            *("torch-aten", "GPTQ_TORCH_ATEN", "TorchAtenLinear", (4,), (16, 32, 64, 128)),
            devices=("cpu",),
            out_multiple=16,
        ),
        Kernel(
            *("torch-fused", "GPTQ_TORCH_FUSED", "TorchFusedLinear", (4,), (-1, 16, 32, 64, 128)),
            dtypes=("float32", *_HALF),
            devices=("cpu",),
            out_multiple=16,
        ),
        # With in_features that leave a packed word or a tile unfilled it fails, or brings the process down.
        Kernel(
            *("torch-int8", "GPTQ_TORCH_INT8", "TorchInt8Linear", (2, 4, 8), (-1, 16, 32, 64, 128)),
            dtypes=("float32", *_HALF),
            devices=("cpu",),
            in_multiple=32,
            out_multiple=16,
            note="rounds the weights once more when loaded, to 8 bits per row: its accuracy and size are not GPTQ's",
        ),
        Kernel(
            *("triton", "GPTQ_TRITON", "TritonV2Linear", (2, 4, 8), _COMMON_GROUPS),
            devices=("cuda",),
            in_multiple=32,
            out_multiple=32,
        ),
        Kernel(
            *("exllama-v2", "GPTQ_EXLLAMA_V2", "ExllamaV2Linear", (4,), (-1, 32, 64, 128)),
            devices=("cuda",),
            in_multiple=32,
            out_multiple=32,
        ),
        Kernel(
            *("marlin", "GPTQ_MARLIN", "MarlinLinear", (4, 8), (-1, 32, 64, 128)),
            devices=("cuda",),
            asymmetric=False,
        ),
        Kernel(
            *("machete", "GPTQ_MACHETE", "MacheteLinear", (4, 8), (-1, 64, 128)),
            devices=("cuda",),
            in_multiple=64,
            out_multiple=128,
        ),
        Kernel(
            *("swordfish", "GPTQ_SWORDFISH", "SwordfishLinear", (4, 8), (-1, 32, 64, 128)),
            devices=("cuda",),
            in_multiple=64,
            out_multiple=64,
        ),
        Kernel(
            *("bitblas", "GPTQ_BITBLAS", "BitblasLinear", (2, 4, 8), (-1, 32, 64, 128)),
            devices=("cuda",),
            in_multiple=16,
            out_multiple=16,
            desc_act=False,
        ),
        # Loaded as the default kernel's modules, which unpack their weights when asked to.
        Kernel(
            *(DEQUANTIZED, "GPTQ_TORCH", "TorchLinear", (2, 3, 4, 5, 6, 7, 8), _COMMON_GROUPS),
            note="keeps all weights unpacked since they were loaded: its speed and size are those of a model that is "
            "not quantized",
        ),
    )
}


def default_dtype(device: str) -> str:
    """What quantized layers, and by the same measure all others, compute in unless the profile says otherwise."""
    if device_kind(device) == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16"


def device_kind(device: str) -> str:
    """ "cuda" of "cuda:1". Raises `ModelError` for what is neither "cpu" nor "cuda"."""
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ModelError(f"device {device!r}: language models run on 'cpu' and 'cuda'")
    return kind


class Form(Protocol):
    """How linear layers are quantized, or are to be."""

    @property
    def bits(self) -> int: ...
    @property
    def group_size(self) -> int: ...
    @property
    def desc_act(self) -> bool: ...
    @property
    def sym(self) -> bool: ...


def kernel_for(
    form: Form, linears: Mapping[str, tuple[int, int]], *, device: str, dtype: str, requested: str
) -> tuple[str, Kernel]:
    """The dtype ("": the default of `device`) and the kernel that layers of this form are run with; see `choose`."""
    dtype = dtype or default_dtype(device)
    return dtype, choose(
        requested,
        bits=form.bits,
        group_size=form.group_size,
        device=device,
        dtype=dtype,
        sym=form.sym,
        desc_act=form.desc_act,
        linears=linears,
    )


def choose(
    requested: str,
    *,
    bits: int,
    group_size: int,
    device: str,
    dtype: str,
    sym: bool = True,
    desc_act: bool = False,
    linears: Mapping[str, tuple[int, int]] | None = None,
) -> Kernel:
    """The kernel by that name, or the default for "", once it is seen to take the checkpoint.

    `linears`: name -> (in_features, out_features) of the layers that are quantized.

    Raises:
        ModelError: no kernel is called so, or it does not compute that; the message says what it does compute.
    """
    kernel = KERNELS.get(requested or DEFAULT)
    if kernel is None:
        raise ModelError(f"no kernel is called {requested!r}; there are {', '.join(sorted(KERNELS))}")
    fits = [
        (bits in kernel.bits, f"{_listed(kernel.bits)} bits only", f"{bits} bits"),
        (device_kind(device) in kernel.devices, f"on {_listed(kernel.devices)} only", f"device {device}"),
        (dtype in kernel.dtypes, f"in {_listed(kernel.dtypes)} only", f"dtype {dtype}"),
        (group_size in kernel.group_sizes, f"group sizes {_listed(kernel.group_sizes)} only", f"{group_size}"),
        (sym or kernel.asymmetric, "symmetric checkpoints only", "sym = false"),
        (not desc_act or kernel.desc_act, "checkpoints in the order of their columns only", "desc_act = true"),
    ]
    for fit, does, wanted in fits:
        if not fit:
            others = _others(bits, group_size, device, dtype, sym, desc_act)
            remedy = f"choose {' or '.join(others)}" if others else "no kernel computes it; change the variant"
            raise ModelError(f"kernel {kernel.name} computes {does}; for {wanted} {remedy}")
    _refuse_shapes(kernel, linears or {})
    return kernel


def _others(bits: int, group_size: int, device: str, dtype: str, sym: bool, desc_act: bool) -> list[str]:
    """Kernels that compute with packed weights and take all of it, but for the shapes of the layers."""
    return [
        kernel.name
        for kernel in KERNELS.values()
        if kernel.name != DEQUANTIZED
        and bits in kernel.bits
        and group_size in kernel.group_sizes
        and device_kind(device) in kernel.devices
        and dtype in kernel.dtypes
        and (sym or kernel.asymmetric)
        and (kernel.desc_act or not desc_act)
    ]


def _refuse_shapes(kernel: Kernel, linears: Mapping[str, tuple[int, int]]) -> None:
    for name, (in_features, out_features) in linears.items():
        for value, multiple, what in (
            (in_features, kernel.in_multiple, "in_features"),
            (out_features, kernel.out_multiple, "out_features"),
        ):
            if value % multiple:
                raise ModelError(
                    f"kernel {kernel.name} needs {what} that are multiples of {multiple}, and {name} has {value}; "
                    f"choose {DEFAULT}"
                )


def _listed(values: Sequence[object]) -> str:
    words = [str(value) for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"

"""AutoGPTQ 0.7.1 on today's transformers and without CUDA: what has to be put in its way, and taken away again."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

from qprof.errors import MissingExtraError, ModelError
from qprof.runtimes.torch_lm import library
from qprof.runtimes.torch_lm.checkpoint import Checkpoint
from qprof.runtimes.torch_lm.kernels import default_dtype
from qprof.runtimes.torch_lm.load import DTYPES

PACKAGES: Sequence[str] = ("torch", "transformers", "auto_gptq", "peft", "tokenizers", "safetensors", "numpy")

#: What its packing of 3 bits, the widest unit, comes in.
_PACKED = 32

#: Architectures that it has, by model_type (`GPTQ_CAUSAL_LM_MODEL_MAP`), of those that transformers still has.
MODEL_TYPES = (
    *("bloom", "gpt_neox", "gptj", "gpt2", "llama", "opt", "gpt_bigcode", "codegen", "falcon", "mistral"),
    *("mixtral", "qwen2", "gemma"),
)

#: Where AutoGPTQ imports a name from, the name, and where it lives now.
_DROPPED = (
    ("transformers.modeling_utils", "no_init_weights", "transformers.initialization"),
    ("transformers.utils.hub", "create_commit", "huggingface_hub"),
    ("transformers.utils.hub", "create_repo", "huggingface_hub"),
)

_INIT = ("kaiming_uniform_", "uniform_", "normal_")


def versions() -> dict[str, str]:
    """The installed distributions that shape what AutoGPTQ makes."""
    return library.versions(PACKAGES)


def require() -> None:
    """Raise `MissingExtraError` where AutoGPTQ or what it needs is not installed."""
    missing = [
        name for name in ("torch", "transformers", "auto_gptq", "peft") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise MissingExtraError(
            f"library = 'autogptq' needs {', '.join(missing)}: pip install 'qprof[autogptq]' (Python 3.11; for others, "
            "BUILD_CUDA_EXT=0 pip install --no-build-isolation auto_gptq==0.7.1)"
        )


def check(source: Checkpoint, bits: int, group_size: int) -> None:
    """Raise `ModelError` where AutoGPTQ cannot quantize this, `MissingExtraError` where it is not installed."""
    if source.model_type not in MODEL_TYPES:
        raise ModelError(
            f"{source.path}: AutoGPTQ has no {source.model_type}; it has {', '.join(MODEL_TYPES)}; leave library out"
        )
    for name, (in_features, out_features) in source.linears.items():
        if in_features % _PACKED or out_features % _PACKED:
            raise ModelError(
                f"{source.path}: AutoGPTQ packs multiples of {_PACKED}, and {name} has {in_features} inputs and "
                f"{out_features} outputs; leave library out"
            )
    require()


def choose_dtype(requested: str, device: str) -> str:
    """The dtype to compute in. Raises `ModelError` for one that torch models are not computed in."""
    if requested not in ("", *DTYPES):
        raise ModelError(f"dtype {requested!r}: models are computed in {', '.join(DTYPES)}")
    return requested or default_dtype(device)


def refuse_kernel(requested: str) -> None:
    """AutoGPTQ chooses by bits, order and what was compiled. Raises `ModelError` where one is asked for."""
    if requested:
        raise ModelError(f"kernel = {requested!r}: AutoGPTQ chooses its kernel by itself; leave it out")


def import_autogptq() -> Any:
    """The package auto_gptq. Raises `MissingExtraError`.

    It imports names that transformers 5 and peft have dropped; they are put where it looks for them and stay there, as
    it looks once more when it is used.
    """
    require()
    for place, name, origin in _DROPPED:
        module = importlib.import_module(place)
        if not hasattr(module, name):
            setattr(module, name, getattr(importlib.import_module(origin), name))
    vars(importlib.import_module("peft.peft_model")).setdefault("PEFT_TYPE_TO_MODEL_MAPPING", {})
    with torch_init_kept():
        import auto_gptq
    return auto_gptq


@contextlib.contextmanager
def torch_init_kept() -> Iterator[None]:
    """Put `torch.nn.init` back together: loading by AutoGPTQ turns three of its functions into no-ops for good."""
    import torch

    saved = {name: getattr(torch.nn.init, name) for name in _INIT}
    try:
        yield
    finally:
        for name, function in saved.items():
            setattr(torch.nn.init, name, function)


@contextlib.contextmanager
def quantizable(model: Any) -> Iterator[None]:
    """While inside, `model.quantize()` works: on a CPU too, and with layers that return a tensor.

    It names "cuda:0" as the device of every layer and synchronizes it, and takes the first element of what a decoder
    layer returns, which since transformers 4.54 is the tensor itself.
    """
    import auto_gptq.modeling._base as auto_base
    import auto_gptq.modeling._utils as auto_utils
    import torch

    def in_tuple(module: Any, inputs: Any, output: Any) -> Any:
        return (output,) if torch.is_tensor(output) else output

    layers = auto_base.get_module_by_name_prefix(model.model, model.layers_block_name)
    hooks = [layer.register_forward_hook(in_tuple) for layer in layers]
    saved = (auto_base.CUDA_0, auto_utils.CUDA_0, torch.cuda.synchronize)
    if not torch.cuda.is_available():
        auto_base.CUDA_0 = auto_utils.CUDA_0 = torch.device("cpu")
        torch.cuda.synchronize = lambda *arguments, **keywords: None
    try:
        yield
    finally:
        auto_base.CUDA_0, auto_utils.CUDA_0, torch.cuda.synchronize = saved
        for hook in hooks:
            hook.remove()

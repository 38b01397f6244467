"""From a checkpoint folder to a torch module that is ready to run, with what it really turned out to be."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qprof.errors import ModelError, QprofError
from qprof.runtimes.tool_output import first_line, tool_output_to_log
from qprof.runtimes.torch_lm import forms, library
from qprof.runtimes.torch_lm.architecture import attention_for, refuse_encoder
from qprof.runtimes.torch_lm.build_bound import built_within
from qprof.runtimes.torch_lm.checkpoint import Checkpoint, QuantizedFormat, inspect, normalised, origin
from qprof.runtimes.torch_lm.dequantized import dequantize_linears
from qprof.runtimes.torch_lm.kernels import DEQUANTIZED, KERNELS, Kernel, default_dtype, device_kind, kernel_for
from qprof.runtimes.torch_lm.settings_beside import TOKENS_FACT, tokens_of_text
from qprof.runtimes.torch_lm.text_config import text_alone

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(slots=True)
class LoadedModule:
    """A model in evaluation mode, no gradients. `kernel`: of its quantized layers, `None` where it has none."""

    module: Any
    tokenizer: Any
    dtype: str
    kernel: str | None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load_module(path: Path, *, device: str = "cpu", dtype: str = "", kernel: str = "") -> LoadedModule:
    """Load a checkpoint folder, unquantized or GPTQ.

    `dtype` "": as stored, for a quantized model what its device computes 16-bit in. `kernel` "": "torch", which
    computes every width.

    Raises:
        ModelError: the folder, the device, the dtype or the kernel does not fit. MissingExtraError: a package is
        missing.
    """
    library.require(("torch", "transformers", "safetensors"))
    from qprof.runtimes.torch_lm.formats import format_of  # which load by means of this module

    other = format_of(path)
    if other is not None:
        return other.load(path, device, dtype, kernel)
    checkpoint = inspect(path)
    refuse_missing_device(device)
    if dtype not in ("", *DTYPES):
        raise ModelError(f"dtype {dtype!r}: models are computed in {', '.join(DTYPES)}")
    started = time.perf_counter()
    if checkpoint.quantization is None:
        loaded = _load_float(checkpoint, device, dtype, kernel)
    elif (form := forms.form_named(checkpoint.quantization.quant_method)) is not None:
        loaded = _load_form(checkpoint, form, device, dtype, kernel)
    else:
        loaded = _load_quantized(checkpoint, checkpoint.quantization, device, dtype, kernel)
    loaded.module.eval().requires_grad_(False)
    loaded.facts |= {"dtype": loaded.dtype, "kernel": loaded.kernel, "load_seconds": time.perf_counter() - started}
    loaded.facts |= module_facts(loaded.module, device)
    loaded.facts[TOKENS_FACT] = tokens_of_text(loaded.tokenizer)
    return loaded


def _load_float(checkpoint: Checkpoint, device: str, dtype: str, kernel: str) -> LoadedModule:
    import torch
    from transformers import AutoModelForCausalLM

    if kernel:
        raise ModelError(f"{checkpoint.path}: is not quantized, so kernel = {kernel!r} has nothing to compute")
    dtype = dtype or (checkpoint.dtype if checkpoint.dtype in DTYPES else "float32")
    path = text_alone(checkpoint)
    try:
        with tool_output_to_log(), built_within(checkpoint.path):
            module, found = AutoModelForCausalLM.from_pretrained(
                str(path),
                dtype=getattr(torch, dtype),
                attn_implementation=attention_for(path),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            module.to(device)
    except QprofError:
        raise
    except Exception as error:  # from several libraries, for files of whatever make; all of them are told
        raise _load_error(checkpoint, error) from error
    missing = sorted(found["missing_keys"])
    if missing:
        # transformers only warns, and fills them with random numbers.
        raise ModelError(
            f"{checkpoint.path}: lacks {len(missing)} weights of {checkpoint.architecture} ({missing[0]}); copy or "
            "download it again"
        )
    refuse_encoder(checkpoint.path, module)
    return LoadedModule(module, load_tokenizer(checkpoint.path), dtype, None)


def _load_quantized(
    checkpoint: Checkpoint, quantized: QuantizedFormat, device: str, dtype: str, kernel: str
) -> LoadedModule:
    import torch

    dtype, chosen = kernel_for(quantized, checkpoint.linears, device=device, dtype=dtype, requested=kernel)
    path = normalised(checkpoint)
    module = _load_by_gptqmodel(checkpoint, path, device, dtype, chosen)
    _refuse_other_kernel(checkpoint, module, chosen)
    if chosen.name == DEQUANTIZED:
        dequantize_linears(module, quantized_layers(module), getattr(torch, dtype))
    notes = []
    if path != checkpoint.path:
        notes.append(f"written by {quantized.writer}: run from a copy of its settings that gptqmodel reads")
    if chosen.note:
        notes.append(f"kernel {chosen.name} {chosen.note}")
    return LoadedModule(module, load_tokenizer(path), dtype, chosen.name, notes=notes)


def _load_by_gptqmodel(checkpoint: Checkpoint, path: Path, device: str, dtype: str, kernel: Kernel) -> Any:
    import torch

    try:
        with tool_output_to_log():
            gptqmodel = library.import_gptqmodel()
            with library.loading_without_disk(), built_within(checkpoint.path):
                return gptqmodel.GPTQModel.load(
                    str(path),
                    device=device if ":" in device or device == "cpu" else f"{device}:0",
                    backend=gptqmodel.BACKEND[kernel.backend],
                    dtype=getattr(torch, dtype),
                    attn_implementation=attention_for(checkpoint.path),
                    local_files_only=True,
                ).model
    except QprofError:
        raise
    except Exception as error:  # from several libraries, for files of whatever make; all of them are told
        raise _load_error(checkpoint, error) from error


def _load_form(checkpoint: Checkpoint, form: forms.Form, device: str, dtype: str, kernel: str) -> LoadedModule:
    import torch

    form.require()
    dtype = dtype or default_dtype(device)
    if kernel not in ("", DEQUANTIZED, *form.kernels):
        raise ModelError(
            f"{checkpoint.path}: {form.title} has no kernel {kernel!r}; it has "
            f"{', '.join([*form.kernels, DEQUANTIZED])}, or leave it out"
        )
    if kernel == "" and form.kernels:
        kernel = form.kernels[0]
    try:
        with tool_output_to_log(), built_within(checkpoint.path):
            module = form.load(normalised(checkpoint), device=device, dtype=dtype, kernel=kernel)
    except QprofError:
        raise
    except Exception as error:  # from several libraries, for files of whatever make; all of them are told
        raise _load_error(checkpoint, error) from error
    layers = quantized_layers(module)
    if not layers:
        raise ModelError(f"{checkpoint.path}: loaded by {form.title}, none of its layers is quantized; make it again")
    notes = form.notes(module)
    if kernel == DEQUANTIZED:
        dequantize_linears(module, layers, getattr(torch, dtype))
        notes = [f"kernel {DEQUANTIZED} {KERNELS[DEQUANTIZED].note}"]
    return LoadedModule(module, load_tokenizer(checkpoint.path), dtype, kernel or None, notes=notes)


def load_tokenizer(path: Path) -> Any:
    """The tokenizer of a checkpoint folder. Raises `ModelError`."""
    from transformers import AutoTokenizer

    try:
        with tool_output_to_log():
            return AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers package raises bare Exception for a damaged file
        raise ModelError(f"{path}: its tokenizer cannot be loaded: {first_line(error)}; copy it again") from error


def quantized_layers(module: Any) -> dict[str, Any]:
    """The modules of a loaded model that a library put in the place of linear layers, by name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if hasattr(layer, "QUANT_TYPE") or forms.form_of(layer) is not None
    }


def _refuse_other_kernel(checkpoint: Checkpoint, module: Any, kernel: Kernel) -> None:
    """gptqmodel may put another kernel in place than the one that was asked for."""
    classes = sorted({type(layer).__name__ for layer in quantized_layers(module).values()})
    if classes != [kernel.class_name]:
        raise ModelError(
            f"{checkpoint.path}: kernel {kernel.name} was asked for, and gptqmodel put {', '.join(classes) or 'none'} "
            "in its place; choose another kernel"
        )


def refuse_missing_device(device: str) -> None:
    """Raise `ModelError` for a device that torch does not see."""
    if device_kind(device) != "cuda":
        return
    import torch

    index = int(device.partition(":")[2] or 0)
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        raise ModelError(
            f"device {device!r}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices; "
            "choose device = 'cpu', or install a CUDA build of torch and its driver"
        )


def _load_error(checkpoint: Checkpoint, error: BaseException) -> ModelError:
    path = origin(checkpoint.path)
    if is_out_of_memory(error):
        return ModelError(f"{path}: out of memory while it was loaded; free memory or use a smaller dtype")
    said = first_line(error).replace(str(checkpoint.path), str(path))
    return ModelError(f"{path}: cannot be loaded: {said}; check the files")


def module_facts(module: Any, device: str) -> dict[str, Any]:
    """What a module that was loaded measures: `parameters` counts those inside packed weights too."""
    quantized = quantized_layers(module)
    packed = sum(_features(layer) for layer in quantized.values())
    # What a library keeps as parameters of them counts bytes, or the same weights once more.
    inside = {id(parameter) for layer in quantized.values() for parameter in layer.parameters()}
    return {
        "device": device,
        "device_uuid": _device_uuid(device),
        "architecture": type(module).__name__,
        "attention": str(module.config._attn_implementation),
        "parameters": sum(p.numel() for p in module.parameters() if id(p) not in inside) + packed,
        "quantized_layers": len(quantized),
        "quantized_parameters": packed,
        "footprint_bytes": forms.footprint_bytes(module),
        "buffer_bytes": sum(buffer.numel() * buffer.element_size() for buffer in module.buffers()),
    }


def _device_uuid(device: str) -> str | None:
    """By which NVML knows a GPU that CUDA counts otherwise; `None` for the processor."""
    if not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)


def _features(layer: Any) -> int:
    """Weights of a quantized layer, by either library's names."""
    if hasattr(layer, "infeatures"):
        return int(layer.infeatures) * int(layer.outfeatures)
    return int(layer.in_features) * int(layer.out_features)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of memory; on a CPU it says so in a `RuntimeError` like any other."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in text
        or "can't allocate memory" in text
    )

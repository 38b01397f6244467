"""GPTQ checkpoints run by AutoGPTQ's own layers, where a variant asks for it (library = "autogptq")."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from qprof.errors import ModelError, QprofError
from qprof.runtimes.tool_output import first_line, tool_output_to_log
from qprof.runtimes.torch_lm.autogptq import library
from qprof.runtimes.torch_lm.build_bound import built_within
from qprof.runtimes.torch_lm.checkpoint import Checkpoint, inspect
from qprof.runtimes.torch_lm.load import load_tokenizer, module_facts, refuse_missing_device
from qprof.runtimes.torch_lm.model import CausalLM
from qprof.runtimes.torch_lm.sections import TorchLMOptions


def load(path: Path, options: TorchLMOptions) -> CausalLM:
    """Load a GPTQ checkpoint without any instrumentation. Raises `ModelError`."""
    library.refuse_kernel(options.kernel)
    checkpoint = inspect(path)
    if checkpoint.quantization is None:
        raise ModelError(f"{path}: is not quantized; AutoGPTQ runs GPTQ checkpoints alone, so leave library out")
    refuse_missing_device(options.device)
    dtype = library.choose_dtype(options.dtype, options.device)
    started = time.perf_counter()
    module = _from_quantized(checkpoint, options.device, dtype)
    module.eval().requires_grad_(False)
    facts = {
        "load_seconds": time.perf_counter() - started,
        "dtype": dtype,
        "kernel": _kernel(module),
        **module_facts(module, options.device),
    }
    return CausalLM(module, load_tokenizer(path), options, path=path, facts=facts)


def _from_quantized(checkpoint: Checkpoint, device: str, dtype: str) -> Any:
    try:
        with tool_output_to_log(), library.torch_init_kept(), built_within(checkpoint.path):
            auto_gptq = library.import_autogptq()
            import torch

            module = auto_gptq.AutoGPTQForCausalLM.from_quantized(
                str(checkpoint.path),
                device=device if ":" in device or device == "cpu" else f"{device}:0",
                torch_dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=False,
                use_cuda_fp16=dtype == "float16" and device != "cpu",
                disable_exllama=device == "cpu",
                disable_exllamav2=device == "cpu",
            ).model
    except QprofError:
        raise
    except Exception as error:  # from several libraries, for files of whatever make; all of them are told
        raise ModelError(
            f"{checkpoint.path}: AutoGPTQ cannot load it: {first_line(error)}; leave library out"
        ) from error
    if checkpoint.tied_embeddings:
        module.tie_weights()  # it ties before it loads, and a checkpoint without lm_head then leaves that untied
    return module


def _kernel(module: Any) -> str:
    """The module of AutoGPTQ that holds the layers' class: all of the classes are named QuantLinear."""
    names = {type(layer).__module__.rpartition(".")[2] for layer in module.modules() if hasattr(layer, "QUANT_TYPE")}
    if len(names) != 1:
        raise ModelError(f"AutoGPTQ put {', '.join(sorted(names)) or 'no'} kernels in place where one was expected")
    return names.pop()

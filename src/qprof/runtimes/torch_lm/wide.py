"""A language model that computes in float32 from one of its modules on: to see where numbers leave a narrow type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.torch_lm.load import load_module, module_facts
from qprof.runtimes.torch_lm.model import CausalLM
from qprof.runtimes.torch_lm.observe import is_quantized_linear
from qprof.runtimes.torch_lm.sections import TorchLMOptions


def load_wide(path: Path, options: TorchLMOptions) -> CausalLM:
    """Load a checkpoint folder and widen it from `options.wide_from` on. Raises `ModelError`."""
    found = load_module(path, device=options.device, dtype=options.dtype, kernel=options.kernel)
    count = widen(found.module, options.wide_from)
    facts = found.facts | module_facts(found.module, options.device)
    note = f"{count} of its modules, from {options.wide_from} on, compute in float32"
    return CausalLM(found.module, found.tokenizer, options, path=path, facts=facts, notes=[*found.notes, note])


def widen(model: Any, first: str) -> int:
    """Let every module with numbers of its own that is called from the module `first` on compute in float32; how many.

    What they give is float32 then, and so is all that is made of it; what stands before is as it was. Raises
    `ModelError` where there is no such module, or one of them computes in 16 bits alone.
    """
    import torch

    order = _call_order(model)
    if first not in order:
        raise ModelError(f"{type(model).__name__} runs no module {first!r}; `qprof layers` lists the names")
    behind = [name for name in order[order.index(first) :] if _has_numbers(model.get_submodule(name))]
    for name in behind:
        module = model.get_submodule(name)
        if is_quantized_linear(module):
            raise ModelError(f"{name!r} is quantized, and its kernel computes in 16 bits; choose another type for all")
        for key, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.is_floating_point():
                # A copy of its own: an output layer may share its numbers with the embedding, which stands before.
                module._parameters[key] = torch.nn.Parameter(parameter.detach().float(), requires_grad=False)
        module.register_forward_pre_hook(_wide_inputs, with_kwargs=True)
    return len(behind)


def _has_numbers(module: Any) -> bool:
    return is_quantized_linear(module) or any(one is not None for one in module._parameters.values())


def _call_order(model: Any) -> list[str]:
    """Names of all modules in the order in which they are first called for a prompt of two tokens."""
    import torch

    order: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, __, name=name: order.append(name))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.inference_mode():
            model(input_ids=torch.zeros((1, 2), dtype=torch.int64, device=next(model.parameters()).device))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ModelError(f"{type(model).__name__} cannot be run to see the order of its modules: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(order))


def _wide_inputs(_: Any, args: Any, kwargs: Any) -> Any:
    import torch

    def wide(value: Any) -> Any:
        return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    return tuple(wide(value) for value in args), {key: wide(value) for key, value in kwargs.items()}

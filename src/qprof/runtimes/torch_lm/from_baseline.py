"""A language model's variant with parts of its baseline: to see which of them its errors come from.

- weights: a linear of the variant is replaced by the baseline's, in float, once, when the model is loaded. That is
  possible for a finished checkpoint as well as for one that qprof has made.
- outputs: a module's output is the baseline's, in every inference (activation patching; see K. Meng et al., "Locating
  and Editing Factual Associations in GPT", NeurIPS 2022). The baseline runs on the same tokens first, with a cache of
  its own; what stands behind the module, and beside it, is computed by the variant. Neither time nor memory is then
  the variant's.
"""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.torch_lm.checkpoint import Checkpoint
from qprof.runtimes.torch_lm.dequantized import dequantize_linears
from qprof.runtimes.torch_lm.experts import unfuse
from qprof.runtimes.torch_lm.load import load_module, module_facts
from qprof.runtimes.torch_lm.model import CausalLM
from qprof.runtimes.torch_lm.observe import is_linear, is_quantized_linear
from qprof.runtimes.torch_lm.ops import linear_features
from qprof.runtimes.torch_lm.sections import FromBaseline, TorchLMOptions
from qprof.runtimes.torch_lm.state import DecodingState


def load_with_parts(path: Path, options: TorchLMOptions, parts: FromBaseline) -> CausalLM:
    """Load a checkpoint folder and give it what `parts` name. Raises `ModelError` where these do not fit."""
    import torch

    found = load_module(path, device=options.device, dtype=options.dtype, kernel=options.kernel)
    theirs = load_module(Path(parts.baseline), device=options.device, dtype=parts.dtype).module
    if not {*parts.weights.values(), *parts.outputs.values()} <= {name for name, _ in theirs.named_modules()}:
        unfuse(theirs)
    put_weights(found.module, theirs, parts.weights, getattr(torch, found.dtype))
    found.module.requires_grad_(False)
    facts, notes = found.facts | module_facts(found.module, options.device), list(found.notes)
    if parts.weights:
        notes.append(f"{len(parts.weights)} of its linears have the weights of {parts.baseline}, in float")
    if not parts.outputs:
        return CausalLM(found.module, found.tokenizer, options, path=path, facts=facts, notes=notes)
    notes.append(
        f"the outputs of {len(parts.outputs)} of its modules are the baseline's, computed in every inference beside "
        "its own: its scores are to be compared, not its latency, energy or memory"
    )
    model = PatchedCausalLM(found.module, found.tokenizer, options, path=path, facts=facts, notes=notes)
    model.patch(theirs, parts.outputs)
    return model


def refuse_unlike_linears(own: Checkpoint, baseline: Checkpoint, names: Mapping[str, str]) -> None:
    """Raise `ModelError` where one of these is no linear of its checkpoint, or not of one shape in both; `names`: of
    the variant -> of the baseline. Nothing is loaded for it."""
    for name, other in names.items():
        for checkpoint, wanted in ((own, name), (baseline, other)):
            if wanted not in checkpoint.linears:
                raise ModelError(f"{checkpoint.path}: no linear of its layers is called {wanted!r}; see qprof layers")
        if own.linears[name] != baseline.linears[other]:
            raise ModelError(
                f"{own.path}: {name!r} takes and gives {own.linears[name]}, the baseline's {other!r} "
                f"{baseline.linears[other]}; name linears that correspond"
            )


def put_weights(module: Any, theirs: Any, names: Mapping[str, str], dtype: Any) -> None:
    """Put copies of another model's linears, in float, in the place of a model's own; `names`: own -> its.

    Raises `ModelError` for what is no linear, or of another shape.
    """
    for name, other in names.items():
        own, its = _module(module, name), _module(theirs, other)
        for found, wanted in ((own, name), (its, other)):
            if not is_linear(found):
                raise ModelError(f"{wanted!r} is {type(found).__name__}, no linear; name linears alone for `weights`")
        sizes = [linear_features(linear) for linear in (own, its)]
        if sizes[0] != sizes[1]:
            raise ModelError(f"{name!r} takes and gives {sizes[0]}, the baseline's {other!r} {sizes[1]}")
        if is_quantized_linear(its):
            dequantize_linears(theirs, {other: its}, dtype)
            its = _module(theirs, other)
        parent, _, child = name.rpartition(".")
        device = next(module.parameters()).device
        setattr(module.get_submodule(parent), child, copy.deepcopy(its).to(device, dtype))


class PatchedCausalLM(CausalLM):
    """A model some of whose modules give out what a baseline's gave for the same tokens."""

    def patch(self, theirs: Any, names: Mapping[str, str]) -> None:
        """`names`: module of the model -> module of the baseline `theirs`. Raises `ModelError` where one is missing."""
        self._theirs = theirs
        self._theirs_keep = "logits_to_keep" in inspect.signature(theirs.forward).parameters
        self._their_state = DecodingState(theirs, lambda ids, **more: self._run_baseline(ids, True, 1, **more))
        self._given: dict[str, list[Any]] = defaultdict(list)
        for name, other in names.items():
            own, its = _module(self.module, name), _module(theirs, other)
            its.register_forward_hook(lambda _, __, result, name=name: self._given[name].append(_copy(result)))
            own.register_forward_hook(lambda _, __, result, name=name: self._in_place(name, result))

    def _in_place(self, name: str, result: Any) -> Any:
        if not self._given[name]:
            raise ModelError(f"{self.path}: {name!r} is called more often than the baseline's; patch another module")
        return _carried(name, result, self._given[name].pop(0))

    def _forward(self, tokens: Any, *, use_cache: bool, keep: int, **more: Any) -> Any:
        if not use_cache:
            self._run_baseline(tokens, use_cache, keep)
        elif self._state.in_prompt:
            self._their_state.take_in(self._prompt)
        else:
            self._their_state.step(self._next)
        return super()._forward(tokens, use_cache=use_cache, keep=keep, **more)

    def _run_baseline(self, tokens: Any, use_cache: bool, keep: int, **more: Any) -> Any:
        self._given.clear()
        if self._theirs_keep:
            more["logits_to_keep"] = keep
        return self._theirs(input_ids=tokens, use_cache=use_cache, **more)

    def _save(self) -> None:
        self._their_state.save()
        super()._save()

    def _restore(self, tokens: int) -> None:
        self._their_state.restore(tokens)
        super()._restore(tokens)


def _module(model: Any, name: str) -> Any:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise ModelError(f"{type(model).__name__} has no module {name!r}; `qprof layers` lists the names") from None


def _copy(value: Any) -> Any:
    """What comes behind may add to an output in place."""
    if isinstance(value, tuple):
        return tuple(_copy(item) for item in value)
    return value.clone() if hasattr(value, "clone") else value


def _carried(name: str, own: Any, its: Any) -> Any:
    """The baseline's output in the type and on the device of a module's own; what is no tensor stays."""
    import torch

    if isinstance(own, torch.Tensor) and isinstance(its, torch.Tensor) and own.shape == its.shape:
        return its.to(own.device, own.dtype)
    if type(own) is type(its) is tuple and len(own) == len(its):
        return tuple(_carried(name, mine, other) for mine, other in zip(own, its, strict=True))
    if isinstance(own, torch.Tensor | tuple) or isinstance(its, torch.Tensor | tuple):
        raise ModelError(f"{name!r} gives {_described(own)}, the baseline's {_described(its)}; patch another module")
    return own


def _described(value: Any) -> str:
    return f"a tensor {list(value.shape)}" if hasattr(value, "shape") else f"a {type(value).__name__}"

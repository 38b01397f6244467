"""The numbers of every layer of a language model's variant beside those of its baseline, for the same tokens.

Three comparisons:
- "cumulative": both models run from the tokens on, all positions of all rows; a layer's difference holds what came in
  with its inputs.
- "own": while the baseline runs, each of the variant's layers that holds no other is given what the baseline's was
  given. Where the two compute in different types, the baseline's layer is run again on the numbers as the variant's
  type rounds them, so that the difference is made by the layer alone.
- "weights": what the linear layers' weights stand for, against the baseline's.

Memory: both models, the outputs of all layers of the baseline for one sample, and one layer's weights in float32;
nothing more for more samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from qprof.runtimes.base import RecordError
from qprof.runtimes.torch_lm import forms
from qprof.runtimes.torch_lm.experts import expert_part, unfuse
from qprof.runtimes.torch_lm.load import quantized_layers
from qprof.runtimes.torch_lm.model import PREFILL, CausalLM
from qprof.runtimes.torch_lm.observe import (
    Layer,
    hooked,
    is_linear,
    is_quantized_linear,
    is_transposed_linear,
    tensors_in,
)
from qprof.runtimes.torch_lm.ops import find_layers

#: How far a linear's output may be from what its weights say, as a share of their norm, through 16-bit arithmetic.
_ROUNDING = 0.02


class LayerErrors:
    """Two loaded models, the baseline and a variant of it, whose layers are told apart by their names.

    `ops`: the layers that both have, as {"op", "baseline_op", "name", "type"}, the ops those of "prefill". `notes`:
    what could not be compared.
    """

    def __init__(self, baseline: CausalLM, variant: CausalLM) -> None:
        self._models = (baseline, variant)
        theirs, found = _layers_alike(baseline, variant)
        self._layers: list[tuple[Layer, Layer]] = [(theirs[own.name], own) for own in found if own.name in theirs]
        self.ops: list[dict[str, str | None]] = [
            {"op": _op(own), "baseline_op": _op(own), "name": own.name, "type": own.type} for _, own in self._layers
        ]
        self.notes: list[str] = []
        if len(self._layers) < len(found):
            self.notes.append(f"{len(found) - len(self._layers)} layers of {variant.path} are none of its baseline's")
        if any(expert_part(own.name) for _, own in self._layers):
            self.notes.append(
                "experts are compared on what the baseline gives to each (own), and not in use: there each model may "
                "give them other tokens"
            )

    def sample(self, inputs: Sequence[NDArray[Any]], record: RecordError) -> None:
        """Run one sample, [int64[rows, length]], of which all but the last token are taken in, and hand all pairs of
        arrays to `record`. Raises `ModelError` where a model cannot run it."""
        (tokens,) = inputs
        kept: dict[int, list[list[Any]]] = defaultdict(list)  # layer -> of each call: its outputs
        given: dict[int, tuple[Any, Any]] = {}

        def enter(number: int, args: Any, kwargs: Any) -> None:
            given[number] = args, kwargs

        def leave(number: int, result: Any) -> None:
            # A copy: what comes behind may add to it in place.
            if expert_part(self._layers[number][1].name) is None:
                kept[number].append([tensor.clone() for tensor in _real(result)])
            args, kwargs = given.pop(number)
            failed = result is None
            if not failed and not self._layers[number][1].contains:
                self._sample_own(number, args, kwargs, result, record)

        def compare(number: int, result: Any) -> None:
            if kept[number]:
                _record_all("cumulative", self._layers[number][1], kept[number].pop(0), _real(result), record)

        for model, modules, before, after in (
            (self._models[0], [theirs.module for theirs, _ in self._layers], enter, leave),
            (self._models[1], [own.module for _, own in self._layers], lambda *_: None, compare),
        ):
            with hooked(modules, before, after):
                model.target_logits(tokens, [1] * len(tokens))

    def _sample_own(self, number: int, args: Any, kwargs: Any, result: Any, record: RecordError) -> None:
        theirs, own = self._layers[number]
        if any(_is_state(value) for value in (*args, *kwargs.values())):
            return
        baseline, variant = self._models
        reference = _real(result)
        carried = _carried((args, kwargs), variant)
        if baseline.module.dtype != variant.module.dtype:
            args, kwargs = _carried(carried, baseline)
            reference = _real(theirs.module.forward(*args, **kwargs))
        args, kwargs = carried
        # Not by calling the module: its hooks are for runs of the whole model.
        _record_all("own", own, reference, _real(own.module.forward(*args, **kwargs)), record)

    def weights(self, record: RecordError) -> None:
        """Compare the weights of every linear that has the same shape in both models."""
        unknown = []
        for theirs, own in self._layers:
            if not (is_linear(theirs.module) and is_linear(own.module)):
                continue
            reference, value = _weight(theirs.module), _weight(own.module)
            if reference is None or value is None:
                unknown.append(own.name)
            elif reference.shape == value.shape:
                record("weights", _op(own), _array(reference), _array(value), None)
        if unknown:
            self.notes.append(
                f"{len(unknown)} linears ({unknown[0]}, ...) do not tell what their weights stand for, since their "
                "kernel packs them otherwise: a variant of the same file with kernel = 'torch' has the same weights"
            )


def _layers_alike(baseline: CausalLM, variant: CausalLM) -> tuple[dict[str, Layer], list[Layer]]:
    """The layers of both, the baseline's by name; of a model that has experts, or the like, in one piece where the
    other has them apart, those that it has once it is taken apart."""
    theirs, own = find_layers(baseline.module), find_layers(variant.module)
    names = [{layer.name for layer in layers} for layers in (theirs, own)]
    if names[1] - names[0] and not quantized_layers(baseline.module) and unfuse(baseline.module):
        theirs = find_layers(baseline.module)
    elif names[0] - names[1] and not quantized_layers(variant.module) and unfuse(variant.module):
        own = find_layers(variant.module)
    return {layer.name: layer for layer in theirs}, own


def _op(layer: Layer) -> str:
    return f"{PREFILL}/{layer.name}"


def _real(value: Any) -> list[Any]:
    return [tensor for tensor in tensors_in(value) if tensor.is_floating_point()]


def _is_state(value: Any) -> bool:
    """Whether an argument is something that a second run could change: neither a tensor nor a plain value."""
    import torch

    return not (value is None or isinstance(value, torch.Tensor | bool | int | float | str))


def _carried(value: Any, model: CausalLM) -> Any:
    """The same arguments on another model's device, real numbers in its type."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(model.device, model.module.dtype if value.is_floating_point() else None)
    if isinstance(value, Mapping):
        return {name: _carried(item, model) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_carried(item, model) for item in value)
    return value


def _record_all(kind: str, layer: Layer, references: list[Any], values: list[Any], record: RecordError) -> None:
    for reference, value in zip(references, values, strict=False):
        if reference.shape == value.shape:
            record(kind, _op(layer), _array(reference), _array(value), None)


def _weight(module: Any) -> Any | None:
    """What a linear's weights stand for, [out, in]; `None` where it does not tell."""
    if form := forms.form_of(module):
        return form.weight(module)
    if not is_quantized_linear(module):
        return module.weight.T if is_transposed_linear(module) else module.weight
    if not hasattr(module, "dequantize_weight"):
        return None
    try:
        weight = module.dequantize_weight().T
    except (RuntimeError, AttributeError, TypeError):
        # A kernel that packs weights in its own way inherits this from one that does not.
        return None
    return weight if _computes(module, weight) else None


def _computes(module: Any, weight: Any) -> bool:
    """Whether these weights are those that a linear computes with: what it makes of 1 and -1 in turn tells."""
    import torch

    signs = torch.ones(1, weight.shape[1], dtype=weight.dtype, device=weight.device)
    signs[:, 1::2] = -1
    bias = getattr(module, "bias", None)
    with torch.inference_mode():
        found = module.forward(signs.clone()).double()
        expected = signs.double() @ weight.double().T + (0.0 if bias is None else bias.double())
    return bool((found - expected).norm() <= _ROUNDING * weight.double().norm())


def _array(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().float().cpu().numpy()
    return array

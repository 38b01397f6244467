"""Quantized linears unpacked once, when a model is loaded: what it would cost if unpacking were free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qprof.runtimes.torch_lm import forms


def dequantize_linears(model: Any, layers: Mapping[str, Any], dtype: Any) -> None:
    """Put a `torch.nn.Linear` with its unpacked weights, in `dtype`, in the place of each of some modules of a model.

    `layers`: name in the model -> quantized linear: of a form, or one with `dequantize_weight()`, as [in, out].
    """
    import torch

    for name, layer in layers.items():
        with torch.inference_mode(False), torch.no_grad():
            plain = plain_linear(layer, dtype)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, plain)


def plain_linear(layer: Any, dtype: Any) -> Any:
    """A `torch.nn.Linear` with the unpacked weights of a quantized linear."""
    import torch

    form = forms.form_of(layer)
    weight = (layer.dequantize_weight() if form is None else form.weight(layer).t()).to(dtype)
    plain = torch.nn.Linear(weight.shape[0], weight.shape[1], bias=layer.bias is not None, device="meta")
    # The transposed view keeps the layout that unpacking leaves behind: the very product that the kernel computes.
    plain.weight = torch.nn.Parameter(weight.t(), requires_grad=False)
    if layer.bias is not None:
        plain.bias = torch.nn.Parameter(layer.bias.detach().to(dtype), requires_grad=False)
    return plain

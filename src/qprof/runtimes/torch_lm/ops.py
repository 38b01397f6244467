"""The ops of a causal language model: which modules are timed, and what one inference tells of each of them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from qprof.record.ops import OpMeta
from qprof.runtimes.torch_lm import forms
from qprof.runtimes.torch_lm.experts import expert_part, one_run
from qprof.runtimes.torch_lm.observe import (
    Layer,
    Observation,
    is_linear,
    is_quantized_linear,
    is_transposed_linear,
    itemsize,
)

#: What a quantized linear keeps in a checkpoint.
_STORED = ("qweight", "qzeros", "scales", "g_idx", "bias")


def find_layers(root: Any) -> list[Layer]:
    """Every module of a model that can be called, the model itself first; a quantized linear stands for all in it.

    A module in several places is one layer, under its first name. The model itself goes by its class.
    """
    import torch

    layers: list[Layer] = []
    seen: set[int] = set()

    def visit(name: str, module: Any) -> None:
        if id(module) in seen:
            return
        seen.add(id(module))
        children = [] if is_quantized_linear(module) else list(module.named_children())
        if type(module).forward is not torch.nn.Module.forward:
            layers.append(Layer(name or type(module).__name__, module, contains=bool(children)))
        for child, inner in children:
            visit(f"{name}.{child}" if name else child, inner)

    visit("", root)
    return layers


def describe(
    layers: Sequence[Layer],
    phase: str,
    found: Mapping[int, Observation],
    divided: Container[int],
    first_index: int,
    integer: Container[int] = (),
) -> tuple[list[OpMeta], dict[int, int]]:
    """The ops of one phase, and the position in that list of each layer's op.

    `divided`: the quantized linears whose inside is told apart; three ops follow each. `integer`: those of them that
    multiply integers. The counts of an expert's ops are of one run, and `runs` tells how often it ran.
    """
    ops: list[OpMeta] = []
    positions: dict[int, int] = {}
    for number, seen in found.items():
        positions[number] = len(ops)
        op = _layer_op(layers[number], phase, seen, first_index + len(ops))
        ops.append(op)
        if number in divided:
            inner = _integer_ops if number in integer else _inner_ops
            ops.extend(inner(layers[number], op, seen))
    return ops, positions


#: What a quantized linear's time is divided into, in this order.
PARTS = ("dequantize", "matmul", "other")

#: What stands in the place of the first for a linear that multiplies integers: activations are made such.
QUANTIZE = "quantize"


def _layer_op(layer: Layer, phase: str, seen: Observation, index: int) -> OpMeta:
    expert = expert_part(layer.name) is not None
    runs = float(seen.calls) if expert else None
    seen = one_run(seen) if expert else seen
    linear = is_linear(layer.module)
    features = linear_features(layer.module) if linear else None
    if features is not None:
        macs: int | None = seen.rows * features[0] * features[1]
    else:
        macs = seen.macs or (None if seen.multiplies else 0)
    return OpMeta(
        op=f"{phase}/{layer.name}",
        name=layer.name,
        type=layer.type,
        index=index,
        kernel=_kernel(layer.module) if linear else " + ".join(dict.fromkeys(seen.contractions)) or None,
        inputs=seen.inputs,
        outputs=seen.outputs,
        quantization=quantization(layer.module, seen.inputs),
        macs=macs,
        weight_bytes=stored_bytes(layer.module),
        activation_bytes=seen.own_bytes if layer.contains else seen.outside_bytes,
        phase=phase,
        runs=runs,
    )


def _inner_ops(layer: Layer, whole: OpMeta, seen: Observation) -> list[OpMeta]:
    """The ops that a quantized linear's time is divided into. What the matmul reads as its weights was written by the
    dequantization: an activation of both."""
    seen = seen if whole.runs is None else replace(one_run(seen), calls=1)
    features = linear_features(layer.module)
    weights, bytes_ = [], None
    if features is not None and whole.inputs:
        dtype = whole.inputs[0].split("[")[0]
        weights = [f"{dtype}[{features[0]},{features[1]}]"]
        bytes_ = features[0] * features[1] * itemsize(dtype) * seen.calls
    common: dict[str, Any] = {"kernel": whole.kernel, "phase": whole.phase, "parent": whole.op, "runs": whole.runs}
    return [
        OpMeta(
            op=f"{whole.op}/dequantize",
            name=f"{layer.name}/dequantize",
            type="dequantize",
            index=whole.index + 1,
            outputs=tuple(weights),
            quantization=whole.quantization,
            weight_bytes=whole.weight_bytes,
            activation_bytes=bytes_,
            **common,
        ),
        OpMeta(
            op=f"{whole.op}/matmul",
            name=layer.name,
            type="Linear",
            index=whole.index + 2,
            inputs=(*whole.inputs, *weights),
            outputs=whole.outputs,
            macs=whole.macs,
            weight_bytes=0,
            activation_bytes=None if bytes_ is None else seen.outside_bytes + bytes_,
            **common,
        ),
        OpMeta(
            op=f"{whole.op}/other",
            name=f"{layer.name}/other",
            type="other in linear",
            index=whole.index + 3,
            weight_bytes=0,
            **common,
        ),
    ]


def _integer_ops(layer: Layer, whole: OpMeta, seen: Observation) -> list[OpMeta]:
    """The ops of a linear that makes integers of its activations and multiplies those."""
    dtype, _, shape = (whole.inputs[0] if whole.inputs else "").partition("[")
    integers = (f"int8[{shape}",) if shape else ()
    features = linear_features(layer.module)
    elements = None if features is None or not shape else seen.rows * features[0]
    outside = None if elements is None else seen.outside_bytes - elements * itemsize(dtype)
    common: dict[str, Any] = {"kernel": whole.kernel, "phase": whole.phase, "parent": whole.op}
    return [
        OpMeta(
            op=f"{whole.op}/{QUANTIZE}",
            name=f"{layer.name}/{QUANTIZE}",
            type=QUANTIZE,
            index=whole.index + 1,
            inputs=whole.inputs,
            outputs=integers,
            weight_bytes=0,
            activation_bytes=None if elements is None else elements * (itemsize(dtype) + 1),
            **common,
        ),
        OpMeta(
            op=f"{whole.op}/matmul",
            name=layer.name,
            type="Linear",
            index=whole.index + 2,
            inputs=integers,
            outputs=whole.outputs,
            quantization=whole.quantization,
            macs=whole.macs,
            weight_bytes=whole.weight_bytes,
            activation_bytes=None if elements is None or outside is None else outside + elements,
            **common,
        ),
        OpMeta(
            op=f"{whole.op}/other",
            name=f"{layer.name}/other",
            type="other in linear",
            index=whole.index + 3,
            weight_bytes=0,
            **common,
        ),
    ]


def _kernel(module: Any) -> str:
    import torch

    kind, form = type(module), forms.form_of(module)
    if form is not None:
        return form.kernel(module)
    return "torch.nn.Linear" if kind is torch.nn.Linear else str(kind.__name__)


def linear_features(module: Any) -> tuple[int, int] | None:
    """(in, out) features of a linear, `None` where it does not tell."""
    if is_transposed_linear(module):
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    into = getattr(module, "in_features", getattr(module, "infeatures", None))
    out = getattr(module, "out_features", getattr(module, "outfeatures", None))
    return None if into is None or out is None else (int(into), int(out))


def quantization(module: Any, inputs: Sequence[str]) -> str | None:
    """How a linear is quantized, "int4 weights, group 64, bfloat16 activations"; `None` where it is not."""
    if form := forms.form_of(module):
        activations = [f"{inputs[0].split('[')[0]} activations"] if inputs else []
        return ", ".join([form.scheme(module), *activations])
    bits = getattr(module, "bits", None)
    if bits is None or not is_quantized_linear(module):
        return None
    parts = [f"int{bits} weights"]
    group, features = getattr(module, "group_size", None), linear_features(module)
    if group is not None:
        whole_row = int(group) <= 0 or (features is not None and int(group) == features[0])
        parts.append("one group per row" if whole_row else f"group {int(group)}")
    if getattr(module, "desc_act", False):
        parts.append("activation order")
    if inputs:
        parts.append(f"{inputs[0].split('[')[0]} activations")
    return ", ".join(parts)


def stored_bytes(module: Any) -> int:
    """Bytes of a module's own weights and buffers; of a quantized linear what a checkpoint stores of it, or, where its
    kernel has repacked them, what it keeps instead."""
    if forms.form_of(module) is not None:
        return forms.storage_bytes(forms.tensors_of(module))
    if not is_quantized_linear(module):
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    else:
        named = dict([*module.named_parameters(), *module.named_buffers()])
        stored = [named[name] for name in _STORED if name in named]
        tensors = stored if "qweight" in named else list(named.values())
    storages = {tensor.untyped_storage()._cdata: tensor.numel() * tensor.element_size() for tensor in tensors}
    return sum(storages.values())

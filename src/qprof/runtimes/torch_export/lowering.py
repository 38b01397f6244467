"""Linears of quantized weights in the form that torch runs without a compiler: the kernel of `quantize_dynamic`."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.torch_export.graph import Graph
from qprof.runtimes.torch_export.program import attribute, drop_unread

DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.default"


def lower(graph: Graph) -> None:
    """Let every linear whose weights are dequantized as a whole take them packed, and quantize its activations as it
    runs (`quantized::linear_dynamic`, with the range that `torch.ao.nn.quantized.dynamic.Linear` reduces). The graph
    keeps what was known of them."""
    import torch

    module, changed = graph.module, 0
    for node in list(module.graph.nodes):
        if node.op != "call_function" or str(node.target) != "aten.linear.default":
            continue
        source = node.args[1]
        if str(getattr(source, "target", "")) != DEQUANTIZE or source.args[0].op != "get_attr":
            continue
        stored, scale, zero_point = source.args[:3]
        whole = torch._make_per_tensor_quantized_tensor(
            attribute(module, str(stored.target)), float(scale), int(zero_point)
        )
        bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
        values = None if bias is None else attribute(module, str(bias.target)).detach()
        facts = graph.facts([node, source], graph.names[node])
        packed = torch.ops.quantized.linear_prepack(whole, values)
        name = f"_packed_{changed}"
        setattr(module, name, packed)
        with module.graph.inserting_before(node), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a packed weight is neither a parameter nor a buffer
            weights = module.graph.get_attr(name)
            new = module.graph.call_function(torch.ops.quantized.linear_dynamic.default, (node.args[0], weights, True))
        new.meta = dict(node.meta)
        how = "int8 weights, activations quantized as they come"
        graph.known[str(new.name)] = replace(facts, quantization=how)
        graph.packed_bytes += facts.weight_bytes
        graph.by_name[str(new.name)], graph.names[new] = new, graph.names[node]
        graph.nodes[graph.nodes.index(node)] = new
        node.replace_all_uses_with(new)
        module.graph.erase_node(node)
        changed += 1
    if changed:
        drop_unread(module)


def refuse_unlowered(module: Any, path: Path) -> None:
    """Raise `ModelError` for a graph that would quantize and dequantize around float ops: it is no form to be timed,
    but what a compiler makes kernels of."""
    left = [
        node
        for node in module.graph.nodes
        if node.op == "call_function" and str(node.target).startswith("quantized_decomposed.")
    ]
    if left:
        raise ModelError(
            f"{path}: {len(left)} of its ops quantize or dequantize around float ops, which only a compiler makes "
            'integer kernels of; run it with engine = "inductor"'
        )

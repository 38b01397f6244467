"""Makers that edit files as converters and people do: a bias that is lost, an op split up, islands of float, a branch
that nobody reads, another way to resize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from graph import Graph


def bias_lost(source: Path, out: Path, part: str) -> None:
    """One layer's bias is zero, as where a batch normalization was folded wrongly."""
    graph = Graph(source)
    bias = int(graph.find(part).inputs[2])
    graph.set_data(bias, np.zeros_like(graph.data(bias)))
    graph.save(out)


def nearest(source: Path, out: Path) -> None:
    """Maps are resized by the nearest number, and not bilinearly."""
    graph = Graph(source)
    for op in graph.of_type("RESIZE_BILINEAR"):
        options = schema.ResizeNearestNeighborOptionsT()
        options.halfPixelCenters = True
        made = graph.op("RESIZE_NEAREST_NEIGHBOR", list(op.inputs), list(op.outputs), options, version=3)
        graph.ops[graph.position(op)] = made
    graph.save(out)


def swish_split(source: Path, out: Path) -> None:
    """HARD_SWISH as five ops, as exporters write it that do not know it: x * min(max(x + 3, 0), 6) / 6."""
    graph = Graph(source)
    constants = {name: graph.add_constant(f"planted/{name}", np.float32(value)) for name, value in _SWISH.items()}
    for index, op in enumerate(graph.of_type("HARD_SWISH")):
        given, gives = int(op.inputs[0]), int(op.outputs[0])
        moved, low, high, times = (
            graph.add_tensor(f"planted/{name}{index}", graph.shape(given)) for name in ("moved", "low", "high", "times")
        )
        position = graph.position(op)
        graph.ops[position : position + 1] = [
            graph.op("ADD", [given, constants["three"]], [moved], schema.AddOptionsT()),
            graph.op("MAXIMUM", [moved, constants["zero"]], [low], schema.MaximumMinimumOptionsT()),
            graph.op("MINIMUM", [low, constants["six"]], [high], schema.MaximumMinimumOptionsT()),
            graph.op("MUL", [given, high], [times], schema.MulOptionsT()),
            graph.op("MUL", [times, constants["sixth"]], [gives], schema.MulOptionsT()),
        ]
    graph.save(out)


_SWISH = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1.0 / 6.0}


def islands(source: Path, out: Path, count: int) -> None:
    """The first `count` depthwise convolutions of an int8 file are computed in float, between conversions."""
    graph = Graph(source)
    for op in graph.of_type("DEPTHWISE_CONV_2D")[:count]:
        _in_float(graph, op)
    graph.save(out)


def _in_float(graph: Graph, op: Any) -> None:
    given, weights, bias = (int(tensor) for tensor in op.inputs)
    gives = int(op.outputs[0])
    name = graph.name(gives)[-24:]
    scale, _ = graph.scale(weights)
    shape = [1] * 4
    shape[graph.subgraph.tensors[weights].quantization.quantizedDimension] = len(scale)
    real = [
        graph.add_constant(f"planted/weights/{name}", graph.data(weights).astype(np.float32) * scale.reshape(shape)),
        graph.add_constant(f"planted/bias/{name}", (graph.data(bias) * graph.scale(bias)[0]).astype(np.float32)),
    ]
    before = graph.add_tensor(f"planted/before/{name}", graph.shape(given))
    after = graph.add_tensor(f"planted/after/{name}", graph.shape(gives))
    position = graph.position(op)
    graph.ops[position : position + 1] = [
        graph.op("DEQUANTIZE", [given], [before], schema.DequantizeOptionsT(), version=2),
        graph.op(graph.type_of(op), [before, *real], [after], op.builtinOptions),
        graph.op("QUANTIZE", [after], [gives], schema.QuantizeOptionsT()),
    ]


def debug_output(source: Path, out: Path) -> None:
    """A convolution whose output is one more of the model's, as it is left behind by whoever looked into a model."""
    graph = Graph(source)
    given = int(graph.find("stage1_block1_add_1/").outputs[0])
    n, height, width, channels = graph.shape(given)
    weights = np.random.default_rng(3).normal(0.0, 0.1, (64, 3, 3, channels)).astype(np.float32)
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    gives = graph.add_tensor("planted/features", [n, height, width, 64])
    constants = [graph.add_constant("planted/w", weights), graph.add_constant("planted/b", np.zeros(64, np.float32))]
    graph.insert(len(graph.ops), graph.op("CONV_2D", [given, *constants], [gives], options))
    graph.subgraph.outputs = [*(int(tensor) for tensor in graph.subgraph.outputs), gives]
    graph.model.signatureDefs = None
    graph.save(out)

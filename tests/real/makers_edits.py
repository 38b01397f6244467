"""Makers that edit the flatbuffer of a float detector: each plants one thing, and `out` is the edited file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from graph import Graph

#: Outputs of ReLU6, so not negative, largest first: FLOOR_MOD by a great number leaves them as they are.
POSITIVE = (
    "stage1_block0_depthwise",
    "stage1_block1_expand",
    "refine1_pointwise",
    "stage1_block1_depthwise",
    "stage2_block1_expand",
    "stage2_block0_expand",
    "heatmap_pointwise",
    "size_pointwise",
)


def copied(source: Path, out: Path) -> None:
    out.write_bytes(source.read_bytes())


def floor_mods(source: Path, out: Path, count: int) -> None:
    """FLOOR_MOD, which XNNPACK does not take, behind `count` activations; the function stays the same."""
    graph = Graph(source)
    great = graph.add_constant("planted/great", np.asarray(1e9, np.float32))
    for index, part in enumerate(POSITIVE[:count]):
        tensor = graph.find(f"{part}_1/").outputs[0]
        result = graph.add_tensor(f"planted/mod{index}", graph.shape(tensor))
        op = graph.op("FLOOR_MOD", [tensor, great], [result], schema.FloorModOptionsT())
        graph.behind(tensor, [op], result)
    graph.save(out)


def reversals(source: Path, out: Path, count: int) -> None:
    """`count` pairs of REVERSE_V2, which XNNPACK does not take either; whatever the values are, they cost the same."""
    graph = Graph(source)
    axis = graph.add_constant("planted/axis", np.asarray([1], np.int32))
    for index, part in enumerate(POSITIVE[:count]):
        tensor = graph.find(f"{part}_1/").outputs[0]
        tensors = [tensor, *(graph.add_tensor(f"planted/reversed{index}_{n}", graph.shape(tensor)) for n in range(2))]
        ops = [
            graph.op("REVERSE_V2", [tensors[n], axis], [tensors[n + 1]], schema.ReverseV2OptionsT()) for n in range(2)
        ]
        graph.behind(tensor, ops, tensors[2])
    graph.save(out)


def round_trips(source: Path, out: Path, count: int) -> None:
    """`count` pairs of QUANTIZE and DEQUANTIZE behind as many convolutions."""
    graph = Graph(source)
    convolutions = [op for op in graph.of_type("CONV_2D", "DEPTHWISE_CONV_2D") if "_1/" in graph.name(op.outputs[0])]
    convolutions.sort(key=lambda op: -int(np.prod(graph.shape(op.outputs[0]))))
    for index, convolution in enumerate(convolutions[1 : 1 + count]):
        tensor = convolution.outputs[0]
        stored = graph.add_tensor(f"planted/stored{index}", graph.shape(tensor), np.int8)
        graph.set_scale(stored, [0.05], [-20])
        result = graph.add_tensor(f"planted/back{index}", graph.shape(tensor))
        ops = [
            graph.op("QUANTIZE", [tensor], [stored], schema.QuantizeOptionsT()),
            graph.op("DEQUANTIZE", [stored], [result], schema.DequantizeOptionsT(), version=2),
        ]
        graph.behind(tensor, ops, result)
    graph.save(out)


def transposes(source: Path, out: Path, count: int) -> None:
    """`count` times to channels first and back."""
    graph = Graph(source)
    orders = [graph.add_constant(f"planted/to{n}", np.asarray(o, np.int32)) for n, o in enumerate(([0, 3, 1, 2],))]
    back = graph.add_constant("planted/back", np.asarray([0, 2, 3, 1], np.int32))
    for index, part in enumerate(POSITIVE[:count]):
        tensor = graph.find(f"{part}_1/").outputs[0]
        n, h, w, c = graph.shape(tensor)
        first = graph.add_tensor(f"planted/first{index}", [n, c, h, w])
        result = graph.add_tensor(f"planted/last{index}", [n, h, w, c])
        ops = [
            graph.op("TRANSPOSE", [tensor, orders[0]], [first], schema.TransposeOptionsT()),
            graph.op("TRANSPOSE", [first, back], [result], schema.TransposeOptionsT()),
        ]
        graph.behind(tensor, ops, result)
    graph.save(out)


def biases_computed(source: Path, out: Path, pattern: str) -> None:
    """The ops whose output matches `pattern` get their bias from an op (ADD_N of it and zeros) instead of a constant:
    XNNPACK wants a constant one, so they leave it."""
    graph = Graph(source)
    for op in [op for op in graph.of_type("CONV_2D", "DEPTHWISE_CONV_2D") if _named(graph, op, pattern)]:
        bias = int(op.inputs[2])
        result = graph.add_tensor(f"planted/bias{bias}", graph.shape(bias))
        zeros = graph.add_constant(f"planted/zeros{bias}", np.zeros(graph.shape(bias), np.float32))
        graph.insert(graph.position(op), graph.op("ADD_N", [bias, zeros], [result], schema.AddNOptionsT()))
        op.inputs = [op.inputs[0], op.inputs[1], result]
    graph.save(out)


def sums_by_add_n(source: Path, out: Path) -> None:
    """ADD becomes ADD_N, which does the same outside XNNPACK."""
    graph = Graph(source)
    for add in graph.of_type("ADD"):
        position = graph.position(add)
        graph.remove(add)
        graph.insert(position, graph.op("ADD_N", add.inputs, add.outputs, schema.AddNOptionsT()))
    graph.save(out)


def upsampled(source: Path, out: Path, parts: Sequence[str]) -> None:
    """A chain of ops of stride 1 (parts of their outputs' names, in order) works at twice the height and width."""
    graph = Graph(source)
    chain = [graph.find(f"{part}_1/") for part in parts]
    start, end = int(chain[0].inputs[0]), int(chain[-1].outputs[0])
    n, h, w, c = graph.shape(start)
    large = graph.add_tensor("planted/large", [n, 2 * h, 2 * w, c])
    size = graph.add_constant("planted/size", np.asarray([2 * h, 2 * w], np.int32))
    up = graph.op("RESIZE_NEAREST_NEIGHBOR", [start, size], [large], schema.ResizeNearestNeighborOptionsT())
    graph.insert(graph.position(chain[0]), up)
    chain[0].inputs = [large, *chain[0].inputs[1:]]
    for op in chain:
        n, h, w, c = graph.shape(op.outputs[0])
        graph.set_shape(op.outputs[0], [n, 2 * h, 2 * w, c])
    small = graph.add_tensor("planted/small", [n, h, w, c])
    options = schema.Pool2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, 2, 2
    options.filterHeight, options.filterWidth = 2, 2
    graph.behind(end, [graph.op("AVERAGE_POOL_2D", [end], [small], options)], small)
    graph.save(out)


def widened(source: Path, out: Path, block: str, factor: int) -> None:
    """The inner channels of an inverted residual block times `factor`, the added ones with zero weights: the same
    function by more arithmetic."""
    graph = Graph(source)
    expand, depthwise, project = (graph.find(f"{block}_{part}_1/") for part in ("expand", "depthwise", "project"))
    for op, axis in ((expand, 0), (depthwise, 3), (project, 3)):
        _pad(graph, int(op.inputs[1]), axis, factor)
        if op is not project:
            _pad(graph, int(op.inputs[2]), 0, factor)
            n, h, w, c = graph.shape(op.outputs[0])
            graph.set_shape(op.outputs[0], [n, h, w, c * factor])
    graph.save(out)


def cut(source: Path, out: Path, parts: Sequence[str]) -> None:
    """Ops that keep the shape, a chain of them, taken out."""
    graph = Graph(source)
    chain = [graph.find(f"{part}_1/") for part in parts]
    graph.read_instead(int(chain[-1].outputs[0]), int(chain[0].inputs[0]))
    graph.remove(*chain)
    graph.save(out)


def half_weights(source: Path, out: Path) -> None:
    """Weights stored as float16 behind a DEQUANTIZE, as converters write them."""
    graph = Graph(source)
    ops = []
    for op in graph.of_type("CONV_2D", "DEPTHWISE_CONV_2D"):
        for slot in (1, 2):
            tensor = int(op.inputs[slot])
            half = graph.add_constant(f"planted/half{tensor}_{slot}", graph.data(tensor).astype(np.float16))
            result = graph.add_tensor(f"planted/weights{tensor}_{slot}", graph.shape(tensor))
            ops.append(graph.op("DEQUANTIZE", [half], [result], schema.DequantizeOptionsT(), version=3))
            op.inputs = [*op.inputs[:slot], result, *op.inputs[slot + 1 :]]
    graph.insert(0, *ops)
    graph.save(out)


def batched(source: Path, out: Path, batch: int) -> None:
    """Every activation with another batch size."""
    graph = Graph(source)
    for tensor in {int(t) for op in graph.ops for t in op.outputs} | {int(t) for t in graph.subgraph.inputs}:
        graph.set_shape(tensor, [batch, *graph.shape(tensor)[1:]])
    graph.save(out)


def resolved(source: Path, out: Path, factor: float) -> None:
    """Every map's height and width times `factor`, the sizes that RESIZE ops aim at too."""
    graph = Graph(source)
    for tensor in {int(t) for op in graph.ops for t in op.outputs} | {int(t) for t in graph.subgraph.inputs}:
        n, h, w, c = graph.shape(tensor)
        graph.set_shape(tensor, [n, round(h * factor), round(w * factor), c])
    for op in graph.of_type("RESIZE_BILINEAR"):
        size = int(op.inputs[1])
        graph.set_data(size, np.round(graph.data(size) * factor).astype(np.int32))
    graph.save(out)


def spread(source: Path, out: Path) -> None:
    """The channels of a residual stream times powers of two from 1/8 to 8, undone where they are read: the same
    function, with weights whose channels have unlike ranges."""
    graph = Graph(source)
    written = [f"stage2_block{n}_project_1/" for n in range(3)]
    read = ["stage2_block1_expand_1/", "stage2_block2_expand_1/", "lateral2_1/", "stage3_block0_expand_1/"]
    factors = 2.0 ** np.random.default_rng(6).integers(-3, 4, 32).astype(np.float32)
    for part in written:
        for slot in (1, 2):
            tensor = int(graph.find(part).inputs[slot])
            values = graph.data(tensor)
            graph.set_data(tensor, (values * factors.reshape(-1, *[1] * (values.ndim - 1))).astype(np.float32))
    for part in read:
        tensor = int(graph.find(part).inputs[1])
        graph.set_data(tensor, (graph.data(tensor) / factors).astype(np.float32))
    graph.save(out)


def blind_to_blue(source: Path, out: Path) -> None:
    """The first layer reads red in the place of blue: it minds which channel comes first."""
    graph = Graph(source)
    tensor = int(graph.find("stem_1/").inputs[1])
    weights = graph.data(tensor).copy()
    weights[..., 0] += weights[..., 2]
    weights[..., 2] = 0
    graph.set_data(tensor, weights)
    graph.save(out)


def sizes_swapped(source: Path, out: Path) -> None:
    """Width and height change places in the last layer of the head: every box lies on its side."""
    graph = Graph(source)
    last = graph.producer(_output(graph, "size"))
    for slot in (1, 2):
        tensor = int(last.inputs[slot])
        graph.set_data(tensor, np.ascontiguousarray(graph.data(tensor)[::-1]))
    graph.save(out)


def one_scale(source: Path, out: Path) -> None:
    """Heatmap and sizes (in cells) go through one tensor, by CONCATENATION and SLICE: in int8 they share a scale."""
    graph = Graph(source)
    outputs = [_output(graph, name) for name in ("heatmap", "size")]
    shapes = [graph.shape(tensor) for tensor in outputs]
    joined = graph.add_tensor("planted/joined", [*shapes[0][:3], shapes[0][3] + shapes[1][3]])
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    results = []
    for tensor, shape, name in zip(outputs, shapes, ("heatmap", "size"), strict=True):
        graph.subgraph.tensors[tensor].name = f"planted/{name}_before".encode()
        results.append(graph.add_tensor(name, shape))
    slices = []
    for index, (shape, result) in enumerate(zip(shapes, results, strict=True)):
        begin = graph.add_constant(f"planted/begin{index}", np.asarray([0, 0, 0, index * shapes[0][3]], np.int32))
        size = graph.add_constant(f"planted/size{index}", np.asarray(shape, np.int32))
        slices.append(graph.op("SLICE", [joined, begin, size], [result], schema.SliceOptionsT()))
    graph.insert(len(graph.ops), graph.op("CONCATENATION", outputs, [joined], options), *slices)
    renamed = dict(zip(outputs, results, strict=True))
    graph.subgraph.outputs = [renamed.get(int(t), int(t)) for t in graph.subgraph.outputs]
    for item in graph.model.signatureDefs[0].outputs:
        item.tensorIndex = renamed.get(int(item.tensorIndex), int(item.tensorIndex))
    graph.save(out)


def _output(graph: Graph, name: str) -> int:
    return next(int(t) for t in graph.subgraph.outputs if graph.name(t) == name)


def _named(graph: Graph, op: object, pattern: str) -> bool:
    return re.search(pattern, graph.name(op.outputs[0])) is not None  # type: ignore[attr-defined]


def _pad(graph: Graph, tensor: int, axis: int, factor: int) -> None:
    values = graph.data(tensor)
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, values.shape[axis] * (factor - 1))
    graph.set_data(tensor, np.pad(values, widths))

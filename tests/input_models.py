"""Models whose inputs cannot be just any numbers: the kinds that public bug reports describe, made by hand."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from tflite_builder import Graph, Signature, build_model


def token_types_net(words: int = 400, width: int = 8, length: int = 6) -> bytes:
    """Word and type embeddings added, as in BERT: ids index a table of `words` rows, types one of two."""
    random = np.random.default_rng(0)
    graph = Graph()
    rows = []
    for name, count in (("input_ids", words), ("token_type_ids", 2)):
        ids = graph.input(name, (1, length), "int32")
        table = graph.constant(f"{name}_table", random.standard_normal((count, width)).astype(np.float32))
        rows.append(graph.tensor(f"{name}_rows", (1, length, width)))
        graph.op("GATHER", [table, ids], [rows[-1]], schema.GatherOptionsT())
    graph.outputs = [graph.add("sum", *rows)]
    return build_model([graph])


def one_based_net(rows: int = 16, width: int = 4) -> bytes:
    """Ids that begin at 1: one is subtracted, in a cast and reshaped form, before the table is indexed."""
    graph = Graph()
    ids = graph.input("ids", (1, 8), "int64")
    table = graph.constant("table", np.arange(rows * width, dtype=np.float32).reshape(rows, width))
    flat, cast, shifted = (
        graph.tensor(name, (8,), dtype) for name, dtype in (("flat", "int64"), ("cast", "int32"), ("shifted", "int32"))
    )
    shape = graph.constant("shape", np.array([8], np.int32))
    graph.op("RESHAPE", [ids, shape], [flat], schema.ReshapeOptionsT(newShape=[8]))
    graph.op(
        "CAST",
        [flat],
        [cast],
        schema.CastOptionsT(inDataType=schema.TensorType.INT64, outDataType=schema.TensorType.INT32),
    )
    graph.op("SUB", [cast, graph.constant("one", np.array(1, np.int32))], [shifted], schema.SubOptionsT())
    graph.outputs = [graph.tensor("rows", (8, width))]
    graph.op("GATHER", [table, shifted], graph.outputs, schema.GatherOptionsT())
    return build_model([graph])


def wrapped_net(rows: int = 10, width: int = 4) -> bytes:
    """Negative ids count from the end, as PyTorch's exporters write it: where(ids < 0, ids + rows, ids)."""
    graph = Graph()
    ids = graph.input("ids", (3,), "int32")
    zero, count = (graph.constant(name, np.array(value, np.int32)) for name, value in (("zero", 0), ("rows", rows)))
    negative, moved, chosen = (
        graph.tensor(name, (3,), dtype)
        for name, dtype in (("negative", "bool"), ("moved", "int32"), ("chosen", "int32"))
    )
    graph.op("LESS", [ids, zero], [negative], schema.LessOptionsT())
    graph.op("ADD", [ids, count], [moved], schema.AddOptionsT())
    graph.op("SELECT_V2", [negative, moved, ids], [chosen], schema.SelectV2OptionsT())
    table = graph.constant("table", np.ones((rows, width), np.float32))
    graph.outputs = [graph.tensor("out", (3, width))]
    graph.op("GATHER", [table, chosen], graph.outputs, schema.GatherOptionsT())
    return build_model([graph])


def divided_net() -> bytes:
    """96 divided by an input: zero ends the process."""
    graph = Graph()
    length = graph.input("serving_default_length:0", (1,), "int32")
    graph.outputs = [graph.tensor("quotient", (1,), "int32")]
    graph.op(
        "FLOOR_DIV",
        [graph.constant("whole", np.array([96], np.int32)), length],
        graph.outputs,
        schema.FloorDivOptionsT(),
    )
    own = Signature("serving_default", inputs={"length": length}, outputs={"quotient": graph.outputs[0]})
    return build_model([graph], signatures=[own])


def resized_net() -> bytes:
    """An image resized to the size that an input names."""
    graph = Graph()
    size = graph.input("size", (2,), "int32")
    image = graph.input("image", (1, 32, 32, 8))
    graph.outputs = [graph.tensor("resized", (1, 1, 1, 8), signature=(1, -1, -1, 8))]
    graph.op("RESIZE_BILINEAR", [image, size], graph.outputs, schema.ResizeBilinearOptionsT())
    return build_model([graph])


def names_net() -> bytes:
    """Strings picked out of a list of strings."""
    graph = Graph()
    names = graph.input("names", (4,), "string")
    which = graph.input("which", (2,), "int32")
    graph.outputs = [graph.tensor("picked", (2,), "string")]
    graph.op("GATHER", [names, which], graph.outputs, schema.GatherOptionsT())
    return build_model([graph])


def open_sequence_net(width: int = 16) -> bytes:
    """A fully connected layer over a sequence whose length is left open."""
    random = np.random.default_rng(0)
    graph = Graph()
    source = graph.input("serving_default_a:0", (1, 1, width), signature=(1, -1, width))
    weights = graph.constant("weights", (random.standard_normal((8, width)) / 4).astype(np.float32))
    graph.outputs = [graph.tensor("out", (1, 1, 8), signature=(1, -1, 8))]
    graph.op("FULLY_CONNECTED", [source, weights, -1], graph.outputs, schema.FullyConnectedOptionsT(keepNumDims=True))
    own = Signature("serving_default", inputs={"a": source}, outputs={"out": graph.outputs[0]})
    return build_model([graph], signatures=[own])


def two_signatures_net(width: int = 8) -> bytes:
    """ "double" adds an input to itself; "square" calls it, and multiplies what comes out by itself."""
    graphs = [Graph(name) for name in ("double", "square")]
    sources = [graph.input("x", (1, width)) for graph in graphs]
    graphs[0].outputs = [graphs[0].add("doubled", sources[0], sources[0])]
    called = graphs[1].tensor("called", (1, width))
    composite = schema.StableHLOCompositeOptionsT()
    composite.compositeAttributes = np.frombuffer(flexbuffers.Dumps({"times": 2}), np.uint8)
    composite.name, composite.decompositionSubgraphIndex, composite.version = "double", 0, 1
    graphs[1].op("STABLEHLO_COMPOSITE", [sources[1]], [called], composite)
    graphs[1].outputs = [graphs[1].multiply("squared", called, called)]
    signatures = [
        Signature(key, subgraph=n, inputs={"x": sources[n]}, outputs={"y": graphs[n].outputs[0]})
        for n, key in enumerate(("double", "square"))
    ]
    return build_model(graphs, signatures=signatures)


def pixel_net() -> bytes:
    """A convolution, pooled and classified, whose input are pixels of 0..255."""
    random = np.random.default_rng(0)
    graph = Graph()
    image = graph.input("image", (1, 32, 32, 3))
    kernel = graph.constant("kernel", (random.standard_normal((16, 3, 3, 3)) / 5).astype(np.float32))
    pooled = graph.mean_pool("pool", graph.conv_2d("conv", image, kernel))
    weights = graph.constant("weights", (random.standard_normal((10, 16)) / 4).astype(np.float32))
    graph.outputs = [graph.fully_connected("logits", pooled, weights)]
    return build_model([graph])


def detector_net(size: int = 64, classes: int = 80) -> bytes:
    """A detector in YOLOX's form, with random weights: a row of box, objectness and classes for every cell of the grids
    of 8, 16 and 32 pixels."""
    random = np.random.default_rng(0)
    cells = sum((size // stride) ** 2 for stride in (8, 16, 32))
    shape = [1, cells, 5 + classes]
    graph = Graph()
    image = graph.input("image", (1, size, size, 3))
    kernel = graph.constant("kernel", (random.standard_normal((8, 3, 3, 3)) / 5).astype(np.float32))
    pooled = graph.mean_pool("pool", graph.conv_2d("conv", image, kernel, stride=2))
    weights = graph.constant("weights", (random.standard_normal((cells * (5 + classes), 8)) / 4).astype(np.float32))
    flat = graph.fully_connected("flat", pooled, weights)
    graph.outputs = [graph.tensor("detections", shape)]
    extents = graph.constant("extents", np.array(shape, np.int32))
    graph.op("RESHAPE", [flat, extents], graph.outputs, schema.ReshapeOptionsT(newShape=shape))
    return build_model([graph])

"""Reading `.onnx` files that nobody vouches for: the graph, without what it keeps in other files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qprof.errors import MissingExtraError, ModelError
from qprof.probes.machine import available_memory_bytes
from qprof.runtimes.tool_output import first_line
from qprof.store.cache import file_sha256, json_sha256

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

#: Protobuf holds no more in one message; larger models keep their tensors in files beside it.
MOST_BYTES = 2**31 - 1
#: Part of the free memory that a file may have: it is parsed, checked and loaded, each with a copy.
_MOST_OF_MEMORY = 0.25
#: Nodes that are listed at most, those of all subgraphs together.
_MOST_NODES = 100_000
_ADDRESS = "_ORT_MEM_ADDR_"
#: Graphs inside graphs, at most.
_DEEPEST = 32


def require() -> None:
    """Raise `MissingExtraError` where ONNX Runtime or the package that reads its files is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"{error.name or 'onnxruntime'} is not installed, which .onnx files need: pip install 'qprof[onnx]'"
        ) from error


def read(path: Path) -> ModelProto:
    """The model of a file; tensors that it keeps in other files are checked (`external_files`) and not read.

    Raises `ModelError` for what is no model, or none that is safe to hand on.
    """
    require()
    import onnx
    from google.protobuf.message import DecodeError

    _refuse_size(path)
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except (DecodeError, RecursionError, ValueError, OSError) as error:
        raise ModelError(f"{path}: is no ONNX model ({first_line(error)}); export it anew") from error
    if not model.ir_version or not model.graph.node:
        raise ModelError(f"{path}: is no ONNX model, or one without any op; export it anew")
    _refuse_nodes(path, model)
    _refuse_undecoded(path, model)
    external_files(path, model)
    return model


def _refuse_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the path of the model") from error
    if not path.is_file():
        raise ModelError(f"{path}: is no file; give the .onnx file itself")
    free = available_memory_bytes()
    if size > MOST_BYTES:
        raise ModelError(f"{path}: has {size} bytes, and protobuf reads up to 2 GiB; save its tensors as external data")
    if free is not None and size > _MOST_OF_MEMORY * free:
        raise ModelError(
            f"{path}: has {size / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are free, too little to read and load "
            "it; free some, or save its tensors as external data"
        )


def _refuse_nodes(path: Path, model: ModelProto) -> None:
    for count, node in enumerate(nodes_of(model.graph, str(path)), 1):
        if count > _MOST_NODES:
            raise ModelError(f"{path}: has more than {_MOST_NODES} nodes, which no table of ops holds")
        if node.op_type == "EPContext":
            raise ModelError(
                f"{path}: holds compiled code of an execution provider (node {node.name!r}, EPContext), which is not "
                "run; give the model that it was compiled from"
            )


def _refuse_undecoded(path: Path, model: ModelProto) -> None:
    """Names that are not UTF-8 are bytes, and no text, to whoever reads them."""
    for graph in graphs_of(model.graph, str(path)):
        named = [*graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node]
        texts = [one.name for one in named]
        for node in graph.node:
            texts += [node.op_type, node.domain, *node.input, *node.output, *(one.name for one in node.attribute)]
        if not all(isinstance(text, str) for text in texts):
            raise ModelError(f"{path}: holds a name that is not UTF-8, which no ONNX model may; export it anew")


def graphs_of(graph: GraphProto, what: str = "the model", depth: int = 0) -> Iterator[GraphProto]:
    """A graph and those inside its nodes, the outer ones first. Raises `ModelError` where they nest without end."""
    if depth > _DEEPEST:
        raise ModelError(f"{what}: its graphs lie more than {_DEEPEST} deep in one another")
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs_of(inner, what, depth + 1)


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The graphs that a node runs: of If, Loop and Scan."""
    found = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return found + [graph for attribute in node.attribute for graph in attribute.graphs]


def nodes_of(graph: GraphProto, what: str = "the model") -> Iterator[NodeProto]:
    """All nodes, those of inner graphs too."""
    for one in graphs_of(graph, what):
        yield from one.node


def tensors_of(model: ModelProto) -> Iterator[tuple[TensorProto, str]]:
    """Every constant with its name: initializers, and what nodes hold as attributes."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_attributes(node, node.output[0] if node.output else node.name)
            for inner in subgraphs(node):
                yield from _of_graph(inner)


def _of_graph(graph: GraphProto) -> Iterator[tuple[TensorProto, str]]:
    for one in graphs_of(graph):
        yield from ((tensor, tensor.name) for tensor in one.initializer)
        for sparse in one.sparse_initializer:
            yield sparse.values, sparse.values.name
            yield sparse.indices, f"{sparse.values.name} (indices)"
        for node in one.node:
            yield from _of_attributes(node, node.output[0] if node.output else node.name)


def _of_attributes(node: NodeProto, name: str) -> Iterator[tuple[TensorProto, str]]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t, name
        yield from ((tensor, name) for tensor in attribute.tensors)


def external_files(path: Path, model: ModelProto) -> list[Path]:
    """The files beside it that hold tensors of a model, each once.

    Raises `ModelError` for one that lies outside the model's folder (a link that leads there included), is missing or
    too short.
    """
    from onnx import TensorProto

    folder = path.resolve().parent
    found: dict[Path, None] = {}
    for tensor, name in tensors_of(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        given = {entry.key: entry.value for entry in tensor.external_data}
        location = given.get("location", "")
        file = Path(os.path.realpath(folder / location))
        # ONNX Runtime takes such a location for an address in its memory.
        inside = bool(location) and not os.path.isabs(location) and _ADDRESS not in location
        if not inside or not file.is_relative_to(folder) or file == path.resolve():
            raise ModelError(
                f"{path}: tensor {name!r} is to be read from {location!r}, which is no file of its own in the model's "
                "folder; save the model with its data beside it"
            )
        try:
            offset, length = int(given.get("offset", "0")), int(given.get("length", "0"))
            size = file.stat().st_size
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: tensor {name!r} is in {location!r}, which cannot be read ({error})") from error
        if offset < 0 or length < 0 or offset + length > size:
            raise ModelError(
                f"{path}: tensor {name!r} is said to lie at {offset} to {offset + length} of {location!r}, which has "
                f"{size} bytes; copy the whole file"
            )
        found[file] = None
    return list(found)


def digest(path: Path, model: ModelProto) -> str:
    """SHA-256 of a model: of its file where that is all, or else over it and the files of its tensors."""
    files = external_files(path, model)
    if not files:
        return file_sha256(path)
    folder = path.resolve().parent
    beside = {str(file.relative_to(folder)): file_sha256(file) for file in files}
    return json_sha256({"model": file_sha256(path), "beside": beside})


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node that are numbers, text or lists of them."""
    import onnx

    kinds = onnx.AttributeProto
    plain = (kinds.FLOAT, kinds.INT, kinds.STRING, kinds.FLOATS, kinds.INTS, kinds.STRINGS)
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute if one.type in plain}

"""In what formats a .tflite stores its constants: what was made smaller, and what is float32 still."""

from __future__ import annotations

from typing import Any

from qprof.runtimes.litert.float_model import WEIGHTED_OPS
from qprof.runtimes.litert.model_facts import ModelFacts, OpFacts, SubgraphFacts, TensorFacts, is_reduced

#: Float32 constants that are told by name, the largest; the sum is of all.
_NAMED = 20


def stored_formats(model: ModelFacts) -> dict[str, Any]:
    """As JSON can hold it: `reduced_bytes`, of constants in less than float32; `float_bytes`, of those in float32, and
    the largest of these as `float`: name, bytes, shape, the op that reads it, and whether the quantizer that qprof uses
    has another form of such an op's weights."""
    reduced: dict[tuple[str, int | None], int] = {}
    floats: dict[tuple[str, int | None], dict[str, Any]] = {}
    for graph in model.subgraphs:
        readers = _readers(graph)
        for tensor in graph.tensors:
            if not tensor.constant or not tensor.bytes:
                continue
            # Subgraphs that share a constant name it alike.
            key = tensor.name, tensor.bytes
            if is_reduced(tensor) or tensor.sparse:
                reduced[key] = tensor.bytes
            elif tensor.dtype == "float32":
                floats[key] = _told(tensor, readers.get(tensor.index))
    largest = sorted(floats.values(), key=lambda one: -int(one["bytes"]))
    return {
        "reduced_bytes": sum(reduced.values()),
        "float_bytes": sum(int(one["bytes"]) for one in largest),
        "float": largest[:_NAMED],
    }


def _told(tensor: TensorFacts, reader: OpFacts | None) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "bytes": tensor.bytes,
        "shape": list(tensor.shape),
        "op": reader.type if reader is not None else None,
        "has_form": reader is not None and reader.type in WEIGHTED_OPS,
    }


def _readers(graph: SubgraphFacts) -> dict[int, OpFacts]:
    """constant -> the first op that reads it."""
    found: dict[int, OpFacts] = {}
    for op in graph.ops:
        for index in op.inputs:
            if index >= 0:
                found.setdefault(index, op)
    return found

"""Which ops of a .tflite hand tensors to one another: an op is in float throughout only if its neighbours are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from qprof.runtimes.litert.flatbuffer import read_again
from qprof.runtimes.litert.model_facts import OpFacts

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
#: Ops whose inputs and outputs have one scale, by TensorFlow Lite's 8-bit quantization specification ("inputs and
#: outputs must all have same scale/zero_point") or since they only move numbers: they hand on what they are given,
#: rounded as it is.
_ONE_SCALE = frozenset(
    [
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "EXPAND_DIMS",
        "GATHER",
        "MAX_POOL_2D",
        "PACK",
        "PAD",
        "PADV2",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SLICE",
        "SPACE_TO_DEPTH",
        "DEPTH_TO_SPACE",
        "SPLIT",
        "SPLIT_V",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TRANSPOSE",
        "UNPACK",
    ]
)


def neighbours(path: Path) -> dict[str, list[str]]:
    """Op of the main subgraph -> the ops that write what it reads and those that read what it writes, by index; see
    `neighbours_by_side`.

    Behind an op that only hands numbers on, with one scale for all it reads and writes, lie others that share its
    rounding; these belong to it.
    """
    sides = neighbours_by_side(path)
    one_scale = {str(op.index) for op in read_again(path).subgraphs[0].ops if op.type in _ONE_SCALE}
    return {op: [*_through(op, 0, sides, one_scale), *_through(op, 1, sides, one_scale)] for op in sides}


def _through(start: str, side: int, sides: Mapping[str, Sequence[Sequence[str]]], one_scale: Set[str]) -> list[str]:
    found: dict[str, None] = {}
    waiting = [start]
    while waiting:
        for other in sides[waiting.pop()][side]:
            if other not in found and other != start:
                found[other] = None
                if other in one_scale:
                    waiting.append(other)
    return list(found)


def neighbours_by_side(path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Op of the main subgraph -> the ops that write what it reads, and those that read what it writes, by index.

    QUANTIZE and DEQUANTIZE are looked through: such an op has those neighbours that the tensor it converts has, and is
    nobody's. Raises `ModelError` where the file cannot be read.
    """
    graph = read_again(path).subgraphs[0]
    converted: dict[int, int] = {}
    for op in graph.ops:
        if op.type in _CONVERSIONS:
            converted[op.outputs[0]] = converted.get(op.inputs[0], op.inputs[0])
    writers: dict[int, OpFacts] = {}
    readers: dict[int, list[OpFacts]] = {}
    for op in graph.ops:
        if op.type not in _CONVERSIONS:
            writers |= dict.fromkeys(op.outputs, op)
            for tensor in op.inputs:
                readers.setdefault(converted.get(tensor, tensor), []).append(op)
    found = {}
    for op in graph.ops:
        inputs, outputs = ([converted.get(tensor, tensor) for tensor in side] for side in (op.inputs, op.outputs))
        before = [writers[tensor] for tensor in inputs if tensor in writers]
        after = [reader for tensor in outputs for reader in readers.get(tensor, ())]
        found[str(op.index)] = (_others(op, before), _others(op, after))
    return found


def _others(op: OpFacts, beside: Sequence[OpFacts]) -> list[str]:
    return list(dict.fromkeys(str(other.index) for other in beside if other is not op))

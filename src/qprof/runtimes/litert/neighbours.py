"""Which ops of a .tflite hand tensors to one another: an op is in float throughout only if its neighbours are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.model_facts import OpFacts

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


def neighbours(path: Path) -> dict[str, list[str]]:
    """Op of the main subgraph -> the ops that write what it reads and those that read what it writes, by index; see
    `neighbours_by_side`."""
    return {op: list(dict.fromkeys([*before, *after])) for op, (before, after) in neighbours_by_side(path).items()}


def neighbours_by_side(path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Op of the main subgraph -> the ops that write what it reads, and those that read what it writes, by index.

    QUANTIZE and DEQUANTIZE are looked through: such an op has those neighbours that the tensor it converts has, and is
    nobody's. Raises `ModelError` where the file cannot be read.
    """
    graph = read_model(path).subgraphs[0]
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

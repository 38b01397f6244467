"""Weights and biases of a .tflite as the real numbers that they stand for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.record.quantization import FLOAT_DTYPES
from qprof.runtimes.litert.float_model import WEIGHTED_OPS
from qprof.runtimes.litert.model_facts import OpFacts, SubgraphFacts

#: Op types with a bias -> its place among the inputs.
_BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}

_WEIGHT_TYPES = ("float32", "float16", "int8", "uint8", "int16", "int4", "int2")
_PACKED_BITS = {"int4": 4, "int2": 2}


def weights_of(op: OpFacts, graph: SubgraphFacts) -> int | None:
    """The largest constant of an op whose constants are weights, as it is stored."""
    stored = [graph.constant_behind.get(index, index) for index in op.inputs if index >= 0]
    known = [i for i in stored if graph.tensors[i].constant and graph.tensors[i].dtype in _WEIGHT_TYPES]
    if op.type not in WEIGHTED_OPS or not known:
        return None
    return max(known, key=lambda index: math.prod(graph.tensors[index].shape))


def bias_of(op: OpFacts, graph: SubgraphFacts) -> int | None:
    place = _BIAS.get(op.type)
    if place is None or len(op.inputs) <= place or op.inputs[place] < 0:
        return None
    index = graph.constant_behind.get(op.inputs[place], op.inputs[place])
    return index if graph.tensors[index].constant else None


def constant(file: Any, graph: SubgraphFacts, index: int) -> NDArray[np.float64] | None:
    """What a constant stands for, in its shape; `None` where it is stored in a form that is not known."""
    facts, tensor = graph.tensors[index], file.subgraphs[0].tensors[index]
    if facts.sparse:
        return None
    codes = _codes(np.frombuffer(file.buffers[tensor.buffer].data, np.uint8), facts.dtype, facts.shape)
    if facts.quantization.kind == "none" or facts.dtype in FLOAT_DTYPES:
        return codes.astype(np.float64)
    scales, zero_points = _scales(file, tensor, facts.shape)
    return None if scales is None else (codes.astype(np.float64) - zero_points) * scales


def _codes(raw: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    bits = _PACKED_BITS.get(dtype)
    if bits is None:
        return raw.view(dtype).reshape(shape)
    codes = ((raw[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)) & (2**bits - 1)).reshape(-1)  # lowest bits first
    signed = codes[: math.prod(shape)].astype(np.int8)
    return np.where(signed >= 2 ** (bits - 1), signed - 2**bits, signed).reshape(shape)


def _scales(file: Any, tensor: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Scales and zero points in a form that spreads over the weights; (None, None) for a form that is not known."""
    quantization = tensor.quantization
    block_size = getattr(quantization.details, "blockSize", 0)
    if block_size:
        scales = file.subgraphs[0].tensors[quantization.details.scales]
        raw = np.frombuffer(file.buffers[scales.buffer].data, np.float16).astype(np.float64)
        return np.repeat(raw.reshape(*shape[:-1], -1), block_size, axis=-1), 0
    if quantization.details is not None:
        return None, None
    spread = [1] * len(shape)
    if len(quantization.scale) > 1:
        spread[quantization.quantizedDimension] = -1
    zero_points = quantization.zeroPoint if quantization.zeroPoint is not None else [0]
    return np.reshape(quantization.scale, spread).astype(np.float64), np.reshape(zero_points, spread)

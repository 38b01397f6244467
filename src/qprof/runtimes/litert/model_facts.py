"""What a .tflite says of its tensors and ops, and what follows from that: costs, quantization in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Literal

from qprof.runtimes.litert.macs import RULED_TYPES, count_macs

_BITS = {
    "float64": 64,
    "float32": 32,
    "float16": 16,
    "bfloat16": 16,
    "float8_e4m3fn": 8,
    "float8_e5m2": 8,
    "complex128": 128,
    "complex64": 64,
    "int64": 64,
    "int32": 32,
    "int16": 16,
    "int8": 8,
    "int4": 4,
    "int2": 2,
    "uint64": 64,
    "uint32": 32,
    "uint16": 16,
    "uint8": 8,
    "uint4": 4,
    "bool": 8,
}
_FLOATS = frozenset({"float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"})
_WEIGHT_TYPES = _FLOATS | {"int16", "int8", "int4", "int2", "uint8", "uint4"}  # int32 holds biases, shapes and axes

# Ops that pass a constant on in another form, once, before the first inference.
_FOLDED_TYPES = frozenset({"DEQUANTIZE", "DENSIFY"})
_VARIABLE_TYPES = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})
_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})

# Ops whose constants are learnt weights; a constant of another op (an addend, anchor boxes) is an operand like any.
_WEIGHTED_TYPES = RULED_TYPES | {"EMBEDDING_LOOKUP", "GATHER", "BIDIRECTIONAL_SEQUENCE_LSTM"}


@dataclass(frozen=True, slots=True)
class QuantizationFacts:
    """How a tensor's stored integers map to reals: real = scale * (stored - zero_point).

    `first_scale` and `first_zero_point` are those of the first channel, `None` where the file has none in the tensor's
    own record (blockwise scales lie in a tensor of their own). `axis` is the quantized dimension of per-channel.
    """

    kind: Literal["none", "per-tensor", "per-channel", "blockwise", "multi-axis", "custom"] = "none"
    scale_count: int = 0
    first_scale: float | None = None
    first_zero_point: int | None = None
    axis: int | None = None
    block_size: int | None = None


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor. `bytes` is what a constant takes in the file (packed, compressed) and what an activation takes at
    run time; `None` where its shape is open or its type has no fixed size. -1 in `shape_signature` is an open
    dimension; `shape_signature` is `shape` where the file declares none."""

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str  # the schema's name in lower case: "float32", "int8", "int4", ...
    quantization: QuantizationFacts
    constant: bool
    bytes: int | None
    sparse: bool = False
    variable: bool = False  # keeps what an inference wrote for the next

    @property
    def label(self) -> str:
        """Type and shape, as "float32[1,112,112,32]"."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class OpFacts:
    """One op. `index` is its position in the file, which is the interpreter's node index; -1 in `inputs` is an
    optional input that is left out. `name` is the name of its first output tensor, which variants of one model share.
    `macs` is `None` for custom and unknown ops, for ops that run other subgraphs, and where a shape is open."""

    index: int
    type: str  # "CONV_2D", ..., or "CUSTOM:Name"
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: tuple[int, ...]
    name: str
    macs: int | None
    weight_bytes: int
    activation_bytes: int | None
    adjoint: tuple[bool, bool] = (False, False)  # BATCH_MATMUL: adj_x, adj_y


@dataclass(frozen=True, slots=True)
class SubgraphFacts:
    """One subgraph. `constant_behind` maps a tensor made by DEQUANTIZE or DENSIFY to the constant it was made from."""

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tensors: tuple[TensorFacts, ...]
    ops: tuple[OpFacts, ...]
    constant_behind: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """One signature: argument name -> tensor index of its subgraph."""

    key: str
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One .tflite file; `bytes` is its size."""

    path: Path
    bytes: int
    description: str
    subgraphs: tuple[SubgraphFacts, ...]
    signatures: tuple[SignatureFacts, ...]
    metadata: tuple[str, ...]


def with_shapes(subgraph: SubgraphFacts, shapes: Mapping[int, tuple[int, ...]]) -> SubgraphFacts:
    """The subgraph as the runtime allocated it: `shapes` (tensor index -> shape) replace those of the file, and bytes
    and MACs follow. Indices that the file does not know (the runtime's own scratch tensors) are passed over."""
    tensors = list(subgraph.tensors)
    for index, shape in shapes.items():
        if 0 <= index < len(tensors) and not tensors[index].constant:
            shape = tuple(int(extent) for extent in shape)
            tensors[index] = replace(tensors[index], shape=shape, bytes=dense_bytes(shape, tensors[index].dtype))
    ops = tuple(costed(op, tensors, subgraph.constant_behind) for op in subgraph.ops)
    return replace(subgraph, tensors=tuple(tensors), ops=ops)


def describe_quantization(op: OpFacts, subgraph: SubgraphFacts) -> str | None:
    """One line on the number formats an op works in, as "int8 weights per-channel, int8 activations".

    `None` for an op that is float32 throughout or that handles no quantized numbers (shapes, indices). An op that
    converts reads "float32 to int8".
    """
    tensors = subgraph.tensors
    if op.type in _CONVERSIONS and op.inputs and op.outputs and op.inputs[0] >= 0:
        source, target = tensors[op.inputs[0]], tensors[op.outputs[0]]
        return f"{source.dtype} to {target.dtype}" if is_reduced(source) or is_reduced(target) else None
    weights = _weights(op, subgraph)
    handled = (tensors[index] for index in _activations(op, tensors, subgraph.constant_behind))
    activation = next((tensor for tensor in handled if tensor.dtype in _FLOATS or is_reduced(tensor)), None)
    parts = []
    if weights is not None and (is_reduced(weights) or weights.sparse):
        parts.append(_describe_weights(weights, converted=weights.index not in op.inputs))
    if activation is not None and (is_reduced(activation) or (weights is not None and _is_quantized(weights))):
        parts.append(f"{activation.dtype} activations")
    return ", ".join(parts) or None


def _describe_weights(weights: TensorFacts, converted: bool) -> str:
    words = [weights.dtype, "weights"]
    if _is_quantized(weights):
        words.append(weights.quantization.kind)
        words += ["dequantized before use"] if converted else []
    return " ".join([*words, "sparse"] if weights.sparse else words)


def _is_quantized(tensor: TensorFacts) -> bool:
    return tensor.quantization.kind != "none" and tensor.dtype not in _FLOATS


def is_reduced(tensor: TensorFacts) -> bool:
    """Whether a tensor's numbers are stored in less than float32."""
    return _is_quantized(tensor) or (tensor.dtype in _FLOATS and _BITS[tensor.dtype] < 32)


def _weights(op: OpFacts, subgraph: SubgraphFacts) -> TensorFacts | None:
    """The largest constant of an op that has weights, as it is stored."""
    if op.type not in _WEIGHTED_TYPES:
        return None
    stored = (subgraph.tensors[subgraph.constant_behind.get(index, index)] for index in op.inputs if index >= 0)
    candidates = [tensor for tensor in stored if tensor.constant and tensor.dtype in _WEIGHT_TYPES]
    return max(candidates, key=lambda tensor: prod(tensor.shape), default=None)


def _activations(op: OpFacts, tensors: Sequence[TensorFacts], constant_behind: Mapping[int, int]) -> list[int]:
    """Indices of the distinct tensors an op reads and writes that hold no constant, inputs first."""
    return [
        index
        for index in dict.fromkeys((*op.inputs, *op.outputs))
        if index >= 0 and not tensors[index].constant and index not in constant_behind
    ]


def dense_bytes(shape: tuple[int, ...], dtype: str) -> int | None:
    bits = _BITS.get(dtype)
    if bits is None or any(extent < 0 for extent in shape):
        return None
    return (prod(shape) * bits + 7) // 8


def costed(op: OpFacts, tensors: Sequence[TensorFacts], constant_behind: Mapping[int, int]) -> OpFacts:
    """The op with its MACs and bytes counted from `tensors`."""
    inputs = [tensors[index].shape if index >= 0 else None for index in op.inputs]
    outputs = [tensors[index].shape if index >= 0 else None for index in op.outputs]
    folded = any(index in constant_behind for index in op.outputs)
    read = {constant_behind.get(index, index) for index in op.inputs if index >= 0} if not folded else set()
    activations = [tensors[index].bytes for index in _activations(op, tensors, constant_behind)]
    if op.type in _VARIABLE_TYPES:
        activations = _moved_by_variable(op, tensors)
    return replace(
        op,
        macs=count_macs(op.type, inputs, outputs, op.adjoint),
        weight_bytes=sum(tensors[index].bytes or 0 for index in read if tensors[index].constant),
        activation_bytes=None if None in activations else sum(size for size in activations if size is not None),
    )


def _moved_by_variable(op: OpFacts, tensors: Sequence[TensorFacts]) -> list[int | None]:
    """Bytes that an op on a resource variable moves: what it reads is as large as what it writes, and one of the two is
    the variable, which is in no tensor of the graph. To name one moves nothing."""
    if op.type == "VAR_HANDLE":
        return [0]
    value = next(iter(op.outputs if op.type == "READ_VARIABLE" else op.inputs[1:]), -1)
    if value < 0:
        return [None]
    size = tensors[value].bytes
    # A constant that is assigned counts among the weights.
    return [size] if tensors[value].constant else [size, size]


def find_constants_behind(ops: Sequence[OpFacts], tensors: Sequence[TensorFacts]) -> dict[int, int]:
    behind: dict[int, int] = {}
    for op in ops:  # in execution order, so DENSIFY -> DEQUANTIZE is followed to its start
        if op.type in _FOLDED_TYPES and op.inputs and op.outputs:
            source = behind.get(op.inputs[0], op.inputs[0])
            if source >= 0 and tensors[source].constant and op.outputs[0] >= 0:
                behind[op.outputs[0]] = source
    return behind

"""What a model's file says of its inputs and outputs, and of what their numbers stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qprof.record.tensors import TensorSpec
from qprof.runtimes.onnx import model_file
from qprof.runtimes.onnx.names import SourceGraph

if TYPE_CHECKING:
    from onnx import ModelProto

#: Ops that hand numbers on as they are, as layouts and shapes change.
_HAND_ON = frozenset({"Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten"})
#: What tasks ask for by the names of LiteRT's ops: whether an output holds probabilities.
_LAST_OPS = {
    "Softmax": "SOFTMAX",
    "QLinearSoftmax": "SOFTMAX",
    "LogSoftmax": "LOG_SOFTMAX",
    "Sigmoid": "LOGISTIC",
    "QLinearSigmoid": "LOGISTIC",
    "DequantizeLinear": "DEQUANTIZE",
    "QuantizeLinear": "QUANTIZE",
    "Reshape": "RESHAPE",
    "Squeeze": "SQUEEZE",
    "Flatten": "RESHAPE",
    "Cast": "CAST",
    "Transpose": "RESHAPE",
    "Identity": "RESHAPE",
}
_INTEGERS = ("int8", "uint8", "int16", "uint16")
#: Ops that are told of, from the end.
_TOLD = 8
_FARTHEST = 6


def inputs_of(path: Path) -> list[TensorSpec]:
    """The inputs of a model by its file alone; open axes are 1 where they come first, else -1. Raises `ModelError`."""
    model = model_file.read(path)
    scales = run_facts(model)["quantization"]
    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for given in model.graph.input:
        if given.name in constants:
            continue
        signature = _shape(given)
        shape = tuple(1 if size < 0 and not axis else size for axis, size in enumerate(signature))
        scale, zero_point = scales.get(given.name, (None, None))
        found.append(TensorSpec(given.name, shape, _dtype(given), scale, zero_point, signature))
    return found


def run_facts(model: ModelProto) -> dict[str, Any]:
    """`OnnxOptions.quantization` and `last_ops`, which a session does not tell."""
    source = SourceGraph(model)
    readers: dict[str, list[int]] = {}
    for position, node in enumerate(source.nodes):
        for tensor in node.input:
            readers.setdefault(tensor, []).append(position)
    scales = {}
    for given in model.graph.input:
        if _dtype(given) in _INTEGERS and (found := _read_as(given.name, source, readers)):
            scales[given.name] = found
    for given in model.graph.output:
        if _dtype(given) in _INTEGERS and (found := _written_as(given.name, source)):
            scales[given.name] = found
    last = [_LAST_OPS.get(node.op_type, node.op_type) for node in model.graph.node[-_TOLD:]]
    return {"quantization": scales, "last_ops": last}


def _read_as(tensor: str, source: SourceGraph, readers: dict[str, list[int]]) -> tuple[float, int] | None:
    """Scale and zero point with which an input is made real."""
    for _ in range(_FARTHEST):
        positions = readers.get(tensor, [])
        for position in positions:
            node = source.nodes[position]
            if node.op_type in ("DequantizeLinear", "QLinearConv", "QLinearMatMul") and node.input[0] == tensor:
                return _scalar(node, 1, source)
        onward = [source.nodes[p] for p in positions if source.nodes[p].op_type in _HAND_ON]
        if not onward:
            return None
        tensor = onward[0].output[0]
    return None


def _written_as(tensor: str, source: SourceGraph) -> tuple[float, int] | None:
    """Scale and zero point with which an output was made."""
    slots = {"QuantizeLinear": 1, "QLinearConv": 6, "QLinearMatMul": 6}
    for _ in range(_FARTHEST):
        position = source.producer.get(tensor)
        if position is None:
            return None
        node = source.nodes[position]
        if node.op_type in slots:
            return _scalar(node, slots[node.op_type], source)
        if node.op_type not in _HAND_ON:
            return None
        tensor = node.input[0]
    return None


def _scalar(node: Any, slot: int, source: SourceGraph) -> tuple[float, int] | None:
    """The scale in an input of a node, with the zero point behind it; `None` where it is not one constant number."""
    from onnx import numpy_helper

    names = list(node.input[slot : slot + 2])
    constants = [source.constants.get(name) for name in names]
    if not constants or constants[0] is None or constants[0].data_location:
        return None
    scale = numpy_helper.to_array(constants[0])
    zero = numpy_helper.to_array(constants[1]) if len(constants) > 1 and constants[1] is not None else None
    if scale.size != 1 or (zero is not None and zero.size != 1):
        return None
    return float(scale.item()), int(zero.item()) if zero is not None else 0


def _shape(given: Any) -> tuple[int, ...]:
    return tuple(int(axis.dim_value) if axis.HasField("dim_value") else -1 for axis in given.type.tensor_type.shape.dim)


def _dtype(given: Any) -> str:
    import onnx

    kind = given.type.tensor_type.elem_type
    if kind == onnx.TensorProto.STRING:
        return "bytes"
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(kind).name)
    except (KeyError, ValueError):
        return "unknown"

"""A small editor of .tflite files, for planting things in them: the object form of the schema, and nothing of qprof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_CODES = {name: code for code, name in _NAMES.items()}
_DTYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}
_TYPES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}


class Graph:
    """The only subgraph of a model file. Tensors and ops go by their index."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        self.model: Any = schema.ModelT.InitFromPackedBuf(raw, 0)
        for buffer in self.model.buffers:
            if buffer.offset > 1:  # the data stand behind the flatbuffer, as some writers put them
                buffer.data = np.frombuffer(raw, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        self.subgraph: Any = self.model.subgraphs[0]

    def save(self, path: Path) -> Path:
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path

    @property
    def ops(self) -> list[Any]:
        ops: list[Any] = self.subgraph.operators
        return ops

    def type_of(self, op: Any) -> str:
        code = self.model.operatorCodes[op.opcodeIndex]
        return _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def of_type(self, *types: str) -> list[Any]:
        return [op for op in self.ops if self.type_of(op) in types]

    def name(self, tensor: int) -> str:
        return bytes(self.subgraph.tensors[tensor].name).decode()

    def find(self, part: str) -> Any:
        """The op whose output's name holds `part`; raise `LookupError` unless it is exactly one."""
        found = [op for op in self.ops if part in self.name(op.outputs[0])]
        if len(found) != 1:
            raise LookupError(f"{len(found)} ops have {part!r} in the name of their output, not one")
        return found[0]

    def shape(self, tensor: int) -> list[int]:
        return [int(n) for n in self.subgraph.tensors[tensor].shape]

    def set_shape(self, tensor: int, shape: Sequence[int]) -> None:
        made = self.subgraph.tensors[tensor]
        made.shape = np.asarray(shape, np.int32)
        made.shapeSignature = None

    def data(self, tensor: int) -> np.ndarray:
        made = self.subgraph.tensors[tensor]
        raw = np.asarray(self.model.buffers[made.buffer].data, np.uint8)
        return raw.view(_DTYPES[made.type]).reshape(self.shape(tensor))

    def set_data(self, tensor: int, values: np.ndarray) -> None:
        """Give a constant new values (a buffer of its own), with their shape and dtype."""
        made = self.subgraph.tensors[tensor]
        made.type = _TYPES[values.dtype]
        made.shape = np.asarray(values.shape, np.int32)
        made.buffer = self._buffer(values)

    def scale(self, tensor: int) -> tuple[np.ndarray, np.ndarray]:
        """Scales and zero points of a quantized tensor."""
        found = self.subgraph.tensors[tensor].quantization
        return np.asarray(found.scale, np.float32), np.asarray(found.zeroPoint, np.int64)

    def set_scale(self, tensor: int, scale: Sequence[float], zero_point: Sequence[int], axis: int = 0) -> None:
        made = schema.QuantizationParametersT()
        made.scale = np.asarray(scale, np.float32)
        made.zeroPoint = np.asarray(zero_point, np.int64)
        made.quantizedDimension = axis
        self.subgraph.tensors[tensor].quantization = made

    def add_tensor(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> int:
        made = schema.TensorT()
        made.name = name.encode()
        made.shape = np.asarray(shape, np.int32)
        made.type = _TYPES[np.dtype(dtype)]
        made.buffer = 0
        self.subgraph.tensors.append(made)
        return len(self.subgraph.tensors) - 1

    def add_constant(self, name: str, values: Any) -> int:
        values = np.asarray(values)
        tensor = self.add_tensor(name, values.shape, values.dtype)
        self.subgraph.tensors[tensor].buffer = self._buffer(values)
        return tensor

    def op(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None, version: int = 1
    ) -> Any:
        """An op that is in the graph only once it is given to `insert`."""
        made = schema.OperatorT()
        made.opcodeIndex = self._code(kind, version)
        made.inputs, made.outputs = list(inputs), list(outputs)
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        return made

    def position(self, op: Any) -> int:
        return next(index for index, other in enumerate(self.ops) if other is op)

    def insert(self, position: int, *ops: Any) -> None:
        self.ops[position:position] = list(ops)

    def producer(self, tensor: int) -> Any:
        return next(op for op in self.ops if tensor in list(op.outputs))

    def read_instead(self, old: int, new: int, spare: Sequence[Any] = ()) -> None:
        """Let every reader of `old` but `spare` read `new`; outputs of the model stay what they are."""
        for op in self.ops:
            if not any(op is one for one in spare):
                op.inputs = [new if tensor == old else int(tensor) for tensor in op.inputs]

    def behind(self, tensor: int, ops: Sequence[Any], result: int) -> None:
        """Put `ops`, which make `result` of `tensor`, behind it: its readers read `result`."""
        self.read_instead(tensor, result)
        self.insert(self.position(self.producer(tensor)) + 1, *ops)

    def remove(self, *ops: Any) -> None:
        self.subgraph.operators = [op for op in self.ops if not any(op is one for one in ops)]

    def _buffer(self, values: np.ndarray) -> int:
        made = schema.BufferT()
        made.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(made)
        return len(self.model.buffers) - 1

    def _code(self, kind: str, version: int) -> int:
        wanted = _CODES[kind]
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == wanted and code.version == version:
                return index
        made = schema.OperatorCodeT()
        made.builtinCode, made.deprecatedBuiltinCode, made.version = wanted, min(wanted, 127), version
        self.model.operatorCodes.append(made)
        return len(self.model.operatorCodes) - 1

"""Static facts of a .tflite file: tensors, ops, quantization, MACs and bytes, without loading it into a runtime.

The file is mapped, not read: weights are never touched, so a model of gigabytes costs no more than its op list. Every
length found in the file is checked against the file's size before it is followed; whatever is wrong with a file
becomes one `ModelError`.

How bytes are counted:
- `OpFacts.weight_bytes` are the stored bytes of all constants an op reads (weights, bias, shape operands). A constant
  that two ops share counts in both.
- Where a constant reaches an op through DEQUANTIZE or DENSIFY (float16, weight-only and sparse models), the op counts
  the constant as stored. The DEQUANTIZE itself then counts 0 weight and 0 activation bytes: it runs once when the
  model is loaded or prepared, or never, so that a sum over ops counts each such constant once per reader.
- `OpFacts.activation_bytes` are the bytes of the distinct inputs and outputs that are not constant.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Literal

from qprof.errors import ModelError
from qprof.runtimes.litert.model_facts import (
    ModelFacts,
    OpFacts,
    QuantizationFacts,
    SignatureFacts,
    SubgraphFacts,
    TensorFacts,
    costed,
    dense_bytes,
    find_constants_behind,
    with_shapes,
)

FILE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of the file; `file_identifier` of tensorflow/lite/schema/schema.fbs

# Op type -> (options class of the schema, fields that hold a subgraph's index).
_CHILD_SUBGRAPHS: dict[str, tuple[str, tuple[str, ...]]] = {
    "WHILE": ("WhileOptions", ("CondSubgraphIndex", "BodySubgraphIndex")),
    "IF": ("IfOptions", ("ThenSubgraphIndex", "ElseSubgraphIndex")),
    "CALL": ("CallOptions", ("Subgraph",)),
    "CALL_ONCE": ("CallOnceOptions", ("InitSubgraphIndex",)),
    "STABLEHLO_WHILE": ("StablehloWhileOptions", ("CondSubgraphIndex", "BodySubgraphIndex")),
    "STABLEHLO_COMPOSITE": ("StableHLOCompositeOptions", ("DecompositionSubgraphIndex",)),
}

# The least bytes that a table and its entry in a vector take in a file: two offsets, and two fields.
_TABLE_BYTES = 16


def validate_header(path: Path) -> None:
    """Raise `ModelError` where `path` is missing, unreadable, empty, or does not begin as a .tflite file does."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; check the path of the model") from error
    except IsADirectoryError as error:
        raise ModelError(f"{path} is a directory; name the .tflite file in it") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise ModelError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not head:
        raise ModelError(f"{path} is empty; get or make the model again")
    if head[4:8] != FILE_IDENTIFIER:
        raise ModelError(f"{path} is not a TFLite model: bytes 4 to 8 are {head[4:8]!r}, not {FILE_IDENTIFIER!r}")


#: Everything that the generated accessors raise on offsets that lead nowhere; their words mean nothing to a user.
ACCESS_ERRORS = (struct.error, ValueError, TypeError, IndexError, OverflowError)


def read_model(path: Path, shapes: Mapping[int, tuple[int, ...]] | None = None) -> ModelFacts:
    """Read the static facts of a .tflite file.

    `shapes` are the shapes of the first subgraph's tensors after the runtime has resized and allocated them (see
    `with_shapes`). Raises `ModelError` where the file is missing, truncated or not a TFLite model.
    """
    validate_header(path)
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        facts = _Reader(mapped, path).model()
    except OSError as error:
        raise ModelError(f"{path} cannot be mapped: {error.strerror or error}") from error
    except ACCESS_ERRORS as error:
        detail = str(error) if isinstance(error, _MalformedError) else "an offset leads nowhere"
        raise ModelError(f"{path} is truncated or not a TFLite model: {detail}; get or make it again") from error
    if shapes is None:
        return facts
    return replace(facts, subgraphs=(with_shapes(facts.subgraphs[0], shapes), *facts.subgraphs[1:]))


def read_again(path: Path) -> ModelFacts:
    """`read_model` of a file that is asked about often: it is read once unless it was written to since. The facts are
    shared, so nobody may change them. Raises as `read_model` does."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return read_model(path)  # which says what is wrong
    return _kept(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@lru_cache(maxsize=32)
def _kept(path: Path, written: tuple[int, ...]) -> ModelFacts:
    return read_model(path)


class _MalformedError(ValueError):
    """The file contradicts itself or the schema; the text says how, in words for the user."""


class _Reader:
    """Walks one mapped file. Raises `_MalformedError` or one of the accessors' own errors on a
    malformed one (see `read_model`)."""

    def __init__(self, mapped: mmap.mmap, path: Path) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._path = path
        self._mapped = mapped
        self._file_bytes = len(mapped)
        # A sound file holds each name, vector and table once or nearly so. Reading out more than twice its size
        # means vectors that overlap: lengths that are nonsense, each of which may still fit the file by itself.
        self._budget_bytes = 2 * self._file_bytes + 4096
        self._model = schema.Model.GetRootAs(mapped, 0)
        self._type_names = _names_by_value(schema.TensorType)
        self._op_names = _names_by_value(schema.BuiltinOperator)

    def model(self) -> ModelFacts:
        model = self._model
        self._buffer_count = self._length(model, "Buffers", 4)
        self._subgraph_count = self._length(model, "Subgraphs", _TABLE_BYTES)
        if not self._subgraph_count:
            raise _MalformedError("it holds no subgraph")
        self._codes = [self._code(i) for i in range(self._length(model, "OperatorCodes", 4))]
        self._external_bytes = self._external_buffers()
        subgraphs = tuple(self._subgraph(index) for index in range(self._subgraph_count))
        return ModelFacts(
            path=self._path,
            bytes=self._file_bytes,
            description=self._text(model.Description()),
            subgraphs=subgraphs,
            signatures=tuple(
                self._signature(model.SignatureDefs(i), subgraphs)
                for i in range(self._length(model, "SignatureDefs", _TABLE_BYTES))
            ),
            metadata=tuple(
                self._text(model.Metadata(i).Name()) for i in range(self._length(model, "Metadata", _TABLE_BYTES))
            ),
        )

    def _subgraph(self, index: int) -> SubgraphFacts:
        table = self._model.Subgraphs(index)
        tensor_count = self._length(table, "Tensors", _TABLE_BYTES)
        tables = [table.Tensors(i) for i in range(tensor_count)]
        tensors = tuple(self._tensor(i, tensor, tables) for i, tensor in enumerate(tables))
        ops = [self._op(i, table.Operators(i), tensors) for i in range(self._length(table, "Operators", _TABLE_BYTES))]
        behind = find_constants_behind(ops, tensors)
        return SubgraphFacts(
            index=index,
            name=self._text(table.Name()),
            inputs=self._tensor_indices(table, "Inputs", tensor_count),
            outputs=self._tensor_indices(table, "Outputs", tensor_count),
            tensors=tensors,
            ops=tuple(costed(op, tensors, behind) for op in ops),
            constant_behind=behind,
        )

    def _tensor(self, index: int, table: Any, siblings: Sequence[Any]) -> TensorFacts:
        shape = self._integers(table, "Shape")
        dtype = self._type_names.get(table.Type(), f"type_{table.Type()}").lower()
        stored_bytes = self._stored_bytes(table)
        return TensorFacts(
            index=index,
            name=self._text(table.Name()),
            shape=shape,
            shape_signature=self._integers(table, "ShapeSignature") or shape,
            dtype=dtype,
            quantization=self._quantization(table.Quantization(), siblings),
            constant=stored_bytes is not None,
            bytes=dense_bytes(shape, dtype) if stored_bytes is None else stored_bytes,
            sparse=table.Sparsity() is not None,
            variable=bool(table.IsVariable()),
        )

    def _stored_bytes(self, tensor: Any) -> int | None:
        """Bytes of a constant in the file, behind the flatbuffer or in a file of its own; `None`: not a constant."""
        # The field is younger than the oldest ai-edge-litert that qprof runs with.
        external = tensor.ExternalBuffer() if hasattr(tensor, "ExternalBuffer") else 0
        if external:
            return self._external_bytes.get(external)
        if tensor.Buffer() >= self._buffer_count:
            raise _MalformedError(f"a tensor's buffer {tensor.Buffer()} does not exist")
        buffer = self._model.Buffers(tensor.Buffer())
        if buffer.DataLength():
            slot = buffer._tab.Offset(4)  # `data` is the first field of the table Buffer
            self._check_inside(buffer._tab.Vector(slot), buffer.DataLength())
            return int(buffer.DataLength())
        # Offset 0 is the default and 1 a placeholder that converters write before the place is known (schema.fbs).
        if buffer.Offset() > 1:
            self._check_inside(buffer.Offset(), buffer.Size())
            return int(buffer.Size())
        return None

    def _external_buffers(self) -> dict[int, int]:
        if not hasattr(self._model, "ExternalBuffers"):
            return {}
        count = self._length(self._model, "ExternalBuffers", _TABLE_BYTES)
        tables = (self._model.ExternalBuffers(i) for i in range(count))
        return {table.Id(): int(table.Length()) for table in tables}

    def _quantization(self, table: Any, tensors: Sequence[Any]) -> QuantizationFacts:
        if table is None:
            return QuantizationFacts()
        details = self._schema.QuantizationDetails
        if table.DetailsType() == details.BlockwiseQuantization:
            return self._blockwise(table.Details(), tensors)
        scale_count = self._length(table, "Scale", 4)
        kind: Literal["none", "per-tensor", "per-channel", "multi-axis", "custom"] = "none"
        if table.DetailsType() == details.CustomQuantization:
            kind = "custom"
        elif table.DetailsType() == getattr(details, "MultiAxisQuantization", None):
            kind = "multi-axis"
        elif scale_count:
            kind = "per-tensor" if scale_count == 1 else "per-channel"
        return QuantizationFacts(
            kind=kind,
            scale_count=scale_count,
            first_scale=float(table.Scale(0)) if scale_count else None,
            first_zero_point=int(table.ZeroPoint(0)) if self._length(table, "ZeroPoint", 8) else None,
            axis=int(table.QuantizedDimension()) if kind == "per-channel" else None,
        )

    def _blockwise(self, union: Any, tensors: Sequence[Any]) -> QuantizationFacts:
        if union is None:
            raise _MalformedError("a blockwise quantization has no details")
        table = self._schema.BlockwiseQuantization()
        table.Init(union.Bytes, union.Pos)
        if not 0 <= table.Scales() < len(tensors):
            raise _MalformedError(f"the tensor {table.Scales()} of blockwise scales does not exist")
        count = prod(self._integers(tensors[table.Scales()], "Shape"))
        return QuantizationFacts(kind="blockwise", scale_count=count, block_size=int(table.BlockSize()) or None)

    def _code(self, index: int) -> tuple[str, int]:
        table = self._model.OperatorCodes(index)
        # Codes up to 127 stand in the deprecated field, later ones in the new field; files before 2020 have only the
        # first (tensorflow/lite/schema/schema_utils.cc).
        code = max(table.BuiltinCode(), table.DeprecatedBuiltinCode())
        if code == self._schema.BuiltinOperator.CUSTOM:
            return f"CUSTOM:{self._text(table.CustomCode())}", int(table.Version())
        return self._op_names.get(code, f"BUILTIN_{code}"), int(table.Version())

    def _op(self, index: int, table: Any, tensors: Sequence[TensorFacts]) -> OpFacts:
        if table.OpcodeIndex() >= len(self._codes):
            raise _MalformedError(f"op {index} has no operator code")
        op_type, version = self._codes[table.OpcodeIndex()]
        outputs = self._tensor_indices(table, "Outputs", len(tensors))
        named = next((tensors[output].name for output in outputs if output >= 0), "")
        return OpFacts(
            index=index,
            type=op_type,
            version=version,
            inputs=self._tensor_indices(table, "Inputs", len(tensors)),
            outputs=outputs,
            subgraphs=self._children(op_type, table),
            name=named or f"{op_type}:{index}",
            macs=None,
            weight_bytes=0,
            activation_bytes=None,
            adjoint=self._adjoint(op_type, table),
        )

    def _options(self, op: Any, name: str) -> Any | None:
        """The options of an op as the schema's table `name`, whichever of the two unions holds them."""
        schema = self._schema
        for union_types, union_type, union in (
            (schema.BuiltinOptions, op.BuiltinOptionsType(), op.BuiltinOptions()),
            (schema.BuiltinOptions2, op.BuiltinOptions2Type(), op.BuiltinOptions2()),
        ):
            if union is not None and union_type == getattr(union_types, name, None):
                table = getattr(schema, name)()
                table.Init(union.Bytes, union.Pos)
                return table
        return None

    def _adjoint(self, op_type: str, op: Any) -> tuple[bool, bool]:
        options = self._options(op, "BatchMatMulOptions") if op_type == "BATCH_MATMUL" else None
        return (False, False) if options is None else (bool(options.AdjX()), bool(options.AdjY()))

    def _children(self, op_type: str, op: Any) -> tuple[int, ...]:
        if op_type == "STABLEHLO_CASE":
            options = self._options(op, "StablehloCaseOptions")
            children = () if options is None else self._integers(options, "BranchSubgraphIndices")
        elif op_type in _CHILD_SUBGRAPHS:
            name, fields = _CHILD_SUBGRAPHS[op_type]
            options = self._options(op, name)
            children = () if options is None else tuple(int(getattr(options, field)()) for field in fields)
        else:
            return ()
        if any(not 0 <= child < self._subgraph_count for child in children):
            raise _MalformedError(f"a {op_type} runs a subgraph that does not exist")
        return children

    def _signature(self, table: Any, subgraphs: Sequence[SubgraphFacts]) -> SignatureFacts:
        if table.SubgraphIndex() >= len(subgraphs):
            raise _MalformedError("a signature names a subgraph that does not exist")
        return SignatureFacts(
            key=self._text(table.SignatureKey()),
            subgraph=int(table.SubgraphIndex()),
            inputs=self._tensor_map(table, "Inputs"),
            outputs=self._tensor_map(table, "Outputs"),
        )

    def _tensor_map(self, table: Any, field: str) -> dict[str, int]:
        entries = (getattr(table, field)(i) for i in range(self._length(table, field, _TABLE_BYTES)))
        return {self._text(entry.Name()): int(entry.TensorIndex()) for entry in entries}

    def _tensor_indices(self, table: Any, field: str, tensor_count: int) -> tuple[int, ...]:
        indices = self._integers(table, field)
        if any(not -1 <= index < tensor_count for index in indices):
            raise _MalformedError("an op or subgraph names a tensor that does not exist")
        return indices

    def _integers(self, table: Any, field: str) -> tuple[int, ...]:
        if not self._length(table, field, 4):
            return ()
        return tuple(getattr(table, f"{field}AsNumpy")().tolist())

    def _length(self, table: Any, field: str, element_bytes: int) -> int:
        """Length of a vector, charged to the budget."""
        length = int(getattr(table, f"{field}Length")())
        self._charge(length * element_bytes)
        return length

    def _text(self, raw: bytes | None) -> str:
        if raw is None:
            return ""
        self._charge(len(raw))
        return raw.decode("utf-8", errors="replace")

    def _charge(self, count: int) -> None:
        self._budget_bytes -= count
        if self._budget_bytes < 0:
            raise _MalformedError("its vectors are longer than the file")

    def _check_inside(self, start: int, length: int) -> None:
        if start + length > self._file_bytes:
            raise _MalformedError(f"a constant ends at byte {start + length} of {self._file_bytes}")


def _names_by_value(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}

"""The bytes of a model by what they hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qprof.record.stored import PartKind, StoredFiles, StoredPart
from qprof.runtimes.onnx import model_file
from qprof.runtimes.onnx.names import SourceGraph
from qprof.runtimes.onnx.op_types import CONVERSIONS, op_type

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

#: Fields of a tensor that hold its numbers where `raw_data` does not -> bytes of one, as written (integers that
#: protobuf packs as many as they need are counted by their own type).
_FIELDS = {"float_data": 4, "double_data": 8}


def stored_files(path: Path) -> StoredFiles:
    """Every byte of a model's file, and of those beside it that hold its tensors, in one part. Raises `ModelError`."""
    model = model_file.read(path)
    beside = model_file.external_files(path, model)
    total = path.stat().st_size + sum(file.stat().st_size for file in beside)
    parts = _parts(model)
    taken = sum(part.bytes for part in parts)
    parts.append(StoredPart(name="nodes, names, shapes and padding", kind="structure", bytes=max(0, total - taken)))
    return StoredFiles(bytes=total, parts=parts)


def _parts(model: ModelProto) -> list[StoredPart]:
    source = SourceGraph(model)
    readers = _readers(source)
    found = []
    for tensor, name in model_file.tensors_of(model):
        size = _bytes(tensor)
        if not size:
            continue
        op, at = readers.get(name, ("", ""))
        kind: PartKind = "scales" if at.endswith("#scale") else "tensor"
        found.append(
            StoredPart(
                name=name,
                kind=kind,
                bytes=size,
                dtype=dtype_of(tensor),
                elements=math.prod(tensor.dims),
                op=op,
                at=at.removesuffix("#scale"),
            )
        )
    return found


def _readers(source: SourceGraph) -> Mapping[str, tuple[str, str]]:
    """Constant -> type of the first op that computes with it, and its place among that op's inputs."""
    found: dict[str, tuple[str, str]] = {}
    for position, node in enumerate(source.nodes):
        conversion = node.op_type in CONVERSIONS
        for slot, tensor in enumerate(node.input):
            if conversion and slot:
                found.setdefault(tensor, (op_type(node.op_type), f"{source.name(position)}#{slot}#scale"))
                continue
            constant = source.constant_behind(tensor)
            made_on = conversion or node.op_type in ("Cast", "Identity")
            if constant and not made_on:
                scale = node.op_type.startswith("QLinear") and tensor.endswith(("_scale", "_zero_point"))
                end = "#scale" if scale else ""
                found.setdefault(constant, (op_type(node.op_type), f"{source.name(position)}#{slot}{end}"))
    return found


def dtype_of(tensor: TensorProto) -> str:
    """NumPy's name of a tensor's type, or ONNX's for one that NumPy has none for."""
    import onnx

    names: Mapping[int, str] = {onnx.TensorProto.INT4: "int4", onnx.TensorProto.UINT4: "uint4"}
    if tensor.data_type in names:
        return names[tensor.data_type]
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name)
    except (KeyError, ValueError):
        return f"type {tensor.data_type}"


def _bytes(tensor: Any) -> int:
    """Bytes of a tensor's numbers, wherever they are kept."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    if tensor.external_data:
        given = {entry.key: entry.value for entry in tensor.external_data}
        length = given.get("length", "")
        return int(length) if length.isdecimal() else _by_type(tensor)
    for name, size in _FIELDS.items():
        if count := len(getattr(tensor, name)):
            return count * size
    if len(tensor.string_data):
        return sum(len(text) for text in tensor.string_data)
    held = len(tensor.int32_data) or len(tensor.int64_data) or len(tensor.uint64_data)
    # Integers are written in as many bytes as each needs.
    return min(_by_type(tensor), int(tensor.ByteSize())) if held else 0


def _by_type(tensor: Any) -> int:
    import onnx

    four = (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
    bits: int = 4 if tensor.data_type in four else 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    count: int = math.prod(tensor.dims)
    return math.ceil(count * bits / 8)

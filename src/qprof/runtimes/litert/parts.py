"""The bytes of a .tflite file by what they hold; see tensorflow/lite/schema/schema.fbs."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qprof.errors import ModelError
from qprof.record.stored import UNREAD, PartKind, StoredFiles, StoredPart
from qprof.runtimes.litert.flatbuffer import ACCESS_ERRORS, read_model
from qprof.runtimes.litert.model_facts import SubgraphFacts

#: Fields of the table QuantizationParameters -> (place in its vtable, bytes of an element).
_QUANTIZATION = {"Min": (4, 4), "Max": (6, 4), "Scale": (8, 4), "ZeroPoint": (10, 8)}
#: Numbers that may be none, as they are stored; and how many bytes of them are looked at together.
_FLOATS = {"float16": "<f2", "float32": "<f4", "float64": "<f8"}
_LOOKED_AT_BYTES = 1 << 24
_BUFFER_DATA = 4  # the first field's place in any vtable


@dataclass(frozen=True, slots=True)
class _Claim:
    """Bytes of the file from `start` on, and what they hold."""

    start: int
    length: int
    name: str
    kind: PartKind
    dtype: str = ""
    elements: int = 0
    op: str = ""
    at: str = ""


def stored_files(path: Path) -> StoredFiles:
    """Every byte of a file in one part. What two tensors share counts for the first; what no vector of numbers takes is
    the flatbuffer's structure. Raises `ModelError`."""
    from ai_edge_litert import schema_py_generated as schema

    facts = read_model(path)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        claims = list(_claims(schema.Model.GetRootAs(mapped, 0), schema, facts.subgraphs))
        parts, taken = _parts(claims, facts.bytes, mapped)
    except ACCESS_ERRORS as error:
        raise ModelError(
            f"{path} is truncated or not a TFLite model: an offset leads nowhere; get or make it again"
        ) from error
    parts.append(StoredPart(name="tables, names, op list and padding", kind="structure", bytes=facts.bytes - taken))
    return StoredFiles(bytes=facts.bytes, parts=parts)


def _parts(claims: list[_Claim], file_bytes: int, content: mmap.mmap) -> tuple[list[StoredPart], int]:
    """Each byte of a file's content to the first that claims it; and how many are claimed."""
    order = sorted(range(len(claims)), key=lambda i: (claims[i].start, i))
    own: dict[int, int] = {}
    end = 0
    for i in order:
        start, stop = max(claims[i].start, end), min(claims[i].start + claims[i].length, file_bytes)
        if stop > start:
            own[i], end = stop - start, stop
    parts = [
        StoredPart(
            name=claims[i].name,
            kind=claims[i].kind,
            bytes=length,
            dtype=claims[i].dtype,
            elements=claims[i].elements,
            op=claims[i].op,
            at=claims[i].at,
            nans=_nans(content, claims[i]),
        )
        for i, length in sorted(own.items())
    ]
    return parts, sum(own.values())


def _nans(content: mmap.mmap, claim: _Claim) -> int:
    if claim.kind != "tensor" or claim.dtype not in _FLOATS:
        return 0
    dtype = np.dtype(_FLOATS[claim.dtype])
    stop = min(claim.start + claim.length, len(content))
    found = 0
    for start in range(claim.start, stop - dtype.itemsize + 1, _LOOKED_AT_BYTES):
        count = min(_LOOKED_AT_BYTES, stop - start) // dtype.itemsize
        found += int(np.isnan(np.frombuffer(content, dtype, count, start)).sum())
    return found


def _claims(model: Any, schema: Any, graphs: tuple[SubgraphFacts, ...]) -> Iterator[_Claim]:
    named = set()
    for graph in graphs:
        table = model.Subgraphs(graph.index)
        readers, blockwise = _readers(graph), _blockwise_scales(table, schema, len(graph.tensors))
        for tensor in graph.tensors:
            own = table.Tensors(tensor.index)
            yield from _quantization(own.Quantization(), tensor.name)
            place = _data(model.Buffers(own.Buffer()))
            if place is None or (hasattr(own, "ExternalBuffer") and own.ExternalBuffer()):
                continue
            named.add(own.Buffer())
            op, at = readers.get(tensor.index, ("", ""))
            elements = 1
            for length in tensor.shape:
                elements *= length
            kind: PartKind = "scales" if tensor.index in blockwise else "tensor"
            yield _Claim(*place, tensor.name, kind, tensor.dtype, elements, op, at)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Buffer() >= model.BuffersLength():
            continue
        place = _data(model.Buffers(entry.Buffer()))
        if place is not None:
            named.add(entry.Buffer())
            yield _Claim(*place, (entry.Name() or b"").decode("utf-8", errors="replace"), "metadata")
    for i in range(model.BuffersLength()):
        place = _data(model.Buffers(i)) if i not in named else None
        if place is not None:
            yield _Claim(*place, f"buffer {i}{UNREAD}", "metadata")


def _readers(graph: SubgraphFacts) -> dict[int, tuple[str, str]]:
    """Constant -> type of the first op that computes with it, and its place among that op's inputs."""
    found: dict[int, tuple[str, str]] = {}
    for op in graph.ops:
        for slot, index in enumerate(op.inputs):
            constant = graph.constant_behind.get(index, index)
            if op.outputs and graph.constant_behind.get(op.outputs[0]) == constant:
                continue  # passes it on in another form
            found.setdefault(constant, (op.type, f"{op.name}#{slot}"))
    return found


def _blockwise_scales(table: Any, schema: Any, count: int) -> set[int]:
    """Tensors that hold the scales of others."""
    found = set()
    for i in range(count):
        quantization = table.Tensors(i).Quantization()
        if quantization is None or quantization.DetailsType() != schema.QuantizationDetails.BlockwiseQuantization:
            continue
        details = schema.BlockwiseQuantization()
        details.Init(quantization.Details().Bytes, quantization.Details().Pos)
        found.add(int(details.Scales()))
    return found


def _quantization(table: Any, tensor: str) -> Iterator[_Claim]:
    if table is None:
        return
    for name, (slot, element_bytes) in _QUANTIZATION.items():
        count = int(getattr(table, f"{name}Length")())
        if count:
            start = int(table._tab.Vector(table._tab.Offset(slot)))
            yield _Claim(start, count * element_bytes, tensor, "scales", "", count)


def _data(buffer: Any) -> tuple[int, int] | None:
    """Where a buffer's bytes lie: (start, length)."""
    if buffer.DataLength():
        return int(buffer._tab.Vector(buffer._tab.Offset(_BUFFER_DATA))), int(buffer.DataLength())
    # Large models keep their data behind the flatbuffer; 1 is a placeholder.
    return (int(buffer.Offset()), int(buffer.Size())) if buffer.Offset() > 1 else None

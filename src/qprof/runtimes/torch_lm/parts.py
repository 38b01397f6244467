"""The bytes of a checkpoint's folder by what they hold, from the headers of its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from qprof.record.stored import PartKind, StoredFiles, StoredPart
from qprof.runtimes.torch_lm import forms, safetensors_header
from qprof.runtimes.torch_lm.checkpoint import QuantizedFormat, inspect
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor

#: What belongs to a packed weight beside its numbers: scales, zero points, and which group a row belongs to.
_BESIDE = ("scales", "qzeros", "g_idx")
_WORD_BITS = 32


def stored_files(path: Path) -> StoredFiles:
    """Every byte of the files that make the model what it is in one part. Raises `ModelError`."""
    found = inspect(path)
    parts: list[StoredPart] = []
    total = 0
    for file in found.content_files():
        size = file.stat().st_size
        total += size
        if file not in found.weight_files:
            parts.append(StoredPart(name=file.name, kind="file", bytes=size))
            continue
        tensors = safetensors_header.read(file)
        form = None if found.quantization is None else forms.form_named(found.quantization.quant_method)
        if form is not None and found.quantization is not None:
            linears = form.linears([file], tensors)
            parts += [_part_of_form(name, t, form, linears, found.quantization) for name, t in tensors.items()]
        else:
            parts += _packed_parts(tensors, found.quantization)
        header = size - sum(tensor.bytes for tensor in tensors.values())
        parts.append(StoredPart(name=f"header of {file.name}", kind="structure", bytes=header))
    return StoredFiles(bytes=total, parts=parts)


def _packed_parts(tensors: Mapping[str, StoredTensor], quantized: QuantizedFormat | None) -> Iterator[StoredPart]:
    packed = {name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")}
    for name, tensor in tensors.items():
        part = _part(name, tensor, packed, quantized)
        indices = tensors.get(f"{name.removesuffix('.qweight')}.g_idx") if name.endswith(".qweight") else None
        # Words are filled up where the inputs leave one unfilled: a weight has as many rows as it has indices.
        rows = indices.shape[0] * tensor.shape[1] if indices is not None else part.elements
        yield msgspec.structs.replace(part, elements=min(part.elements, rows))


def _part(name: str, tensor: StoredTensor, packed: set[str], quantized: QuantizedFormat | None) -> StoredPart:
    module, _, operand = name.rpartition(".")
    kind: PartKind = "scales" if module in packed and operand in _BESIDE else "tensor"
    dtype, elements, why = tensor.dtype, tensor.elements, ""
    if quantized is not None and operand == "qweight":
        dtype, elements = f"int{quantized.bits}", tensor.elements * _WORD_BITS // quantized.bits
        operand = "weight"
    elif quantized is not None and tensor.is_float and len(tensor.shape) > 1 and module not in packed:
        why = f"its {quantized.quant_method.upper()} checkpoint packs the decoder's linear layers, and not this one"
    return StoredPart(
        name=name,
        kind=kind,
        bytes=tensor.bytes,
        dtype=dtype,
        elements=elements,
        op=module.rpartition(".")[2],
        at=f"{module}.{operand}",
        why=why,
    )


def _part_of_form(
    name: str,
    tensor: StoredTensor,
    form: forms.Form,
    linears: Mapping[str, tuple[int, int]],
    quantized: QuantizedFormat,
) -> StoredPart:
    module, role = form.stored_as(name) or ("", "")
    kind: PartKind = "tensor"
    dtype, elements, at, why = tensor.dtype, tensor.elements, name, ""
    if module in linears and role == "scales":
        kind = "scales"
    elif module in linears:
        into, out = linears[module]
        dtype, elements, at = quantized.scheme, into * out, f"{module}.weight"
    else:
        module = name.rpartition(".")[0]
        if tensor.is_float and len(tensor.shape) > 1:
            why = f"{form.title} quantizes the decoder's linear layers, and not this one"
    op = module.rpartition(".")[2]
    return StoredPart(name=name, kind=kind, bytes=tensor.bytes, dtype=dtype, elements=elements, op=op, at=at, why=why)

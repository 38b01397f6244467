"""What the tensors of a GPTQ checkpoint say by themselves, whatever its settings say.

A linear with I inputs and O outputs, quantized to b bits in groups of g, is stored as qweight int32[I·b/32, O], qzeros
int32[I/g, O·b/32], scales float[I/g, O] and, not always, g_idx int32[I] (GPTQ's packing, https://github.com/IST-DASLab/gptq
and AutoGPTQ after it). Each two of them tell the width and the group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.runtimes.torch_lm import safetensors_header
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor

#: The settings beside the weights, and inside of what.
_PLACES = "config.json's quantization_config, or in quantize_config.json,"

#: Bits of one packed word, by its type.
_WORD_BITS = {"int32": 32, "int64": 64, "int16": 16, "int8": 8}

#: Linears whose zero points are looked at: each has thousands, and all are stored in one way.
_LOOKED_AT = 4


@dataclass(frozen=True, slots=True)
class Packed:
    """One packed linear: its form by the shapes alone. `in_features`: by its g_idx where it has one."""

    name: str
    bits: int
    groups: int
    in_features: int
    out_features: int

    @property
    def group_size(self) -> int:
        return math.ceil(self.in_features / self.groups)


def packed_linears(tensors: Mapping[str, StoredTensor]) -> Iterator[Packed]:
    """The packed linears of a checkpoint whose shapes make sense by themselves."""
    for name, weight in tensors.items():
        module, dot, operand = name.rpartition(".")
        zeros, scales = (tensors.get(f"{module}.{other}") for other in ("qzeros", "scales"))
        if operand != "qweight" or not dot or zeros is None or scales is None:
            continue
        word = _WORD_BITS.get(zeros.dtype)
        if word is None or not all(len(one.shape) == 2 and one.elements for one in (weight, zeros, scales)):
            continue
        groups, out_features = scales.shape
        bits = zeros.shape[1] * word / out_features
        order = tensors.get(f"{module}.g_idx")
        if bits.is_integer() and bits >= 1:
            in_features = order.shape[0] if order is not None else int(weight.shape[0] * word / bits)
            yield Packed(module, int(bits), groups, in_features, out_features)


def refuse_unfit(
    path: Path, tensors: Mapping[str, StoredTensor], bits: int, group_size: int, dynamic: Mapping[str, Any] | None
) -> None:
    """Raise `ModelError` where the tensors are of another form than the settings say.

    `dynamic`: settings of single modules, gptqmodel's way to mix widths; what is among them is no contradiction.
    """
    others = [one for one in (dynamic or {}).values() if isinstance(one, Mapping)]
    widths = {bits, *(one["bits"] for one in others if "bits" in one)}
    sizes = {group_size, *(one["group_size"] for one in others if "group_size" in one)}
    found = False
    for linear in packed_linears(tensors):
        found = True
        if linear.bits not in widths:
            name, word = f"{linear.name}.qweight", _WORD_BITS[tensors[f"{linear.name}.qzeros"].dtype]
            expected = [-(-linear.in_features * bits // word), linear.out_features]  # of any number of bits
            raise _unfit(path, name, tensors[name], expected, "bits", bits, linear.bits)
        if not any(math.ceil(linear.in_features / _size(size, linear)) == linear.groups for size in sizes):
            name = f"{linear.name}.scales"
            expected = [math.ceil(linear.in_features / _size(group_size, linear)), linear.out_features]
            told = -1 if linear.groups == 1 else linear.group_size
            raise _unfit(path, name, tensors[name], expected, "group_size", group_size, told)
    if not found:
        strange = next((name for name in tensors if name.endswith(".qweight")), None)
        has = "has no packed weights (no .qweight)" if strange is None else f"its {strange} has no qzeros and scales"
        raise ModelError(f"{path}: its settings say GPTQ with {bits} bits, and it {has}; take the settings out")


def refuse_without_settings(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Raise `ModelError` for packed weights that no settings belong to; what to write, the shapes tell."""
    linear = next(packed_linears(tensors), None)
    if linear is not None:
        size = -1 if linear.groups == 1 else linear.group_size
        settings = f'{{"quant_method": "gptq", "bits": {linear.bits}, "group_size": {size}, "desc_act": false}}'
        raise ModelError(
            f"{path}: {linear.name}.qweight is packed by GPTQ, and no settings say how; write quantize_config.json "
            f"with {settings}"
        )


def _size(group_size: int, linear: Packed) -> int:
    return linear.in_features if group_size < 1 else group_size


def _unfit(
    path: Path, name: str, tensor: StoredTensor, expected: Sequence[int], key: str, said: int, told: int
) -> ModelError:
    return ModelError(
        f"{path}: {name} is {tensor.dtype}{list(tensor.shape)}, and {key} = {said} of its settings means "
        f"{tensor.dtype}{list(expected)}; its tensors say {key} = {told}: correct that in {_PLACES} or get the "
        "settings that belong to these weights"
    )


@dataclass(frozen=True, slots=True)
class ZeroPoints:
    """How a checkpoint's zero points are stored. `values`: the different ones, ascending; `mean` of them all;
    `spilled`: the share of packed words in which a zero point of 0 was stored as -1 and filled all above it, as
    AutoGPTQ does, whose values are lost; `borrowed`: the share in which it took from its neighbour, as gptqmodel does,
    which reads it back exactly. `linears` of so many were looked at."""

    values: tuple[int, ...]
    mean: float
    spilled: float
    borrowed: float
    linears: int


def zero_points(files: Sequence[Path], bits: int, least: int = _LOOKED_AT) -> ZeroPoints | None:
    """Zero points of the first `least` packed linears, as stored; `None` where there are none, or of a width whose
    words hold no whole number of them. Raises `ModelError` where a file cannot be read."""
    if bits not in (2, 4, 8):
        return None
    found = list(_first_tensors(files, ".qzeros", least))
    if not found:
        return None
    top, fields = 2**bits - 1, []
    for array in found:
        words = array.reshape(-1).view(np.uint32)
        fields.append(np.stack([(words >> np.uint32(shift)) & np.uint32(top) for shift in range(0, 32, bits)], axis=1))
    every = np.concatenate(fields)
    full = every == top
    touched = full[:, :-1].any(axis=1)  # with the topmost alone, nothing is above it to be filled
    filled = (np.diff(full.astype(np.int8), axis=1) >= 0).all(axis=1)
    return ZeroPoints(
        values=tuple(int(value) for value in np.unique(every)),
        mean=float(every.mean()),
        spilled=float((touched & filled).mean()),
        borrowed=float((touched & ~filled).mean()),
        linears=len(found),
    )


def out_of_order(files: Sequence[Path], group_size: int) -> str | None:
    """The first linear whose columns do not lie in the order of their groups, as desc_act = true leaves them; `None`
    where all that are looked at do. Raises `ModelError` where a file cannot be read."""
    for name, order in _first_named(files, ".g_idx", _LOOKED_AT):
        if group_size > 0 and bool((np.diff(order.astype(np.int64)) < 0).any()):
            return name
    return None


def _first_tensors(files: Sequence[Path], ending: str, count: int) -> Iterator[NDArray[Any]]:
    return (array for _, array in _first_named(files, ending, count))


def _first_named(files: Sequence[Path], ending: str, count: int) -> Iterator[tuple[str, NDArray[Any]]]:
    left = count
    for file in files:
        with safetensors_header.opened(file, "np") as stored:
            for name in (name for name in stored.keys() if name.endswith(ending)):  # noqa: SIM118 (no mapping)
                if left < 1:
                    return
                left -= 1
                yield name, stored.get_tensor(name)

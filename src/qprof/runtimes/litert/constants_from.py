"""A .tflite some of whose ops have the weights, biases and scales of another's: of its baseline's, to see whether an
error lies in them.

What both models store in one form is copied, bit by bit. Anything else is taken for the real numbers that it stands
for and stored anew, as the variant's tensor is: symmetric about zero, by channel where the tensor is, with the bias in
steps of (scale of the input) x (scale of the weights), as the specification of 8-bit quantization has it
(https://ai.google.dev/edge/litert/models/quantization_spec).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.quantization import FLOAT_DTYPES
from qprof.runtimes.litert import cache
from qprof.runtimes.litert.constants import bias_of, constant, weights_of
from qprof.runtimes.litert.edit import ModelFile, activations, edited, named, open_file, readers
from qprof.runtimes.litert.model_facts import OpFacts, TensorFacts

#: Types that weights are quantized to -> bits.
_BITS = {"int8": 8, "uint8": 8, "int16": 16, "int4": 4, "int2": 2}
_BIAS_DTYPES = ("int32", "int64")
#: Two steps of a bias that differ by less are one step, rounded to float32 in another order.
_ONE_STEP = 1e-5


def constants_from(path: Path, baseline: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """The model with constants of the baseline, made once and taken from the cache ever after.

    `pairs`: (op of the model, op of the baseline), of the main subgraphs, by name. Replaced are weights and bias, and
    of two ops of one type all constants that stand for real numbers. What the op computes into keeps its scale.

    Raises:
        ModelError: a file cannot be read, has no such op, or the constants are not of one shape.
        StoreError: the cache cannot be written.
    """
    wanted = sorted(set(pairs))

    def edit(file: ModelFile) -> None:
        source = open_file(baseline)
        for name, other in wanted:
            _Replaced(file, named(path, file.graph, name), source, named(baseline, source.graph, other)).edit()

    settings = {"baseline": cache.content_sha256(baseline), "pairs": wanted}
    return edited(path, "constants from", settings, edit, f"with constants of {len(wanted)} ops replaced")


@dataclass(frozen=True, slots=True)
class _Stored:
    """A constant as it is to be stored. `scales`, `zero_points`: `None` for floats."""

    codes: NDArray[Any]
    scales: NDArray[np.float32] | None = None
    zero_points: NDArray[np.int64] | None = None


class _Replaced:
    """One op of the model and the op of the baseline whose constants it gets."""

    def __init__(self, file: ModelFile, op: OpFacts, source: ModelFile, other: OpFacts) -> None:
        self.file, self.op, self.source, self.other = file, op, source, other
        self.weight_scales: NDArray[np.float32] | None = None

    def edit(self) -> None:
        own, its = _roles(self.op, self.file), _roles(self.other, self.source)
        if self.op.type != self.other.type:
            own = {role: place for role, place in own.items() if role in ("weights", "bias")}
        if not own:
            raise ModelError(f"{self.file.path}: {self.op.name!r} ({self.op.type}) has no constants to replace")
        if missing := [role for role in own if role not in its and role != "bias"] or (
            ["bias"] if "bias" in its and "bias" not in own else []
        ):
            raise ModelError(f"{self._what(missing[0])}: one of the two ops has none; name ops that correspond")
        real = {role: self._real(role, place, its.get(role)) for role, place in own.items()}
        for role in sorted(own, key=lambda role: role == "bias"):  # its step follows from the weights'
            if role == "bias":
                self._write_bias(own, its.get(role), real[role])
            else:
                weights = role == "weights"
                bias = real.get("bias") if weights and self._bias_is_integer(own) else None
                stored = self._copied(own[role], its[role]) or self._anew(role, own[role], real[role], bias)
                self._write(own[role], stored)
                self.weight_scales = stored.scales if weights else self.weight_scales

    # -- what it is to be -------------------------------------------------------------------------------------------

    def _real(self, role: str, place: int, its: int | None) -> NDArray[np.float64]:
        facts = self._facts(place)
        if its is None:  # no bias is a bias of zeros
            return np.zeros(facts.shape)
        index = _stored_index(self.other, self.source, its)
        found = constant(self.source.objects, self.source.graph, index)
        if found is None or facts.sparse:
            raise ModelError(f"{self._what(role)}: stored in a form that is not read; name another op")
        theirs = self.source.graph.tensors[index]
        if found.shape != facts.shape:
            raise ModelError(f"{self._what(role)}: {theirs.label} of the baseline does not fit {facts.label}")
        if role == "bias" and theirs.dtype in _BIAS_DTYPES and theirs.quantization.kind == "none":
            found = found * self._step_of_baseline()  # older files leave its scale out
        if not np.isfinite(found).all():
            raise ModelError(f"{self._what(role)}: the baseline's are not all numbers (NaN or infinite)")
        return found

    def _copied(self, place: int, its: int) -> _Stored | None:
        """The baseline's constant as it is, where the model stores its own in the same form."""
        index = _stored_index(self.other, self.source, its)
        own, theirs = self._facts(place), self.source.graph.tensors[index]
        a, b = own.quantization, theirs.quantization
        if (own.dtype, a.kind, a.axis) != (theirs.dtype, b.kind, b.axis):
            return None
        tensor = self.source.main.tensors[index]
        codes = np.frombuffer(self.source.objects.buffers[tensor.buffer].data, np.uint8)
        if a.kind == "none":
            return _Stored(codes)
        if a.kind not in ("per-tensor", "per-channel"):
            return None
        zero_points = tensor.quantization.zeroPoint
        kept = np.zeros(b.scale_count, np.int64) if zero_points is None else np.asarray(zero_points, np.int64)
        return _Stored(codes, np.asarray(tensor.quantization.scale, np.float32), kept)

    def _anew(self, role: str, place: int, real: NDArray[np.float64], bias: NDArray[np.float64] | None) -> _Stored:
        facts = self._facts(place)
        if facts.dtype in FLOAT_DTYPES:
            return _Stored(real.astype(facts.dtype))
        if facts.dtype not in _BITS or facts.quantization.kind not in ("per-tensor", "per-channel"):
            how = "without a scale" if facts.quantization.kind == "none" else facts.quantization.kind
            raise ModelError(f"{self._what(role)}: {facts.label}, {how}, is not quantized anew here")
        step = _input_scale(self.op, self.file)
        least = None if bias is None or not step else np.abs(bias) / (step * np.iinfo(np.int32).max)
        return quantized(real, facts.dtype, facts.quantization.axis, least)

    def _write_bias(self, own: dict[str, int], its: int | None, real: NDArray[np.float64]) -> None:
        facts = self._facts(own["bias"])
        if facts.dtype not in _BIAS_DTYPES:
            self._write(own["bias"], _Stored(real.astype(facts.dtype)))
            return
        step = _product(_input_scale(self.op, self.file), self.weight_scales)
        if step is None:
            raise ModelError(f"{self._what('bias')}: neither follows a scale from its input and weights, nor")
        limits = np.iinfo(facts.dtype)
        # Of int64 the limit, as a float, is beyond the type.
        codes = np.clip(np.rint(real / step), float(limits.min), np.nextafter(float(limits.max), 0)).astype(facts.dtype)
        stored = _Stored(codes, step.astype(np.float32), np.zeros(step.size, np.int64))
        copied = None if its is None else self._copied(own["bias"], its)
        if copied is not None:
            theirs = self._step_of_baseline() if copied.scales is None else copied.scales
            if theirs.shape == step.shape and np.allclose(theirs, step, rtol=_ONE_STEP, atol=0):
                stored = copied
        self._write(own["bias"], stored if facts.quantization.kind != "none" else _Stored(stored.codes))

    def _step_of_baseline(self) -> NDArray[np.float64]:
        weights = weights_of(self.other, self.source.graph)
        scales = None if weights is None else self.source.main.tensors[weights].quantization.scale
        step = _product(_input_scale(self.other, self.source), scales)
        if step is None:
            raise ModelError(f"{self._what('bias')}: the baseline's has no scale; name another op")
        return step

    def _bias_is_integer(self, own: dict[str, int]) -> bool:
        return "bias" in own and self._facts(own["bias"]).dtype in _BIAS_DTYPES

    # -- where it is written ----------------------------------------------------------------------------------------

    def _write(self, place: int, stored: _Stored) -> None:
        """Into a buffer of its own; into a tensor of its own as well where other ops read the tensor."""
        main, graph = self.file.main, self.file.graph
        direct, index = self.op.inputs[place], _stored_index(self.op, self.file, place)
        shared = [op for op in readers(graph, direct) if op.index != self.op.index]
        if direct != index and (shared or len(readers(graph, index)) > 1):
            raise ModelError(
                f"{self.file.path}: other ops read a constant of {self.op.name!r}, which is unpacked for all of them; "
                "name another op"
            )
        tensor = main.tensors[index]
        if shared:
            tensor = copy.deepcopy(tensor)
            main.operators[self.op.index].inputs[place] = len(main.tensors)
            main.tensors.append(tensor)
        buffer = copy.copy(self.file.objects.buffers[tensor.buffer])
        buffer.data = np.ascontiguousarray(stored.codes).reshape(-1).view(np.uint8)
        tensor.buffer = len(self.file.objects.buffers)
        self.file.objects.buffers.append(buffer)
        if stored.scales is not None:
            quantization = tensor.quantization
            quantization.scale, quantization.zeroPoint = stored.scales, stored.zero_points
            quantization.min = quantization.max = None  # a remark of converters on what was quantized

    def _facts(self, place: int) -> TensorFacts:
        return self.file.graph.tensors[_stored_index(self.op, self.file, place)]

    def _what(self, role: str) -> str:
        return f"{self.file.path}: {role} of {self.op.name!r} ({self.op.type}) from {self.other.name!r}"


def _roles(op: OpFacts, file: ModelFile) -> dict[str, int]:
    """What each constant of an op is -> its place among the inputs; integers without a scale (shapes) are none."""
    weights, bias = weights_of(op, file.graph), bias_of(op, file.graph)
    roles = {}
    for place, direct in enumerate(op.inputs):
        if direct < 0:
            continue
        index = _stored_index(op, file, place)
        facts = file.graph.tensors[index]
        if not facts.constant:
            continue
        if index in (weights, bias):
            roles["weights" if index == weights else "bias"] = place
        elif facts.dtype in FLOAT_DTYPES or facts.quantization.kind != "none":
            roles[f"input {place}"] = place
    return roles


def _stored_index(op: OpFacts, file: ModelFile, place: int) -> int:
    return file.graph.constant_behind.get(op.inputs[place], op.inputs[place])


def _input_scale(op: OpFacts, file: ModelFile) -> float | None:
    found = activations(op, file.graph)
    return file.graph.tensors[found[0]].quantization.first_scale if found else None


def _product(input_scale: float | None, weight_scales: Any) -> NDArray[np.float64] | None:
    if not input_scale or weight_scales is None or not np.size(weight_scales):
        return None
    return np.float64(input_scale) * np.asarray(weight_scales, np.float64)


def quantized(
    real: NDArray[np.float64], dtype: str, axis: int | None, least: NDArray[np.float64] | None = None
) -> _Stored:
    """Weights as integers of a type, of one scale or of one for each channel of `axis`: symmetric, uint8 over its whole
    range as its files have it.

    `least`: of each channel (of the last axis but for `axis`), the smallest scale with which its bias fits into int32:
    the weights of a channel may be next to nothing (TFLiteConverter raises their scale too).
    """
    others = None if axis is None else tuple(i for i in range(real.ndim) if i != axis)
    low = np.minimum(np.min(real, axis=others, keepdims=True), 0.0)
    high = np.maximum(np.max(real, axis=others, keepdims=True), 0.0)
    limit = 2 ** (_BITS[dtype] - 1) - 1
    scales = (high - low) / 255 if dtype == "uint8" else np.maximum(-low, high) / limit
    if least is not None and (axis is None or least.size == scales.size):
        scales = np.maximum(scales, np.max(least) if axis is None else least.reshape(scales.shape))
    tiny = float(np.finfo(np.float32).tiny)
    scales = np.where(scales > tiny, scales, 1.0).astype(np.float32)  # all zeros: any scale does
    if dtype == "uint8":
        zero_points = np.rint(-low / scales).astype(np.int64)
        codes = np.clip(np.rint(real / scales) + zero_points, 0, 255).astype(np.uint8)
        return _Stored(codes, scales.reshape(-1), zero_points.reshape(-1))
    codes = np.clip(np.rint(real / scales), -limit, limit)
    stored = codes.astype(np.int16) if dtype == "int16" else packed_codes(codes.astype(np.int8), _BITS[dtype])
    return _Stored(stored, scales.reshape(-1), np.zeros(scales.size, np.int64))


def packed_codes(codes: NDArray[np.int8], bits: int) -> NDArray[np.int8] | NDArray[np.uint8]:
    """Integers of less than 8 bits, as many to a byte as fit, the first in the lowest bits."""
    if bits == 8:
        return codes
    each = 8 // bits
    flat = codes.reshape(-1).view(np.uint8) & (2**bits - 1)
    flat = np.concatenate([flat, np.zeros(-flat.size % each, np.uint8)]).reshape(-1, each)
    shifted = flat << np.arange(0, 8, bits, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(shifted, axis=1), np.uint8)
